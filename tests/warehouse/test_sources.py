"""Fact sources: events, files and DuckDB tables give the same facts; nothing outside the folder can be read."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from experiments.definitions import DuckDBSource, EventSource, FactSourceSpec, FileSource, Filter, Measure, MetricSpec
from experiments.errors import SourceUnreadable
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from tests.warehouse.cases import DAY, START, Exposure, Fact, plan_of, slice_of, write_exposures, write_facts
from warehouse.data_slice import DataSlice
from warehouse.engines.embedded import DuckDBEngine
from warehouse.extract import extract_experiment
from warehouse.relational_moments import extract_relational
from warehouse.source_files import source_path

FACTS = [
    Fact("1", START, 2.0, {"plan": "pro", "items": 3.0, "gift": True}),
    Fact("1", START + DAY, 5.0, {"plan": "free", "items": 1.0, "gift": False}),
    Fact("2", START, 7.0, {"plan": 'o"; DROP', "items": 12.0, "gift": None}),
    Fact("3", START, 11.0, {"plan": None, "items": None, "gift": True}),
]


type Extract = Callable[[AnalysisPlan, DataSlice], MomentSet]


def compiled(plan: AnalysisPlan, data: DataSlice) -> MomentSet:
    with closing(DuckDBEngine(threads=1)) as engine:
        return extract_relational(plan, data, engine)


def sums(
    tmp_path: Path,
    source: FactSourceSpec,
    filters: list[Filter],
    column: str = "value",
    files: Any = None,
    extract: Extract = extract_experiment,
    units: Sequence[str] = ("1", "2", "3"),
) -> float:
    metric = MetricSpec(
        key="m", name="m", kind="mean", pre_period_days=0,
        measure=Measure(fact_source=source.key, aggregation="sum", column=column, filters=filters),
    )  # fmt: skip
    exposures = write_exposures(tmp_path, [Exposure(unit, "control", START) for unit in units])
    data = slice_of([exposures], files, data_as_of=START + 20 * DAY, file_source_dir=tmp_path)
    found = extract(plan_of([metric], sources=[source]), data)
    return float(found.last.mean[0, 0] * found.last.count[0])


def make_file(tmp_path: Path, kind: str) -> FactSourceSpec:
    """The facts of FACTS with an integer unit id, as a CSV, a Parquet file or a table of a database."""
    values = ", ".join(
        f"({fact.unit}, TIMESTAMP '{fact.at:%Y-%m-%d %H:%M:%S}', {fact.value},"
        f" {_sql(fact.properties['plan'])}, {_sql(fact.properties['items'])}, {_sql(fact.properties['gift'])})"
        for fact in FACTS
    )
    select = f'SELECT * FROM (VALUES {values}) t("user id", "at", "value", "plan", "items", "gift")'
    columns = {"unit_column": "user id", "timestamp_column": "at"}
    if kind == "duckdb":
        with duckdb.connect(str(tmp_path / "facts.duckdb")) as connection:
            connection.execute(f'CREATE SCHEMA mart; CREATE TABLE mart."my facts" AS {select}')
        return DuckDBSource(kind="duckdb", key="facts", path="facts.duckdb", table="mart.my facts", **columns)
    (tmp_path / "in").mkdir()
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{tmp_path / 'in' / f'facts.{kind}'}'")
    return FileSource(kind="file", key="facts", path=f"in/facts.{kind}", **columns)


def _sql(value: object) -> str:
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


FILTERS: list[tuple[list[dict[str, Any]], float]] = [
    ([], 25.0),
    ([{"column": "plan", "value": "pro"}], 2.0),
    ([{"column": "plan", "op": "!=", "value": "pro"}], 12.0),
    ([{"column": "plan", "op": "in", "value": ["pro", "free"]}], 7.0),
    ([{"column": "plan", "value": 'o"; DROP'}], 7.0),
    ([{"column": "plan", "value": "' OR 1=1 --"}], 0.0),
    ([{"column": "plan", "op": "in", "value": []}], 0.0),
    ([{"column": "items", "op": ">=", "value": 3}], 9.0),
    ([{"column": "items", "value": "12"}], 7.0),
    ([{"column": "items", "op": "in", "value": [1, 12]}], 12.0),
    ([{"column": "value", "op": "<", "value": 6}, {"column": "items", "op": ">", "value": 1}], 2.0),
    ([{"column": "gift", "value": True}], 13.0),
    ([{"column": "gift", "value": False}], 5.0),
]


@pytest.mark.parametrize("kind", ["events", "csv", "parquet", "duckdb"])
def test_every_kind_of_source_gives_the_same_facts_through_the_same_filters(tmp_path: Path, kind: str) -> None:
    if kind == "events":
        source: FactSourceSpec = EventSource(key="facts", event="order")
        files = {"order": [write_facts(tmp_path, FACTS[:2]), write_facts(tmp_path, FACTS[2:])]}
    else:
        source, files = make_file(tmp_path, kind), {}
    for filters, expected in FILTERS:
        assert sums(tmp_path, source, [Filter.model_validate(item) for item in filters], files=files) == expected, (
            filters
        )
    assert sums(tmp_path, source, [], column="items", files=files) == 16.0


@pytest.mark.parametrize("extract", [extract_experiment, compiled])
def test_ids_of_a_csv_file_are_its_text_however_late_the_first_zero_comes(tmp_path: Path, extract: Extract) -> None:
    rows = [*(f"{unit},2026-01-05 12:00:00,1" for unit in range(25_000)), "007,2026-01-05 12:00:00,1000"]
    (tmp_path / "facts.csv").write_text("\n".join(["unit,at,value", *rows]))
    source = FileSource(kind="file", key="f", path="facts.csv", unit_column="unit", timestamp_column="at")
    assert sums(tmp_path, source, [], extract=extract, units=("7", "8")) == 2.0
    assert sums(tmp_path, source, [], extract=extract, units=("007", "8")) == 1001.0


def test_a_property_that_is_a_number_in_one_batch_and_text_in_another_still_matches(tmp_path: Path) -> None:
    numbers = write_facts(tmp_path, [Fact("1", START, 1.0, {"plan": 12.0})])
    texts = write_facts(tmp_path, [Fact("2", START, 2.0, {"plan": "pro"}), Fact("3", START, 4.0, {"plan": "12"})])
    source = EventSource(key="facts", event="order")
    files = {"order": [numbers, texts]}
    assert sums(tmp_path, source, [Filter(column="plan", value="12")], files=files) == 5.0
    assert sums(tmp_path, source, [Filter(column="plan", value=12)], files=files) == 5.0


@pytest.mark.parametrize(
    "path", ["../secret.csv", "/etc/passwd", "in/../../secret.csv", "link.csv", "link/secret.csv", "a\x00.csv"]
)
def test_paths_outside_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "allowed"
    (folder / "in").mkdir(parents=True)
    (tmp_path / "secret.csv").write_text("unit,at\n1,2026-01-01\n")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(SourceUnreadable, match="outside the configured folder"):
        source_path(folder, path, "facts")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "none.csv"}, "no file 'none.csv'"),
        ({"path": "facts[s].csv"}, "a pattern that other files match"),
        ({"path": "notes.txt"}, "neither CSV nor Parquet"),
        ({"path": "broken.parquet"}, "cannot be read"),
        ({"path": "facts.csv", "unit_column": "user"}, "no column 'user'"),
        ({"path": "facts.csv", "timestamp_column": "when"}, "no column 'when'"),
        ({"path": "words.csv"}, "cannot be read"),
        ({"path": "times.csv"}, "cannot be read"),
    ],
)
def test_unreadable_sources_say_what_is_wrong_and_what_to_do(
    tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    (tmp_path / "facts.csv").write_text("unit,at,value\n1,2026-01-05T00:00:00Z,1\n")
    (tmp_path / "words.csv").write_text("unit,at,value\n1,2026-01-05T00:00:00Z,many\n")
    (tmp_path / "times.csv").write_text("unit,at,value\n1,yesterday,1\n")
    (tmp_path / "facts[s].csv").write_text("unit,at,value\n1,2026-01-05T00:00:00Z,7\n")  # the engine reads factss.csv
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really")
    source = FileSource.model_validate(
        {"kind": "file", "key": "f", "unit_column": "unit", "timestamp_column": "at", **fields}
    )
    with pytest.raises(SourceUnreadable, match=message) as caught:
        sums(tmp_path, source, [])
    assert caught.value.remedy


def test_files_need_a_configured_folder() -> None:
    with pytest.raises(SourceUnreadable, match="no folder") as caught:
        source_path(None, "facts.csv", "facts")
    assert "NORTHLIFT_FILE_SOURCE_DIR" in str(caught.value.remedy)


def test_a_database_that_is_none_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "x.duckdb").write_bytes(b"no database" * 1000)
    source = DuckDBSource(kind="duckdb", key="d", path="x.duckdb", table="t", unit_column="u", timestamp_column="t")
    with pytest.raises(SourceUnreadable, match="cannot be opened"):
        sums(tmp_path, source, [])


def test_a_table_that_is_missing_is_unreadable(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        connection.execute("CREATE TABLE other (u INTEGER)")
    source = DuckDBSource(
        kind="duckdb", key="d", path="x.duckdb", table='t"; DROP TABLE other; --', unit_column="u", timestamp_column="t"
    )
    with pytest.raises(SourceUnreadable, match="cannot be read"):
        sums(tmp_path, source, [])


def test_a_view_of_a_database_reads_nothing_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for place in (tmp_path, tmp_path / "in"):
        (place / "facts.csv").write_text("u,t,value\n1,2026-01-05T00:00:00Z,5\n")
    with duckdb.connect(str(tmp_path / "in" / "x.duckdb")) as connection:
        for name, place in (("inside", tmp_path / "in"), ("outside", tmp_path)):
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_csv('{place / 'facts.csv'}')")
    exposures = tmp_path / "exposures"
    exposures.mkdir()
    source = DuckDBSource(
        kind="duckdb", key="d", path="x.duckdb", table="inside", unit_column="u", timestamp_column="t"
    )
    shown = [write_exposures(exposures, [Exposure("1", "control", START)])]
    data = slice_of(shown, data_as_of=START + 20 * DAY, file_source_dir=tmp_path / "in")
    metric = MetricSpec(
        key="m", name="m", kind="mean", pre_period_days=0, measure=Measure(fact_source="d", aggregation="sum")
    )
    assert extract_experiment(plan_of([metric], sources=[source]), data).last.mean[0, 0] == 5.0
    outside = source.model_copy(update={"table": "outside"})
    with pytest.raises(SourceUnreadable, match="cannot be read"):
        extract_experiment(plan_of([metric], sources=[outside]), data)
