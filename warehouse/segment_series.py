"""Series of metrics from facts, by period and segment: what a launch is measured on where nobody pushes values."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from experiments.columns import Column, layout
from experiments.definitions import MetricSpec
from experiments.evidence.launch.window import history_used
from experiments.evidence.series import metric_values
from experiments.plan import LaunchPlan, PlannedSeries
from experiments.series_table import PERIOD, SeriesTable, start_of_period
from stats.moments import Bools, Floats
from warehouse.data_slice import DataSlice
from warehouse.engine import epoch_us
from warehouse.facts import measure_of
from warehouse.period_totals import Beginnings, Periods, StoredTotals, Totals

MICROSECOND: Final = timedelta(microseconds=1)


def extract_segment_series(
    plan: LaunchPlan,
    data: DataSlice,
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> dict[str, SeriesTable]:
    """`segment_series` of events, files and DuckDB tables. Raises `SourceUnreadable`."""
    with StoredTotals.open(plan.fact_sources, data, threads=threads, memory_limit=memory_limit) as totals:
        return segment_series(plan, data.data_as_of, totals, progress)


def segment_series(
    plan: LaunchPlan,
    data_as_of: datetime,
    totals: Totals,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> dict[str, SeriesTable]:
    """Every series from facts that the plan uses, by key; complete periods only, as far back as the plan looks.

    A mean metric is the total over units, a proportion the number of units, a ratio the ratio of totals, a formula its
    formula on those (METHODS D). Nothing is known of a segment before its first fact, nor of the period that it came
    in unless it came in the first seventh of it; after that no fact is a total of 0. A ratio without denominator, and
    a total that facts without a finite number are in, is nan. Raises `SourceUnreadable`.
    """
    used = _used(plan)
    found: dict[str, SeriesTable] = {}
    for key, (planned, since) in used.items():
        progress("reading facts", len(found) / len(used))
        found[key] = _table(totals, planned, data_as_of, since)
    progress("reading facts", 1.0)
    return found


def _used(plan: LaunchPlan) -> dict[str, tuple[PlannedSeries, datetime]]:
    """The plan's series from facts, and from when on it uses each."""
    before = min(plan.announced_at or plan.rollout[0].at, plan.rollout[0].at)
    used: dict[str, tuple[PlannedSeries, datetime]] = {}
    for measurement in plan.measurements:
        since = before - history_used(measurement.options, PERIOD[measurement.outcome.spec.grain])
        for planned in (measurement.outcome, *measurement.regressors, *measurement.controls):
            if planned.spec.source == "facts":
                _, known = used.get(planned.spec.key, (planned, since))
                used[planned.spec.key] = planned, min(known, since)
    return used


def _table(counted: Totals, planned: PlannedSeries, data_as_of: datetime, since: datetime) -> SeriesTable:
    grain, dimension = planned.spec.grain, planned.spec.dimension
    first, end = start_of_period(since, grain), start_of_period(data_as_of, grain)
    periods = Periods(first, PERIOD[grain], (end - first) // PERIOD[grain], end)
    if periods.count <= 0:
        return SeriesTable.empty()
    specs = {metric.metric_key: metric.spec for metric in planned.metrics}
    columns = _columns(list(specs.values()))
    by_source: dict[str, list[int]] = {}
    for i, column in enumerate(columns):
        by_source.setdefault(measure_of(column).fact_source, []).append(i)
    began = {key: counted.beginnings(key, dimension=dimension) for key in by_source}
    segments = sorted({segment for each in began.values() for segment in each.by_segment})
    totals: Floats = np.full((len(segments), periods.count, len(columns)), np.nan)
    for key, places in by_source.items():
        chosen = [columns[i] for i in places]
        summed = counted.period_totals(key, chosen, periods, dimension=dimension)
        own: Floats = np.zeros((len(segments), periods.count, len(places)))
        own[[segments.index(name) for name in summed.segments]] = np.where(
            summed.not_finite | summed.off_scale, np.nan, summed.totals
        )
        own[:, ~_since(began[key].earliest, periods)] = np.nan
        totals[..., places] = own
    values = metric_values(specs, columns=[column.name for column in columns], totals=totals)
    outcome = values[planned.metrics[0].metric_key]
    seen = [_since(_first_fact(segment, began.values()), periods) for segment in segments]
    known: Bools = np.array(seen, dtype=np.bool_).reshape(outcome.shape) & np.isfinite(outcome)
    return _trimmed(segments, periods, np.where(known, outcome, np.nan), sum(each.unplaced for each in began.values()))


def _columns(specs: Sequence[MetricSpec]) -> list[Column]:
    """What has to be counted for these metrics: their outcomes, without caps and histories."""
    places = layout(specs)
    needed = {i for where in places.metrics.values() for i in (where.value, where.denominator)}
    return [column for i, column in enumerate(places.columns) if i in needed]


def _first_fact(segment: str, began: Iterable[Beginnings]) -> int:
    return min(each.by_segment[segment] for each in began if segment in each.by_segment)


def _since(first_us: int | None, periods: Periods) -> Bools:
    """(periods,) Which of them were counted whole, as far as one can know, if counting began with this fact."""
    if first_us is None:
        return np.zeros(periods.count, dtype=np.bool_)
    spare = epoch_us(periods.first + periods.length / 7)
    return spare + np.arange(periods.count) * (periods.length // MICROSECOND) > first_us


def _trimmed(segments: Sequence[str], periods: Periods, values: Floats, unplaced: int) -> SeriesTable:
    """Without segments of which nothing is known, and from the first period with a value to the last."""
    known = np.isfinite(values)
    rows, filled = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    if not len(rows):
        return replace(SeriesTable.empty(), unplaced=unplaced)
    within = slice(int(filled[0]), int(filled[-1]) + 1)
    kept = values[rows, within]
    nothing: Floats = np.full(kept.shape, np.nan)
    return SeriesTable(
        segments=tuple(segments[int(row)] for row in rows),
        periods=periods.starts[within],
        values=kept,
        n=nothing,
        variance=nothing,
        unplaced=unplaced,
    )
