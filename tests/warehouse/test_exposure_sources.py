"""Exposures that are rows of a fact source: the same result as if they had been sent."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from experiments.definitions import (
    DuckDBSource,
    EventSource,
    ExposureSource,
    FactSourceSpec,
    FileSource,
    Filter,
    TableSource,
    UnitMapping,
)
from experiments.errors import BatchRejected, SourceUnreadable
from experiments.plan import AnalysisPlan, document
from experiments.tables import Experiment
from tests.warehouse.cases import DAY, START, Exposure, Fact, plan_of, write_exposures, write_facts
from tests.warehouse.plain import AS_OF, SOURCES, plan_with, random_world
from tests.warehouse.test_concurrent import elsewhere
from tests.warehouse.test_extract_cases import metric
from tests.warehouse.test_ingest import NOW, STARTED, World, exposure, world
from tests.warehouse.test_relational import assert_equal, both
from tests.warehouse.test_source_rows import TRIGGER, assert_identical, in_quarters, plan_on
from warehouse.catalog import slice_for
from warehouse.extract import extract_experiment

__all__ = ["world"]

SEGMENTS = {"country": "land", "Platform": "platform", "account": "account id"}
SHOWN = ExposureSource(
    fact_source="shown", variant_column="arm", filters=[Filter(column="test", value="checkout")], segments=SEGMENTS
)


def rows_of(exposures: Sequence[Exposure]) -> list[Fact]:
    """The exposures as facts, among rows of another experiment and rows that are no exposures."""
    found = []
    for i, row in enumerate(exposures):
        levels = {column: row.segments.get(name.lower()) for name, column in SEGMENTS.items()}
        mine = {"arm": row.variant, "test": "checkout", **levels}
        found.append(Fact(row.unit, row.at, None, mine))
        if i % 5 == 0:
            found.append(Fact(row.unit, row.at - DAY, None, {**mine, "test": "another", "arm": "neither"}))
            found.append(Fact(row.unit, row.at - DAY, None, {**mine, "arm": None}))
            found.append(Fact(row.unit, row.at - DAY, None, {**mine, "test": None}))
    return found


def stored_as(folder: Path, kind: str, rows: Sequence[Fact]) -> tuple[FactSourceSpec, dict[str, tuple[Path, ...]]]:
    if kind == "events":
        half = tuple(write_facts(folder, rows[i::2], "shown") for i in range(2))
        return EventSource(key="shown", event="shown"), {"shown": half}
    names = ["arm", "test", *SEGMENTS.values()]
    with duckdb.connect(str(folder / "shown.duckdb")) as connection:
        columns = ", ".join(f'"{name}" VARCHAR' for name in names)
        connection.execute(f'SET TimeZone = \'UTC\'; CREATE TABLE shown ("user" VARCHAR, "at" TIMESTAMP, {columns})')
        values = [
            (row.unit, row.at.replace(tzinfo=None), *(row.properties[name] or "" for name in names)) for row in rows
        ]
        connection.executemany(f"INSERT INTO shown VALUES (?, ?{', ?' * len(names)})", values)
        connection.execute("UPDATE shown SET arm = NULL WHERE arm = ''")
        connection.execute('INSERT INTO shown SELECT * REPLACE (NULL AS "user") FROM shown LIMIT 20')
        if kind != "duckdb":
            connection.execute(f"COPY shown TO '{folder / 'shown'}.{kind}'")
    columns_of: dict[str, Any] = {"unit_column": "user", "timestamp_column": "at"}
    if kind == "duckdb":
        return DuckDBSource(kind="duckdb", key="shown", path="shown.duckdb", table="shown", **columns_of), {}
    return FileSource(kind="file", key="shown", path=f"shown.{kind}", **columns_of), {}


OPTIONS: dict[str, dict[str, Any]] = {
    "events": {"two_way_segments": [("country", "platform")]},
    "csv": {"trigger": TRIGGER},
    "duckdb": {"cluster": "account"},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_exposures_that_are_read_are_as_good_as_exposures_that_were_sent(tmp_path: Path, kind: str) -> None:
    world = random_world(
        tmp_path, 31, units=150, amount=in_quarters, clustered=kind == "duckdb", ended_at=START + 9 * DAY
    )
    strays = [Exposure("unit 1", "withdrawn", START + DAY), Exposure("stranger", "withdrawn", START + DAY)]
    sent = [*world.exposures, *strays]
    source, files = stored_as(tmp_path, kind, rows_of(sent))
    data = replace(world.data, exposure_files=(write_exposures(tmp_path, sent),))
    read = replace(world.data, exposure_files=(), event_files={**data.event_files, **files}, file_source_dir=tmp_path)
    plan = plan_on(SOURCES, **OPTIONS[kind])
    plan_read = plan.model_copy(update={"exposures": SHOWN, "fact_sources": [source, *SOURCES]})
    wanted, found = extract_experiment(plan, data), extract_experiment(plan_read, read)
    assert_identical(found, wanted)
    if kind == "csv":
        compiled = plan_with(segments=["country"], exposures=SHOWN, fact_sources=plan_read.fact_sources)
        assert_equal(*both(compiled, read))
    assert wanted.crossover and wanted.last.count.all() and len(wanted.segments) > 4


def test_exposures_of_other_ids_are_those_of_the_unit(tmp_path: Path) -> None:
    world = random_world(tmp_path, 32, units=100, amount=in_quarters)
    shown = [replace(row, unit=f"device of {row.unit}") for row in rows_of(world.exposures)]
    owners = {row.unit: row for row in world.exposures}
    logins = [Fact(unit, AS_OF - DAY, None, {"device": f"device of {unit}"}) for unit in list(owners)[10:]]
    files = {"shown": (write_facts(tmp_path, shown, "shown"),), "login": (write_facts(tmp_path, logins, "login"),)}
    sources = [
        EventSource(key="shown", event="shown", unit_mapping=UnitMapping(fact_source="logins", id_column="device")),
        EventSource(key="logins", event="login"),
        *SOURCES,
    ]
    plan = plan_on(SOURCES)
    known = [row for row in world.exposures if row.unit not in list(owners)[:10]]
    wanted = extract_experiment(plan, replace(world.data, exposure_files=(write_exposures(tmp_path, known),)))
    found = extract_experiment(
        plan.model_copy(update={"exposures": SHOWN, "fact_sources": sources}),
        replace(world.data, exposure_files=(), event_files={**world.data.event_files, **files}),
    )
    assert_identical(found, wanted, but=["unmapped"])
    assert found.unmapped["shown"].without_unit > 0 == found.unmapped["shown"].ambiguous


def test_numbers_in_columns_of_exposures_are_read_as_text(tmp_path: Path) -> None:
    """Variants named 0 and 1, and an age, are numbers in the store."""
    rows = [
        Fact(f"u{i}", START + DAY, None, {"arm": float(i % 2), "age": [30.0, 30.5, None][i % 3]}) for i in range(12)
    ]
    plan = plan_of([metric("revenue")], variants=("0", "1"), segments=["age"]).model_copy(
        update={
            "exposures": ExposureSource(fact_source="shown", variant_column="arm", segments={"age": "age"}),
            "fact_sources": [EventSource(key="orders", event="order"), EventSource(key="shown", event="shown")],
        }
    )
    data = replace(
        random_world(tmp_path, 1, units=1).data, event_files={"shown": (write_facts(tmp_path, rows, "shown"),)}
    )
    found = extract_experiment(plan, data)
    assert found.exposures[-1].tolist() == [6, 6]
    assert set(found.segments) == {("age", "30"), ("age", "30.5"), ("age", "(none)")}


def test_without_a_row_nobody_was_exposed(tmp_path: Path) -> None:
    world = random_world(tmp_path, 33, units=5)
    plan = plan_on([*SOURCES, EventSource(key="shown", event="shown")], exposures=SHOWN, cluster="account")
    found = extract_experiment(plan, replace(world.data, exposure_files=()))
    assert not found.exposures.any() and not found.last.count.any()
    gone = plan.model_copy(
        update={
            "fact_sources": [
                *SOURCES,
                FileSource(kind="file", key="shown", path="x.csv", unit_column="u", timestamp_column="t"),
            ]
        }
    )
    with pytest.raises(SourceUnreadable, match=r"no file 'x\.csv'"):
        extract_experiment(gone, replace(world.data, file_source_dir=tmp_path))


def test_other_experiments_are_screened_wherever_their_exposures_are(tmp_path: Path) -> None:
    world = random_world(tmp_path, 41, units=600)
    sent, seen = elsewhere(tmp_path, 1, 600)
    rows = duckdb.sql(
        f"SELECT unit_id, variant_key, exposed_at FROM read_parquet({[str(p) for p in sent.exposure_files]})"
    )
    assert rows is not None
    rows.write_parquet(str(tmp_path / "other.parquet"))
    source = FileSource(
        kind="file", key="shown", path="other.parquet", unit_column="unit_id", timestamp_column="exposed_at"
    )
    named = ExposureSource(fact_source="shown", variant_column="variant_key")
    read = replace(sent, exposure_files=(), exposures=named, fact_sources=(source,))
    lost = replace(read, key="lost", fact_sources=(source.model_copy(update={"path": "lost.parquet"}),))
    data = replace(world.data, concurrent=(sent, replace(read, key="read"), lost), file_source_dir=tmp_path)
    found = extract_experiment(plan_with(), data)
    assert set(found.concurrent) == {sent.key, "read"} and seen
    assert_identical(found.concurrent["read"], found.concurrent[sent.key])
    assert list(found.unscreened) == ["lost"] and "lost.parquet" in found.unscreened["lost"]


def with_exposures(frozen: AnalysisPlan, key: str) -> AnalysisPlan:
    sources = [*frozen.fact_sources, EventSource(key="shown", event="shown")]
    return frozen.model_copy(update={"experiment_key": key, "exposures": SHOWN, "fact_sources": sources})


@pytest.mark.anyio
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_slice_knows_where_exposures_are_and_ingest_refuses_them(world: World) -> None:
    like = await world.experiment()
    planned = with_exposures(plan_of([metric("revenue")]), "read")
    async with world.database.write() as session:
        spec = {**like.spec, "key": "read", "exposures": SHOWN.model_dump(mode="json")}
        times = {"created_at": STARTED, "updated_at": STARTED, "started_at": STARTED}
        session.add(Experiment(key="read", name="r", spec=spec, status="running", plan=document(planned), **times))
        columns = {"table": "seen", "unit_column": "unit", "timestamp_column": "at"}
        table = TableSource.model_validate({"kind": "table", "key": "shown", "connection": "mart", **columns})
        far = planned.model_copy(update={"experiment_key": "far", "fact_sources": [table]})
        spec = {**spec, "key": "far"}
        session.add(Experiment(key="far", name="f", spec=spec, status="running", plan=document(far), **times))
        near = far.model_copy(update={"experiment_key": "near"})
        spec = {**spec, "key": "near"}
        session.add(Experiment(key="near", name="n", spec=spec, status="running", plan=document(near), **times))
    with pytest.raises(BatchRejected) as caught:
        await world.send("exposures", [exposure(experiment_key="read")], "refused")
    assert caught.value.errors[0].detail.startswith("exposures_read_elsewhere")
    assert (await world.send("exposures", [exposure()], "sent")).accepted == 1
    row = {"event": "shown", "unit_id": "u1", "occurred_at": "2026-01-07T00:00:00Z", "p_arm": "control"}
    assert (await world.send("events", [row], "shown")).accepted == 1
    async with world.database.read() as session:
        own = await slice_for(session, world.settings, planned, await world.experiment("read"), NOW)
        beside = await slice_for(session, world.settings, plan_of([metric("revenue")]), like, NOW)
        there = await slice_for(session, world.settings, far, await world.experiment("far"), NOW)
    assert own.exposure_files == () and len(own.event_files["shown"]) == 1
    assert [other.key for other in own.concurrent] == ["checkout"]
    (neighbour,) = there.concurrent
    assert (neighbour.key, neighbour.fact_sources) == ("near", (table,)), "of one warehouse, and only those"
    (other,) = beside.concurrent
    assert (other.key, other.exposures, other.exposure_files) == ("read", SHOWN, ())
    assert [source.key for source in other.fact_sources] == ["shown"]
    assert len(beside.event_files["shown"]) == 1
