"""A wandering level observed with noise, on top of anything linear: filtered once, integrated on a grid (METHODS D1).

The model is `y_t = level_t + x_t'b + noise_t`, where the level is a random walk from zero. Everything else (where the
level starts, trend, season, outside influences, donors, the launch) is linear with a normal or flat prior, so that only
two numbers stay non-linear: the noise's standard deviation `s` and the ratio `r` of the level's steps to it. With
`K[s, t] = min(s, t)` the errors have covariance `s^2 (I + r^2 K)`.

An augmented Kalman filter (de Jong 1991, "The diffuse Kalman filter") whitens all columns at once, for all ratios at
once; the scale s then enters in closed form. One pass yields the likelihood and the posterior of b for every truncated
series, which is what placebos in time need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.bayes.mixture import Mixture

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type Indices = np.ndarray[tuple[int, ...], np.dtype[np.intp]]
type Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

_LONGEST_STRETCH: Final = 512
_LARGEST_RATIO: Final = 10.0
"""Beyond, noise is less than a hundredth of the variance of a step: the same model for anything one could ask."""
_WALK_OVER_ALL: Final = 0.1
"""At the smallest ratio the level wanders by a tenth of the noise over the whole series: as good as not at all."""
_NEGLIGIBLE: Final = -14.0
"""Log posterior density, relative to its highest, below which a ratio is left out."""
_NO_WEIGHT: Final = 1e-6
"""Share of the posterior below which a ratio is dropped once the problems are taken together."""
_LEAST_NOISE: Final = 1e-3
"""Of the prior's: an outcome that fits better than that is a sum of its donors."""
_ROUNDING: Final = 1e-9
"""Relative error with which the outcome is taken to be known, so that no fit is perfect."""
_SCALE_NODES: Final = np.linspace(-3.6, 4.8, 9)
"""Of the log scale, in standard deviations around its mode; longer to the right, where short series have their tail."""


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """What the filter knows at E times, for R ratios and C columns, in units where the noise has variance 1.

    `cross` (E, R, C, C) is `Z' S^-1 Z` of the columns Z up to that time, S their covariance; `log_determinant` (E, R)
    is `log |S|`; `count` (E,) the periods used. `level` (E, R, C) is each column's level after its last period, and
    `variance` (E, R) that of its error: h periods later it is `variance + h r^2`.
    """

    cross: Array
    log_determinant: Array
    count: Indices
    level: Array
    variance: Array


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """The posterior of N problems as mixtures over Q pairs of problem and ratio, with S scales each.

    `problem`, `place` (Q,) say which problem and which ratio. `weight` (Q, S) sums to 1 within a problem. `noise`,
    `step` (Q, S) are the standard deviations of the noise and of the level's steps. `factor` (Q, S, K + 1, K + 1) is
    the Cholesky factor of the precision of the K coefficients, bordered by the outcome. `log_evidence` (N,) is the log
    marginal likelihood up to a constant that the problems share.
    """

    problem: Indices
    place: Indices
    weight: Array
    noise: Array
    step: Array
    factor: Array
    log_evidence: Array

    def together(self, share: Array) -> Posterior:
        """All problems as one, by their `share` (N,); parts that weigh nothing are left out."""
        weight = self.weight * share[self.problem, None]
        kept = weight.sum(axis=1) > _NO_WEIGHT
        return Posterior(
            problem=np.zeros(int(kept.sum()), dtype=np.intp),
            place=self.place[kept],
            weight=weight[kept] / weight[kept].sum(),
            noise=self.noise[kept],
            step=self.step[kept],
            factor=self.factor[kept],
            log_evidence=np.zeros(1),
        )

    def last(self) -> tuple[Array, Array]:
        """Mean and variance (Q, S) of the last coefficient."""
        pivot = self.factor[..., -2, -2]
        return np.asarray(self.factor[..., -1, -2] / pivot), np.asarray(1 / pivot**2)

    def of(self, contrast: Array) -> tuple[Array, Array]:
        """Mean and variance (Q, S) of the coefficients weighted by `contrast` (Q, K): one forward substitution."""
        solved = np.empty((*self.weight.shape, contrast.shape[1]))
        for k in range(contrast.shape[1]):
            known = (self.factor[..., k, :k] * solved[..., :k]).sum(axis=-1)
            solved[..., k] = (contrast[:, None, k] - known) / self.factor[..., k, k]
        return (solved * self.factor[..., -1, :-1]).sum(axis=-1), (solved**2).sum(axis=-1)

    def all(self) -> tuple[Array, Array]:
        """Means (Q, S, K) and covariances (Q, S, K, K) of all coefficients."""
        root = np.linalg.inv(self.factor[..., :-1, :-1])
        mean = np.einsum("qskj,qsk->qsj", root, self.factor[..., -1, :-1])
        return np.asarray(mean), np.asarray(np.swapaxes(root, -1, -2) @ root)

    def of_last(self) -> tuple[Array, Array]:
        """Mean and standard deviation (N,) of the last coefficient of every problem, over the whole mixture."""
        mean, variance = self.last()
        problems = self.log_evidence.size
        centre = np.bincount(self.problem, (self.weight * mean).sum(-1), problems)
        spread = self.weight * (variance + (mean - centre[self.problem, None]) ** 2)
        return centre, np.sqrt(np.bincount(self.problem, spread.sum(-1), problems))


def ratios(periods: int) -> Array:
    """The grid (R,) of ratios of the level's steps to the noise, even in their logarithm, finer for longer series."""
    low, high = np.log(_WALK_OVER_ALL / np.sqrt(periods)), np.log(_LARGEST_RATIO)
    step = 0.35 * np.sqrt(min(1.0, 160 / periods))
    return np.asarray(np.exp(np.linspace(low, high, int(np.ceil((high - low) / step)) + 1)))


def filtered(columns: Array, usable: Flags, ratio: Array, ends: Sequence[int]) -> Filtered:
    """Whiten columns (T, C) by the errors' covariance for every ratio (R,), and stop at the increasing `ends` (E,).

    Periods that are not `usable` (T,) are skipped: the level wanders on. The number at an end e is of periods 0..e-1.
    """
    step = ratio**2
    level = np.zeros((ratio.size, columns.shape[1]))
    variance, log_determinant = np.zeros(ratio.size), np.zeros(ratio.size)
    cross = np.zeros((ratio.size, columns.shape[1], columns.shape[1]))
    kept: list[tuple[Array, Array, int, Array, Array]] = []
    begin = count = 0
    for end in ends:
        while begin < end:
            stretch = range(begin, min(end, begin + _LONGEST_STRETCH))
            white = np.empty((int(usable[stretch.start : stretch.stop].sum()), *level.shape))
            row = 0
            for t in stretch:
                variance = variance + step
                if not usable[t]:
                    continue
                total = variance + 1
                log_determinant += np.log(total)
                surprise = columns[t] - level
                variance = variance / total
                level += variance[:, None] * surprise
                np.divide(surprise, np.sqrt(total)[:, None], out=white[row])
                row += 1
            by_ratio = np.ascontiguousarray(white.transpose(1, 0, 2))
            cross += np.swapaxes(by_ratio, 1, 2) @ by_ratio
            count += row
            begin = stretch.stop
        kept.append((cross.copy(), log_determinant.copy(), count, level.copy(), variance.copy()))
    return Filtered(
        cross=np.stack([item[0] for item in kept]),
        log_determinant=np.stack([item[1] for item in kept]),
        count=np.array([item[2] for item in kept], dtype=np.intp),
        level=np.stack([item[3] for item in kept]),
        variance=np.stack([item[4] for item in kept]),
    )


def smoothed(columns: Array, usable: Flags, ratio: float) -> Array:
    """The level (T, C) of columns (T, C) given all usable periods, for one ratio.

    The precision of a random walk is tridiagonal, so that this is one banded system for all columns.
    """
    weight = ratio**2 * usable
    band = np.full((2, usable.size), -1.0)
    band[1] = 2.0 + weight
    band[1, -1] -= 1.0
    import scipy.linalg as sl  # here: the process that samples other models answers without it

    return np.asarray(sl.solveh_banded(band, weight[:, None] * columns, check_finite=False))


def posterior(
    cross: Array,
    log_determinant: Array,
    count: Indices,
    ratio: Array,
    *,
    precision: Array,
    noise: Array,
    step: Array,
) -> Posterior:
    """Integrate the noise and the level's steps out of N problems.

    `cross` (N, R, K + 1, K + 1) and `log_determinant` (N, R) are the filter's, the outcome last; `count` (N,) periods.
    The priors: coefficients N(0, 1 / precision) with `precision` (N, K), 0 for flat; the standard deviation of the
    noise is HalfNormal(`noise`) and that of the level's steps HalfNormal(`step`), both (N,). A trapezoid rule over the
    logarithms of ratio and scale, the scales around the highest density for their ratio.
    """
    pull = (1 / noise**2)[:, None] + ratio**2 / (step**2)[:, None]
    proper = np.log(np.where(precision > 0, precision, 1.0)).sum(-1)
    size = count.astype(float)
    constant = 0.5 * proper[:, None] - 0.5 * log_determinant + np.log(ratio * _node_weights(ratio))
    freedom = np.maximum(size - precision.shape[1], size / 2)[:, None]
    log_scale = -0.5 * np.log(pull)
    width = np.ones_like(log_scale)
    for _ in range(2):
        factor = _factor(cross, precision[:, None], log_scale)
        squares = factor[..., -1, -1] ** 2 * np.exp(2 * log_scale)
        # The square of the scale at the top: -freedom + squares / scale^2 - pull scale^2 + 2 = 0.
        lack = freedom - 2
        variance = (np.sqrt(lack**2 + 4 * pull * squares) - lack) / (2 * pull)
        variance = np.maximum(variance, (_LEAST_NOISE * noise[:, None]) ** 2)
        log_scale = 0.5 * np.log(variance)
        width = 1 / np.sqrt(2 * (squares / variance + pull * variance))
    factor = _factor(cross, precision[:, None], log_scale)
    height = _log_density(factor, constant, pull, size[:, None], log_scale) + np.log(width)
    problem, place = np.nonzero(height > height.max(1, keepdims=True) + _NEGLIGIBLE)
    nodes = log_scale[problem, place, None] + width[problem, place, None] * _SCALE_NODES
    factor = _factor(cross[problem, place, None], precision[problem, None], nodes)
    pairs = (problem, place, None)
    log_weight = _log_density(factor, constant[pairs], pull[pairs], size[problem, None], nodes) + np.log(width[pairs])
    top = np.full(size.size, -np.inf)
    np.maximum.at(top, problem, log_weight.max(1))
    weight = np.exp(log_weight - top[problem, None])
    total = np.bincount(problem, weight.sum(1), size.size)
    scale = np.exp(nodes)
    return Posterior(
        problem=problem,
        place=place,
        weight=weight / total[problem, None],
        noise=scale,
        step=scale * ratio[place, None],
        factor=factor,
        log_evidence=top + np.log(total),
    )


def _factor(cross: Array, precision: Array, log_scale: Array) -> Array:
    """Cholesky factors of the coefficients' posterior precision, bordered by the outcome."""
    bordered = cross * np.exp(-2 * log_scale)[..., None, None]
    diagonal = np.arange(precision.shape[-1])
    bordered[..., diagonal, diagonal] += precision
    bordered[..., -1, -1] *= 1 + _ROUNDING
    return np.asarray(np.linalg.cholesky(bordered))


def _log_density(factor: Array, constant: Array, pull: Array, periods: Array, log_scale: Array) -> Array:
    """Of ratio and scale, over their logarithms. The factor's corner is the misfit of the outcome."""
    volume = np.log(np.diagonal(factor, axis1=-2, axis2=-1)[..., :-1]).sum(-1)
    misfit = factor[..., -1, -1] ** 2 + pull * np.exp(2 * log_scale)
    return np.asarray(constant + (2 - periods) * log_scale - volume - 0.5 * misfit)


def _node_weights(ratio: Array) -> Array:
    """Of a trapezoid rule over log ratios (R,), the ends standing for all that lies beyond them.

    There the likelihood no longer changes, and the density falls as the ratio does, or its inverse, by the prior alone:
    its integral from the end outwards is its value at the end.
    """
    weight = np.full(ratio.size, np.log(ratio[1] / ratio[0]))
    weight[[0, -1]] = 0.5 * weight[0] + 1
    return weight


def equal_tails(mixture: Mixture, level: float) -> tuple[float, float]:
    """The interval of a single mixture (K,) with the same probability on both sides, by bisection."""
    mean, sd = mixture.moments()
    reach = 40.0 * float(sd)
    low, high = np.full(2, float(mean) - reach), np.full(2, float(mean) + reach)
    wanted = np.array([0.5 - level / 2, 0.5 + level / 2])
    for _ in range(50):
        middle = 0.5 * (low + high)
        below = mixture.cdf(middle) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return float(high[0]), float(high[1])


def two_sided(mixture: Mixture) -> float:
    """Twice the smaller posterior probability of a sign, for a single mixture (K,)."""
    sides = (mixture, Mixture(mixture.weight, -mixture.mean, mixture.sd))
    return min(1.0, 2 * min(float(side.cdf(np.zeros(1))[0]) for side in sides))
