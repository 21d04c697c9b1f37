"""How true effects on two metrics vary together across experiments, exactly, on a grid (METHODS E9).

Estimates of one experiment share their noise: the same people are in both metrics. So the cloud of estimates leans as
people differ, not as experiments do, and goes on doing so however many experiments there are (Bibaut, Chou, Ejdemyr &
Kallus 2024, "Learning the covariance of treatment effects across many weak experiments"). Here the known error
covariance of every experiment is part of the likelihood, and true effects are integrated out.

No sampling, no seed, no compiler: `stats.bayes.models.effect_covariance` is the same model for more metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.bayes.models.effect_covariance_density import LKJ

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_WIDEST: Final = (4.0, 4.0, 4.0)
"""Standard deviations in units of their scales, and the inverse hyperbolic tangent of the correlation."""
_SEARCHED: Final = (14, 14, 18)
_FINAL: Final = (32, 32, 40)
_WITHIN: Final = 13.0
"""Log density below the peak that is left out: five standard deviations of a normal."""
_ZOOMS: Final = 6
_AT_ONCE: Final = 1 << 15
_NEGLIGIBLE: Final = 1e-9


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

    Model: effects ~ MVN(mu, diag(s) R diag(s)), s half-normal and mu normal with `scale` (2,), R ~ LKJ(4); mu and the
    effects are integrated out. The grid zooms in on the three parameters that remain until it fits their posterior:
    its steps are then a third of a standard deviation, where the midpoint rule is as good as exact for means, and
    quantiles of slopes, which are ratios, are within a hundredth of the length of their 95 % interval.
    """
    x, errors = estimate / scale, covariance / np.outer(scale, scale)
    low, high = np.array([0.0, 0.0, -_WIDEST[2]]), np.array(_WIDEST)
    for _ in range(_ZOOMS):
        axes = _midpoints(low, high, _SEARCHED)
        narrowed = _narrowed(axes, _log_density(axes, x, errors), low, high)
        settled = bool(np.all(narrowed[1] - narrowed[0] > 0.7 * (high - low)))
        low, high = narrowed
        if settled:
            break
    axes, widths = _final(low, high)
    log_density = _log_density(axes, x, errors)
    weight = np.exp(log_density - log_density.max()) * np.einsum("i,j,k->ijk", *widths)
    weight /= weight.sum()
    used = weight > _NEGLIGIBLE * weight.max()
    first, second, lean = (axis[used] for axis in np.meshgrid(*axes, indexing="ij"))
    shared = first * second * np.tanh(lean) * scale[0] * scale[1]
    matrix = np.empty((int(used.sum()), 2, 2))
    matrix[:, 0, 0], matrix[:, 1, 1] = (first * scale[0]) ** 2, (second * scale[1]) ** 2
    matrix[:, 0, 1] = matrix[:, 1, 0] = shared
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


def _log_density(axes: list[Array], x: Array, errors: Array) -> Array:
    """On the grid of the axes (two standard deviations, inverse hyperbolic tangent of the correlation)."""
    first, second, lean = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    shared = first * second * np.tanh(lean)
    found = np.empty(first.size)
    chunk = max(1, _AT_ONCE // len(x))
    for begin in range(0, first.size, chunk):
        part = slice(begin, begin + chunk)
        found[part] = _log_likelihood(first[part] ** 2, second[part] ** 2, shared[part], x, errors)
    # The density of the correlation is that of LKJ, on the axis it is on here.
    found -= 0.5 * (first**2 + second**2) + 2 * LKJ * (np.abs(lean) + np.log1p(np.exp(-2 * np.abs(lean))))
    return found.reshape([axis.size for axis in axes])


def _log_likelihood(first: Array, second: Array, shared: Array, x: Array, errors: Array) -> Array:
    """(G,) of G covariance matrices, given by their elements, with standard normal means integrated out."""
    a, b = first[:, None] + errors[:, 0, 0], second[:, None] + errors[:, 1, 1]
    c = shared[:, None] + errors[:, 0, 1]
    determinant = a * b - c * c
    a, b, c = a / determinant, b / determinant, c / determinant
    # (b, -c; -c, a) is now the precision of each estimate; `pull_*` are precision times estimate.
    pull_first, pull_second = b * x[:, 0] - c * x[:, 1], a * x[:, 1] - c * x[:, 0]
    squares = pull_first @ x[:, 0] + pull_second @ x[:, 1]
    aa, bb, cc = 1.0 + b.sum(axis=1), 1.0 + a.sum(axis=1), -c.sum(axis=1)
    u, v = pull_first.sum(axis=1), pull_second.sum(axis=1)
    together = aa * bb - cc * cc
    explained = (bb * u * u - 2 * cc * u * v + aa * v * v) / together
    return np.asarray(0.5 * (explained - squares - np.log(determinant).sum(axis=1) - np.log(together)))
