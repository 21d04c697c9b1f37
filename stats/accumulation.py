"""How unique units accumulate over days: the observed curve first, a saturating fit beyond it (METHODS A14).

Returning visitors make the curve concave: days times daily visitors always promises too much. Beyond the observed days
we continue with increments of N(t) = N_inf (1 - exp(-t / scale)), anchored at the last observed day.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
import scipy.optimize as so
from numpy.typing import ArrayLike

from stats.moments import Floats

LONGEST_DAYS = 365.0


class Unreachable(StrEnum):
    """Why a number of units cannot be collected."""

    SATURATES = "traffic_saturates"
    TOO_LONG = "longer_than_a_year"


@dataclass(frozen=True, slots=True, eq=False)
class Accumulation:
    """`days` (T,) and cumulative unique `units` (T,) as observed; fitted `limit` (N_inf) and `scale` (days)."""

    days: Floats
    units: Floats
    limit: float
    scale: float

    @classmethod
    def fit(cls, cumulative_units: ArrayLike, days: ArrayLike | None = None, coverage: float = 1.0) -> Self:
        """From cumulative unique units at the end of each of `days` (default 1, 2, ...); `coverage` scales traffic.

        The limit is only as good as the bend seen so far: a curve still straight is continued nearly straight.
        """
        seen = np.asarray(cumulative_units, dtype=np.float64) * coverage
        at = np.arange(1.0, len(seen) + 1) if days is None else np.asarray(days, dtype=np.float64)
        if seen.ndim != 1 or seen.shape != at.shape or not seen.size:
            raise ValueError("cumulative units and days must be equally long, and not empty")
        if (np.diff(at) <= 0).any() or at[0] <= 0 or (np.diff(seen) < 0).any() or seen[-1] <= 0:
            raise ValueError("days must increase from above 0, and cumulative units must not decrease and end above 0")

        def best_limit(log_scale: float) -> tuple[float, float]:
            shape = -np.expm1(-at / np.exp(log_scale))
            limit = float(seen @ shape / (shape @ shape))
            return limit, float(np.sum((seen - limit * shape) ** 2))

        grid = np.log(at[-1]) + np.linspace(np.log(0.02), np.log(50.0), 60)
        start = int(np.argmin([best_limit(s)[1] for s in grid]))
        bounds = (grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)])
        found = so.minimize_scalar(lambda s: best_limit(s)[1], bounds=bounds, method="bounded")
        log_scale = float(found.x) if len(seen) > 1 else float(grid[-1])
        return cls(at, seen, best_limit(log_scale)[0], float(np.exp(log_scale)))

    @property
    def ceiling(self) -> float:
        """Units that will ever come, continuing from the last observed day."""
        return float(self.units[-1] + self.limit * np.exp(-self.days[-1] / self.scale))

    def units_at(self, days: ArrayLike) -> Floats:
        """Cumulative units after so many days: interpolated where observed, extrapolated after."""
        t = np.asarray(days, dtype=np.float64)
        inside = np.interp(t, np.concatenate([[0.0], self.days]), np.concatenate([[0.0], self.units]))
        last = self.days[-1]
        gained = self.limit * (np.exp(-last / self.scale) - np.exp(-np.maximum(t, last) / self.scale))
        return np.asarray(np.where(t <= last, inside, self.units[-1] + gained), dtype=np.float64)

    def days_to_reach(self, units: float) -> float | Unreachable:
        """Days until `units` have come, or why they will not."""
        if units <= self.units[-1]:
            first = int(np.searchsorted(self.units, units))
            before = (0.0, 0.0) if first == 0 else (self.days[first - 1], self.units[first - 1])
            rise = self.units[first] - before[1]
            part = (units - before[1]) / rise if rise > 0 else 0.0
            return float(before[0] + part * (self.days[first] - before[0]))
        left = np.exp(-self.days[-1] / self.scale) - (units - self.units[-1]) / self.limit
        if left <= 0:
            return Unreachable.SATURATES
        days = float(-self.scale * np.log(left))
        return days if days <= LONGEST_DAYS else Unreachable.TOO_LONG
