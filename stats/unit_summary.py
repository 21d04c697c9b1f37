"""Sufficient statistics of single units' values: what a likelihood of units is made of (METHODS C2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.moments import Floats, Ints

CLUSTERED: Final = "clustered"
"""Clusters were randomised: units of one cluster resemble each other, which a likelihood of single units denies."""
NOT_COUNTS: Final = "not_counts"
"""A model of counts met values that are negative or not whole."""
NEGATIVE_VALUES: Final = "negative_values"
"""A model of zeros and positive amounts met negative values."""

TABLED: Final = 63
"""Counts 0 to 62 are tabled one by one; the larger ones are the tail."""
BINS: Final = 512


@dataclass(frozen=True, slots=True, eq=False)
class FrequencyTable:
    """Units by count: `frequency` (V, 63) of 0 to 62; `tail_units` and `tail_total` (V,) of the larger ones."""

    frequency: Ints
    tail_units: Ints
    tail_total: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PositiveAmounts:
    """The units with a positive value, arrays (V,): their number, and moments of the natural log of the value.

    `log_squares` is the sum of squared deviations from `log_mean`. `percentile_99` is the smallest positive value that
    at least 99 % of the positive values do not exceed; 0 without any, as is `log_mean`.
    """

    count: Ints
    log_mean: Floats
    log_squares: Floats
    percentile_99: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Units by value: `frequency` (V, b) in bins with ascending `edges` (b + 1,), the same for all arms.

    Every value lies in a bin: `edges` begin at or below the smallest and end at or above the largest.
    """

    edges: Floats
    frequency: Ints


@dataclass(frozen=True, slots=True, eq=False)
class UnitSummary:
    """One metric over all analysed units at the last look, arrays (V,) with control first.

    Values are as analysed: after the window, and capped where the metric has a cap (`cap`). `squares` is the sum of
    squared deviations from the arm's mean. With a `reason` the values are not what the likelihood is about, and the
    numbers are zeros. `table`, `amounts` and `histogram` are there for the likelihoods that need them.
    """

    likelihood: str
    count: Ints
    total: Floats
    squares: Floats
    cap: float | None = None
    reason: str = ""
    table: FrequencyTable | None = None
    amounts: PositiveAmounts | None = None
    histogram: Histogram | None = None


def edges_of(values: Floats) -> Floats:
    """Edges (513,) of bins for a histogram of all arms' values (n,), fine in the middle and wide in the tails.

    Evenly spaced in arcsinh((y - median) / interquartile range), from the smallest value to the largest.
    """
    if not len(values):
        return np.linspace(0.0, 1.0, BINS + 1)
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high), 1e-290)
    if high - low <= 1e-9 * size:
        return np.linspace(low - 1e-6 * size, high + 1e-6 * size, BINS + 1)
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    width = max(upper - lower, 1e-6 * (high - low))
    ends = np.arcsinh((np.array([low, high]) - median) / width)
    edges = np.asarray(median + width * np.sinh(np.linspace(ends[0], ends[1], BINS + 1)))
    edges[0], edges[-1] = low, high
    return edges
