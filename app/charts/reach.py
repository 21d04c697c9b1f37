"""How far a picture of effects reaches: for all that says something, not for one interval that says nothing."""

from collections.abc import Sequence
from statistics import median
from typing import Final

FAR: Final = 1.5
"""An interval is shown as far as this many typical widths from its effect."""
WILD: Final = 20.0
"""Intervals this many times wider than a typical one say nothing; their effects have no say in the picture either."""

type Interval = tuple[float, float, float]
"""A value and the ends of its interval."""


def typical_width(intervals: Sequence[Interval]) -> float:
    """The median width; 0 without intervals."""
    return median([upper - lower for _, lower, upper in intervals]) if intervals else 0.0


def picture_range(
    intervals: Sequence[Interval], *, inside: Sequence[float] = (), width: float | None = None
) -> tuple[float, float] | None:
    """The lowest and the highest value to show: `inside` in any case. None where there is nothing to show.

    `width` is the typical width, where it is that of other intervals.
    """
    typical = typical_width(intervals) if width is None else width
    ends = list(inside)
    for value, lower, upper in intervals:
        if upper - lower <= WILD * typical:
            ends += [value, max(lower, value - FAR * typical), min(upper, value + FAR * typical)]
    return (min(ends), max(ends)) if ends else None


def beyond(intervals: Sequence[Interval], low: float, high: float) -> int:
    """How many intervals the picture cuts."""
    return sum(lower < low or upper > high for _, lower, upper in intervals)
