"""An erased unit is in no file and in no number, wherever its rows lay, and what it did to results is known."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlmodel import col

from experiments import erasure
from experiments.database import Database
from experiments.errors import InvalidDefinition
from experiments.settings import Settings
from experiments.tables import Analysis, AuditEvent, Erasure, IngestBatch
from experiments.unit_digest import KEY_FILE, digest_key, unit_digest
from tests.warehouse.cases import START, Exposure
from tests.warehouse.deliveries import Row
from tests.warehouse.recorded_world import Recorded, assert_identical, rows_of
from warehouse.catalog import slice_for
from warehouse.compaction import compact
from warehouse.dead_letters import dead_letter_file
from warehouse.erasure import Erased, erase_units, waits
from warehouse.ingest import ingest
from warehouse.state.lane import experiment_folder
from workers.child import Channel, Job, compute

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)
LATER = START + 100 * DAY


def made(url: str, folder: Path) -> Recorded:
    folder.mkdir(exist_ok=True)
    settings = Settings(database_url=url, data_dir=folder / "data", analysis_threads=1, sqlite_synchronous="OFF")
    return Recorded(Database(url, synchronous="OFF"), settings, folder)


@pytest.fixture
async def world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Recorded]:
    world = made(sqlite_url, tmp_path)
    await world.begin()
    yield world
    await world.database.dispose()


async def ask(
    world: Recorded, *units: str, unit_type: str = "user", refuse_future: bool = False, at: datetime = LATER
) -> list[Erasure]:
    async with world.database.write() as session:
        return await erasure.request(
            session, unit_type=unit_type, unit_ids=units, reason="ticket 12", refuse_future=refuse_future,
            key=digest_key(world.settings.data_dir), actor="ada", at=at,
        )  # fmt: skip


async def erased(world: Recorded, at: datetime = LATER) -> Erased:
    return await erase_units(world.database, world.settings, at=at)


async def finished(world: Recorded, at: datetime = LATER) -> Erased:
    return await erased(world, at + waits(world.settings) + timedelta(seconds=1))


async def all_erasures(world: Recorded) -> list[Erasure]:
    async with world.database.read() as session:
        return list(await session.scalars(sa.select(Erasure).order_by(col(Erasure.id))))


def holders(world: Recorded, unit: str) -> list[Path]:
    """Files that have rows of a unit."""
    return [path for path in world.files() if unit in pq.read_table(path).column("unit_id").to_pylist()]


def arms_of(world: Recorded, unit: str) -> list[str]:
    """The variant of each exposure of a unit in the store."""
    tables = [pq.read_table(path) for path in world.files() if "exposures" in path.parts]
    rows = [row for table in tables for row in table.select(["unit_id", "variant_key"]).to_pylist()]
    return [row["variant_key"] for row in rows if row["unit_id"] == unit]


def count_of(world: Recorded, unit: str) -> int:
    return sum(pq.read_table(path).column("unit_id").to_pylist().count(unit) for path in world.files())


async def send(world: Recorded, rows: Sequence[Row], without: Sequence[str] = ()) -> None:
    """Three batches; the same rows lie in the same batch whoever is left out."""
    for i in range(3):
        part = rows[i * len(rows) // 3 : (i + 1) * len(rows) // 3]
        await world.send_in_batches([one for one in part if one.row.unit not in without], 1)


@pytest.mark.parametrize("layout", ["loose", "compacted", "both"])
async def test_moments_are_those_of_a_world_without_the_unit(
    layout: str, world: Recorded, migrated_sqlite_file: Path, tmp_path: Path
) -> None:
    rows = rows_of(3, units=24)
    one, other = sorted({each.row.unit for each in rows if isinstance(each.row, Exposure)})[:2]
    half = len(rows) // 2 if layout == "both" else len(rows)
    await send(world, rows[:half])
    before = {unit: (set(arms_of(world, unit)), count_of(world, unit)) for unit in (one, other)}
    if layout != "loose":
        await compact(world.database, world.settings, at=LATER, everything=True)
    if layout == "both":
        twice = {unit: count_of(world, unit) for unit in (one, other)}
        await send(world, rows[half:])
        before = {
            unit: (set(arms_of(world, unit)), count + count_of(world, unit) - twice[unit])
            for unit, (_, count) in before.items()
        }
    wanted_files = len(holders(world, one))
    await ask(world, one, other)
    report = await erased(world)
    assert (report.rewritten, report.done) == (2, 0)
    assert report.rows == sum(count for _, count in before.values())
    found = await world.moments(LATER)
    plain = made(f"sqlite+aiosqlite:///{tmp_path / 'plain.sqlite3'}", tmp_path / "plain")
    (tmp_path / "plain.sqlite3").write_bytes(migrated_sqlite_file.read_bytes())
    await plain.begin()
    for some in (rows[:half], rows[half:]):
        await send(plain, some, without=(one, other))
    assert_identical(found, await plain.moments(LATER))
    await plain.database.dispose()
    # Analyses that began before may be reading the files: they go when none of these can be running.
    assert len(holders(world, one)) == wanted_files and (await erased(world)) == Erased()
    assert (await finished(world)).done == 2
    assert holders(world, one) == [] and holders(world, other) == []
    assert_identical(await world.moments(LATER), found)
    for row, unit in zip(await all_erasures(world), (one, other), strict=True):
        assert (row.state, row.unit_id, row.unit_digest) == (
            "done", None, unit_digest(digest_key(world.settings.data_dir), "user", unit)
        )  # fmt: skip
        arms, count = before[unit]
        effects = erasure.effects_of(row)
        assert effects.experiments == {"checkout": {arms.pop() if len(arms) == 1 else "": 1}}
        assert sum(sum(each.values()) for each in effects.rows.values()) == count
