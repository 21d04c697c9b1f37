"""The bell and the reconciler against a real Valkey server: duplicates, silence, and what is rung for again."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from arq.constants import in_progress_key_prefix, job_key_prefix
from redis.asyncio import Redis

from experiments import lease
from experiments.types import utc_now
from tests.workers.conftest import Desk
from workers.queue import QUEUE, Bell, deserialize, job_id, redis_settings
from workers.reconcile import Reconciler

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(empty_redis_url: str) -> AsyncIterator["Redis[bytes]"]:
    client: Redis[bytes] = Redis.from_url(empty_redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def reconciler(desk: Desk, empty_redis_url: str) -> AsyncIterator[Reconciler]:
    reconciler = Reconciler(desk.database, empty_redis_url, period=0.1, lease_seconds=0.2)
    yield reconciler
    await reconciler.close()


async def waiting(redis: "Redis[bytes]") -> set[str]:
    return {member.decode() for member in await redis.zrange(QUEUE, 0, -1)}


async def test_ringing_twice_for_the_same_attempt_queues_one_job(empty_redis_url: str, redis: "Redis[bytes]") -> None:
    bell, analysis_id = Bell(empty_redis_url), uuid.uuid4()
    assert await bell.ring(analysis_id, 0) and await bell.ring(analysis_id, 0)
    assert await waiting(redis) == {job_id(analysis_id, 0)}
    assert await bell.ring(analysis_id, 1)
    assert await waiting(redis) == {job_id(analysis_id, 0), job_id(analysis_id, 1)}
    await bell.close()


async def test_a_job_is_readable_json_and_not_pickle(empty_redis_url: str, redis: "Redis[bytes]") -> None:
    bell, analysis_id = Bell(empty_redis_url), uuid.uuid4()
    await bell.ring(analysis_id)
    body = await redis.get(job_key_prefix + job_id(analysis_id, 0))
    assert body is not None and deserialize(body)["a"] == [str(analysis_id)]
    await bell.close()


async def test_a_bell_without_redis_gives_up_and_says_so() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    for port in (1, server.sockets[0].getsockname()[1]):  # nobody listens, nobody answers
        bell = Bell(f"redis://127.0.0.1:{port}/0", timeout=0.3)
        assert await bell.ring(uuid.uuid4()) is False
        assert not await bell.reachable()
        await bell.close()
    server.close()
    server.close_clients()


async def test_a_bell_rings_again_when_redis_is_back(empty_redis_url: str, redis: "Redis[bytes]") -> None:
    bell = Bell(empty_redis_url)
    assert await bell.ring(uuid.uuid4())
    await redis.client_kill_filter(_type="normal", skipme=True)
    await redis.flushall()
    second = uuid.uuid4()
    assert await bell.ring(second)
    assert await waiting(redis) == {job_id(second, 0)}
    await bell.close()


def test_unix_sockets_and_databases_are_understood() -> None:
    assert redis_settings("unix:///run/x/valkey.sock").unix_socket_path == "/run/x/valkey.sock"
    assert redis_settings("redis://cache:7000/3").database == 3
    assert redis_settings("rediss://cache").ssl


async def test_the_reconciler_rings_for_what_the_queue_does_not_know(
    desk: Desk, reconciler: Reconciler, redis: "Redis[bytes]"
) -> None:
    rows = [await desk.submit(f"a{i}") for i in range(3)]
    assert await reconciler.once() == 3
    assert await waiting(redis) == {job_id(row.id, 0) for row in rows}
    assert await reconciler.once() == 0
    await redis.flushall()
    assert await reconciler.once() == 3


async def test_the_reconciler_takes_back_what_a_dead_worker_held_and_rings_for_the_next_attempt(
    desk: Desk, reconciler: Reconciler, redis: "Redis[bytes]"
) -> None:
    row = await desk.submit()
    async with desk.database.write() as session:
        long_ago = utc_now() - timedelta(minutes=1)
        await lease.claim(session, analysis_id=row.id, owner="dead", lease_seconds=10, at=long_ago)
    assert await reconciler.once() == 1
    assert (await desk.now(row)).state == "queued"
    assert await waiting(redis) == {job_id(row.id, 1)}


async def test_a_job_that_lost_its_place_in_the_queue_does_not_block_its_return(
    desk: Desk, reconciler: Reconciler, redis: "Redis[bytes]"
) -> None:
    row = await desk.submit()
    await reconciler.once()
    await redis.zrem(QUEUE, job_id(row.id, 0))
    assert await reconciler.once() == 1
    assert await waiting(redis) == {job_id(row.id, 0)}


async def test_the_mark_of_a_worker_that_died_before_claiming_is_removed_after_a_lease(
    desk: Desk, reconciler: Reconciler, redis: "Redis[bytes]"
) -> None:
    row = await desk.submit()
    mark = in_progress_key_prefix + job_id(row.id, 0)
    await reconciler.once()
    await redis.psetex(mark, 600_000, b"1")
    await reconciler.once()
    assert await redis.exists(mark)
    reconciler._first_seen = {each: since - 0.3 for each, since in reconciler._first_seen.items()}
    await reconciler.once()
    assert not await redis.exists(mark)
