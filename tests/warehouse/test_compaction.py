"""Compaction changes where rows lie and nothing else: every analysis, of now or of the past, has the same moments."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import store_segment
from experiments.database import Database
from experiments.settings import Settings
from experiments.store_segment import level_of
from tests.warehouse.cases import START
from tests.warehouse.recorded_world import Recorded, assert_identical, rows_of
from warehouse import compaction
from warehouse.compaction import Run, choose, compact, in_one_schema, rewrite, runs_of
from warehouse.parquet import BUCKETS

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
LATER = START + 100 * DAY


@pytest.fixture
async def world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Recorded]:
    database = Database(sqlite_url, synchronous="OFF")
    made = Recorded(database, Settings(data_dir=tmp_path / "data", analysis_threads=1), tmp_path)
    await made.begin()
    yield made
    await database.dispose()


async def test_analyses_of_now_and_of_the_past_have_the_same_moments_to_the_last_bit(
    world: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FEWEST_BATCHES", 4)
    rows = rows_of(1, units=24)
    await world.send_in_batches(rows[: len(rows) // 2], 5)
    times = [one.created_at for one in await world.batches()][5::4]
    before = {at: await world.moments(at) for at in times}
    assert await compact(world.database, world.settings, at=times[-1] + DAY)
    for at, wanted in before.items():
        assert_identical(await world.moments(at), wanted)
    # Batches arrive while others are compacted.
    more = asyncio.create_task(world.send_in_batches(rows[len(rows) // 2 :], 4))
    while not more.done():
        await compact(world.database, world.settings, at=LATER)
        await asyncio.sleep(0.3)
    await more
    before[LATER] = await world.moments(LATER)
    await compact(world.database, world.settings, at=LATER, everything=True)
    recorded = {"exposures": 0, "events": 0}
    for batch in await world.batches():
        recorded[batch.stream] += 1
    assert {one.stream: len(one.batches) for one in await world.segments()} == recorded
    assert len(await world.segments()) == 2
    for at, wanted in before.items():
        assert_identical(await world.moments(at), wanted)


async def test_a_segment_has_every_row_once_by_bucket_and_time_with_when_it_was_recorded(world: Recorded) -> None:
    await world.send_in_batches(rows_of(3, units=20), 3)
    sent = [row for path in world.files() for row in pq.read_table(path).to_pylist()]
    await compact(world.database, world.settings, at=LATER, everything=True)
    (segment,) = [one for one in await world.segments() if one.stream == "events"]
    files = [path for path in world.files() if path.parent.name == segment.name]
    assert len(files) == BUCKETS
    found = []
    for bucket, path in enumerate(files):
        rows = pq.read_table(path).to_pylist()
        assert [row["occurred_at"] for row in rows] == sorted(row["occurred_at"] for row in rows)
        for row in rows:
            # The first eight bytes are a number whose highest byte is the last.
            assert int(md5_of(row["unit_id"])[14], 16) == bucket
        found += rows
    recorded = {round(one.created_at.timestamp() * 1e6) for one in await world.batches() if one.stream == "events"}
    assert {row.pop("recorded_us") for row in found} == recorded
    events = [row for row in sent if "event" in row]
    assert segment.rows == len(events)
    assert sorted(map(repr, found)) == sorted(map(repr, events))


def md5_of(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


async def test_a_property_keeps_its_type_in_every_batch(world: Recorded) -> None:
    sent: list[Any] = [{"plan": "basic"}, {"plan": 3}, {"plan": True}, {}, {"plan": "pro", "size": 1}]
    for i, properties in enumerate(sent * 2):
        at = START + i * DAY
        row = {"event": "orders", "unit_id": f"u{i}", "occurred_at": at.isoformat(), "properties": properties}
        await world.send("events", [row], at)
    await compact(world.database, world.settings, at=LATER, everything=True)
    live = await world.segments()
    assert sorted(len(one.batches) for one in live) == [2, 2, 2, 4]
    found = {}
    for path in world.files():
        for row in pq.read_table(path).to_pylist() if path.parent.name in {one.name for one in live} else ():
            found[row["unit_id"]] = row.get("p_plan")
    assert found == {f"u{i}": properties.get("plan") for i, properties in enumerate(sent * 2)}


def test_a_column_that_only_some_files_of_a_segment_have_keeps_its_type(tmp_path: Path) -> None:
    first, second, loose = (tmp_path / name for name in ("0", "1", "loose"))
    pq.write_table(pa.table({"unit_id": ["a"]}), first)
    pq.write_table(pa.table({"unit_id": ["b"], "p_plan": [1.0]}), second)
    pq.write_table(pa.table({"unit_id": ["c"], "p_plan": ["pro"]}), loose)
    segment = Run(uuid.uuid4(), (first, second), ("1", "2"), START, loose=False)
    assert len(in_one_schema([segment, Run(uuid.uuid4(), (loose,), ("3",), START, loose=True)])) == 2


async def test_what_was_recorded_a_moment_ago_waits(world: Recorded) -> None:
    at = START + 30 * DAY
    for i in range(20):
        row = {"event": "orders", "unit_id": "u", "occurred_at": START.isoformat()}
        await world.send("events", [row], at + timedelta(seconds=6 * i))
    (made,) = await compact(world.database, world.settings, at=at + timedelta(seconds=6 * 26))
    assert made.batches == made.replaced_files == 17


def run_of(batches: int, folder: Path, *, loose: bool | None = None) -> Run:
    file = folder / "rows.parquet"
    if not file.exists():
        pq.write_table(pa.table({"unit_id": ["u"]}), file)
    names = tuple(uuid.uuid4().hex for _ in range(batches))
    return Run(uuid.uuid4(), (file,), names, START, loose=batches == 1 if loose is None else loose)


@settings(max_examples=20)
@given(deliveries=st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_a_row_is_rewritten_as_often_as_the_logarithm_of_its_batches_and_files_stay_few(
    tmp_path_factory: pytest.TempPathFactory, deliveries: list[int]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    runs: list[Run] = []
    rewritten: dict[str, int] = {}
    for number in deliveries:
        new = [run_of(1, folder) for _ in range(number)]
        rewritten |= {run.batches[0]: 0 for run in new}
        runs += new
        while chosen := choose(runs):
            for group in chosen:
                names = tuple(name for run in group for name in run.batches)
                runs = [run for run in runs if run not in group]
                runs.append(Run(uuid.uuid4(), group[0].files, names, START, loose=False))
                rewritten |= {name: rewritten[name] + 1 for name in names}
    total = sum(deliveries)
    assert len(rewritten) == total == sum(len(run.batches) for run in runs)
    assert max(rewritten.values()) <= level_of(total)
    assert len(runs) <= 15 + 7 * level_of(total)


def test_large_batches_are_compacted_however_few_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [run_of(1, tmp_path) for _ in range(3)]
    segment = run_of(2, tmp_path)
    assert choose([segment, *few]) == []
    monkeypatch.setattr(compaction, "LARGE_BYTES", 3 * few[0].files[0].stat().st_size)
    assert choose([segment, *few]) == [few]
    assert choose([segment, *few[:2]]) == []


async def test_of_two_compactions_at_a_time_one_counts(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url, synchronous="OFF")
    world = Recorded(database, Settings(data_dir=tmp_path / "data", analysis_threads=1), tmp_path)
    await world.begin()
    row = {"event": "orders", "unit_id": "u", "occurred_at": START.isoformat()}
    for i in range(4):
        await world.send("events", [row], START + i * DAY)
    runs = (await runs_of(database, world.settings, "events", until=LATER))["orders"]
    both = await asyncio.gather(
        *(rewrite(database, world.settings, "events", "orders", some, at=LATER) for some in (runs[:3], runs[1:]))
    )
    (made,) = [one for one in both if one is not None]
    (segment,) = await world.segments()
    assert segment.name == made.name and len(segment.batches) == 3
    live = await runs_of(database, world.settings, "events", until=LATER)
    again = await asyncio.gather(
        *(rewrite(database, world.settings, "events", "orders", live["orders"], at=LATER) for _ in range(2))
    )
    assert sum(one is not None for one in again) == 1
    (segment,) = await world.segments()
    assert sorted(segment.batches) == sorted(one.path for one in await world.batches())
    assert sum(one.retired_at is not None for one in await world.segments(live=False)) == 1
    async with database.read() as session:
        assert len(await store_segment.retired(session, before=LATER + DAY)) == 1
        assert await store_segment.retired(session, before=LATER) == []
    await database.dispose()
