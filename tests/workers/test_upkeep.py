"""Upkeep in a child process: killed at any moment it loses nothing, and the next round finds everything to do."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from experiments.database import Database
from experiments.settings import Settings
from tests.deaths import Moments
from tests.warehouse.cases import START
from tests.warehouse.recorded_world import Recorded, assert_identical, rows_of
from warehouse.engine import connect
from warehouse.scratch import sweep_scratch
from warehouse.sweeping import sweep
from workers.upkeep import LOCK, STEPS, Order, Upkeep, alone, round_in_child, run

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
LATER = START + 100 * DAY


@pytest.fixture
async def world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Recorded]:
    database = Database(sqlite_url, synchronous="OFF")
    settings = Settings(
        database_url=sqlite_url, data_dir=tmp_path / "data", analysis_threads=1, sqlite_synchronous="OFF"
    )
    made = Recorded(database, settings, tmp_path)
    await made.begin()
    yield made
    await database.dispose()


async def ordeal(world: Recorded, *, kills: int, batches: int, units: int, seed: int, longest: float) -> int:
    """Kill rounds of upkeep at random while batches arrive; how many were killed before they were done."""
    moments = Moments(random.Random(seed), longest)
    rows = rows_of(seed, units=units)
    part = len(rows) // (kills + 1)
    for i in range(kills + 1):
        await world.send_in_batches(rows[i * part : (i + 1) * part], batches)
        everything = Order(world.settings, everything=True)
        if i == kills:
            assert await round_in_child(everything) is not None
            break
        round_ = asyncio.create_task(round_in_child(everything))
        await asyncio.sleep(moment := moments.another())
        moments.came(moment, in_time=not round_.done())
        round_.cancel()
        await asyncio.gather(round_, return_exceptions=True)
        await _is_whole(world)
    return moments.killed


async def _is_whole(world: Recorded) -> None:
    """Every batch is to be read exactly once, and its files are there."""
    for stream in ("exposures", "events"):
        compacted = [name for one in await world.segments() if one.stream == stream for name in one.batches]
        assert len(compacted) == len(set(compacted))
    folders = {path.parent.name for path in world.files()}
    assert {one.name for one in await world.segments()} <= folders


async def _is_in_order(world: Recorded, before: object) -> None:
    """All batches in one segment each of exposures and events; after sweeping nothing else is left."""
    batches = await world.batches()
    live = await world.segments()
    assert {one.stream: sorted(one.batches) for one in live} == {
        stream: sorted(one.path for one in batches if one.stream == stream) for stream in ("exposures", "events")
    }
    for stream in ("exposures", "events"):
        accepted = sum(one.accepted for one in batches if one.stream == stream)
        assert sum(one.rows for one in live if one.stream == stream) == accepted
    for path in world.settings.data_dir.rglob("*"):
        os.utime(path, (0, time.time() - 3 * 86_400))
    sweep_scratch(world.settings.data_dir)
    await sweep(world.database, world.settings, at=max(one.created_at for one in live) + 2 * DAY)
    assert {path.parent.name for path in world.files()} == {one.name for one in live}
    assert not list((world.settings.data_dir / ".staging").iterdir())
    assert all(one.swept_at is not None for one in await world.batches())
    assert_identical(await world.moments(LATER), before)


async def test_no_batch_is_lost_or_doubled_by_kills(world: Recorded) -> None:
    await ordeal(world, kills=3, batches=2, units=20, seed=1, longest=0.5)
    before = await world.moments(LATER)
    await _is_in_order(world, before)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1])
async def test_no_batch_is_lost_or_doubled_by_many_kills(world: Recorded, seed: int) -> None:
    killed = await ordeal(world, kills=60, batches=4, units=300, seed=seed, longest=1.5)
    assert killed > 15
    await _is_in_order(world, await world.moments(LATER))


async def test_one_round_at_a_time_and_not_more_often_than_wanted(world: Recorded) -> None:
    data = world.settings.data_dir
    with alone(data) as first, alone(data) as second:
        assert (first, second) == (True, False)
        assert await run(Order(world.settings)) is None
    with alone(data, unless_younger=60.0) as soon:
        assert not soon
    with alone(data, unless_younger=0.0) as at_once:
        assert at_once
    (data / LOCK).write_text(repr(time.time() - 61))
    with alone(data, unless_younger=60.0) as later:
        assert later
    (data / LOCK).write_text(repr(time.time() + 3600))
    with alone(data, unless_younger=60.0) as with_a_clock_put_back:
        assert with_a_clock_put_back


EVERY_STEP = {
    "rows_dropped", "segments_written", "files_replaced", "rows_compacted", "files_swept", "segments_swept",
    "leftovers_swept", "scratch_folders_swept", "dead_letters_expired", "lanes_forgotten", "moments_forgotten",
    "erasures_rewritten", "erasures_done", "rows_erased",
}  # fmt: skip


async def test_a_round_does_every_step_and_a_broken_disk_does_not_stop_the_others(
    world: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.send("events", [{"event": "orders", "unit_id": "u", "occurred_at": START.isoformat()}], START)

    async def broken(database: Database, settings: Settings) -> dict[str, int]:
        raise OSError("no room")

    async def full(database: Database, settings: Settings) -> dict[str, int]:
        with connect(threads=1, memory_limit=None) as connection:
            connection.execute("COPY (SELECT 1) TO '/dev/full'")
        return {}

    monkeypatch.setattr("workers.upkeep.STEPS", (broken, full, *STEPS))
    report = await run(Order(world.settings))
    assert report is not None and set(report) == EVERY_STEP
    assert not any(report.values())


async def test_a_damaged_file_costs_a_round_the_steps_that_read_it(world: Recorded) -> None:
    await world.send("events", [{"event": "orders", "unit_id": "u", "occurred_at": START.isoformat()}], START)
    (file,) = (world.settings.data_dir / "events").glob("*/*.parquet")
    file.write_bytes(b"no longer what it was")
    report = await run(Order(world.settings.model_copy(update={"event_retention_days": 90.0})))
    assert report is not None and set(report) == EVERY_STEP - {"rows_dropped"}


async def test_workers_take_turns(world: Recorded) -> None:
    hourly = world.settings.model_copy(update={"upkeep_minutes": 60.0})
    reports = [await Upkeep(hourly).once() for _ in range(2)]
    assert reports[0] is not None and reports[1] is None
