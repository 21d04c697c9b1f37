"""What a likelihood of single units is made of, gathered in the pass over the units (METHODS C2).

Counts are tabled in each bucket and tables add up. A 99 % point and a histogram need all values at once: those leave
the buckets as they are, about 10 bytes per unit, for amounts per unit that has any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from experiments.columns import ModelledMetric
from stats.moments import Bools, Floats, Ints
from stats.unit_summary import (
    CLUSTERED,
    NEGATIVE_VALUES,
    NOT_COUNTS,
    TABLED,
    FrequencyTable,
    Histogram,
    PositiveAmounts,
    UnitSummary,
    edges_of,
)
from warehouse.one_pass import Pass
from warehouse.wanted import Caps

_COUNTS = ("gamma_poisson", "negative_binomial")


@dataclass(frozen=True, slots=True, eq=False)
class UnitParts:
    """One metric over the analysed units of a bucket; parts of disjoint units merge.

    `values` (m,) with `variant` (m,) are kept one by one where their order matters: all, or the positive ones.
    """

    likelihood: str
    count: Ints
    mean: Floats
    squares: Floats
    table: FrequencyTable | None
    values: Floats
    variant: NDArray[np.int16]
    reason: str = ""

    def merge(self, other: "UnitParts") -> "UnitParts":
        """Both together; a reason in either holds for both."""
        n = np.maximum(self.count + other.count, 1)
        gap = other.mean - self.mean
        return UnitParts(
            self.likelihood,
            self.count + other.count,
            self.mean + gap * other.count / n,
            self.squares + other.squares + gap**2 * self.count * other.count / n,
            _both(self.table, other.table),
            np.concatenate([self.values, other.values]),
            np.concatenate([self.variant, other.variant]),
            self.reason or other.reason,
        )


def parts_of_units(work: Pass, values: Floats, variant: Ints, inside: Bools) -> dict[str, UnitParts]:
    """Every modelled metric over the analysed units: `values` (k, n) as analysed, `variant` (n,), `inside` (n,)."""
    arms, arm = len(work.variants), variant[inside]
    return {
        metric.metric_key: parts_of_values(metric, values[metric.column][inside], arm, arms, clustered=work.clustered)
        for metric in work.wanted.modelled
    }


def parts_of_values(metric: ModelledMetric, value: Floats, arm: Ints, arms: int, *, clustered: bool) -> UnitParts:
    """One metric from the values (m,) of analysed units and their arms (m,), in any order."""
    count = np.bincount(arm, minlength=arms)
    blank = UnitParts(
        metric.likelihood, count, np.zeros(arms), np.zeros(arms), None, np.zeros(0), np.zeros(0, dtype=np.int16)
    )
    reason = CLUSTERED if clustered else _unfit(metric.likelihood, value)
    if reason:
        return replace(blank, reason=reason)
    mean, squares = _moments(value, arm, arms)
    found = replace(blank, mean=mean, squares=squares)
    if metric.likelihood in _COUNTS:
        return replace(found, table=_tabled(value, arm, arms))
    if metric.likelihood in ("hurdle_lognormal", "student_t"):
        kept = value > 0 if metric.likelihood == "hurdle_lognormal" else np.ones(len(value), dtype=np.bool_)
        return replace(found, values=value[kept], variant=arm[kept].astype(np.int16))
    return found


def _unfit(likelihood: str, value: Floats) -> str:
    """Why these values cannot come from the likelihood."""
    if likelihood in _COUNTS and not ((value >= 0) & (value == np.rint(value))).all():
        return NOT_COUNTS
    if likelihood == "hurdle_lognormal" and (value < 0).any():
        return NEGATIVE_VALUES
    return ""


def _moments(value: Floats, arm: Ints | NDArray[np.int16], arms: int) -> tuple[Floats, Floats]:
    """(V,) means and sums of squared deviations."""
    mean, squares = np.zeros(arms), np.zeros(arms)
    for v in range(arms):
        of_arm = value[arm == v]
        if len(of_arm):
            mean[v] = of_arm.mean()
            squares[v] = ((of_arm - mean[v]) ** 2).sum()
    return mean, squares


def _tabled(value: Floats, arm: Ints, arms: int) -> FrequencyTable:
    low = value < TABLED
    cell = arm[low] * TABLED + value[low].astype(np.int64)
    large, of = value[~low], arm[~low]
    return FrequencyTable(
        frequency=np.bincount(cell, minlength=arms * TABLED).reshape(arms, TABLED),
        tail_units=np.bincount(of, minlength=arms),
        tail_total=np.bincount(of, weights=large, minlength=arms),
    )


def _both(one: FrequencyTable | None, other: FrequencyTable | None) -> FrequencyTable | None:
    if one is None or other is None:
        return None
    return FrequencyTable(
        one.frequency + other.frequency,
        one.tail_units + other.tail_units,
        one.tail_total + other.tail_total,
    )


def merge_units(one: Mapping[str, UnitParts], other: Mapping[str, UnitParts]) -> dict[str, UnitParts]:
    """Metric by metric; every bucket of a pass has the same."""
    return {key: parts.merge(other[key]) for key, parts in one.items()}


def unit_summaries(
    metrics: Sequence[ModelledMetric], parts: Mapping[str, UnitParts], caps: Caps, invalid: Mapping[int, str]
) -> dict[str, UnitSummary]:
    """The summaries of all units; `invalid` are the columns withdrawn in any bucket."""
    return {
        metric.metric_key: _summary(
            parts[metric.metric_key], caps.values.get(metric.column), invalid.get(metric.column, "")
        )
        for metric in metrics
    }


def _summary(parts: UnitParts, cap: float | None, invalid: str) -> UnitSummary:
    nothing = np.zeros(len(parts.count))
    if reason := invalid or parts.reason:
        return UnitSummary(parts.likelihood, parts.count, nothing, nothing, cap, reason)
    return UnitSummary(
        parts.likelihood,
        parts.count,
        parts.mean * parts.count,
        parts.squares,
        cap,
        table=parts.table,
        amounts=_amounts(parts) if parts.likelihood == "hurdle_lognormal" else None,
        histogram=_histogram(parts) if parts.likelihood == "student_t" else None,
    )


def _amounts(parts: UnitParts) -> PositiveAmounts:
    arms = len(parts.count)
    log_mean, log_squares = _moments(np.log(parts.values), parts.variant, arms)
    top = np.zeros(arms)
    for v in range(arms):
        of_arm = parts.values[parts.variant == v]
        if len(of_arm):
            place = -(-99 * len(of_arm) // 100) - 1
            top[v] = np.partition(of_arm, place)[place]
    return PositiveAmounts(np.bincount(parts.variant, minlength=arms), log_mean, log_squares, top)


def _histogram(parts: UnitParts) -> Histogram:
    edges = edges_of(parts.values)
    bins, arms = len(edges) - 1, len(parts.count)
    place = np.minimum(np.searchsorted(edges, parts.values, side="right") - 1, bins - 1)
    cell = parts.variant.astype(np.int64) * bins + place
    return Histogram(edges, np.bincount(cell, minlength=arms * bins).reshape(arms, bins))
