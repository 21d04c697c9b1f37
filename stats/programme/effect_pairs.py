"""How true effects on two metrics vary together across experiments, without sampling, on a grid (METHODS E9).

Estimates of one experiment share their noise: the same people are in both metrics. So the cloud of estimates leans as
people differ, not as experiments do, and goes on doing so however many experiments there are (Bibaut, Chou, Ejdemyr &
Kallus 2024, "Learning the covariance of treatment effects across many weak experiments"). Here the known error
covariance of every experiment is part of the likelihood, and true effects are integrated out.

True effects have fat tails (Student's t with 4 degrees of freedom): a few changes matter much more than most. A normal
takes the two or three largest effects for a lean that all of them have, and is too sure of it.

No sampling, no seed, no compiler: `stats.bayes.models.effect_covariance` is the same model for more metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.interpolate import CubicSpline

from stats.bayes.models.effect_covariance_density import LKJ, SHARE, VARIANCE

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_WIDEST: Final = (4.0, 4.0, 4.0)
"""Standard deviations in units of their scales, and the inverse hyperbolic tangent of the correlation."""
_SEARCHED: Final = (12, 12, 16)
_FINAL: Final = (24, 24, 24)
_FINER: Final = 4
"""How many points stand for each on the axis of the correlation: slopes near zero are all of one of them."""
_MEANS: Final = (6, 6, 7)
"""Where common means are integrated out; between, what that changes is smooth."""
_WITHIN: Final = 13.0
"""Log density below the peak that is left out: five standard deviations of a normal."""
_ZOOMS: Final = 6
_STEPS: Final = 4
_AT_ONCE: Final = 1 << 14
_NEGLIGIBLE: Final = 1e-7
_LEAST: Final = 1e-300
_PAIRS: Final = ((0, 0), (1, 1), (0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Covariances:
    """What is believed of the covariance of true effects: matrices (S, M, M) and their weights (S,), which sum to 1.

    The North Star is the first metric.
    """

    matrix: Array
    weight: Array

    @classmethod
    def drawn(cls, matrix: Array) -> Covariances:
        """Draws of a sampler."""
        return cls(matrix, np.full(len(matrix), 1.0 / len(matrix)))


def scales(estimate: Array, covariance: Array) -> Array:
    """(M,) the unit of each metric's priors: the median standard error, or the estimates' spread if that is larger.

    The second is for experiments that are precise beside what they find: a half-normal as narrow as their errors would
    take true effects for smaller than they are, and by different factors for different metrics.
    """
    errors = np.sqrt(np.einsum("kmm->km", covariance))
    return np.asarray(np.maximum(np.median(errors, axis=0), estimate.std(axis=0)))


def pair(estimate: Array, covariance: Array, scale: Array) -> Covariances:
    """The posterior of the covariance of true effects from estimates (K, 2) with error covariances (K, 2, 2).

    Model: effects ~ MVN(mu, v diag(s) R diag(s)), v of each experiment one of `VARIANCE`, s half-normal and mu
    normal with `scale` (2,), the correlation uniform; v and the effects are integrated out, mu by Laplace's method.
    The grid zooms in on the three parameters that remain until it fits their posterior: its steps are then less
    than half of a standard deviation, where the midpoint rule is as good as exact for means, and quantiles of
    slopes, which are ratios, are within a hundredth of the length of their 95 % interval.
    """
    x, errors = estimate / scale, covariance / np.outer(scale, scale)
    mean = np.median(x, axis=0)
    low, high = np.array([0.0, 0.0, -_WIDEST[2]]), np.array(_WIDEST)
    for _ in range(_ZOOMS):
        axes = _midpoints(low, high, _SEARCHED)
        log_density = _log_density(axes, x, errors, mean)
        peak = np.unravel_index(int(log_density.argmax()), log_density.shape)
        mean = _centre(_spread(*(axis[[i]] for axis, i in zip(axes, peak, strict=True))), x, errors, mean)
        narrowed = _narrowed(axes, log_density, low, high)
        settled = bool(np.all(narrowed[1] - narrowed[0] > 0.7 * (high - low)))
        low, high = narrowed
        if settled:
            break
    axes, widths = _final(low, high)
    log_density = _log_density(axes, x, errors, mean)
    finer = _midpoints(low, high, (0, 0, _FINAL[2] * _FINER))[2]
    log_density = CubicSpline(axes[2], log_density, axis=2)(finer)
    axes[2], widths[2] = finer, np.ones(len(finer))
    weight = np.exp(log_density - log_density.max()) * np.einsum("i,j,k->ijk", *widths)
    weight /= weight.sum()
    used = weight > _NEGLIGIBLE * weight.max()
    found = _spread(*(axis[used] for axis in np.meshgrid(*axes, indexing="ij")))
    matrix = found[:, [[0, 2], [2, 1]]] * np.outer(scale, scale)
    return Covariances(matrix, weight[used] / weight[used].sum())


def _final(low: Array, high: Array) -> tuple[list[Array], list[Array]]:
    """Points along each axis, and how much of it each stands for.

    Standard deviations that may be zero are in quadratic steps: slopes have their tails where the input's is small.
    """
    axes = _midpoints(low, high, _FINAL)
    widths: list[Array] = [np.ones(cells) for cells in _FINAL]
    for i in (0, 1):
        if low[i] == 0.0:
            share = axes[i] / high[i]
            axes[i], widths[i] = high[i] * share**2, share
    return axes, widths


def _midpoints(low: Array, high: Array, cells: tuple[int, int, int]) -> list[Array]:
    return [a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in zip(low, high, cells, strict=True)]


def _narrowed(axes: list[Array], log_density: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The part of each axis on which the profile of the density is not negligible, and a cell on either side."""
    near = log_density > log_density.max() - _WITHIN
    begin, end = low.copy(), high.copy()
    for i, axis in enumerate(axes):
        inside = np.flatnonzero(near.any(axis=tuple(j for j in range(3) if j != i)))
        step = axis[1] - axis[0]
        begin[i] = max(low[i], axis[inside[0]] - 1.5 * step)
        end[i] = min(high[i], axis[inside[-1]] + 1.5 * step)
    return begin, end


def _spread(first: Array, second: Array, lean: Array) -> Array:
    """(G, 3) both variances and the covariance."""
    return np.stack([first**2, second**2, first * second * np.tanh(lean)], axis=1)


def _log_density(axes: list[Array], x: Array, errors: Array, mean: Array) -> Array:
    """On the grid of the axes (two standard deviations, inverse hyperbolic tangent of the correlation).

    Means are integrated out about `mean` (2,), which is to be near where their posterior is.
    """
    first, second, lean = np.meshgrid(*axes, indexing="ij")
    found = _log_likelihood(_spread(first.ravel(), second.ravel(), lean.ravel()), x - mean, errors)
    few = [np.linspace(axis[0], axis[-1], count) for axis, count in zip(axes, _MEANS, strict=True)]
    at = _spread(*(axis.ravel() for axis in np.meshgrid(*few, indexing="ij")))
    unknown = _of_means(at, x, errors, mean)[0].reshape(_MEANS)
    for i, axis in enumerate(axes):
        unknown = CubicSpline(few[i], unknown, axis=i)(axis)
    priors = -0.5 * (first**2 + second**2)
    # The density of the correlation is that of LKJ, on the axis it is on here.
    priors -= 2 * LKJ * (np.abs(lean) + np.log1p(np.exp(-2 * np.abs(lean))))
    return np.asarray(found.reshape(first.shape) + unknown + priors)


def _log_likelihood(spread: Array, x: Array, errors: Array) -> Array:
    """(G,) of the covariances `spread` (G, 3), effects and the variances of experiments integrated out; no mean."""
    a, b, c = errors[:, 0, 0], errors[:, 1, 1], errors[:, 0, 1]
    # Determinants of v Lambda + Omega are quadratic in v, and so are those of what is left by Cramer's rule.
    own, mixed = a * b - c * c, np.stack([b, a, -2 * c])
    left, crossed = (
        b * x[:, 0] ** 2 + a * x[:, 1] ** 2 - 2 * c * x[:, 0] * x[:, 1],
        np.stack([x[:, 1] ** 2, x[:, 0] ** 2, -2 * x[:, 0] * x[:, 1]]),
    )
    found = np.empty(len(spread))
    chunk = max(1, _AT_ONCE // len(x))
    for begin in range(0, len(spread), chunk):
        part = spread[begin : begin + chunk]
        squared = (part[:, 0] * part[:, 1] - part[:, 2] ** 2)[:, None]
        once, twice = part @ mixed, part @ crossed
        density = np.zeros_like(once)
        for variance, share in zip(VARIANCE, SHARE, strict=True):
            determinant = np.maximum(variance * (variance * squared + once) + own, _LEAST)
            density += share * np.exp(-0.5 * (variance * twice + left) / determinant) / np.sqrt(determinant)
        found[begin : begin + chunk] = np.log(np.maximum(density, _LEAST)).sum(axis=1)
    return found


def _of_means(spread: Array, x: Array, errors: Array, mean: Array) -> tuple[Array, Array]:
    """What standard normal means add to the log likelihood (G,) at `mean` (2,), and where their posteriors are (G, 2).

    By the second-order expansion of the log likelihood about `mean`: a good one from eight experiments on.
    """
    v, log_share = VARIANCE[:, None, None], np.log(SHARE)[:, None, None]
    a = v * spread[:, :1] + errors[:, 0, 0]
    b = v * spread[:, 1:2] + errors[:, 1, 1]
    c = v * spread[:, 2:] + errors[:, 0, 1]
    determinant = np.maximum(a * b - c * c, _LEAST)
    # (b, -c; -c, a) is now the precision of each estimate; `pull` is precision times what the mean leaves of it.
    a, b, c = a / determinant, b / determinant, c / determinant
    left = x - mean
    pull = np.stack([b * left[:, 0] - c * left[:, 1], a * left[:, 1] - c * left[:, 0]])
    logs = log_share - 0.5 * (np.log(determinant) + pull[0] * left[:, 0] + pull[1] * left[:, 1])
    chance = np.exp(logs - logs.max(axis=0))
    chance /= chance.sum(axis=0)
    expected = (chance * pull).sum(axis=1)
    slope = expected.sum(axis=-1) - mean[:, None]
    known = np.stack([(chance * part).sum(axis=(0, 2)) for part in (b, a, -c)])
    # Experiments whose own variance is unknown know less of the mean; where that leaves nothing it is not counted.
    lost = [(chance * pull[i] * pull[j]).sum(axis=(0, 2)) - (expected[i] * expected[j]).sum(-1) for i, j in _PAIRS]
    sure = known - np.stack(lost)
    whole = (sure[0] > 0) & (sure[0] * sure[1] > sure[2] ** 2)
    known = np.where(whole, sure, known)
    p, q, r = known[0] + 1, known[1] + 1, known[2]
    volume = p * q - r * r
    step = np.stack([q * slope[0] - r * slope[1], p * slope[1] - r * slope[0]]) / volume
    return 0.5 * ((slope * step).sum(axis=0) - np.log(volume) - mean @ mean), (mean[:, None] + step).T


def _centre(spread: Array, x: Array, errors: Array, mean: Array) -> Array:
    """(2,) where the means' posterior is at one covariance (1, 3)."""
    for _ in range(_STEPS):
        mean = _of_means(spread, x, errors, mean)[1][0]
    return mean
