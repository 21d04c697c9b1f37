"""Estimates after a group-sequential test has stopped (Tsiatis, Rosner & Mehta 1984; METHODS B2).

Outcomes are ordered by stage: stopping above early says most for the effect, stopping below early most against it.
Inverting the p-values of that order gives an interval and a median-unbiased estimate; the naive estimate is biased
towards the bound it crossed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.optimize as so

from stats.crossing import crossing
from stats.group_sequential import SpendingDesign, boundaries, distinct_looks


@dataclass(frozen=True, slots=True)
class Stagewise:
    """Median-unbiased `estimate` and interval in units of the effect; `p_value` has the design's sides."""

    estimate: float
    ci_lower: float
    ci_upper: float
    p_value: float
    level: float


def stagewise(
    design: SpendingDesign,
    information_fractions: Iterable[float],
    z: float,
    standard_error: float,
    level: float | None = None,
) -> Stagewise:
    """From the looks until the test stopped, the last of which saw the statistic `z` = estimate / standard error.

    Holds for stopping at a bound, at the planned end and by over- or under-running; non-binding futility bounds are
    taken as not there. The interval has equal tails at `level` (default: 1 - alpha, one-sided designs 1 - 2 alpha).
    Raises `ValueError` without information, or for a standard error that is not positive.
    """
    t, _ = distinct_looks(tuple(float(f) for f in information_fractions))
    if not t or not standard_error > 0 or not np.isfinite(z):
        raise ValueError("an estimate needs information, a finite statistic and a positive standard error")
    covered = 1 - 2 * design.error if level is None else level
    if not 0 < covered < 1:
        raise ValueError("level must be between 0 and 1")
    bounds = boundaries(design, t)
    lower = -bounds.upper if design.sides == 2 else np.full(len(t), -np.inf)
    if design.futility == "binding":
        lower = np.fmax(lower, bounds.futility)
    naive, spread = z / np.sqrt(t[-1]), (8 + np.sqrt(t[-1] / t[0])) / np.sqrt(t[-1])
    low, high = naive - spread, naive + spread
    paths = crossing(t, bounds.upper.tolist(), lower.tolist(), (min(low, 0.0), max(high, 0.0)))
    last = paths.before[-1]

    def more_extreme(drift: float) -> float:
        """Probability to end above the outcome that was seen."""
        earlier = sum(
            p.above(u, at, drift) for p, u, at in zip(paths.before[:-1], paths.upper[:-1], t[:-1], strict=True)
        )
        return earlier + last.above(z, t[-1], drift)

    def solved(probability: float) -> float:
        if more_extreme(low) >= probability or more_extreme(high) <= probability:
            raise ArithmeticError("the order of outcomes cannot be inverted within eight standard errors")
        return float(so.brentq(lambda drift: more_extreme(drift) - probability, low, high, xtol=1e-10))

    unit = float(standard_error * np.sqrt(t[-1]))
    above = more_extreme(0.0)
    return Stagewise(
        estimate=solved(0.5) * unit,
        ci_lower=solved((1 - covered) / 2) * unit,
        ci_upper=solved((1 + covered) / 2) * unit,
        p_value=min(max(above if design.sides == 1 else 2 * min(above, 1 - above), 0.0), 1.0),
        level=covered,
    )
