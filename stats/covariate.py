"""Variance reduction by pre-exposure covariates, CUPED (METHODS A7; Deng, Xu, Kohavi & Walker 2013; Lin 2013).

One slope per metric and cell, estimated over all arms together, so that the control estimate does not depend on which
treatment it is compared with. The slope minimises the summed variance of the arm means for unequal arms and unequal
slopes: theta = (sum_a S_XX,a / n_a)^-1 (sum_a S_Xpsi,a / n_a).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.moments import Bools, Floats, Ints, Moments, safe_divide

CONDITION = 1e-8
"""Covariate directions with less than this share of the largest variance (on the correlation scale) are dropped."""
CONSTANT = 8 * np.finfo(float).eps
"""A standard deviation below this share of the mean is rounding: the column is constant."""
UNITS_PER_COVARIATE = 50
"""The smallest arm needs this many units for each covariate: r <= n_min / 50 (A7)."""


@dataclass(frozen=True, slots=True, eq=False)
class Usable:
    """Which of r covariates serve a cell and metric: `where` r masks (..., M), or None if all of them do everywhere.

    `constant` (..., M): no measured covariate varies, so there is no adjustment; `partly` (..., M): some measured ones
    do and others do not. `few` (..., M): covariates that vary were left out because the smallest arm has too few units
    for them. None stands for nowhere.
    """

    where: tuple[Bools, ...] | None
    constant: Bools | None
    few: Bools | None
    partly: Bools | None


EVERYTHING_SERVES = Usable(None, None, None, None)


def usable(varying: Sequence[Bools], real: int, count: Ints) -> Usable:
    """Choose covariates by `varying` r masks (..., M), the first `real` measured ones; `count` (..., V) units.

    An indicator of missing values that never varies is no loss, and one alone is no covariate. Earlier covariates are
    kept before later ones.
    """
    fewest = np.where(count >= 2, count, np.iinfo(np.int64).max).min(axis=-1)
    allowed = (fewest // UNITS_PER_COVARIATE)[..., None]
    plenty = bool((allowed >= len(varying)).all())
    if plenty and all(bool(mask.all()) for mask in varying):
        return EVERYTHING_SERVES
    constant = ~np.logical_or.reduce(varying[:real])
    kept: list[Bools] = []
    few = np.zeros(constant.shape, dtype=np.bool_)
    taken = np.zeros(constant.shape, dtype=np.int64)
    for mask in varying:
        wanted = mask & ~constant
        taken += wanted
        kept.append(wanted & (taken <= allowed))
        few |= wanted & (taken > allowed)
    partly = ~np.logical_and.reduce(varying[:real]) & ~constant
    return Usable(tuple(kept), constant, few, partly)


def optimal_slopes(
    xx: Sequence[Sequence[Floats]], xy: Sequence[Floats], serving: Usable, real: int
) -> tuple[list[Floats], Bools | None]:
    """theta* on each of r covariates, zero where one does not serve, and where a measured covariate says nothing new.

    `xx[i][j]` (j <= i) and `xy[i]`, all (..., M), are covariances of the arm means between covariates and with the
    metric, summed over arms.
    """
    masks = serving.where
    if len(xy) == 1:
        return [_masked(safe_divide(xy[0], xx[0][0]), masks, 0)], None
    if len(xy) == 2:
        return _two(xx, xy, masks, real)
    size = len(xy)
    full = np.empty((*xy[0].shape, size, size))
    for i in range(size):
        for j in range(i + 1):
            both = xx[i][j] if masks is None else np.where(masks[i] & masks[j], xx[i][j], 0.0)
            full[..., i, j] = full[..., j, i] = both
    outcome = np.stack([_masked(part, masks, i) for i, part in enumerate(xy)], axis=-1)
    inverse_scale = safe_divide(1.0, np.sqrt(np.maximum(np.diagonal(full, axis1=-2, axis2=-1), 0.0)))
    correlation = full * inverse_scale[..., :, None] * inverse_scale[..., None, :]
    roots, vectors = np.linalg.eigh(correlation)
    kept = roots > CONDITION * roots[..., -1:]
    weights = np.where(kept, safe_divide(1.0, np.where(kept, roots, 0.0)), 0.0)
    rotated = np.einsum("...ji,...j->...i", vectors, outcome * inverse_scale) * weights
    slope = np.einsum("...ij,...j->...i", vectors, rotated) * inverse_scale
    lost = _lost(kept, inverse_scale)
    if real < size and real > 1 and lost.any():
        own = np.linalg.eigvalsh(correlation[..., :real, :real])
        lost = _lost(own > CONDITION * own[..., -1:], inverse_scale[..., :real])
    return [slope[..., i] for i in range(size)], lost if real > 1 else None


def _lost(kept: Bools, inverse_scale: Floats) -> Bools:
    """Whether fewer directions are left than covariates vary."""
    return np.asarray(kept.sum(axis=-1) < (inverse_scale > 0).sum(axis=-1))


def _masked(values: Floats, masks: tuple[Bools, ...] | None, i: int) -> Floats:
    return values if masks is None else np.where(masks[i], values, 0.0)


def _two(
    xx: Sequence[Sequence[Floats]], xy: Sequence[Floats], masks: tuple[Bools, ...] | None, real: int
) -> tuple[list[Floats], Bools | None]:
    """Two covariates in closed form: on the correlation scale the eigenvalues are 1 + |rho| and 1 - |rho|."""
    first, second = (_masked(xx[i][i], masks, i) for i in range(2))
    one, two = safe_divide(1.0, np.sqrt(np.maximum(first, 0.0))), safe_divide(1.0, np.sqrt(np.maximum(second, 0.0)))
    rho = np.clip(xx[1][0] * one * two, -1.0, 1.0)
    u, v = xy[0] * one, xy[1] * two
    size = np.abs(rho)
    dependent = 1 - size <= CONDITION * (1 + size)
    rest = np.where(dependent, 1.0, (1 - rho) * (1 + rho))
    # Where both say the same, the minimum-norm solution lets each carry half.
    shared = (u + np.sign(rho) * v) / (2 * (1 + size))
    a = np.where(dependent, shared, (u - rho * v) / rest)
    b = np.where(dependent, np.sign(rho) * shared, (v - rho * u) / rest)
    return [a * one, b * two], np.asarray(dependent) if real > 1 else None


def varies(moments: Moments) -> Bools:
    """(..., k): whether a column varies among the units of a cell, beyond rounding; over all arms of (..., V, k)."""
    square = np.diagonal(moments.comoment, axis1=-2, axis2=-1)
    floor = (CONSTANT * moments.mean) ** 2 * moments.count[..., None]
    return np.asarray((square > floor).any(axis=-2), dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Balance:
    """Joint test that covariate means are equal in all arms: `statistic`, `df`, `p_value`, each (...,)."""

    statistic: Floats
    df: Floats
    p_value: Floats


def covariate_balance(moments: Moments, columns: Sequence[int]) -> Balance:
    """Randomisation check of A7: pre-exposure means must not differ between arms (chi-square, all arms jointly).

    Cells (..., V). p < 0.001 means carry-over, a sample ratio problem, or a covariate measured after exposure.
    Constant and collinear columns lower the degrees of freedom; none left gives p = 1.
    """
    chosen = moments.select(columns)
    pooled = chosen.merge_axis(-1)
    within = chosen.comoment.sum(axis=-3)
    freedom = np.maximum(pooled.count - (chosen.count > 0).sum(axis=-1), 1)
    covariance = within / freedom[..., None, None]
    usable = varies(chosen)
    scale = np.where(usable, safe_divide(1.0, np.sqrt(np.abs(np.diagonal(covariance, axis1=-2, axis2=-1)))), 0.0)
    correlation = covariance * scale[..., :, None] * scale[..., None, :]
    roots, vectors = np.linalg.eigh(correlation)
    kept = roots > np.maximum(CONDITION * roots[..., -1:], 0)
    gaps = (chosen.mean - pooled.mean[..., None, :]) * scale[..., None, :]
    rotated = np.einsum("...ji,...vj->...vi", vectors, gaps)
    weights = np.where(kept, safe_divide(1.0, np.where(kept, roots, 0.0)), 0.0)
    statistic = (chosen.count[..., None] * rotated**2 * weights[..., None, :]).sum(axis=(-2, -1))
    df = kept.sum(axis=-1) * np.maximum((chosen.count > 0).sum(axis=-1) - 1, 0)
    return Balance(statistic, df.astype(float), np.where(df > 0, sc.chdtrc(np.maximum(df, 1), statistic), 1.0))
