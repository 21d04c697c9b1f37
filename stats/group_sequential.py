"""Group-sequential designs by error spending on information (Lan & DeMets 1983; Jennison & Turnbull 2000; METHODS B2).

A design fixes how fast the error may be spent; the bounds follow from the information seen, look by look, and past
bounds never change. Information is 1 / se^2 of the estimate, never a count of users (METHODS B4). Two-sided tests are
two one-sided ones at alpha / 2, with the lower bound the mirror image of the upper.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.optimize as so
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.crossing import Paths, crossing
from stats.moments import Bools, Floats
from stats.spending import Spending, spent

BEYOND = 37.0
"""The bound where less than `NEGLIGIBLE` may be spent at a look: nothing can cross it, and no interval is shown yet."""
NEGLIGIBLE = 1e-14
SAME_LOOK = 1e-3
"""A look that adds less than this part of the information so far counts as the look before it."""


@dataclass(frozen=True, slots=True)
class SpendingDesign:
    """How errors are spent. `alpha` is that of the whole test (both sides if `sides` is 2), `power` at the final look.

    `futility` bounds spend 1 - power with the same function: `binding` ones must be obeyed, and buy lower efficacy
    bounds (never below that of one look at twice the error); `non_binding` ones may be overruled. They need the drift
    that the design can detect, which follows from `planned`, the information fractions of the looks as planned (the
    last is 1).
    """

    alpha: float = 0.05
    spending: Spending = "obrien_fleming"
    parameter: float | None = None
    futility: Literal["none", "non_binding", "binding"] = "none"
    power: float = 0.8
    sides: Literal[1, 2] = 2
    planned: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.power < 1):
            raise ValueError("alpha and power must be between 0 and 1")
        if self.futility not in ("none", "non_binding", "binding") or self.sides not in (1, 2):
            raise ValueError("futility is none, non_binding or binding, and sides are 1 or 2")
        if not self.planned or (np.diff((0.0, *self.planned)) <= 0).any() or abs(self.planned[-1] - 1) > 1e-9:
            raise ValueError("planned information fractions ascend from above 0 to 1")
        spent(self.spending, self.error, 1.0, self.parameter)

    @property
    def error(self) -> float:
        """Error of the upper bound alone."""
        return self.alpha / self.sides

    @property
    def fixed_drift(self) -> float:
        """z_{1-alpha} + z_{power}: the drift that a test with one look detects."""
        return float(sc.ndtri(1 - self.error) + sc.ndtri(self.power))


@dataclass(frozen=True, slots=True, eq=False)
class Boundaries:
    """Bounds on the z scale at each look, arrays (K,).

    `upper` is `BEYOND` where nothing can be decided yet (see `reachable`); `futility` is nan where there is none. The
    errors spent are cumulative, `alpha_spent` in units of the design's alpha (both sides).
    """

    upper: Floats
    futility: Floats
    alpha_spent: Floats
    beta_spent: Floats

    @property
    def reachable(self) -> Bools:
        """Looks at which efficacy can be decided; before, intervals are "not yet"."""
        return np.asarray(self.upper < BEYOND, dtype=np.bool_)


def boundaries(design: SpendingDesign, information_fractions: Iterable[float], final: bool = False) -> Boundaries:
    """Bounds for looks at these parts of the planned information, in the order of the looks.

    `final` says that the last look is the end whatever its fraction (under-running): it spends all that is left. A
    last fraction above 1 (over-running) spends all that is left with the correlations of the information there really
    was. Looks after everything is spent decide nothing. A look without new information (see `SAME_LOOK`), also one
    whose information fell because a variance was estimated anew, repeats the look before it. Cached. Raises
    `ValueError` for fractions that are negative or not finite.
    """
    return _boundaries(design, tuple(float(t) for t in information_fractions), final)


@lru_cache(maxsize=4096)
def _boundaries(design: SpendingDesign, fractions: tuple[float, ...], final: bool) -> Boundaries:
    distinct, look = distinct_looks(fractions)
    if final and len(look) > 1 and look[-1] == look[-2] >= 0:
        # The end spends what is left, but not at the look before it, whose bound was told.
        distinct, look = (*distinct, max(fractions[-1], distinct[-1] * (1 + SAME_LOOK))), [*look[:-1], len(distinct)]
    drift = detectable_drift(design) if design.futility != "none" else 0.0
    course = _course(design, distinct, drift, final)
    columns = [np.append(column, first)[look] for column, first in zip(course, (BEYOND, np.nan, 0.0, 0.0), strict=True)]
    for column in columns:
        column.setflags(write=False)
    return Boundaries(*columns)


def distinct_looks(fractions: tuple[float, ...]) -> tuple[tuple[float, ...], list[int]]:
    """Looks with new information, and which of them each look is (-1: no information yet)."""
    kept: list[float] = []
    look: list[int] = []
    for t in fractions:
        if not (np.isfinite(t) and t >= 0):
            raise ValueError("information fractions must be finite and not negative")
        if t > (kept[-1] * (1 + SAME_LOOK) if kept else 0.0):
            kept.append(t)
        look.append(len(kept) - 1)
    return tuple(kept), look


def _course(
    design: SpendingDesign, t: tuple[float, ...], drift: float, final: bool
) -> tuple[Floats, Floats, Floats, Floats]:
    """Upper and futility bounds and what they spend, at looks with new information."""
    at = np.array(t)
    if final and t:
        at[-1] = max(at[-1], 1.0)
    alpha_due = spent(design.spending, design.error, at, design.parameter)
    beta_due = spent(design.spending, 1 - design.power, at, design.parameter)
    upper, futility = np.full(len(t), BEYOND), np.full(len(t), np.nan)
    alpha, beta = np.zeros(len(t)), np.zeros(len(t))
    binding, bounded = design.futility == "binding", design.futility != "none"
    # Non-binding bounds are found along the paths that obey them, efficacy along those that do not.
    going = stopping = Paths.start()
    used = missed = 0.0
    # Where binding futility has stopped nearly everybody, the few that are left could win with almost any statistic.
    lowest = max(float(sc.ndtri(1 - min(2 * design.error, 0.5))), 0.0)
    for k, now in enumerate(t):
        if alpha_due[k] - used >= NEGLIGIBLE:
            upper[k] = max(going.bound_above(alpha_due[k] - used, now), lowest)
            used += going.above(upper[k], now)
        last = at[k] >= 1
        if bounded and (last or beta_due[k] - missed >= NEGLIGIBLE):
            futility[k] = upper[k] if last else min(stopping.bound_below(beta_due[k] - missed, now, drift), upper[k])
            missed += stopping.below(futility[k], now, drift)
        alpha[k], beta[k] = used, missed
        if k + 1 < len(t):
            lower = futility[k] if np.isfinite(futility[k]) else -np.inf
            if not binding:
                going = going.advance(now, -np.inf, upper[k], t[k + 1])
            if bounded:
                stopping = stopping.advance(now, lower, upper[k], t[k + 1], (0.0, drift))
                going = stopping if binding else going
    return upper, futility, alpha * design.sides, beta


@lru_cache(maxsize=512)
def detectable_drift(design: SpendingDesign) -> float:
    """Drift (true effect over standard error at the planned end) that the planned looks detect with the power."""
    fixed = design.fixed_drift
    if design.futility != "none":

        def missed(drift: float) -> float:
            return float(_course(design, design.planned, drift, False)[3][-1]) - (1 - design.power)

        return float(so.brentq(missed, fixed * (1 - 1e-9), 2 * fixed, xtol=1e-8))
    paths = crossing(design.planned, boundaries(design, design.planned).upper, drifts=(0.0, 2 * fixed))
    return float(so.brentq(lambda d: paths.above(d).sum() - design.power, fixed * (1 - 1e-9), 2 * fixed, xtol=1e-10))


def inflation(design: SpendingDesign, fractions: Iterable[float] | None = None) -> float:
    """Maximum information of the design over that of one look with the same errors; looks at `fractions` or as planned.

    Planned information is I_max = inflation ((z_{1-alpha} + z_{power}) / effect)^2.
    """
    return (detectable_drift(_planned(design, fractions)) / design.fixed_drift) ** 2


def expected_information(design: SpendingDesign, drift: float, fractions: Iterable[float] | None = None) -> float:
    """Mean information at stopping over that of one look with the same errors, when the true drift is `drift`."""
    planned = _planned(design, fractions)
    bounds = boundaries(planned, planned.planned)
    lower = np.where(np.isnan(bounds.futility), -np.inf, bounds.futility)
    if planned.sides == 2:
        lower = np.maximum(lower, -bounds.upper)
    paths = crossing(planned.planned, bounds.upper.tolist(), lower.tolist(), (min(drift, 0.0), max(drift, 0.0)))
    stopped = (paths.above(drift) + paths.below(drift))[:-1]
    t = np.array(planned.planned)
    return float((stopped @ t[:-1] + (1 - stopped.sum()) * t[-1]) * inflation(planned))


def _planned(design: SpendingDesign, fractions: Iterable[float] | None) -> SpendingDesign:
    if fractions is None:
        return design
    return SpendingDesign(
        design.alpha,
        design.spending,
        design.parameter,
        design.futility,
        design.power,
        design.sides,
        tuple(float(t) for t in fractions),
    )


def critical_value(upper: ArrayLike, df: ArrayLike | None = None) -> Floats:
    """Standard errors an estimate must reach, nan where the bound is out of reach ("not yet").

    With `df` the bound's tail probability is that of Student's t, so that small samples keep the errors.
    """
    bound = np.asarray(upper, dtype=np.float64)
    shown = np.where(bound < BEYOND, bound, np.nan)
    return shown if df is None else np.asarray(-sc.stdtrit(np.asarray(df, dtype=np.float64), sc.ndtr(-shown)))


def repeated_interval(
    estimate: ArrayLike, standard_error: ArrayLike, upper: ArrayLike, df: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Repeated confidence intervals, broadcast: they cover at all looks together (B2); nan is "not yet"."""
    value = np.asarray(estimate, dtype=np.float64)
    half = critical_value(upper, df) * np.asarray(standard_error, dtype=np.float64)
    return value - half, value + half


def repeated_p_value(design: SpendingDesign, information_fractions: Iterable[float], z: float) -> float:
    """Smallest alpha at which the repeated interval of the last look excludes zero, for its statistic `z`.

    One-sided designs: in the direction of the upper bound. Between 1e-12 and 0.999999.
    """
    size = abs(z) if design.sides == 2 else z

    def gap(log_alpha: float) -> float:
        trial = SpendingDesign(
            float(np.exp(log_alpha)), design.spending, design.parameter, "none", design.power, design.sides
        )
        return float(boundaries(trial, information_fractions).upper[-1]) - size

    low, high = np.log(1e-12), np.log(0.999999)
    if gap(low) <= 0 or gap(high) >= 0:
        return 1e-12 if gap(low) <= 0 else 1.0
    return float(np.exp(so.brentq(gap, low, high, xtol=1e-10)))
