"""The compiled road: an experiment's moments by statements that run where the rows are; only moments come back.

The same moments as `experiment_moments.extract_experiment`, to rounding, except for what `engines.capabilities` lists.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import duckdb

from experiments.errors import SourceUnreadable
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Moments
from warehouse.answered import parts_of, snapshot_of
from warehouse.asking import answer_of
from warehouse.compile.preparing import Prepared, prepared
from warehouse.compile.question import Cohort, Question
from warehouse.compile.statement import statement
from warehouse.data_slice import DataSlice
from warehouse.engine import connect
from warehouse.engine_answers import caps_of
from warehouse.engines.contract import Engine, Estimate
from warehouse.engines.messages import UNREADABLE_VALUES
from warehouse.experiment_moments import Parts, combine
from warehouse.facts import measure_of, takes_numbers
from warehouse.relational_reach import reach_relational
from warehouse.relational_screen import screened
from warehouse.wanted import Wanted

_HINT: Final = "-- First: SET enable_nestloop = off; the planner takes the parts of this statement for small."

type Progress = Callable[[str, float], None]


def extract_relational(
    plan: AnalysisPlan,
    data: DataSlice,
    engine: Engine,
    progress: Progress = lambda stage, fraction: None,
) -> MomentSet:
    """The joint moments of all columns that the plan's metrics need, computed by `engine` from its own tables.

    Raises `SourceUnreadable` where a source is not there, not readable, or in another place than the others.
    """
    with _here() as (connection, pool):
        progress("reading exposures", 0.0)
        work = prepared(plan, data, engine, connection, pool)
        parts = measure_relational(work, engine, progress)
        progress("computing moments", 1.0)
        return screened(work, engine, replace(combine(work.work, parts), reach=reach_relational(work, engine)))


def measure_relational(
    work: Prepared, engine: Engine, progress: Progress = lambda stage, fraction: None, cohort: Cohort | None = None
) -> Parts:
    """What the units contribute, or those of a cohort: parts of disjoint cohorts merge.

    A cohort is refused (ValueError) where its units are not measured on their own: with caps at quantiles, which are
    those of all units, and with clusters.
    """
    plan = work.work
    if cohort is not None and (plan.clustered or any(c.cap is not None and c.cap.quantile for c in plan.columns)):
        raise ValueError("clusters and caps at quantiles need all units at once")
    with _fields_named(work):
        return _measured(work, engine, progress, cohort)


def _measured(work: Prepared, engine: Engine, progress: Progress, cohort: Cohort | None) -> Parts:
    plan = work.work
    last = len(plan.looks) - 1
    question = replace(work.question(last), cohort=cohort)
    final = answer_of(question, engine)
    snapshots = []
    if plan.has_open_columns:
        caps = caps_of(final)
        for look in range(last):
            progress("computing moments", (look + 1) / (last + 1))
            earlier = replace(question, look=look, caps=caps)
            snapshots.append(snapshot_of(answer_of(earlier, engine)))
    parts = parts_of(final, snapshots)
    ages = _by_age(question, engine, parts)
    return replace(parts, products=replace(parts.products, by_age=ages)) if ages else parts


def _by_age(question: Question, engine: Engine, parts: Parts) -> dict[str, Moments]:
    """What units do on each day of their window (as `ages.moments_by_age`), for metrics without a cap.

    A day is a window of its own, so its values are columns as any. The days of a capped value are no windows.
    """
    work, found = question.work, {}
    withdrawn = {work.columns[i].name for i in parts.invalid}
    for metric in work.wanted.ages:
        column = metric.column
        if column.cap is not None or column.name in withdrawn:
            continue
        days = tuple(
            replace(column, name=f"{column.name} {day}", delay_days=column.delay_days + day, window_days=1.0)
            for day in range(metric.days)
        )
        alone = replace(work, columns=days, segments=(), strata=None, wanted=Wanted())
        asking = replace(question, work=alone)
        by_day = parts_of(answer_of(asking, engine))
        if not by_day.invalid:
            found[metric.metric_key] = by_day.overall.finish()[-1]
    return found


def statement_text(plan: AnalysisPlan, data: DataSlice, engine: Engine) -> str:
    """The statement of the last look, to be read, copied and run on its own; only columns and levels are looked up."""
    with _here() as (connection, pool):
        work = prepared(plan, data, engine, connection, pool)
        compiled, _ = statement(work.question(len(work.work.looks) - 1))
        text = compiled.sql(dialect=engine.dialect, pretty=True, copy=False)
        return f"{_HINT}\n{text}" if engine.dialect == "postgres" else text


def estimate(plan: AnalysisPlan, data: DataSlice, engine: Engine) -> Estimate:
    """What the statement of the last look will read."""
    with _here() as (connection, pool):
        work = prepared(plan, data, engine, connection, pool)
        return engine.estimate(statement(work.question(len(work.work.looks) - 1))[0])


@contextmanager
def _fields_named(work: Prepared) -> Iterator[None]:
    """Engines say that a value cannot be read, and not where it is: columns of text that are read as numbers."""
    try:
        yield
    except SourceUnreadable as error:
        read = [*work.work.columns, *(one.column for one in work.work.wanted.quantiles)]
        measures = [measure_of(column) for column in read if column.measure is not None and takes_numbers(column)]
        suspects = dict.fromkeys(
            (one.fact_source, one.column)
            for one in measures
            if (rows := work.rows[one.fact_source]) is not None and rows.kind(one.column) == "text"
        )
        if error.remedy != UNREADABLE_VALUES or not suspects:
            raise
        named = ", ".join(f"{column!r} of fact source {key!r}" for key, column in suspects)
        raise SourceUnreadable(
            f"{error.detail}; text is read as numbers from {named}",
            remedy=error.remedy,
            column=next(iter(suspects))[1],
        ) from None


@contextmanager
def _here() -> Iterator[tuple[duckdb.DuckDBPyConnection, Executor]]:
    with connect(threads=1, memory_limit=None) as connection, ThreadPoolExecutor(1) as pool:
        yield connection, pool
