"""The text that says how numbers are computed, wherever the rows are, and what reading them takes."""

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from experiments.definitions import DuckDBSource, FileSource
from tests.warehouse.plain import CLOSED, OPEN, plan_with, random_world
from warehouse.data_slice import DataSlice
from warehouse.engines.embedded import DuckDBEngine
from warehouse.extract import extract_experiment
from warehouse.reading import reading_cost
from warehouse.written import written

ORDERS = {"unit_column": "unit_id", "timestamp_column": "occurred_at"}


@pytest.fixture
def data(tmp_path: Path) -> DataSlice:
    """A world in a data folder, with the orders also as a text file and in a database of a folder of their own."""
    (tmp_path / "data").mkdir()
    (tmp_path / "files").mkdir()
    world = random_world(tmp_path / "data", 5, units=60)
    (orders,) = world.data.event_files["order"]
    with closing(duckdb.connect(str(tmp_path / "files" / "shop.duckdb"))) as shop:
        shop.execute("SET TimeZone = 'UTC'")
        shop.execute(f"CREATE TABLE orders AS SELECT * FROM '{orders}'")
        shop.execute(f"COPY orders TO '{tmp_path / 'files' / 'orders.csv'}' (HEADER)")
    return replace(world.data, data_dir=tmp_path / "data", file_source_dir=tmp_path / "files")


@pytest.mark.parametrize("kind", ["csv", "duckdb"])
def test_files_and_databases_are_named_as_seen_from_their_folder(
    data: DataSlice, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_with([*CLOSED, OPEN])
    orders = (
        FileSource(kind="file", key="orders", path="orders.csv", **ORDERS)
        if kind == "csv"
        else DuckDBSource(kind="duckdb", key="orders", path="shop.duckdb", table="orders", **ORDERS)
    )
    plan = plan.model_copy(update={"fact_sources": [orders, *plan.fact_sources[1:]]})
    with closing(DuckDBEngine()) as engine:
        shown = written(plan, data, engine, "duckdb")
    assert str(tmp_path) not in shown.means + shown.moments + "".join(shown.setup)
    assert any("earlier looks" in each for each in shown.left_out)
    monkeypatch.chdir(tmp_path / "data")
    with closing(duckdb.connect()) as connection:
        connection.execute(f"SET file_search_path = '.,{tmp_path / 'files'}'")
        for each in shown.setup:
            connection.execute(each.replace("'shop.duckdb'", "'../files/shop.duckdb'"))
        ran = connection.execute(shown.means)
        rows = [dict(zip([name for name, *_ in ran.description], row, strict=True)) for row in ran.fetchall()]
    wanted = extract_experiment(plan, data)
    for arm, row in enumerate(rows):
        assert row["n"] == wanted.overall[-1].count[arm]
        for i, name in enumerate(wanted.columns):
            assert row[f"mean of {name}"] == pytest.approx(wanted.overall[-1].mean[arm, i], rel=1e-9, abs=1e-12)

    of = {each.source: each for each in reading_cost(plan, data, None).sources}["orders"]
    if kind == "csv":
        assert (
            of.rows is None and "text file" in of.reason and of.bytes == (tmp_path / "files/orders.csv").stat().st_size
        )
    else:
        assert of.bytes is None and "does not say" in of.reason
        assert of.rows == duckdb.execute(f"SELECT count(*) FROM '{data.event_files['order'][0]}'").fetchall()[0][0]


def test_means_of_units_in_clusters_are_per_unit(
    data: DataSlice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_with(CLOSED, cluster="account")
    with closing(DuckDBEngine()) as engine:
        shown = written(plan, data, engine, "duckdb")
    monkeypatch.chdir(tmp_path / "data")
    with closing(duckdb.connect()) as connection:
        for each in shown.setup:
            connection.execute(each)
        ran = connection.execute(shown.means)
        rows = [dict(zip([name for name, *_ in ran.description], row, strict=True)) for row in ran.fetchall()]
    found = extract_experiment(plan, data)
    totals, size = found.overall[-1], found.columns.index("cluster_size")
    for arm, row in enumerate(rows):
        assert row["clusters"] == totals.count[arm]
        assert row["n"] == round(totals.count[arm] * totals.mean[arm, size])
        assert row["mean of revenue"] == pytest.approx(totals.mean[arm, 0] / totals.mean[arm, size], rel=1e-9)


def test_files_that_hold_no_time_of_the_period_are_not_read(data: DataSlice) -> None:
    plan = plan_with(CLOSED)
    before = reading_cost(plan, data, None)
    assert data.started_at is not None and before.rows and before.bytes
    later = replace(
        data, started_at=data.data_as_of + timedelta(days=40), data_as_of=data.data_as_of + timedelta(days=41)
    )
    assert reading_cost(plan, later, None).rows == 0
    gone = replace(data, event_files={"order": (Path("nowhere.parquet"),)})
    of = {each.source: each for each in reading_cost(plan, gone, None).sources}
    assert of["orders"].rows is None and of["orders"].reason and of["visits"].rows == 0
    assert reading_cost(plan, gone, None).rows is None
