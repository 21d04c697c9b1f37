"""The weekly series of a North Star and its inputs: the company's own numbers, outside any experiment.

Here a mean metric is the total over units, a proportion the number of units, a ratio the ratio of totals; a formula
metric is its formula on those. Windows and variants have no meaning on this axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np

from experiments.columns import MetricColumns, layout
from experiments.definitions import MetricSpec
from experiments.evidence.rows import nulls
from experiments.plan import NorthStarPlan
from experiments.result import NorthStarSeries, SeriesPoint, WithoutUnits
from stats.formula import parse
from stats.moments import Bools, Floats


class WeeklyTotals(Protocol):
    """What the data engine counted: `totals` (weeks, columns), where an indicator's total is a number of units.

    `by_bucket` (buckets, weeks, columns) has them in disjoint parts of the units.
    """

    @property
    def weeks(self) -> Sequence[datetime]: ...

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def totals(self) -> Floats: ...

    @property
    def by_bucket(self) -> Floats: ...

    @property
    def complete(self) -> Sequence[bool] | Bools: ...


def north_star_series(
    plan: NorthStarPlan, series: WeeklyTotals, *, analysis_id: str, data_as_of: datetime, code_version: str
) -> NorthStarSeries:
    """The document of the series. Values that do not exist (a ratio without denominator) are null.

    The value is that of the North Star's own metric. Raises `KeyError` for a column that was not counted.
    """
    spec = plan.north_star.spec
    specs = {metric.metric_key: metric.spec for metric in plan.metrics}
    values = metric_values(specs, columns=series.columns, totals=series.totals)
    star = nulls(values[spec.metric_key])
    inputs = {item.metric_key: nulls(values[item.metric_key]) for item in spec.input_metrics}
    parts = len(series.by_bucket)
    # The rest of the units, scaled up to all of them: ratios stay what they are.
    rest = (series.totals - series.by_bucket) * (parts / (parts - 1))
    without = metric_values(specs, columns=series.columns, totals=rest)
    return NorthStarSeries(
        analysis_id=analysis_id,
        north_star_key=spec.key,
        north_star_version=plan.north_star.version,
        data_as_of=data_as_of,
        points=[
            SeriesPoint(
                week=week,
                value=star[i],
                inputs={key: numbers[i] for key, numbers in inputs.items()},
                complete=bool(series.complete[i]),
            )
            for i, week in enumerate(series.weeks)
        ],
        without=[
            WithoutUnits(
                value=_short(without[spec.metric_key][part]),
                inputs={item.metric_key: _short(without[item.metric_key][part]) for item in spec.input_metrics},
            )
            for part in range(parts)
        ],
        code_version=code_version,
    )


def metric_values(specs: Mapping[str, MetricSpec], *, columns: Sequence[str], totals: Floats) -> dict[str, Floats]:
    """The value of every metric by what was counted: `totals` (..., columns) make values (...); nan where undefined.

    Facts make no value of a metric that does not add up (`MetricSpec.adds_up`): it is nan throughout.
    """
    places = layout([spec for spec in specs.values() if spec.adds_up])
    index = {name: i for i, name in enumerate(columns)}

    def column(position: int) -> Floats:
        return np.asarray(totals[..., index[places.names[position]]], dtype=np.float64)

    values = {key: _plain(where, column) for key, where in places.metrics.items()}
    values |= {key: np.full(totals.shape[:-1], np.nan) for key, spec in specs.items() if not spec.adds_up}

    def of(key: str) -> Floats:
        if key not in values:
            text = specs[key].formula
            assert text is not None
            formula = parse(text)
            values[key] = formula.evaluate({name: of(name) for name in formula.names})
        return values[key]

    return {key: of(key) for key in specs}


def _short(numbers: Floats) -> list[float | None]:
    """Ten digits: errors need no more, and the document is read often."""
    return [None if each is None else float(f"{each:.10g}") for each in nulls(numbers)]


class _Column(Protocol):
    def __call__(self, position: int, /) -> Floats: ...


def _plain(where: MetricColumns, column: _Column) -> Floats:
    top = column(where.value)
    if where.denominator is None:
        return top
    bottom = column(where.denominator)
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0))
