"""Company-wide weekly totals of a North Star's columns: every unit counts, exposed or not, and windows do not apply."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from experiments.columns import layout
from experiments.plan import NorthStarPlan
from stats.moments import Floats
from warehouse.answers import INVALID_ANSWERS
from warehouse.data_slice import DataSlice
from warehouse.engine import from_epoch_us
from warehouse.period_totals import Periods, StoredTotals, Totals
from warehouse.values import NON_FINITE

A_DAY = timedelta(days=1)
WEEK = timedelta(days=7)
BUCKETS = 20
"""Parts of the units by hash: enough for an error of a total, few enough to keep (METHODS E4)."""


@dataclass(frozen=True, slots=True, eq=False)
class WeeklySeries:
    """`totals` (weeks, columns), and `by_bucket` (buckets, weeks, columns) in disjoint parts of the units by hash.

    `weeks` are the Mondays, 00:00 UTC, at which the weeks begin, ascending without gaps.

    `columns` are the names of `experiments.columns.layout`, outcomes only. An indicator's total is how many units had
    a value above 0 in the week, any other column's the sum over units of the week's aggregate; of a survey that is all
    scores and all answers. Caps do not apply: a company's total is what it is. Metrics that do not add up over units
    and weeks (`MetricSpec.adds_up`) have no columns.
    Weeks before the first fact are left out: nobody counted then, which is not zero. `complete` is false for a week
    that had not ended at `data_as_of`, and for the first week when its first fact came more than a day after it began.
    `invalid` maps columns with NaN or infinite facts, or answers off their scale, whose totals are nan, to a reason.
    """

    weeks: tuple[datetime, ...]
    columns: tuple[str, ...]
    totals: Floats
    by_bucket: Floats
    complete: tuple[bool, ...]
    invalid: Mapping[str, str] = field(default_factory=dict)


def extract_series(
    plan: NorthStarPlan,
    data: DataSlice,
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> WeeklySeries:
    """`weekly_series` of events, files and DuckDB tables. Raises `SourceUnreadable`."""
    with StoredTotals.open(plan.fact_sources, data, threads=threads, memory_limit=memory_limit) as totals:
        return weekly_series(plan, data.data_as_of, totals, progress)


def weekly_series(
    plan: NorthStarPlan,
    data_as_of: datetime,
    totals: Totals,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> WeeklySeries:
    """The last `plan.weeks` ISO weeks with facts before or in them; the last is the week that `data_as_of` lies in.

    Raises `SourceUnreadable`.
    """
    specs = layout([metric.spec for metric in plan.metrics if metric.spec.adds_up])
    columns = [column for column in specs.columns if column.period == "outcome"]
    last = week_of(data_as_of - timedelta(microseconds=1))
    periods = Periods(last - WEEK * (plan.weeks - 1), WEEK, plan.weeks, data_as_of)
    weeks = periods.starts
    by_bucket: Floats = np.zeros((BUCKETS, len(weeks), len(columns)))
    invalid: dict[int, str] = {}
    keys = list(dict.fromkeys(column.measure.fact_source for column in columns if column.measure))
    first_us: list[int] = []
    for done, key in enumerate(keys):
        progress("reading facts", done / len(keys))
        places = [i for i, column in enumerate(columns) if column.measure and column.measure.fact_source == key]
        found = totals.period_totals(key, [columns[i] for i in places], periods, buckets=BUCKETS)
        by_bucket[np.ix_([int(name) for name in found.segments], range(len(weeks)), places)] = found.totals
        for i, place in enumerate(places):
            if found.not_finite[..., i].any():
                invalid[place] = NON_FINITE
            elif found.off_scale[..., i].any():
                invalid[place] = INVALID_ANSWERS
        began = totals.beginnings(key).earliest
        first_us += [] if began is None else [began]
    progress("reading facts", 1.0)
    by_bucket[..., list(invalid)] = np.nan
    start = from_epoch_us(min(first_us)) if first_us else None
    counted = [i for i, week in enumerate(weeks) if start is not None and week + WEEK > start]
    return WeeklySeries(
        weeks=tuple(weeks[i] for i in counted),
        columns=tuple(column.name for column in columns),
        totals=by_bucket[:, counted].sum(axis=0),
        by_bucket=by_bucket[:, counted],
        complete=tuple(
            start is not None and weeks[i] + WEEK <= data_as_of and weeks[i] + A_DAY > start for i in counted
        ),
        invalid={columns[i].name: reason for i, reason in sorted(invalid.items())},
    )


def week_of(at: datetime) -> datetime:
    """The Monday 00:00 UTC on or before a time."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())
