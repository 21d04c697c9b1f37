"""Where a standardised statistic crosses bounds at successive looks (Armitage, McPherson & Rowe 1969; METHODS B2).

On the score scale B = Z sqrt(t) looks are those of a Brownian motion with drift: B gains N(drift dt, dt) between them.
We carry the sub-density of paths that have not stopped, under no drift, on Gauss-Legendre panels no wider than two
standard deviations of the steps before and after: ten nodes integrate such a panel to 1e-12. Drift needs no
second pass, because the density under drift is the one without, times exp(drift x - drift^2 t / 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.optimize as so
import scipy.special as sc

from stats.moments import Floats

REACH = 8.0
"""Paths further than so many standard deviations from where they can be are left out (probability 1e-15)."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """Paths that go on after a look at information `t`: score `x` (n,) and probability `mass` (n,) without drift."""

    t: float
    x: Floats
    mass: Floats

    @classmethod
    def start(cls) -> Paths:
        """Before the first look."""
        return cls(0.0, np.zeros(1), np.ones(1))

    def _tilted(self, drift: float) -> Floats:
        return self.mass * np.exp(drift * self.x - drift**2 * self.t / 2) if drift else self.mass

    def above(self, z: float, t: float, drift: float = 0.0) -> float:
        """Probability to go on until `t` and be above the z-score `z` there."""
        step = np.sqrt(t - self.t)
        return float(self._tilted(drift) @ sc.ndtr((self.x + drift * (t - self.t) - z * np.sqrt(t)) / step))

    def below(self, z: float, t: float, drift: float = 0.0) -> float:
        """Probability to go on until `t` and be below the z-score `z` there."""
        step = np.sqrt(t - self.t)
        return float(self._tilted(drift) @ sc.ndtr((z * np.sqrt(t) - self.x - drift * (t - self.t)) / step))

    def bound_above(self, probability: float, t: float) -> float:
        """The z-score that is exceeded at `t` with `probability` (without drift)."""
        if not self.t:
            return float(-sc.ndtri(probability))
        # Few paths may be left: then every bound is exceeded less often than asked, and the lowest does.
        if self.above(-REACH, t) <= probability:
            return -REACH
        return float(so.brentq(lambda z: self.above(z, t) - probability, -REACH, REACH + 1, xtol=1e-11))

    def bound_below(self, probability: float, t: float, drift: float) -> float:
        """The z-score that is fallen short of at `t` with `probability` under `drift`."""
        low, high = drift * np.sqrt(t) - REACH - 1, drift * np.sqrt(t) + REACH
        if self.below(high, t, drift) <= probability:
            return float(high)
        return float(so.brentq(lambda z: self.below(z, t, drift) - probability, low, high, xtol=1e-11))

    def advance(
        self, t: float, lower: float, upper: float, following: float, drifts: tuple[float, float] = (0.0, 0.0)
    ) -> Paths:
        """The paths between the z-scores `lower` and `upper` at `t`; `following` is the next look's information.

        `drifts` is the range of drifts that will be asked for; the grid covers where those paths are.
        """
        root = np.sqrt(t)
        low = max(lower * root, min(drifts[0], 0.0) * t - REACH * root)
        high = min(upper * root, max(drifts[1], 0.0) * t + REACH * root)
        if high <= low:
            return Paths(t, np.zeros(0), np.zeros(0))
        step = np.sqrt(t - self.t)
        finest = min(step, np.sqrt(following - t)) if following > t else step
        panels = max(int(np.ceil((high - low) / (2 * finest))), 4)
        width = (high - low) / panels
        x = (low + width * (np.arange(panels)[:, None] + (_NODES + 1) / 2)).ravel()
        away = (x[:, None] - self.x) / step
        density = np.exp(-0.5 * away * away) @ self.mass / (step * np.sqrt(2 * np.pi))
        return Paths(t, x, density * np.tile(_WEIGHTS * (width / 2), panels))


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """Paths before each look, and the bounds; probabilities of stopping follow for every drift in `drifts`."""

    fractions: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    before: tuple[Paths, ...]

    def above(self, drift: float = 0.0) -> Floats:
        """(K,) probability to stop at each look above the upper bound."""
        return np.array([p.above(u, t, drift) for p, u, t in zip(self.before, self.upper, self.fractions, strict=True)])

    def below(self, drift: float = 0.0) -> Floats:
        """(K,) probability to stop at each look below the lower bound."""
        return np.array([p.below(u, t, drift) for p, u, t in zip(self.before, self.lower, self.fractions, strict=True)])


def crossing(
    fractions: Iterable[float],
    upper: Iterable[float],
    lower: Iterable[float] | None = None,
    drifts: tuple[float, float] = (0.0, 0.0),
) -> Crossing:
    """Looks at strictly ascending information `fractions` with z-score bounds (K,); no `lower`: one-sided.

    Raises `ValueError` when lengths differ or the fractions do not ascend from above zero.
    """
    t = tuple(float(f) for f in fractions)
    below = (-np.inf,) * len(t) if lower is None else tuple(float(b) for b in lower)
    above = tuple(float(b) for b in upper)
    if not len(t) == len(below) == len(above) or (np.diff((0.0, *t)) <= 0).any():
        raise ValueError("every look needs its bounds, and information that grows from above zero")
    before = [Paths.start()]
    for k in range(len(t) - 1):
        before.append(before[k].advance(t[k], below[k], above[k], t[k + 1], drifts))
    return Crossing(t, below, above, tuple(before))
