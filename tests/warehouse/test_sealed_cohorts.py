"""Tables of a warehouse day by day: what is kept of sealed cohorts never changes what one statement would find."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlglot import exp

from experiments.definitions import ExposureSource, FileSource, MetricSpec, Role, TableSource, Trigger
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from tests.servers import Postgres
from tests.warehouse.cases import DAY, START
from tests.warehouse.plain import OPEN, plan_with
from tests.warehouse.tables import postgres_connection
from tests.warehouse.test_relational import assert_equal, metric, orders, visits
from warehouse.data_slice import DataSlice
from warehouse.engines.contract import Engine, Estimate, Kind, Table
from warehouse.engines.embedded import DuckDBEngine
from warehouse.engines.postgres import PostgresEngine
from warehouse.relational_moments import extract_relational
from warehouse.state.lane import forget_lanes
from warehouse.state.sealed import Warehouse, extract_sealed, why_asked_in_full

METRICS = (
    metric("visits", measure=visits(), likelihood="negative_binomial"),
    metric("capped", measure=orders(), cap={"value": 7}, delay_days=0.5, pre_period_days=0),
    metric("per_visit", "ratio", numerator=orders("count"), denominator=visits(), window_days=2),
    metric("median", "quantile", measure=orders(), quantile=0.5, pre_period_days=0),
)
HERE = Warehouse("here", restatement_days=2)
MOMENT = pa.timestamp("us", tz="UTC")


@dataclass
class Tables:
    """Rows of (unit, day since the start, variant and country, or value)."""

    shown: list[tuple[str, float, str, str]] = field(default_factory=list)
    orders: list[tuple[str, float, float]] = field(default_factory=list)
    visits: list[tuple[str, float, float]] = field(default_factory=list)

    def arrow(self) -> dict[str, pa.Table]:
        """As they are stored."""
        return {
            "shown": _table(self.shown, ("arm", "country")),
            "orders": _table(self.orders, ("value",)),
            "visits": _table(self.visits, ("value",)),
        }


def _table(rows: list[Any], names: tuple[str, ...]) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)]
    at = pa.array([START + day * DAY for day in columns[1]], MOMENT)
    return pa.table({"who": columns[0], "at": at, **dict(zip(names, columns[2:], strict=True))})


def company(days: int, a_day: int = 6) -> Tables:
    """Units exposed on each day, some of them again, with facts before and after."""
    rng, found = np.random.default_rng(7), Tables()
    for i in range(days * a_day):
        unit, day = f"unit {i}", i / a_day + float(rng.uniform(0, 0.1))
        arm = str(rng.choice(["control", "treatment"]))
        for again in range(1 + int(rng.random() < 0.2)):
            found.shown.append((unit, day + again * 1.5, arm, str(rng.choice(["DE", "FR"]))))
        for rows, usual in ((found.orders, 3), (found.visits, 5)):
            for _ in range(rng.poisson(usual)):
                rows.append((unit, day + float(rng.uniform(-4, 4)), float(rng.integers(12))))
    return found


@dataclass
class Watched:
    """An engine, and how many of its statements joined facts to units since it was last asked."""

    of: Engine
    joins: int = 0

    @property
    def dialect(self) -> Literal["duckdb", "postgres", "spark"]:
        return self.of.dialect

    def columns(self, table: exp.Table) -> Mapping[str, Kind]:
        return self.of.columns(table)

    def run(self, statement: exp.Expression) -> Table:
        self.joins += any(part.alias == "facts_0" for part in statement.find_all(exp.CTE))
        return self.of.run(statement)

    def estimate(self, statement: exp.Expression) -> Estimate:
        return self.of.estimate(statement)

    def close(self) -> None:
        self.of.close()

    def stored_facts(self, *given: Any) -> Any:
        return self.of.stored_facts(*given)  # type: ignore[attr-defined] # only asked where the engine is a store

    def stored_exposures(self, data: DataSlice) -> None:
        return None


class Warehouses:
    """Tables that change, and analyses of them with a memory."""

    def __init__(self, folder: Path, engine: Callable[[], Any], write: Callable[[Tables], None]) -> None:
        self.tables, self._folder, self._engine, self._write = company(11), folder, engine, write
        self.kind: Literal["file", "table"] = "file"
        self.metrics, self.options = METRICS[:2], dict[str, Any]()
        self.passes, self.statements = 0.0, 1

    def asks_everything(self) -> None:
        """Metrics of all kinds, one of them followed by day in a statement of its own, and groups."""
        self.statements = 2
        self.metrics, self.options = METRICS, {"segments": ["country"], "stratify_by": ["country"]}

    def plan(self, metrics: Sequence[MetricSpec] = (), **options: Any) -> AnalysisPlan:
        plan = plan_with(metrics or self.metrics, **self.options, **options)
        role = Role.PRIMARY if self.statements == 2 else Role.SECONDARY
        metrics = [one.model_copy(update={"role": role}) for one in plan.metrics if one.metric_key == "visits"]
        metrics += [one for one in plan.metrics if one.metric_key != "visits"]
        shown = ExposureSource(fact_source="shown", variant_column="arm", segments={"country": "country"})
        sources = [self._source(key) for key in ("orders", "visits", "shown")]
        return plan.model_copy(update={"fact_sources": sources, "exposures": shown, "metrics": metrics})

    def _source(self, key: str) -> FileSource | TableSource:
        where = {"key": key, "unit_column": "who", "timestamp_column": "at"}
        if self.kind == "file":
            return FileSource.model_validate({"kind": "file", "path": f"{key}.parquet", **where})
        return TableSource.model_validate({"kind": "table", "connection": "dwh", "table": f"lake.{key}", **where})

    def slice(self, day: float, **changes: Any) -> DataSlice:
        data = DataSlice((), {}, START, None, START + day * DAY, self._folder, data_dir=self._folder / "data")
        return replace(data, **changes)

    def refreshed(
        self,
        day: float,
        *,
        plan: AnalysisPlan | None = None,
        where: Warehouse = HERE,
        at_once: int = 1,
        **changes: Any,
    ) -> MomentSet:
        """As of a day, from what is kept; `passes` is how many times facts were joined to units."""
        self._write(self.tables)
        data = self.slice(day, **changes)
        with closing(Watched(self._engine())) as engine:
            found = extract_sealed(plan or self.plan(), data, engine, where, fewest_units=1, fewest_cohorts=at_once)
            self.passes = engine.joins / self.statements
        return found

    def in_full(self, day: float, *, plan: AnalysisPlan | None = None, **changes: Any) -> MomentSet:
        """As one statement finds it."""
        with closing(Watched(self._engine())) as engine:
            return extract_relational(plan or self.plan(), self.slice(day, **changes), engine)

    def assert_refreshed(self, day: float, *, passes: int, at_once: int = 1, **changes: Any) -> None:
        """That a refresh finds what one statement finds, and joins facts to units so many times."""
        assert_equal(self.refreshed(day, at_once=at_once, **changes), self.in_full(day, **changes))
        assert self.passes == passes


@pytest.fixture
def files(tmp_path: Path) -> Warehouses:
    def write(tables: Tables) -> None:
        for key, table in tables.arrow().items():
            pq.write_table(table, tmp_path / f"{key}.parquet")

    return Warehouses(tmp_path, lambda: DuckDBEngine(threads=1), write)


def test_day_by_day_is_what_one_statement_finds(files: Warehouses) -> None:
    files.asks_everything()
    files.refreshed(9.3, at_once=5)
    assert files.passes == 1, "four cohorts are sealed: too few"
    files.refreshed(9.3, at_once=4)
    assert files.passes == 2
    files.assert_refreshed(11.4, passes=1, at_once=4)
    unit, day, *_ = files.tables.shown[-30]
    files.tables.orders.append((unit, day + 1, 5.0))
    files.assert_refreshed(11.4, passes=2)


def test_what_changes_in_sealed_cohorts_is_asked_for_again(files: Warehouses) -> None:
    files.refreshed(9)
    unit, since, arm, country = files.tables.shown[3]
    files.tables.orders.append((unit, since + 0.75, 6.0))
    files.assert_refreshed(9, passes=2)
    files.tables.shown.append((unit, since + 3, arm, country))
    files.refreshed(9)
    assert files.passes == 1, "a unit that is seen again is who it was"
    files.tables.shown.append((unit, since + 4, "treatment" if arm == "control" else "control", country))
    files.refreshed(9)
    assert files.passes == 2
    unit, since, arm, country = files.tables.shown[9]
    files.tables.shown.append((unit, since - 0.01, arm, country))
    files.assert_refreshed(12, passes=2, ended_at=START + 9.5 * DAY)


def written_over(tables: Tables) -> None:
    """One old order has another value, and two of one day change hands."""
    since = {unit: day for unit, day, *_ in reversed(tables.shown) if day < 2}
    old = [i for i, row in enumerate(tables.orders) if 0.5 < row[1] - since.get(row[0], 99.0) < 3.5]
    tables.orders[old[0]] = (*tables.orders[old[0]][:2], 0.25)
    other = next(i for i in old[1:] if tables.orders[i][0] != tables.orders[old[1]][0])
    (one, at, value), (another, *rest) = tables.orders[old[1]], tables.orders[other]
    tables.orders[old[1]], tables.orders[other] = (another, at, value), (one, *rest)


def test_what_is_written_over_in_place_is_seen(files: Warehouses) -> None:
    before = files.refreshed(9)
    written_over(files.tables)
    files.assert_refreshed(9, passes=2)
    with pytest.raises(AssertionError):
        assert_equal(files.in_full(9), before)
    files.refreshed(9)
    assert files.passes == 1
    assert forget_lanes(files.slice(9).data_dir or Path()) == 1
    assert_equal(files.refreshed(9), files.in_full(9))


@pytest.fixture
def lake(postgres: Postgres, tmp_path: Path) -> Iterator[Warehouses]:
    """The tables in PostgreSQL."""
    url = postgres.create(migrated=False)
    spec, secret = postgres_connection(url)
    with psycopg.connect(
        host=spec.host, port=spec.port, dbname=spec.database, user=spec.user, password=secret, autocommit=True
    ) as owner:

        def write(tables: Tables) -> None:
            owner.execute("DROP SCHEMA IF EXISTS lake CASCADE")
            owner.execute("CREATE SCHEMA lake")
            owner.execute("CREATE TABLE lake.shown (who text, at timestamptz, arm text, country text)")
            for key in ("orders", "visits"):
                owner.execute(f"CREATE TABLE lake.{key} (who text, at timestamptz, value float8)".encode())
            for key, table in tables.arrow().items():
                with owner.cursor().copy(f"COPY lake.{key} FROM STDIN".encode()) as copy:
                    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                        copy.write_row(row)

        found = Warehouses(tmp_path, lambda: PostgresEngine(spec, secret), write)
        found.kind = "table"
        found.asks_everything()
        yield found
    postgres.drop(url)


def test_tables_of_a_warehouse_are_refreshed_as_well(lake: Warehouses) -> None:
    lake.refreshed(8.3)
    unit, since, arm, country = lake.tables.shown[3]
    lake.tables.orders.append((unit, since + 0.75, 6.0))
    lake.tables.shown.append((unit, since + 4, "treatment" if arm == "control" else "control", country))
    lake.assert_refreshed(9.4, passes=2)
    written_over(lake.tables)
    lake.assert_refreshed(9.4, passes=2)
    lake.refreshed(9.4)
    assert lake.passes == 1


def test_plans_whose_cohorts_are_not_complete_on_their_own_are_asked_for_in_full(files: Warehouses) -> None:
    visited = Trigger(fact_source="visits")
    winsorised = metric("w", measure=orders(), cap={"quantile": 0.9})
    reasons = {
        "clusters": files.plan(cluster="country"),
        "trigger": files.plan(trigger=visited),
        "open_window": files.plan([OPEN]),
        "quantile_cap": files.plan([winsorised]),
    }
    for reason, plan in reasons.items():
        assert why_asked_in_full(plan, files.slice(9)) == reason
    assert why_asked_in_full(files.plan(), files.slice(9)) is None
    assert why_asked_in_full(files.plan(), files.slice(9, data_dir=None)) == "no_folder"


def test_another_place_another_promise_and_an_earlier_time_are_asked_for(files: Warehouses) -> None:
    files.metrics = METRICS[:1]
    files.refreshed(9)
    files.refreshed(8.5)
    assert files.passes == 1, "one statement, and nothing is kept"
    files.refreshed(9, where=Warehouse("there", 2))
    assert files.passes == 2
    files.refreshed(9, where=Warehouse("here", 2.5))
    assert files.passes == 2
