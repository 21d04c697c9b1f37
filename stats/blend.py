"""The North Star measured directly, and through its tree: the two estimates blended (METHODS E8).

The direct estimate is noisy, the tree's is precise and perhaps biased: drivers miss channels. What the bias may be is
learned from past experiments, where both were measured, and it stays uncertain: its standard deviation is integrated
out on a grid (plugging in an estimate of it covers 89 % instead of 95 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.bayes.mixture import Mixture
from stats.moments import Floats

BIAS_SCALE: Final = 0.02
"""Scale of the half-normal prior of a tree's bias, on the log lift.

A bias is effect that bypasses the tree, so it is measured by effects: on a North Star their scale is near 0.01 (the
prior of METHODS F6). Twice that holds a tree as biased as effects are large without strain, and one without a record
counts for little; with 0.01 a bias of 0.008 is covered 91 % of the time. For metrics with larger effects pass more.
"""
POINTS: Final = 81
_DEPTH: Final = 18.0  # nats below the highest point where the grid ends
_SAME: Final = 1e-10  # variances of differences, against the estimates' own, that are rounding


class BlendReason(StrEnum):
    """Why there is no blended estimate."""

    ESTIMATE_MISSING = "estimate_missing"


@dataclass(frozen=True, slots=True)
class Blended:
    """The North Star's log lift: posterior mean, sd and central interval, from direct and tree.

    `tree_bias` is the posterior mean of the standard deviation of the tree's bias, `weight_of_direct` the weight of the
    direct estimate, averaged over it (the tree has the rest; noise that they share can take it out of [0, 1]).
    `experiments` counts the past ones. All nan with a `reason`.
    """

    value: float
    standard_error: float
    lower: float
    upper: float
    level: float
    tree_bias: float
    weight_of_direct: float
    experiments: int
    reason: str = ""


def blend(
    direct: float,
    tree: float,
    covariance: ArrayLike,
    past_gap: ArrayLike = (),
    past_variance: ArrayLike = (),
    *,
    scale: float = BIAS_SCALE,
    level: float = 0.95,
) -> Blended:
    """Direct and tree log lift of one experiment, weighed by their errors and the tree's likely bias.

    `covariance` (2, 2) is that of the sampling errors of (direct, tree); it should contain what is not known of the
    tree's elasticities. `past_gap` (K,) are direct - tree of past experiments and `past_variance` (K,) the sampling
    variances of those differences. Model: tree = truth + bias + error, bias ~ N(0, tau²) anew in each experiment, tau ~
    half-normal(`scale`); a flat prior on the truth. The present gap informs tau like a past one. Where direct and tree
    are the same measurement (a definitional tree) the answer is the direct estimate exactly. Raises `ValueError` for
    wrong shapes, negative variances and scales that are not positive.
    """
    spread = np.asarray(covariance, dtype=np.float64)
    gaps, variances = np.asarray(past_gap, dtype=np.float64), np.asarray(past_variance, dtype=np.float64)
    if spread.shape != (2, 2) or gaps.ndim != 1 or gaps.shape != variances.shape:
        raise ValueError("the covariance is (2, 2); past gaps and their variances are both (K,)")
    if not (np.isfinite(gaps).all() and np.isfinite(variances).all() and (variances >= 0).all()):
        raise ValueError("past gaps and variances must be finite, variances not negative")
    if not (np.isfinite(scale) and scale > 0 and 0 < level < 1):
        raise ValueError("scale must be positive, level between 0 and 1")
    if not (np.isfinite([direct, tree]).all() and np.isfinite(spread).all()):
        nan = np.nan
        return Blended(nan, nan, nan, nan, level, nan, nan, gaps.size, str(BlendReason.ESTIMATE_MISSING))
    own, shared, through = float(spread[0, 0]), float(spread[0, 1]), float(spread[1, 1])
    noise = own + through - 2 * shared
    if min(own, through) < 0 or noise < -_SAME * (own + through):
        raise ValueError("the covariance is not one: a variance in it is negative")
    tau, chance = _bias_sd(np.append(gaps, direct - tree), np.append(variances, max(noise, 0.0)), scale)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if noise <= _SAME * (own + through):
        # The two share all of their noise: whatever sets them apart is bias of the tree.
        error = float(np.sqrt(own))
        lower, upper = direct + error * sc.ndtri(tails)
        return Blended(direct, error, float(lower), float(upper), level, float(chance @ tau), 1.0, gaps.size)
    weight = (through + tau**2 - shared) / (noise + tau**2)
    spread_left = np.sqrt(np.maximum((own * (through + tau**2) - shared**2) / (noise + tau**2), _SAME * own))
    found = Mixture(chance, tree + weight * (direct - tree), spread_left)
    value, error = map(float, found.moments())
    lower, upper = found.quantile(tails)
    return Blended(
        value, error, float(lower), float(upper), level, float(chance @ tau), float(chance @ weight), gaps.size
    )


def _bias_sd(gaps: Floats, variances: Floats, scale: float) -> tuple[Floats, Floats]:
    """Grid (81,) of the bias's standard deviation and its posterior weights: a wide scan, then where the mass is."""
    reach = 5 * max(scale, float(np.abs(gaps).max()))
    tau = reach * ((np.arange(POINTS) + 0.5) / POINTS) ** 3
    height = _log_posterior(tau, gaps, variances, scale)
    inside = np.flatnonzero(height > height.max() - _DEPTH)
    low = 0.0 if inside[0] == 0 else tau[inside[0] - 1]
    high = tau[min(inside[-1] + 1, POINTS - 1)]
    tau = low + (high - low) * (np.arange(POINTS) + 0.5) / POINTS
    height = _log_posterior(tau, gaps, variances, scale)
    weight = np.exp(height - height.max())
    return tau, weight / weight.sum()


def _log_posterior(tau: Floats, gaps: Floats, variances: Floats, scale: float) -> Floats:
    total = variances[:, None] + tau**2
    return np.asarray(-0.5 * (np.log(total) + gaps[:, None] ** 2 / total).sum(axis=0) - 0.5 * (tau / scale) ** 2)
