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

from stats.moments import Bools, Floats, Moments, safe_divide

CONDITION = 1e-8
"""Covariate directions with less than this share of the largest variance (on the correlation scale) are dropped."""
CONSTANT = 8 * np.finfo(float).eps
"""A standard deviation below this share of the mean is rounding: the column is constant."""


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """`value` (..., M, k): the slope of each metric on each column, zero for columns that are not its covariates.

    `constant` (..., M): every covariate of the metric is constant. `collinear` (..., M): some direction was dropped.
    """

    value: Floats
    constant: Bools
    collinear: Bools


def optimal_slopes(
    mean_covariance: Floats, against: Floats, usable: Bools, covariates: Sequence[Sequence[int]]
) -> Slopes:
    """theta* of each metric on its covariates.

    `mean_covariance` (..., V, k, k) = covariance of units / n; `against` (..., V, M, k) covariance of each metric's
    estimate with the column means; `usable` (..., k) marks columns that vary; `covariates` lists the columns of each of
    the M metrics.
    """
    *cells, _, metrics, k = against.shape
    value = np.zeros((*cells, metrics, k))
    constant = np.ones((*cells, metrics), dtype=np.bool_)
    collinear = np.zeros((*cells, metrics), dtype=np.bool_)
    total, outcome = mean_covariance.sum(axis=-3), against.sum(axis=-3)
    for size in {len(columns) for columns in covariates} - {0}:
        members = np.array([m for m, columns in enumerate(covariates) if len(columns) == size])
        columns = np.array([covariates[m] for m in members], dtype=np.int64)
        ok = usable[..., columns]
        xx = total[..., columns[:, :, None], columns[:, None, :]] * (ok[..., :, None] & ok[..., None, :])
        xy = outcome[..., members[:, None], columns] * ok
        slope, dropped = _solve(xx, xy)
        value[..., members[:, None], columns] = slope
        constant[..., members] = ~ok.any(axis=-1)
        collinear[..., members] = dropped & ok.any(axis=-1)
    return Slopes(value, constant, collinear)


def _solve(xx: Floats, xy: Floats) -> tuple[Floats, Bools]:
    """Pseudo-inverse solution on the correlation scale, and whether a direction of varying covariates was dropped."""
    scale = np.sqrt(np.diagonal(xx, axis1=-2, axis2=-1))
    if xx.shape[-1] == 1:
        return safe_divide(xy, xx[..., 0]), np.zeros(xx.shape[:-2], dtype=np.bool_)
    inverse_scale = safe_divide(1.0, scale)
    correlation = xx * inverse_scale[..., :, None] * inverse_scale[..., None, :]
    roots, vectors = np.linalg.eigh(correlation)
    kept = roots > CONDITION * roots[..., -1:]
    weights = np.where(kept, safe_divide(1.0, np.where(kept, roots, 0.0)), 0.0)
    rotated = np.einsum("...ji,...j->...i", vectors, xy * inverse_scale) * weights
    slope = np.einsum("...ij,...j->...i", vectors, rotated) * inverse_scale
    return slope, kept.sum(axis=-1) < (scale > 0).sum(axis=-1)


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
