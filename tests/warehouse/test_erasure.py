"""An erased unit is in no file and in no number, wherever its rows lay, and what it did to results is known."""

import json
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlmodel import col

from experiments import erasure
from experiments.database import Database
from experiments.errors import InvalidDefinition
from experiments.settings import Settings
from experiments.tables import Analysis, AuditEvent, Erasure, Experiment, IngestBatch
from experiments.unit_digest import KEY_FILE, digest_key, unit_digest
from stats.moment_set import MomentSet
from tests.deaths import moment_of_death
from tests.warehouse.cases import START, Exposure
from tests.warehouse.deliveries import Row
from tests.warehouse.recorded_world import PLAN, Recorded, assert_identical, rows_of
from warehouse.catalog import slice_for
from warehouse.compaction import compact
from warehouse.dead_letters import dead_letter_file
from warehouse.erasure import Erased, erase_units, waits
from warehouse.state.lane import experiment_folder

pytestmark = pytest.mark.anyio
REPOSITORY = Path(__file__).parents[2]
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


async def is_that_of_a_world_without(
    world: Recorded, deliveries: Sequence[Sequence[Row]], units: Sequence[str], found: MomentSet, empty: Path
) -> None:
    """The moments are those of the same deliveries without any row of some units."""
    folder = world.folder / "plain"
    folder.mkdir()
    shutil.copyfile(empty, folder / "plain.sqlite3")
    plain = made(f"sqlite+aiosqlite:///{folder / 'plain.sqlite3'}", folder)
    await plain.begin()
    for rows in deliveries:
        await send(plain, rows, without=units)
    assert_identical(found, await plain.moments(LATER))
    await plain.database.dispose()


@pytest.mark.chaos  # the default suite has all of it in the test of kills below
@pytest.mark.parametrize("layout", ["loose", "compacted", "both"])
async def test_moments_are_those_of_a_world_without_the_unit(
    layout: str, world: Recorded, migrated_sqlite_file: Path
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
    await is_that_of_a_world_without(world, [rows[:half], rows[half:]], (one, other), found, migrated_sqlite_file)
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


def exposure(unit: str, variant: str = "control", at: datetime = START + DAY) -> dict[str, str]:
    return {"experiment_key": "checkout", "unit_id": unit, "variant_key": variant, "exposed_at": at.isoformat()}


def order(unit: str, at: datetime = START + DAY, **more: object) -> dict[str, object]:
    return {"event": "orders", "unit_id": unit, "occurred_at": at.isoformat(), "value": 1.0, **more}


async def test_an_id_is_another_unit_in_another_unit_type(world: Recorded) -> None:
    await world.send("exposures", [exposure("7"), exposure("8", "treatment")], START + DAY)
    await world.send("events", [order("7"), {**order("7"), "event": "nobody reads it"}], START + DAY)
    (row,) = await ask(world, "7", unit_type="device")
    assert (await erased(world)).rows == 1  # of the event that nobody says the units of
    (row,) = await all_erasures(world)
    assert erasure.effects_of(row).rows == {"events": {"nobody reads it": 1}}
    await ask(world, "7")
    assert (await erased(world)).rows == 2
    found = await all_erasures(world)
    assert erasure.effects_of(found[1]).experiments == {"checkout": {"control": 1}}


async def test_what_was_refused_is_erased_as_well(world: Recorded) -> None:
    await world.send(
        "exposures",
        [exposure("ann"), exposure("ann", "treatment"), exposure("ann 2", "what"), exposure("mary-ann", "what")],
        START,
    )
    await world.send("events", [order("ann", value="lots"), order('jörg"s', value="x"), order("u")], START)
    await ask(world, "ann", 'jörg"s')
    await erased(world)
    rows = await all_erasures(world)
    assert [erasure.effects_of(row).refused_rows for row in rows] == [4, 1]
    letters = [
        json.loads(line)
        for batch in await world.batches()
        for line in dead_letter_file(world.settings.data_dir, str(batch.dead_letters)).read_text().splitlines()
    ]
    assert [json.loads(letter["received"])["unit_id"] for letter in letters] == ["mary-ann"]
    details = [error["detail"] for batch in await world.batches() for error in batch.errors]
    assert not any("'ann'" in detail for detail in details) and any("deleted" in detail for detail in details)


async def test_a_person_may_come_back_or_be_refused_and_old_batches_bring_nothing_back(world: Recorded) -> None:
    await world.send("events", [order("u1"), order("u2")], START)
    replayed = world.sent
    await ask(world, "u1")
    await ask(world, "u2", refuse_future=True)
    await erased(world)
    world.sent = replayed - 1
    await world.send("events", [order("u1"), order("u2")], LATER)
    assert len(await world.batches()) == 1 and count_of(world, "u1") == 1  # the file that waits for analyses
    await world.send("events", [order("u1"), order("u2"), order("u2", value="lots"), order("u3")], LATER + DAY)
    batch = (await world.batches())[-1]
    assert (batch.accepted, batch.rejected) == (2, 2)
    assert {error["reason"] for error in batch.errors} == {"erased_unit"}
    letters = dead_letter_file(world.settings.data_dir, str(batch.dead_letters)).read_text()
    assert "u2" not in letters and json.dumps(batch.errors).count("u2") == 0
    assert (await finished(world, LATER + DAY)).done == 2
    assert (count_of(world, "u1"), count_of(world, "u2"), count_of(world, "u3")) == (1, 0, 1)


async def test_rows_that_were_recorded_late_are_found_before_the_id_is_forgotten(world: Recorded) -> None:
    await world.send("exposures", [exposure("u1"), exposure("u2")], START + DAY)
    await ask(world, "u1")
    await erased(world)
    # It was on its way when the erasure was asked for.
    await world.send("exposures", [exposure("u1", at=START + 2 * DAY)], LATER - DAY)
    report = await finished(world)
    assert (report.done, report.rewritten, report.rows) == (0, 1, 1)
    (row,) = await all_erasures(world)
    assert row.unit_id == "u1" and erasure.effects_of(row).rows == {"exposures": {"checkout": 2}}
    assert erasure.effects_of(row).experiments == {"checkout": {"control": 1}}
    assert erasure.effects_of(row).rounds == 2
    assert (await finished(world, LATER + DAY)).done == 1
    assert holders(world, "u1") == []


async def test_what_analyses_kept_is_void_and_running_experiments_are_analysed_again(world: Recorded) -> None:
    await world.send("exposures", [exposure("u1"), exposure("u2")], START + DAY)
    lane = experiment_folder(world.settings.data_dir, "checkout") / "a lane"
    lane.mkdir(parents=True)
    (lane / "manifest.npz").touch()
    await ask(world, "u1", "nobody")
    await erased(world)
    assert not lane.exists()
    async with world.database.read() as session:
        again = list(await session.scalars(sa.select(Analysis)))
        experiment = (await session.scalars(sa.select(Experiment))).one()
        data = await slice_for(session, world.settings, PLAN, experiment, LATER)
        assert await erasure.lost_units(session, experiment_key="checkout") == {"control": 1}
    assert [(one.subject_key, one.requested_by, one.data_as_of) for one in again] == [("checkout", "upkeep", LATER)]
    assert data.erasures == 1


async def test_ids_are_nowhere_once_it_is_done(world: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    unit = "very-secret-4711"
    await world.send("events", [order(unit), order("u", at=START + 2 * DAY)], START)
    with pytest.raises(InvalidDefinition):
        async with world.database.write() as session:
            await erasure.request(
                session, unit_type="user", unit_ids=[unit], reason=f"for {unit}", refuse_future=False,
                key=digest_key(world.settings.data_dir), actor="ada", at=LATER,
            )  # fmt: skip
    await ask(world, unit)
    await erased(world)
    await finished(world)
    async with world.database.read() as session:
        for table in (AuditEvent, Erasure, Analysis, IngestBatch):
            for row in await session.scalars(sa.select(table)):
                assert unit not in repr(row)
        actions = list(await session.scalars(sa.select(col(AuditEvent.action)).order_by(col(AuditEvent.id))))
    assert actions == ["erasure.requested", "erasure.done"]
    assert unit not in capsys.readouterr().out
    for path in world.settings.data_dir.rglob("*"):
        assert unit.encode() not in (path.read_bytes() if path.is_file() else b"")
    assert (world.settings.data_dir / KEY_FILE).stat().st_mode & 0o777 == 0o600


async def survives(world: Recorded, empty: Path, deaths: Sequence[float], *, seed: int, units: int) -> int:
    """Erase a unit with loose and compacted rows, killed so; how many processes died."""
    rows = rows_of(seed, units=units)
    await send(world, rows)
    unit = next(one.row.unit for one in rows if isinstance(one.row, Exposure) and arms_of(world, one.row.unit))
    count, arms = 2 * count_of(world, unit), set(arms_of(world, unit))
    await compact(world.database, world.settings, at=LATER, everything=True)
    await send(world, rows)
    await ask(world, unit)
    command = [sys.executable, "-m", "tests.warehouse.killed_erasure", world.settings.database_url]
    done = await anyio.run_process(
        [*command, str(world.settings.data_dir), LATER.isoformat(), *map(str, deaths)], cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    await erased(world)
    (row,) = await all_erasures(world)
    effects = erasure.effects_of(row)
    assert row.state == "removing" and sum(sum(each.values()) for each in effects.rows.values()) == count
    assert effects.experiments == {"checkout": {arms.pop() if len(arms) == 1 else "": 1}}
    found = await world.moments(LATER)
    await is_that_of_a_world_without(world, [rows, rows], [unit], found, empty)
    for folder in (world.settings.data_dir / ".staging").iterdir():
        os.utime(folder, (0, 0))  # of processes that died an hour ago
    assert (await finished(world)).done == 1 and holders(world, unit) == []
    for stream in ("exposures", "events"):
        compacted = [name for one in await world.segments() if one.stream == stream for name in one.batches]
        assert len(compacted) == len(set(compacted))
    return int(done.stdout.splitlines()[-1])


async def test_killed_on_the_way_nothing_is_forgotten_and_nothing_is_left(
    world: Recorded, migrated_sqlite_file: Path
) -> None:
    # When one segment is in its place, and another half written.
    assert await survives(world, migrated_sqlite_file, [20], seed=8, units=12) == 1


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(3))
async def test_killed_all_the_time_nothing_is_forgotten(world: Recorded, migrated_sqlite_file: Path, seed: int) -> None:
    chance = random.Random(seed)
    # Deaths at files do not depend on the machine; those at moments may come when nothing is left to do.
    at_files = [0, 20, 17, 1, 9, 0, 3]
    anywhere = [moment_of_death(chance, 0.5) if chance.random() < 0.5 else chance.randrange(40) for _ in range(40)]
    deaths = [*at_files, *anywhere]
    assert await survives(world, migrated_sqlite_file, deaths, seed=seed, units=100) >= len(at_files)
