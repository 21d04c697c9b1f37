"""Aggregations of facts per unit, in arrays: the same result in whatever order the facts arrive."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stats.moments import Floats, Ints
from warehouse.engine import MICROSECONDS_A_DAY

type Aggregation = Literal["sum", "count", "max", "distinct_days", "any", "last"]
type Positions = NDArray[np.int64] | NDArray[np.int32]


def aggregate(
    aggregation: Aggregation,
    position: Positions,
    out: Floats,
    *,
    number: Callable[[], Floats] | None = None,
    time: Callable[[], Ints] | None = None,
    most: int,
) -> None:
    """Fill `out` (units,) with an aggregation of each unit's facts; 0 for units without any.

    `position` (facts,) says whose fact it is; `number` gives the facts' values, where numbers are aggregated, and
    `time` their microseconds since 1970, for days and for what is last; `most` is the largest number of facts a unit
    can have. Facts without a number are left out by the caller. Numbers that are not finite come as +inf and give a
    value that is not finite, wherever they are among the unit's facts.
    """
    match aggregation:
        case "count":
            out[:] = np.bincount(position, minlength=len(out))
        case "any":
            out[:] = 0.0
            out[position] = 1.0
        case "sum":
            assert number is not None
            out[:] = sum_per_unit(number(), position, len(out), most)
        case "max":
            assert number is not None
            out[:] = max_per_unit(number(), position, len(out))
        case "distinct_days":
            assert time is not None
            out[:] = distinct_per_unit(time() // MICROSECONDS_A_DAY, position, len(out))
        case "last":
            assert number is not None and time is not None
            out[:] = last_per_unit(number(), time(), position, len(out))


def sum_per_unit(values: Floats, position: Positions, units: int, most: int) -> Floats:
    """Sums that do not depend on the order of the facts.

    Each value is split into a multiple of a power of two, coarse enough that `most` of them add up without rounding,
    and a small rest (Demmel & Hida 2004; Demmel & Nguyen 2015). Only the rests round, far below the sum's last digit.
    """
    largest = max(abs(float(values.min(initial=0.0))), abs(float(values.max(initial=0.0))))
    if not math.isfinite(largest) or largest * most > 1e300:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.bincount(position, weights=values, minlength=units)
    if largest == 0:
        return np.zeros(units)
    anchor = 1.5 * 2.0 ** math.ceil(math.log2(largest * max(most, 2)))
    coarse = (values + anchor) - anchor
    rest = values - coarse
    total: Floats = np.bincount(position, weights=coarse, minlength=units)
    if rest.any():
        total += np.bincount(position, weights=rest, minlength=units)
    return total


def max_per_unit(values: Floats, position: Positions, units: int) -> Floats:
    """Largest value, 0 for units without any."""
    best = np.full(units, -np.inf)
    np.maximum.at(best, position, values)
    return np.where(best == -np.inf, 0.0, best)


def last_per_unit(values: Floats, times: Ints, position: Positions, units: int) -> Floats:
    """The value at each unit's latest time, the largest where several share it; 0 for units without any."""
    latest = np.full(units, np.iinfo(np.int64).min)
    np.maximum.at(latest, position, times)
    counts = (times == latest[position]) | ~np.isfinite(values)
    return max_per_unit(values[counts], position[counts], units)


def distinct_per_unit(values: Ints, position: Positions, units: int) -> Floats:
    """How many distinct whole numbers each unit has."""
    if not len(values):
        return np.zeros(units)
    low = int(values.min())
    width = int(values.max()) - low + 1
    pairs = np.sort(position.astype(np.int64) * width + (values - low))  # ten times as fast as np.unique
    new = np.concatenate([[True], pairs[1:] != pairs[:-1]])
    return np.bincount(pairs[new] // width, minlength=units).astype(np.float64)
