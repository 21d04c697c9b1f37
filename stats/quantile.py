"""Quantiles of values that come in clusters: a p-quantile of events when users were randomised (METHODS A6)."""

from __future__ import annotations

from dataclasses import dataclass

from stats.moments import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class QuantileSummary:
    """What a quantile comparison needs to know about each cell; all arrays are (..., V), control first.

    `value` is the sample p-quantile over `events` values of `units` units (equal where every unit has one value).
    `lower` and `upper` are the order statistics around it at ranks n (p -/+ z sd) for the two-sided `level`; `share_sd`
    is the standard deviation of the share of events at or below `value`, by the delta method over units. `tied` marks
    cells whose interval has no width although the data vary: heaping, so nothing can be said about precision. Cells
    without events are all zeros.
    """

    probability: float
    level: float
    units: Ints
    events: Ints
    value: Floats
    lower: Floats
    upper: Floats
    share_sd: Floats
    tied: Bools
