"""Unit and period effects of an unbalanced panel by least squares, and what follows from them linearly (METHODS D2).

y_it = alpha_i + lambda_t on a set of cells. Unit effects are eliminated, so one system of T equations is solved however
many units, right-hand sides or regressors there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stats.launch.contract import NotEstimable
from stats.launch.reasons import LaunchReason
from stats.moments import Bools, Floats, safe_divide

ABSORBED = 1e-9
"""A regressor of which the effects leave less than this share cannot be told from them."""


@dataclass(frozen=True, slots=True, eq=False)
class TwoWay:
    """The fit: `cells` (N, T) that it rests on, effects of units (N,) and periods (T,), nan where there are none.

    `residual` (N, T) is zero off `cells`. `inverse` (T, T) solves the periods' equations, zero where a period has none.
    """

    cells: Bools
    unit: Floats
    period: Floats
    residual: Floats
    inverse: Floats

    @property
    def fitted(self) -> Floats:
        """(N, T) alpha_i + lambda_t for every cell that has both, nan elsewhere."""
        return self.unit[:, None] + self.period[None, :]

    def project(self, x: Floats) -> Floats:
        """(..., N, T) least-squares fit to `x` on the cells, zero off them."""
        on = np.where(self.cells, x, 0.0)
        return np.where(self.cells, _solve(self.cells, self.inverse, on.sum(axis=-1), on.sum(axis=-2)), 0.0)

    def imputing(self, target: Floats) -> Floats:
        """(..., N, T) weights on y of the sum of `target` times (y - fitted), `target` (..., N, T) being off the cells.

        Rows and columns of the weights sum to zero: no unit's and no period's effect is in the error.
        """
        own = _solve(self.cells, self.inverse, target.sum(axis=-1), target.sum(axis=-2))
        return target - np.where(self.cells, own, 0.0)

    def regress(self, x: Floats) -> tuple[Floats, Floats, Bools]:
        """Coefficients (L,) of regressors `x` (L, N, T) beside the effects, their weights (L, N, T) on y, and which are
        estimable (L,): those that the effects and earlier regressors do not absorb. The others have weights of zero.
        """
        left = np.where(self.cells, x - self.project(x), 0.0).reshape(len(x), self.cells.size)
        size = (np.where(self.cells, x, 0.0) ** 2).sum(axis=(1, 2))
        known = np.zeros(len(x), dtype=np.bool_)
        basis: list[Floats] = []
        for i, row in enumerate(left):
            rest = row.copy()
            for direction in basis:
                rest -= (direction @ rest) * direction
            length = float(rest @ rest)
            if length > ABSORBED * size[i]:
                known[i] = True
                basis.append(rest / np.sqrt(length))
        weights = np.zeros_like(left)
        weights[known] = np.linalg.solve(left[known] @ left[known].T, left[known]) if known.any() else 0.0
        return weights @ self.residual.ravel(), weights.reshape(x.shape), known


def two_way(y: Floats, cells: Bools) -> TwoWay:
    """Fit unit and period effects to `y` (N, T) on `cells` (N, T), which must be finite there.

    Effects can be compared only between cells that a chain of shared units and periods connects; of several such sets
    the largest is used. Raises `NotEstimable` where it is empty.
    """
    used = cells & _largest(cells)
    count, present = used.sum(axis=1), used.any(axis=0)
    if not present.any():
        raise NotEstimable(LaunchReason.NO_UNTREATED_CELLS)
    on = np.where(used, y, 0.0)
    centre = on.sum() / used.sum()
    on = np.where(used, on - centre, 0.0)
    some = used[:, present].astype(np.float64)
    share = some / np.maximum(count, 1)[:, None]
    system = np.diag(some.sum(axis=0)) - some.T @ share + 1.0 / present.sum()
    inverse = np.zeros((y.shape[1], y.shape[1]))
    inverse[np.ix_(present, present)] = np.linalg.inv(system)
    both = _solve(used, inverse, on.sum(axis=1), on.sum(axis=0))
    period = both[0] - both[0].mean()
    unit = both[:, 0] - period[0]
    return TwoWay(
        cells=used,
        unit=np.where(count > 0, unit + centre, np.nan),
        period=np.where(present, period, np.nan),
        residual=np.where(used, on - both, 0.0),
        inverse=inverse,
    )


def _solve(cells: Bools, inverse: Floats, of_unit: Floats, of_period: Floats) -> Floats:
    """(..., N, T) a_i + l_t that solve the normal equations with these sums over periods and over units."""
    count = cells.sum(axis=1)
    mean = safe_divide(of_unit, count)
    period = (of_period - mean @ cells) @ inverse
    unit = mean - safe_divide(period @ cells.T, count)
    return np.asarray(unit[..., :, None] + period[..., None, :])


def _largest(cells: Bools) -> Bools:
    """(N, T) the largest set of cells that units and periods in common connect."""
    left = cells.copy()
    best = np.zeros_like(cells)
    while left.sum() > best.sum():
        units = np.zeros(len(cells), dtype=np.bool_)
        units[np.argmax(left.any(axis=1))] = True
        while True:
            periods = left[units].any(axis=0)
            more = left[:, periods].any(axis=1)
            if (more == units).all():
                break
            units = more
        found = left & units[:, None]
        if found.sum() > best.sum():
            best = found
        left &= ~found
    return best
