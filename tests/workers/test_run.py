"""One worker's side of an analysis, with real children and a real database: hold, finish, lose, cancel, give up."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import col

from experiments import analysis, lease
from experiments.tables import Analysis, Result
from experiments.types import utc_now
from tests.workers.conftest import Desk
from tests.workers.tiny import expected
from workers.run import Interrupted

pytestmark = pytest.mark.anyio


async def test_an_analysis_is_computed_in_a_child_and_its_bytes_are_stored(desk: Desk) -> None:
    row = await desk.submit(draws=500)
    await desk.runner().run(row.id)
    done, result = await desk.now(row), await desk.result(row)
    assert done.state == "succeeded" and done.attempt == 1 and done.lease_owner is None
    assert result is not None and result.body == expected(row.plan, row.seed)


async def test_a_second_delivery_of_the_same_analysis_does_nothing(desk: Desk) -> None:
    row = await desk.submit()
    runner = desk.runner()
    await asyncio.gather(*(runner.run(row.id) for _ in range(4)))
    await runner.run(row.id)
    async with desk.database.read() as session:
        assert (await session.execute(sa.select(sa.func.count()).select_from(Result))).scalar_one() == 1
    assert (await desk.now(row)).attempt == 1


async def test_progress_of_the_child_is_written_while_it_computes(desk: Desk, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    row = await desk.submit(until=str(go_on))
    running = asyncio.ensure_future(desk.runner().run(row.id))
    seen = await desk.until(row, lambda r: r.stage == "sleeping" and r.fraction > 0.3)
    assert seen.state == "running" and seen.heartbeat_at is not None and seen.started_at is not None
    assert seen.heartbeat_at > seen.started_at
    go_on.touch()
    await running
    assert (await desk.now(row)).state == "succeeded"


@pytest.mark.parametrize("fault", [None, "native"])
async def test_cancelling_a_running_analysis_stops_it_whatever_it_does(desk: Desk, fault: str | None) -> None:
    row = await desk.submit(fault=fault, until=None if fault else "/nowhere")
    running = asyncio.ensure_future(desk.runner().run(row.id))
    await desk.until(row, lambda r: r.stage == "sleeping")
    await asyncio.sleep(0.5 if fault else 0.0)
    async with desk.database.write() as session:
        await analysis.request_cancel(session, analysis_id=row.id, at=utc_now())
    await running
    cancelled = await desk.now(row)
    assert cancelled.state == "cancelled" and cancelled.finished_at is not None
    assert await desk.result(row) is None


async def test_a_worker_that_lost_its_lease_stops_computing_and_stores_nothing(desk: Desk) -> None:
    row = await desk.submit(seconds=6000.0)
    running = asyncio.ensure_future(desk.runner().run(row.id))
    await desk.until(row, lambda r: r.state == "running")
    async with desk.database.write() as session:
        later = utc_now() + timedelta(hours=1)
        taken = await lease.claim(session, analysis_id=row.id, owner="another", lease_seconds=60, at=later)
    assert taken is not None
    await running
    now = await desk.now(row)
    assert (now.state, now.lease_owner, now.attempt) == ("running", "another", 2)
    assert await desk.result(row) is None


async def test_an_analysis_that_takes_too_long_fails_at_once_with_the_stage_it_was_in(desk: Desk) -> None:
    row = await desk.submit(seconds=6000.0)
    await desk.runner(analysis_timeout_seconds=1.0).run(row.id)
    failed = await desk.now(row)
    assert failed.state == "failed" and failed.error is not None
    assert failed.error["type"] == "timeout" and "remedy" in failed.error
    assert desk.retried == []


async def test_a_crashed_child_is_retried_and_a_poison_job_stops_with_its_error_kept(desk: Desk) -> None:
    row = await desk.submit(fault="kill")
    runner = desk.runner()
    await runner.run(row.id)
    again = await desk.now(row)
    assert (again.state, again.attempt, desk.retried) == ("queued", 1, [(row.id, 1)])
    for _ in range(4):
        await runner.run(row.id)
    dead = await desk.now(row)
    assert (dead.state, dead.attempt) == ("failed", 3)
    assert dead.error is not None and "SIGKILL" in dead.error["detail"] and dead.error["attempts"] == 3


async def test_running_out_of_memory_is_retried(desk: Desk) -> None:
    row = await desk.submit(fault="memory")
    await desk.runner().run(row.id)
    again = await desk.now(row)
    assert again.state == "queued" and again.error is not None and "MemoryError" in again.error["detail"]


@pytest.mark.parametrize(
    ("fault", "kind", "detail"),
    [
        ("domain", "plan-incomplete", "the plan has no primary metric"),
        ("statistics", "ValueError", "the matrix is singular"),
    ],
)
async def test_an_error_of_the_analysis_itself_fails_it_at_once(desk: Desk, fault: str, kind: str, detail: str) -> None:
    row = await desk.submit(fault=fault)
    await desk.runner().run(row.id)
    failed = await desk.now(row)
    assert failed.state == "failed" and failed.attempt == 1 and failed.error is not None
    assert (failed.error["type"], failed.error["detail"]) == (kind, detail)
    assert desk.retried == []


async def test_a_kind_that_nobody_knows_fails(desk: Desk) -> None:
    row = await desk.submit(kind="astrology")
    await desk.runner().run(row.id)
    failed = await desk.now(row)
    assert failed.state == "failed" and failed.error is not None and failed.error["type"] == "unknown-kind"


async def test_a_stopping_worker_hands_its_analyses_back_at_once(desk: Desk) -> None:
    rows = [await desk.submit(f"a{i}", seconds=6000.0) for i in range(2)]
    runner = desk.runner()
    running = [asyncio.ensure_future(runner.run(row.id)) for row in rows]
    for row in rows:
        await desk.until(row, lambda r: r.state == "running")
    await runner.stop()
    for row, task in zip(rows, running, strict=True):
        with pytest.raises(Interrupted):
            await task
        back = await desk.now(row)
        assert (back.state, back.attempt, back.lease_owner) == ("queued", 0, None)
    with pytest.raises(Interrupted):
        await runner.run(rows[0].id)
    another = desk.runner(analysis_timeout_seconds=60.0)
    short = await desk.submit("short")
    await another.run(short.id)
    assert (await desk.now(short)).state == "succeeded"


async def test_a_retry_gives_the_same_bytes(desk: Desk) -> None:
    row = await desk.submit(draws=2000)
    async with desk.database.write() as session:
        await lease.claim(session, analysis_id=row.id, owner="dead", lease_seconds=0.001, at=utc_now())
    await asyncio.sleep(0.01)
    await desk.runner().run(row.id)
    done, result = await desk.now(row), await desk.result(row)
    assert done.attempt == 2 and result is not None and result.body == expected(row.plan, row.seed)


async def test_more_analyses_than_slots_wait_for_a_slot_without_being_claimed(desk: Desk) -> None:
    rows = [await desk.submit(f"a{i}", seconds=0.3) for i in range(3)]
    runner = desk.runner(worker_slots=1)
    running = asyncio.gather(*(runner.run(row.id) for row in rows))
    while not running.done():
        await asyncio.sleep(0.05)
        async with desk.database.read() as session:
            statement = sa.select(sa.func.count()).where(col(Analysis.state) == "running")
            assert (await session.execute(statement)).scalar_one() <= 1
    await running
    assert {(await desk.now(row)).state for row in rows} == {"succeeded"}
