"""History of metrics for planning (METHODS A14): as if every unit had been exposed at its first activity."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from typing import NamedTuple

import duckdb
import numpy as np

from experiments.columns import layout
from experiments.definitions import FactSourceSpec
from experiments.metric import measures_of
from experiments.plan import BaselinePlan
from stats.moment_set import MomentSet
from stats.moments import Ints
from warehouse.caps import caps_of_buckets
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, connect, days_us, epoch_us, identifier
from warehouse.experiment_moments import BUCKET_BYTES, Parts, combine, measure
from warehouse.one_pass import Pass
from warehouse.sources import open_source, unreadable
from warehouse.unit_mapping import with_mappings
from warehouse.units import UNITS, Bucket, Units
from warehouse.wanted import wanted

EVERYONE = "all"
"""The only variant of a baseline."""


class Baseline(NamedTuple):
    """`moments`: one look, one variant (`EVERYONE`), the columns of `experiments.columns.layout`. `cumulative_units`:

    unique active units by the end of day 1, 2, … of the history window (the curve of enrolment).
    """

    moments: MomentSet
    cumulative_units: tuple[int, ...]


def extract_baseline(
    plan: BaselinePlan,
    data: DataSlice,
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> Baseline:
    """Moments over the units active in the last `plan.weeks` weeks before `data_as_of`.

    A unit counts from its first fact, of any source of the plan's unit type, in those weeks: windows follow that
    moment, pre-periods precede it. As in an experiment only units whose longest window is complete are in the moments,
    and metrics with a cap are capped. Quantile metrics are in `quantiles`, for which var(value) falls with the units.
    """
    first: Ints = np.zeros(0, dtype=np.int64)
    with (
        connect(threads=threads, memory_limit=memory_limit) as connection,
        ThreadPoolExecutor(max(1, threads)) as pool,
    ):
        work = pass_over(plan, with_mappings(connection, plan.fact_sources, data), connection, pool)
        data, extra, history, active = work.data, work.wanted, work.exposed_us, active_sources(plan)
        of = _buckets(connection, active, data, history, len(work.columns) + extra.width)

        def units_of(index: int) -> Units:
            return active_units(connection, active, data, history, Bucket(index, of))

        if of > 1:
            work = replace(work, wanted=extra.with_caps(caps_of_buckets(work, map(units_of, range(of)), None)))
        parts: list[Parts] = []
        for index in range(of):
            progress("reading activity", index / of)
            units = units_of(index)
            first = np.concatenate([first, units.at_us])
            parts.append(measure(work, units, lambda fraction: None))
    progress("reading activity", 1.0)
    start = data.data_as_of - timedelta(weeks=plan.weeks)
    return Baseline(combine(work, reduce(Parts.merge, parts)), _curve(first, start, plan.weeks * 7))


def active_sources(plan: BaselinePlan) -> list[FactSourceSpec]:
    """The sources whose facts are activity: rows that say whose an id is are none."""
    sources = {source.key: source for source in plan.fact_sources}
    measured = {measure.fact_source for item in plan.metrics for measure in measures_of(item.spec).values()}
    return [sources[key] for key in sorted(measured) if sources[key].unit_type == plan.unit_type]


def pass_over(plan: BaselinePlan, data: DataSlice, connection: duckdb.DuckDBPyConnection, pool: Executor) -> Pass:
    """The pass over the units of a history: everybody is in one arm, and there is one look."""
    columns = layout([metric.spec for metric in plan.metrics])
    start = data.data_as_of - timedelta(weeks=plan.weeks)
    return Pass(
        connection=connection,
        data=data,
        sources={source.key: source for source in plan.fact_sources},
        columns=columns.columns,
        longest_us=days_us(columns.longest_window_days or 0),
        looks=(data.data_as_of,),
        variants=(EVERYONE,),
        levels=(),
        exposed_us=(epoch_us(start), epoch_us(data.data_as_of)),
        pool=pool,
        wanted=wanted(columns),
    )


def active_units(
    connection: duckdb.DuckDBPyConnection,
    sources: list[FactSourceSpec],
    data: DataSlice,
    history: tuple[int, int],
    bucket: Bucket,
) -> Units:
    """The units of a bucket with any fact in the history, at their first one; creates the table `UNITS`."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {UNITS} (unit_id VARCHAR, at_us BIGINT)")
    parameters = Parameters()
    facts = _activity(connection, sources, data, history, parameters)
    if facts:
        try:
            connection.execute(
                f"INSERT INTO {UNITS} SELECT unit_id, min(at_us) FROM ({facts}) WHERE {bucket.condition}"
                " GROUP BY unit_id",
                parameters.values,
            )
        except duckdb.Error as error:
            raise unreadable(", ".join(source.key for source in sources), error) from error
    table = connection.sql(f"SELECT at_us, hash(unit_id) AS h, rowid AS r FROM {UNITS}").fetchnumpy()
    n = len(table["at_us"])
    at_us = np.asarray(table["at_us"], dtype=np.int64)
    return Units(
        at_us=at_us,
        variant=np.zeros(n, dtype=np.int64),
        unit_hash=np.asarray(table["h"], dtype=np.uint64),
        segment=np.zeros((0, n), dtype=np.int64),
        rowid=np.asarray(table["r"], dtype=np.int64),
        crossover=0,
        assigned_us=at_us,
    )


def _activity(
    connection: duckdb.DuckDBPyConnection,
    sources: list[FactSourceSpec],
    data: DataSlice,
    history: tuple[int, int],
    parameters: Parameters,
) -> str:
    selects = []
    for spec in sources:
        source = open_source(connection, spec, data, parameters)
        if source is not None:
            unit = identifier(source.unit)
            selects.append(
                f"SELECT CAST({unit} AS VARCHAR) AS unit_id, {source.time_us} AS at_us FROM {source.relation}"
                f" WHERE {unit} IS NOT NULL AND {source.time_test('>=', parameters.add(history[0]))}"
                f" AND {source.time_test('<', parameters.add(history[1]))}"
            )
    return " UNION ALL ".join(selects)


def _buckets(
    connection: duckdb.DuckDBPyConnection,
    sources: list[FactSourceSpec],
    data: DataSlice,
    history: tuple[int, int],
    columns: int,
) -> int:
    parameters = Parameters()
    facts = _activity(connection, sources, data, history, parameters)
    if not facts:
        return 1
    try:
        row = connection.execute(f"SELECT approx_count_distinct(unit_id) FROM ({facts})", parameters.values).fetchone()
    except duckdb.Error as error:
        raise unreadable(", ".join(source.key for source in sources), error) from error
    return max(1, -(-int(row[0] if row else 0) * max(1, columns) * 8 // BUCKET_BYTES))


def _curve(first: Ints, start: datetime, days: int) -> tuple[int, ...]:
    ends = np.array([epoch_us(start + timedelta(days=day + 1)) for day in range(days)])
    return tuple(int(n) for n in np.searchsorted(np.sort(first), ends, side="left"))
