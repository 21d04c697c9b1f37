"""Files go when nobody can be reading them, and only those that others replaced or that nobody recorded."""

import os
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import col, select

from experiments import fact_source, retention
from experiments.database import Database
from experiments.definitions import EventSource, UnitMapping
from experiments.errors import DataDeleted
from experiments.plan import NorthStarPlan
from experiments.settings import Settings
from experiments.tables import AuditEvent, Experiment
from tests.warehouse.cases import START
from tests.warehouse.recorded_world import PLAN, Recorded, assert_identical, rows_of
from warehouse.catalog import slice_for
from warehouse.compaction import compact
from warehouse.extract import extract_series
from warehouse.inventory import inventory
from warehouse.retention import retain
from warehouse.store import batch_file, subject_folder
from warehouse.sweeping import Swept, sweep

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
LATER = START + 100 * DAY
NORTH_STAR = {
    "key": "orders", "name": "Orders", "metric_key": "orders", "formula": "revenue",
    "input_metrics": [{"metric_key": "revenue"}],
}  # fmt: skip


@pytest.fixture
async def world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Recorded]:
    database = Database(sqlite_url, synchronous="OFF")
    made = Recorded(database, Settings(data_dir=tmp_path / "data", analysis_threads=1), tmp_path)
    await made.begin()
    yield made
    await database.dispose()


def event(unit: str, at: datetime, name: str = "orders") -> dict[str, object]:
    return {"event": name, "unit_id": unit, "occurred_at": at.isoformat(), "value": 1.0}


async def test_replaced_files_go_after_the_grace_period_and_moments_stay(world: Recorded) -> None:
    await world.send_in_batches(rows_of(4, units=20), 3)
    wanted = await world.moments(LATER)
    loose = world.files()
    await compact(world.database, world.settings, at=LATER, everything=True)
    assert await sweep(world.database, world.settings, at=LATER + 0.9 * DAY) == Swept()
    assert set(loose) < set(world.files())
    gone = await sweep(world.database, world.settings, at=LATER + 1.1 * DAY)
    assert (gone.files, gone.batches, gone.segments) == (len(loose), len(loose), 0)
    assert set(loose).isdisjoint(world.files())
    assert all(one.swept_at == LATER + 1.1 * DAY for one in await world.batches())
    assert_identical(await world.moments(LATER), wanted)
    await world.send("events", [event("u", START + DAY)], LATER + DAY)
    await compact(world.database, world.settings, at=LATER + 2 * DAY, everything=True)
    assert len(await world.segments(live=False)) == 3
    assert (await sweep(world.database, world.settings, at=LATER + 4 * DAY)).segments == 1
    assert len(await world.segments(live=False)) == 2
    assert len({path.parent for path in world.files()}) == 2
    assert_identical(await world.moments(LATER), wanted)


async def test_a_batch_keeps_the_files_of_events_that_were_not_compacted(world: Recorded) -> None:
    for i in range(16):
        rare = [event("u", START, "refunds")] if i == 3 else []
        await world.send("events", [event("u", START), *rare], START + i * DAY)
    seen = await inventory(world.database, world.settings, at=START + 2 * DAY)
    assert [(one.subject, one.batches) for one in seen.subjects] == [("orders", 3)]
    await compact(world.database, world.settings, at=LATER)
    gone = await sweep(world.database, world.settings, at=LATER + 2 * DAY)
    assert (gone.files, gone.batches) == (16, 15)
    (kept,) = [one for one in await world.batches() if one.swept_at is None]
    assert [path.name for path in world.files() if path.parent.name.startswith("refunds")] == [kept.path]


async def test_what_nobody_recorded_goes_when_it_is_old(world: Recorded) -> None:
    await world.send("events", [event("u", START)], START)
    (batch,) = await world.batches()
    folder = subject_folder(world.settings.data_dir, "events", "orders")
    orphan, segment, other = folder / "1.parquet", folder / "segment", world.settings.data_dir / "notes"
    orphan.touch()
    segment.mkdir()
    (segment / "00-of-16.parquet").touch()
    other.mkdir()
    recorded = batch_file(world.settings.data_dir, "events", "orders", batch.path)
    assert (await sweep(world.database, world.settings, at=LATER)).leftovers == 0
    for path in (orphan, segment, recorded, other):
        os.utime(path, (0, time.time() - 2 * 86_400))
    assert (await sweep(world.database, world.settings, at=LATER)).leftovers == 2
    assert (orphan.exists(), segment.exists(), recorded.exists(), other.exists()) == (False, False, True, True)


async def test_events_go_when_no_experiment_needs_them_and_no_number_has_a_part_of_them(world: Recorded) -> None:
    settings = world.settings.model_copy(update={"event_retention_days": 90.0, "exposure_retention_days": 90.0})
    for day in range(-40, 60, 4):
        every_six_hours = [event(f"u{i}", START + (day + i / 4) * DAY) for i in range(16)]
        await world.send("events", every_six_hours, START + day * DAY)
    shown = [
        {
            "experiment_key": "checkout",
            "unit_id": f"u{i}",
            "variant_key": ("control", "treatment")[i % 2],
            "exposed_at": (START + DAY).isoformat(),
        }
        for i in range(8)
    ]
    await world.send("exposures", shown, START + 2 * DAY)
    await compact(world.database, world.settings, at=LATER, everything=True)
    wanted = await world.moments(START + 60 * DAY)
    planned = NorthStarPlan.model_validate(
        {
            "north_star": {"version": 1, "spec": NORTH_STAR},
            "metrics": PLAN.metrics,
            "fact_sources": PLAN.fact_sources,
        }
    )

    async def rows_by_week(at: datetime) -> list[float]:
        async with world.database.read() as session:
            data = await slice_for(session, settings, planned, None, at)
        series = extract_series(planned, data, threads=1)
        return [float(x) for x, full in zip(series.totals[:, 0], series.complete, strict=True) if full]

    # The experiment runs: it needs what happened up to five days before its start.
    await retain(world.database, settings, at=START + 130 * DAY)
    async with world.database.read() as session:
        assert await retention.kept_since(session, stream="events") == START - 5 * DAY
        assert await retention.kept_since(session, stream="exposures") == START
    assert await rows_by_week(START + 59 * DAY) == [28.0] * 8
    assert_identical(await world.moments(START + 60 * DAY), wanted)
    segment = (await world.segments())[-1]
    assert (segment.stream, segment.rows) == ("events", 65 * 4)
    # It is over: so is its data, and a later batch of old rows does not bring a part of it back.
    async with world.database.write() as session:
        row = (await session.scalars(select(Experiment).where(col(Experiment.key) == "checkout"))).one()
        row.stopped_at, row.status = START + 20 * DAY, "stopped"
    at = START + 130 * DAY + timedelta(hours=3)
    await retain(world.database, settings, at=at)
    await world.send("events", [event("late", START + 2 * DAY)], at)
    assert (await rows_by_week(at))[:4] == [28.0, 28.0, 16.0, 0.0]
    with pytest.raises(DataDeleted, match="were deleted"):
        await world.moments(START + 60 * DAY)
    segment = (await world.segments())[-1]
    assert (segment.stream, segment.rows) == ("events", 20 * 4)
    (made,) = await retain(world.database, settings, at=at + DAY)
    assert (made.rows, made.dropped) == (0, 1)  # the late row; what is a little older than a day is not worth a rewrite
    async with world.database.read() as session:
        events = list(await session.scalars(select(AuditEvent).where(col(AuditEvent.action) == "store.drop")))
    dropped = [one.after["rows"] for one in events if one.after is not None]
    assert sorted(dropped) == [1, 8, 35 * 4, 45 * 4]  # the exposures went as well


async def test_events_that_map_units_stay_however_old_they_are(world: Recorded) -> None:
    settings = world.settings.model_copy(update={"event_retention_days": 30.0})
    async with world.database.write() as session:
        (await session.scalars(select(Experiment))).one().status = "stopped"
        (await session.scalars(select(Experiment))).one().stopped_at = START + DAY
        who = EventSource(key="who", event="login")
        mapped = EventSource(
            key="orders", event="orders", unit_mapping=UnitMapping(fact_source="who", id_column="device")
        )
        for spec in (who, mapped):
            await fact_source.create(session, spec=spec, actor="tests", at=START)
    login = {**event("unit", START - 90 * DAY, "login"), "properties": {"device": "phone"}}
    await world.send("events", [login, event("phone", START - 90 * DAY)], START)
    await world.send("events", [event("phone", START + 85 * DAY)], START + 90 * DAY)
    planned = NorthStarPlan.model_validate(
        {
            "north_star": {"version": 1, "spec": NORTH_STAR},
            "metrics": PLAN.metrics,
            "fact_sources": [mapped, who],
        }
    )
    (made,) = await retain(world.database, settings, at=LATER)
    assert (made.subject, made.rows, made.dropped) == ("orders", 0, 1)
    async with world.database.read() as session:
        data = await slice_for(session, settings, planned, None, LATER)
    assert extract_series(planned, data, threads=1).totals.sum(axis=0).tolist() == [1.0, 1.0]
