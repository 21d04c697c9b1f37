"""The life of an analysis in the database: what is asked twice, claimed twice, handed in late, and given up."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from experiments import analysis, lease, recovery
from experiments.database import Database
from experiments.errors import NotFound, NotReady
from experiments.lease import StoredResult
from experiments.tables import Analysis, Result, ResultRow

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LEASE = 30.0
RESULT = StoredResult(body=b"{}", etag="e" * 64, verdict="better")
ROW: dict[str, Any] = {
    "experiment_key": "checkout",
    "metric_key": "orders",
    "metric_version": 1,
    "variant_key": "treatment",
    "role": "primary",
    "method": "A1+A3",
    "interval_kind": "log_delta",
    "n_control": 10,
    "n_treatment": 12,
    "ci_level": 0.95,
    "estimable": True,
}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, synchronous="OFF")
    yield database
    await database.dispose()


async def submit(database: Database, name: str = "one", **changes: Any) -> tuple[Analysis, bool]:
    wanted: dict[str, Any] = {
        "kind": "tiny",
        "subject_key": name,
        "experiment_id": None,
        "plan_document": {"kind": "tiny", "name": name},
        "data_as_of": NOW,
        "seed": 7,
        "requested_by": "tests",
        "at": NOW,
        **changes,
    }
    async with database.write() as session:
        return await analysis.submit(session, **wanted)


async def claim(database: Database, row: Analysis, owner: str, at: datetime = NOW) -> Analysis | None:
    async with database.write() as session:
        return await lease.claim(session, analysis_id=row.id, owner=owner, lease_seconds=LEASE, at=at)


async def finish(database: Database, held: Analysis, owner: str, result: StoredResult = RESULT) -> bool:
    async with database.write() as session:
        return await lease.finish(
            session, analysis_id=held.id, owner=owner, attempt=held.attempt, result=result, at=NOW
        )


async def current(database: Database, row: Analysis) -> Analysis:
    async with database.read() as session:
        return await analysis.get(session, analysis_id=row.id)


async def count(database: Database, table: type[Any]) -> int:
    async with database.read() as session:
        return (await session.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()


async def test_asking_twice_for_the_same_analysis_returns_the_same_row(database: Database) -> None:
    first, created = await submit(database)
    again, created_again = await submit(database, at=NOW + timedelta(hours=1), requested_by="someone else")
    assert created and not created_again
    assert again.id == first.id
    assert await count(database, Analysis) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"plan_document": {"kind": "tiny", "name": "another"}},
        {"data_as_of": NOW + timedelta(microseconds=1)},
        {"seed": 8},
    ],
)
async def test_another_plan_time_or_seed_is_another_analysis(database: Database, change: dict[str, Any]) -> None:
    first, _ = await submit(database)
    other, created = await submit(database, **change)
    assert created and other.id != first.id


async def test_the_same_moment_in_another_timezone_is_the_same_analysis(database: Database) -> None:
    first, _ = await submit(database)
    again, created = await submit(database, data_as_of=NOW.astimezone(ZoneInfo("Asia/Tokyo")))
    assert not created and again.id == first.id


async def test_twenty_concurrent_submissions_make_one_row(database: Database) -> None:
    answers = await asyncio.gather(*(submit(database) for _ in range(20)))
    assert len({row.id for row, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


async def test_of_concurrent_claims_one_wins(database: Database) -> None:
    row, _ = await submit(database)
    claims = await asyncio.gather(*(claim(database, row, f"worker-{i}") for i in range(12)))
    won = [each for each in claims if each is not None]
    assert len(won) == 1
    assert (won[0].state, won[0].attempt, won[0].lease_until) == ("running", 1, NOW + timedelta(seconds=LEASE))


async def test_two_workers_that_finish_the_same_analysis_commit_once(database: Database) -> None:
    row, _ = await submit(database)
    slow = await claim(database, row, "slow")
    fast = await claim(database, row, "fast", at=NOW + timedelta(seconds=LEASE))
    assert slow is not None and fast is not None and fast.attempt == 2
    assert await finish(database, fast, "fast", StoredResult(b"fast", "f" * 64, None, [ROW]))
    assert not await finish(database, slow, "slow", StoredResult(b"slow", "s" * 64, None, [ROW, ROW]))
    done = await current(database, row)
    assert done.state == "succeeded" and done.lease_owner is None and done.fraction == 1.0
    assert (await count(database, Result), await count(database, ResultRow)) == (1, 1)
    async with database.read() as session:
        stored = await session.get(Result, done.result_id)
    assert stored is not None and stored.body == b"fast"


async def test_the_same_worker_may_not_hand_in_twice(database: Database) -> None:
    row, _ = await submit(database)
    held = await claim(database, row, "w")
    assert held is not None
    assert await finish(database, held, "w")
    assert not await finish(database, held, "w")
    assert await count(database, Result) == 1


async def test_concurrent_hand_ins_of_one_lease_commit_once(database: Database) -> None:
    row, _ = await submit(database)
    held = await claim(database, row, "w")
    assert held is not None
    answers = await asyncio.gather(
        *(finish(database, held, "w", StoredResult(b"x", "x" * 64, None, [ROW])) for _ in range(8))
    )
    assert sum(answers) == 1
    assert (await count(database, Result), await count(database, ResultRow)) == (1, 1)


async def test_a_heartbeat_renews_the_lease_and_writes_the_progress(database: Database) -> None:
    row, _ = await submit(database)
    held = await claim(database, row, "w")
    assert held is not None
    later = NOW + timedelta(seconds=10)
    async with database.write() as session:
        answer = await lease.heartbeat(
            session,
            analysis_id=row.id,
            owner="w",
            attempt=1,
            lease_seconds=LEASE,
            at=later,
            stage="facts",
            fraction=0.4,
        )
    assert answer == lease.HeartbeatAnswer(owned=True, cancel_requested=False)
    seen = await current(database, row)
    assert (seen.stage, seen.fraction, seen.lease_until) == ("facts", 0.4, later + timedelta(seconds=LEASE))


async def test_a_worker_whose_lease_was_taken_learns_it_from_its_heartbeat(database: Database) -> None:
    row, _ = await submit(database)
    await claim(database, row, "first")
    await claim(database, row, "second", at=NOW + timedelta(seconds=LEASE + 1))
    async with database.write() as session:
        answer = await lease.heartbeat(
            session, analysis_id=row.id, owner="first", attempt=1, lease_seconds=LEASE, at=NOW + timedelta(seconds=32)
        )
        seen = await lease.watch(session, analysis_id=row.id, owner="first", attempt=1)
    assert not answer.owned and not seen.owned
    assert (await current(database, row)).lease_owner == "second"


async def test_a_lease_that_has_not_expired_cannot_be_taken(database: Database) -> None:
    row, _ = await submit(database)
    await claim(database, row, "first")
    assert await claim(database, row, "second", at=NOW + timedelta(seconds=LEASE - 0.001)) is None


async def test_a_released_attempt_does_not_count_and_its_worker_owns_nothing_any_more(database: Database) -> None:
    row, _ = await submit(database)
    held = await claim(database, row, "w:1")
    assert held is not None
    async with database.write() as session:
        released = await lease.release(session, analysis_id=row.id, owner="w:1", attempt=1)
    assert released is not None and (released.state, released.attempt) == ("queued", 0)
    again = await claim(database, row, "w:2")
    assert again is not None and again.attempt == 1
    assert not await finish(database, held, "w:1")


async def test_expired_leases_go_back_to_the_queue_until_the_attempts_are_used_up(database: Database) -> None:
    row, _ = await submit(database, max_attempts=2)
    at = NOW
    for attempt in (1, 2):
        held = await claim(database, row, f"w{attempt}", at=at)
        assert held is not None and held.attempt == attempt
        at += timedelta(seconds=LEASE)
        async with database.read() as session:
            assert await recovery.any_expired(session, at=at)
        async with database.write() as session:
            reclaimed = await recovery.reclaim_expired(session, at=at)
        assert (reclaimed.queued, reclaimed.failed) == (((row.id,), ()) if attempt == 1 else ((), (row.id,)))
    dead = await current(database, row)
    assert dead.state == "failed" and dead.error is not None
    assert dead.error["type"] == "worker-crashed" and "2 times" in dead.error["detail"]
    async with database.write() as session:
        assert await recovery.queued_ids(session) == []
        assert await recovery.reclaim_expired(session, at=at) == recovery.Reclaimed((), (), ())


async def test_a_live_lease_is_not_reclaimed(database: Database) -> None:
    row, _ = await submit(database)
    await claim(database, row, "w")
    at = NOW + timedelta(seconds=LEASE - 1)
    async with database.write() as session:
        assert not await recovery.any_expired(session, at=at)
        assert await recovery.reclaim_expired(session, at=at) == recovery.Reclaimed((), (), ())


async def test_a_crash_is_retried_and_the_last_error_is_kept(database: Database) -> None:
    row, _ = await submit(database, max_attempts=2)
    states = []
    for attempt in (1, 2):
        held = await claim(database, row, "w")
        assert held is not None
        async with database.write() as session:
            failed = await lease.fail(
                session,
                analysis_id=row.id,
                owner="w",
                attempt=attempt,
                error={"type": "worker-crashed", "detail": f"no {attempt}"},
                at=NOW,
                retry=True,
            )
        assert failed is not None and failed.error is not None
        states.append((failed.state, failed.error["detail"]))
    assert states == [("queued", "no 1"), ("failed", "no 2")]
    assert await claim(database, row, "w") is None


async def test_cancelling_a_queued_analysis_takes_effect_at_once(database: Database) -> None:
    row, _ = await submit(database)
    async with database.write() as session:
        cancelled = await analysis.request_cancel(session, analysis_id=row.id, at=NOW)
    assert cancelled.state == "cancelled"
    assert await claim(database, row, "w") is None
    async with database.write() as session:
        assert (await analysis.request_cancel(session, analysis_id=row.id, at=NOW)).state == "cancelled"


async def test_a_running_analysis_is_cancelled_by_its_worker(database: Database) -> None:
    row, _ = await submit(database)
    await claim(database, row, "w")
    async with database.write() as session:
        assert (await analysis.request_cancel(session, analysis_id=row.id, at=NOW)).state == "running"
        again = await analysis.request_cancel(session, analysis_id=row.id, at=NOW + timedelta(seconds=5))
    assert again.cancel_requested_at == NOW
    async with database.write() as session:
        assert (await lease.watch(session, analysis_id=row.id, owner="w", attempt=1)).cancel_requested
        marked = await lease.mark_cancelled(session, analysis_id=row.id, owner="w", attempt=1, at=NOW)
    assert marked is not None and marked.state == "cancelled"


async def test_an_analysis_whose_worker_died_after_a_cancel_request_is_cancelled_not_repeated(
    database: Database,
) -> None:
    row, _ = await submit(database)
    await claim(database, row, "w")
    async with database.write() as session:
        await analysis.request_cancel(session, analysis_id=row.id, at=NOW)
    late = NOW + timedelta(seconds=LEASE)
    assert await claim(database, row, "other", at=late) is None
    async with database.write() as session:
        assert (await recovery.reclaim_expired(session, at=late)).cancelled == (row.id,)
    assert (await current(database, row)).state == "cancelled"


async def test_what_is_over_cannot_be_cancelled(database: Database) -> None:
    row, _ = await submit(database)
    held = await claim(database, row, "w")
    assert held is not None and await finish(database, held, "w")
    with pytest.raises(NotReady):
        async with database.write() as session:
            await analysis.request_cancel(session, analysis_id=row.id, at=NOW)
    with pytest.raises(NotFound):
        async with database.write() as session:
            await analysis.request_cancel(session, analysis_id=uuid.uuid4(), at=NOW)


async def test_only_failed_or_cancelled_analyses_can_be_queued_again(database: Database) -> None:
    row, _ = await submit(database)
    with pytest.raises(NotReady):
        async with database.write() as session:
            await analysis.requeue(session, analysis_id=row.id)
    await claim(database, row, "w")
    async with database.write() as session:
        await lease.fail(session, analysis_id=row.id, owner="w", attempt=1, error={"type": "x", "detail": "y"}, at=NOW)
    async with database.write() as session:
        again = await analysis.requeue(session, analysis_id=row.id, max_attempts=3)
    assert (again.state, again.error, again.attempt, again.max_attempts) == ("queued", None, 1, 4)
    held = await claim(database, row, "w")
    assert held is not None and held.attempt == 2


async def test_a_failed_hand_in_leaves_nothing_behind(database: Database) -> None:
    row, _ = await submit(database)
    held = await claim(database, row, "w")
    assert held is not None
    broken = {**ROW, "metric_key": None}
    with pytest.raises(sa.exc.IntegrityError):
        await finish(database, held, "w", StoredResult(b"x", "x" * 64, None, [ROW, broken]))
    assert (await current(database, row)).state == "running"
    assert (await count(database, Result), await count(database, ResultRow)) == (0, 0)
