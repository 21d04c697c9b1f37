"""What everybody does: totals by period and segment, and who was reached, in every engine as on the embedded road."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import psycopg
import pytest

from experiments.columns import Column, layout
from experiments.connection import Access
from experiments.definitions import ExposureSource, Filter, InputMetric, MetricSpec, NorthStarSpec, SparkConnection
from experiments.plan import AnalysisPlan, BaselinePlan, NorthStarPlan, PlannedNorthStar
from stats.moment_set import Reach
from tests.engines.comparing import assert_engines_agree
from tests.engines.conftest import world
from tests.engines.worlds import copy_into, write_folders
from tests.servers import Postgres
from tests.warehouse.cases import DAY, assert_same
from tests.warehouse.tables import postgres_connection
from warehouse.compile.preparing import prepared
from warehouse.data_slice import ConcurrentExposures, DataSlice
from warehouse.engine import connect
from warehouse.engines.contract import Engine
from warehouse.engines.embedded import DuckDBEngine
from warehouse.engines.opening import open_engine
from warehouse.engines.postgres import PostgresEngine
from warehouse.extract import Baseline, extract_baseline, extract_experiment
from warehouse.facts import measure_of
from warehouse.period_totals import Periods, PeriodTotals, StoredTotals, Totals
from warehouse.relational_baseline import baseline_relational
from warehouse.relational_reach import reach_relational
from warehouse.relational_screen import screened
from warehouse.relational_totals import RelationalTotals, TotalsByPlace
from warehouse.series import weekly_series

TOTALLED: Final = ("numbers", "kinds", "filtered", "far")
REACHED: Final = {"numbers": "stars", "kinds": "per_visit", "filtered": "filtered_1", "clustered": "last"}
"""The worlds with a North Star, and which of their metrics it is. One has a trigger, one clusters."""
WORLDS_HERE: Final = tuple(dict.fromkeys([*TOTALLED, *REACHED]))
type There = tuple[Engine, AnalysisPlan, DataSlice]


def in_engines(names: Iterable[str], *, quick: str) -> pytest.MarkDecorator:
    """Each world in each engine; the default suite has one of them, in DuckDB."""
    marks = {"duckdb_tables": pytest.mark.postgres, "postgres_tables": pytest.mark.postgres}
    every = [
        pytest.param(name, engine, marks=[] if (name, engine) == (quick, "duckdb_tables") else [marks[engine]])
        for name in names
        for engine in marks
    ]
    spark = [pytest.param(name, "spark_tables", marks=pytest.mark.engines) for name in names]
    return pytest.mark.parametrize(("name", "engine"), [*every, *spark])


@pytest.fixture(scope="module")
def duckdb_tables(files: Callable[[str], Path]) -> Iterator[Callable[[str], There]]:
    with closing(DuckDBEngine(threads=1)) as engine:
        yield lambda name: (engine, plan_of(name), world(name).slice(files(name)))


@pytest.fixture(scope="module")
def postgres_tables(postgres: Postgres) -> Iterator[Callable[[str], There]]:
    url = postgres.create(migrated=False)
    spec, secret = postgres_connection(url)
    with psycopg.connect(
        host=spec.host, port=spec.port, dbname=spec.database, user=spec.user, password=secret, autocommit=True
    ) as owner:
        for name in WORLDS_HERE:
            copy_into(world(name), owner, name)
    with closing(PostgresEngine(spec, secret)) as engine:
        yield lambda name: (engine, plan_of(name, f"{name}."), world(name).slice())
    postgres.drop(url)


@pytest.fixture(scope="module")
def spark_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], There]]:
    pytest.importorskip("pyspark", reason="`make engines` installs Spark")
    folder, parquet = tmp_path_factory.mktemp("spark"), {}
    for name in WORLDS_HERE:
        tables = write_folders(world(name), folder / name)
        parquet |= {f"{name} {key}": path for key, path in tables.items()}
    spec = SparkConnection(kind="spark", key="dwh", remote="local[2]", parquet=parquet)
    with closing(open_engine(Access(spec))) as engine:
        yield lambda name: (engine, plan_of(name, f"{name} "), world(name).slice())


def plan_of(name: str, prefix: str | None = None) -> AnalysisPlan:
    """The plan of a world's experiment, with a North Star where `REACHED` names one; on tables with a prefix."""
    plan = world(name).plan() if prefix is None else world(name).plan("table", prefix)
    if name not in REACHED:
        return plan
    key = REACHED[name]
    other = next(metric.key for metric in world(name).metrics if metric.key != key and metric.adds_up)
    star = NorthStarSpec(
        key="star", name="Star", metric_key=key, formula=other, input_metrics=[InputMetric(metric_key=other)]
    )
    return plan.model_copy(update={"north_star": PlannedNorthStar(version=1, spec=star)})


@pytest.fixture(scope="module")
def there(request: pytest.FixtureRequest) -> Callable[[str, str], There]:
    return lambda engine, name: request.getfixturevalue(engine)(name)


def columns_by_source(metrics: list[MetricSpec]) -> dict[str, list[Column]]:
    found: dict[str, list[Column]] = {}
    for column in layout([metric for metric in metrics if metric.adds_up]).columns:
        if column.period == "outcome":
            found.setdefault(measure_of(column).fact_source, []).append(column)
    return found


def assert_same_totals(found: PeriodTotals, wanted: PeriodTotals) -> None:
    assert found.segments == wanted.segments
    np.testing.assert_array_equal(found.not_finite, wanted.not_finite)
    np.testing.assert_array_equal(found.off_scale, wanted.off_scale & ~wanted.not_finite)
    known = np.where(wanted.not_finite, 0.0, wanted.totals)
    # A small number beside a very large one of the same column is 0 on the embedded road.
    largest = np.abs(known).max(axis=(0, 1))
    for i, size in enumerate(largest):
        np.testing.assert_allclose(
            np.where(found.not_finite, 0.0, found.totals)[..., i], known[..., i], rtol=1e-9, atol=1e-15 * size
        )


@in_engines(TOTALLED, quick="filtered")
def test_totals_by_period_and_segment_and_their_beginnings(
    name: str, engine: str, files: Callable[[str], Path], there: Callable[[str, str], There]
) -> None:
    here, (of, plan, data) = world(name), there(engine, name)
    days = Periods(here.started_at - 14 * DAY, DAY, 30, here.as_of - timedelta(hours=5))
    weeks = Periods(here.started_at - 14 * DAY, 7 * DAY, 5, here.as_of)
    with StoredTotals.open(here.plan().fact_sources, here.slice(files(name)), threads=1, by_md5=True) as stored:
        asked: Totals = RelationalTotals(of, plan.fact_sources, data)
        for key, columns in columns_by_source(list(here.metrics)).items():
            for totals in (
                lambda where, key=key, columns=columns: where.period_totals(key, columns, weeks, buckets=20),
                lambda where, key=key, columns=columns: where.period_totals(key, columns, days),
            ):
                assert_same_totals(totals(asked), totals(stored))
            assert asked.beginnings(key) == stored.beginnings(key)
            if key == "orders" and name != "far":
                by_kind = [where.period_totals(key, columns, weeks, dimension="kind") for where in (asked, stored)]
                assert len(by_kind[1].segments) > 3
                assert_same_totals(*by_kind)
                began = asked.beginnings(key, dimension="kind")
                assert began == stored.beginnings(key, dimension="kind") and began.unplaced


def test_sources_of_several_places_make_one_series_whose_parts_are_the_same_units(files: Callable[[str], Path]) -> None:
    sources, data = world("kinds").plan().fact_sources, world("kinds").slice(files("kinds"))
    metrics = [m for m in plan_of("kinds").metrics if m.spec.adds_up]
    star = plan_of("kinds").north_star
    assert star is not None
    plan = NorthStarPlan(north_star=star, metrics=metrics, fact_sources=sources, weeks=4)
    orders = next(source for source in world("kinds").plan("table").fact_sources if source.key == "orders")
    with (
        closing(DuckDBEngine(threads=1)) as engine,
        StoredTotals.open(sources, data, threads=1, by_md5=True) as stored,
    ):
        warehouse = RelationalTotals(engine, [source for source in sources if source.key == "orders"], data)
        others = [source for source in sources if source.key != "orders"]
        places = TotalsByPlace(stored, {"dwh": warehouse}, [orders, *others])
        found, wanted = (weekly_series(plan, data.data_as_of, totals) for totals in (places, stored))
    assert (found.weeks, found.complete, found.columns) == (wanted.weeks, wanted.complete, wanted.columns)
    read = {column.measure.fact_source for column in layout([m.spec for m in metrics]).columns if column.measure}
    assert read == {"orders", "visits"}
    np.testing.assert_allclose(found.by_bucket, wanted.by_bucket, rtol=1e-9)


@cache
def reached_here(name: str, folder: Path) -> Reach:
    found = extract_experiment(plan_of(name), world(name).slice(folder), threads=1).reach
    assert found is not None and found.company.any() and found.exposed.any()
    return found


@in_engines(REACHED, quick="kinds")
def test_how_much_of_the_company_was_reached(
    name: str, engine: str, files: Callable[[str], Path], there: Callable[[str, str], There]
) -> None:
    wanted, (of, plan, data) = reached_here(name, files(name)), there(engine, name)
    with connect(threads=1, memory_limit=None) as connection, ThreadPoolExecutor(1) as pool:
        found = reach_relational(prepared(plan, data, of, connection, pool), of)
    assert found is not None
    assert (found.columns, found.weeks, found.withdrawn) == (wanted.columns, wanted.weeks, wanted.withdrawn)
    assert found.company_units.astype(bool).sum() > 10, "units are spread over the hash buckets"
    for field in ("company", "exposed", "company_units", "exposed_units"):
        mine, theirs = getattr(found, field), getattr(wanted, field)
        assert mine.shape == theirs.shape and theirs.any()
        np.testing.assert_allclose(mine.sum(axis=0), theirs.sum(axis=0), rtol=1e-9, atol=1e-9)


@in_engines(["kinds", "filtered"], quick="filtered")
def test_what_other_experiments_there_gave_the_units(
    name: str,
    engine: str,
    files: Callable[[str], Path],
    there: Callable[[str, str], There],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("experiment_moments", "relational_screen"):
        monkeypatch.setattr(f"warehouse.{module}.FEWEST_COMMON_UNITS", 5)
    of, plan, data = there(engine, name)
    wanted = extract_experiment(plan_of(name), with_others(plan_of(name), world(name).slice(files(name))), threads=1)
    assert set(wanted.concurrent) == {"another", "by platform"} and set(wanted.unscreened) == {"unreadable"}
    with connect(threads=1, memory_limit=None) as connection, ThreadPoolExecutor(1) as pool:
        work = prepared(plan, with_others(plan, data), of, connection, pool)
        found = screened(work, of, replace(wanted, concurrent={}, unscreened={}))
    assert found.unscreened.keys() == wanted.unscreened.keys() and found.concurrent.keys() == wanted.concurrent.keys()
    for key, cells in wanted.concurrent.items():
        assert cells.moments.count.any() and found.concurrent[key].variants == cells.variants
        assert_same(found.concurrent[key].moments, cells.moments)


def with_others(plan: AnalysisPlan, data: DataSlice) -> DataSlice:
    """Experiments whose arms are other columns of this one's exposures."""
    shown = tuple(source for source in plan.fact_sources if source.key == "shown")

    def other(key: str, column: str, arms: tuple[str, ...], filters: list[Filter]) -> ConcurrentExposures:
        given = ExposureSource(fact_source="shown", variant_column=column, filters=filters)
        return ConcurrentExposures(
            key, arms, (), data.started_at or data.data_as_of, data.data_as_of, exposures=given, fact_sources=shown
        )

    another = [Filter(column="test", value="another test")]
    others = (
        other("another", "arm", ("control", "treatment"), another),
        other("unreadable", "no column", ("a", "b"), []),
        other("by platform", "platform", ("web", "gone", "App"), [Filter(column="test", value="checkout")]),
    )
    return replace(data, concurrent=others)


def history_of(name: str, plan: AnalysisPlan) -> BaselinePlan:
    """The history of a world's metrics; its first days of facts are before any history."""
    metrics = [metric for metric in plan.metrics if metric.metric_key in {m.key for m in world(name).metrics}]
    return BaselinePlan(unit_type="user", metrics=metrics, fact_sources=plan.fact_sources, weeks=2)


@cache
def embedded_baseline(name: str, folder: Path) -> Baseline:
    found = extract_baseline(history_of(name, world(name).plan()), world(name).slice(folder), threads=1)
    assert found.moments.last.count.all() and found.cumulative_units[-1] > found.cumulative_units[0] >= 0
    return found


@in_engines(["numbers", "kinds"], quick="numbers")
def test_the_history_of_metrics_for_planning(
    name: str, engine: str, files: Callable[[str], Path], there: Callable[[str, str], There]
) -> None:
    wanted, (of, plan, data) = embedded_baseline(name, files(name)), there(engine, name)
    found = baseline_relational(history_of(name, plan), data, of)
    assert found.cumulative_units == wanted.cumulative_units
    assert_engines_agree(found.moments, wanted.moments, world(name).metrics)
