"""Small worlds for the data engine: facts and exposures as lists, written as the store writes them, and a plain Python
reference of what extraction must find."""

import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.columns import Column, layout
from experiments.definitions import (
    Direction,
    Estimation,
    EventSource,
    FactSourceSpec,
    Filter,
    FunnelStep,
    Measure,
    MetricSpec,
    Role,
    Variant,
)
from experiments.plan import AnalysisPlan, PlannedMetric
from stats.moments import Moments
from warehouse.data_slice import DataSlice
from warehouse.vectors import TIME

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
_names = itertools.count()


@dataclass(frozen=True)
class Exposure:
    unit: str
    variant: str
    at: datetime
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fact:
    unit: str
    at: datetime
    value: float | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)


def write_exposures(folder: Path, exposures: Iterable[Exposure]) -> Path:
    rows = list(exposures)
    names = dict.fromkeys(name for row in rows for name in row.segments)
    table = {
        "unit_id": pa.array([row.unit for row in rows], pa.string()),
        "variant_key": pa.array([row.variant for row in rows], pa.string()),
        "exposed_at": pa.array([row.at for row in rows], TIME),
        **{f"segment_{name}": pa.array([row.segments.get(name) for row in rows], pa.string()) for name in names},
    }
    return _write(folder, table)


def write_facts(folder: Path, facts: Iterable[Fact], event: str = "order", properties: Sequence[str] = ()) -> Path:
    rows = list(facts)
    names = dict.fromkeys([*properties, *(name for row in rows for name in row.properties)])
    table = {
        "event": pa.array([event] * len(rows), pa.string()),
        "unit_id": pa.array([row.unit for row in rows], pa.string()),
        "occurred_at": pa.array([row.at for row in rows], TIME),
        "value": pa.array([row.value for row in rows], pa.float64()),
        **{f"p_{name}": pa.array([row.properties.get(name) for row in rows]) for name in names},
    }
    return _write(folder, table)


def _write(folder: Path, table: Mapping[str, Any]) -> Path:
    path = folder / f"{next(_names)}.parquet"
    pq.write_table(pa.table(dict(table)), path)
    return path


def planned(spec: MetricSpec) -> PlannedMetric:
    return PlannedMetric(
        metric_key=spec.key,
        version=1,
        role=Role.SECONDARY,
        direction=Direction.INCREASE,
        mde=None,
        non_inferiority_margin=None,
        spec=spec,
    )


def plan_of(
    metrics: Sequence[MetricSpec],
    *,
    variants: Sequence[str] = ("control", "treatment"),
    sources: Sequence[FactSourceSpec] = (EventSource(key="orders", event="order"),),
    segments: Sequence[str] = (),
) -> AnalysisPlan:
    return AnalysisPlan(
        experiment_key="checkout",
        unit_type="user",
        data="events",
        variants=[Variant(key=key, weight=1 / len(variants), is_control=i == 0) for i, key in enumerate(variants)],
        metrics=[planned(spec) for spec in metrics],
        fact_sources=list(sources),
        north_star=None,
        segments=list(segments),
        planned_units=None,
        planned_end_at=None,
        estimation=Estimation(),
    )


def slice_of(
    exposures: Sequence[Path],
    facts: Mapping[str, Sequence[Path]] | None = None,
    *,
    data_as_of: datetime,
    ended_at: datetime | None = None,
    started_at: datetime | None = START,
    file_source_dir: Path | None = None,
) -> DataSlice:
    return DataSlice(
        tuple(exposures),
        {event: tuple(files) for event, files in (facts or {}).items()},
        started_at,
        ended_at,
        data_as_of,
        file_source_dir,
    )


def reference(
    metrics: Sequence[MetricSpec],
    variants: Sequence[str],
    exposures: Sequence[Exposure],
    facts: Mapping[str, Sequence[Fact]],
    *,
    look: datetime,
    data_as_of: datetime,
    ended_at: datetime | None = None,
    segment: tuple[str, str] | None = None,
) -> Moments:
    """Moments (variants,) at a look, as METHODS says and nothing else: loops, and numpy on whole arrays."""
    columns = layout(metrics)
    end = data_as_of if ended_at is None else min(data_as_of, ended_at)
    rows_of: dict[str, list[Exposure]] = {}
    for row in exposures:
        if START <= row.at < end:
            rows_of.setdefault(row.unit, []).append(row)
    per_arm: list[list[list[float]]] = [[] for _ in variants]
    longest = timedelta(days=columns.longest_window_days or 0)
    for unit, rows in rows_of.items():
        if len({row.variant for row in rows}) > 1 or rows[0].variant not in variants:
            continue
        first = min(row.at for row in rows)
        if first + longest > look:
            continue
        if segment is not None:
            levels = [row.segments.get(segment[0], "(none)") for row in rows if row.at == first]
            if min(levels) != segment[1]:
                continue
        vector = [value_of(column, unit, first, facts, look) for column in columns.columns]
        per_arm[variants.index(rows[0].variant)].append(vector)
    return direct_moments(per_arm, len(columns.columns))


def direct_moments(per_cell: Sequence[Sequence[Sequence[float]]], k: int) -> Moments:
    """Moments of each cell in exact rational arithmetic, rounded once at the end."""
    count, mean, comoment, third = [], [], [], []
    for cell in per_cell:
        columns = [[Fraction(row[i]) for row in cell] for i in range(k)]
        centre = [sum(column, Fraction(0)) / max(len(cell), 1) for column in columns]
        gap = [[value - centre[i] for value in column] for i, column in enumerate(columns)]
        count.append(len(cell))
        mean.append([float(value) for value in centre])
        comoment.append([[float(sum(map(operator.mul, a, b), Fraction(0))) for b in gap] for a in gap])
        third.append([float(sum((value**3 for value in column), Fraction(0))) for column in gap])
    return Moments(
        np.array(count),
        np.array(mean, dtype=np.float64).reshape(-1, k),
        np.array(comoment, dtype=np.float64).reshape(-1, k, k),
        np.array(third, dtype=np.float64).reshape(-1, k),
    )


def value_of(
    column: Column, unit: str, exposed: datetime, facts: Mapping[str, Sequence[Fact]], look: datetime
) -> float:
    if column.content == "step":
        return float(_completes(column.steps, _period(column, exposed, look), unit, facts))
    if column.content == "returned":
        return float(_returns(column, unit, exposed, facts))
    if column.content == "days_share":
        begin, end = _period(column, exposed, look)
        days = {(fact.at - exposed) // DAY for fact in _chosen(column.measure, begin, end, unit, facts)}
        return len(days) / math.ceil((end - begin) / DAY)
    value = sum(_measured(read, unit, exposed, facts, look) for read in column.reads)
    match column.content:
        case "indicator":
            return float(value > 0)
        case "no_history":
            return float(value == 0)
        case "responded":
            return float(value > 0)
        case _:
            return value


def _period(column: Column, exposed: datetime, look: datetime) -> tuple[datetime, datetime]:
    if column.period == "pre":
        return exposed - column.pre_period_days * DAY, exposed
    begin = exposed + column.delay_days * DAY
    return begin, look if column.window_days is None else begin + column.window_days * DAY


def _chosen(
    measure: Measure | None, begin: datetime, end: datetime, unit: str, facts: Mapping[str, Sequence[Fact]]
) -> list[Fact]:
    assert measure is not None
    return [
        fact
        for fact in facts.get(measure.fact_source, ())
        if fact.unit == unit and begin <= fact.at < end and all(passes(fact, item) for item in measure.filters)
    ]


def _completes(
    steps: Sequence[FunnelStep],
    period: tuple[datetime, datetime],
    unit: str,
    facts: Mapping[str, Sequence[Fact]],
    after: datetime | None = None,
) -> bool:
    """Every way through the funnel is tried."""
    if not steps:
        return True
    step, *rest = steps
    for fact in _chosen(step.measure, *period, unit, facts):
        late = after is None or after < fact.at
        near = after is None or step.within_days is None or fact.at - after <= step.within_days * DAY
        if late and near and _completes(rest, period, unit, facts, fact.at):
            return True
    return False


def _returns(column: Column, unit: str, exposed: datetime, facts: Mapping[str, Sequence[Fact]]) -> bool:
    assert column.window_days is not None
    within = exposed + column.start_within_days * DAY
    started = [fact.at for fact in _chosen(column.start, exposed, within, unit, facts)]
    if not started:
        return False
    begin = min(started) + column.delay_days * DAY
    return bool(_chosen(column.measure, begin, begin + column.window_days * DAY, unit, facts))


def _measured(
    column: Column, unit: str, exposed: datetime, facts: Mapping[str, Sequence[Fact]], look: datetime
) -> float:
    measure = column.measure
    assert measure is not None
    chosen = _chosen(measure, *_period(column, exposed, look), unit, facts)
    values = [number for _, number in _numbers(measure, chosen)]
    if column.content in ("answers", "responded"):
        return float(len(values))
    if column.content == "score" and column.scale == "nps":
        return float(sum(1 if value >= 9 else -1 if value <= 6 else 0 for value in values))
    if column.content == "score":
        return float(np.sum(np.array(values, dtype=np.float64)))
    value: float = {
        "sum": lambda: float(np.sum(np.array(values, dtype=np.float64))) if values else 0.0,
        "count": lambda: float(len(chosen)),
        "max": lambda: float(max(values)) if values else 0.0,
        "any": lambda: float(bool(chosen)),
        "distinct_days": lambda: float(len({fact.at.date() for fact in chosen})),
        "last": lambda: max(_numbers(measure, chosen), default=(0, 0.0))[1],
    }[measure.aggregation]()
    return value


def _numbers(measure: Measure, facts: Iterable[Fact]) -> list[tuple[datetime, float]]:
    """The numbers of facts that have one in the column that is measured, and when they were."""
    if measure.column == "value":
        return [(fact.at, fact.value) for fact in facts if fact.value is not None]
    found = [(fact.at, fact.properties.get(measure.column)) for fact in facts]
    return [(at, float(number)) for at, number in found if number is not None]


def passes(fact: Fact, item: Filter) -> bool:
    found = fact.value if item.column == "value" else fact.properties.get(item.column)
    if found is None:
        return False
    if isinstance(found, float) and math.isnan(found):
        found = math.inf  # engines order it above every number
    tests = {
        "=": lambda: found == item.value,
        "!=": lambda: found != item.value,
        "<": lambda: found < item.value,
        "<=": lambda: found <= item.value,
        ">": lambda: found > item.value,
        ">=": lambda: found >= item.value,
        "in": lambda: found in item.value,
    }
    return bool(tests[item.op]())


def assert_same(found: Moments, wanted: Moments, tolerance: float = 1e-9) -> None:
    """Equal counts; means, products and cubes to a relative `tolerance` of their own size.

    A mean is kept with 53 bits, so parts that were merged know their distance only to the last bit of the means.
    """
    np.testing.assert_array_equal(found.count, wanted.count)
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=tolerance, atol=1e-12)
    n = np.maximum(wanted.count, 1)[..., None]
    sd = np.sqrt(np.diagonal(wanted.comoment, axis1=-2, axis2=-1) / n)
    bit = np.abs(wanted.mean) * 2.0**-50
    spread = tolerance * sd + bit
    products = n[..., None] * (sd[..., :, None] * spread[..., None, :] + spread[..., :, None] * sd[..., None, :])
    products += n[..., None] * bit[..., :, None] * bit[..., None, :]
    for got, want, allowed in (
        (found.comoment, wanted.comoment, products),
        (found.third, wanted.third, n * (3 * sd**2 * spread + bit**3)),
    ):
        np.testing.assert_array_less(np.abs(got - want), allowed + 1e-15)
