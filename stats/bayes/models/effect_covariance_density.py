"""The density behind `stats.bayes.models.effect_covariance`, written as loops (METHODS E9).

Coordinates are signed standard deviations, standard normal, the canonical partial correlations of an LKJ matrix on the
axis of the inverse hyperbolic tangent (Lewandowski, Kurowicka & Joe 2009), and common means, standard normal. A
standard deviation may take either sign: turning it over turns over the correlations of its metric, and the covariance
matrix is the same. So its absolute value is half-normal without an edge at zero for the sampler to run into, where weak
experiments often leave it.

Metrics beyond those that the data have are coordinates of their prior alone: they change nothing and cost next to
nothing, so one compiled program serves several numbers of metrics.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from stats.bayes.sampling.contract import Array

LKJ: Final = 1.0
"""The shape of the prior on correlations: uniform for one of two metrics. A prior that expects none makes slopes small.

Standard deviations stay half-normal, which allows no effects at all. A density that is flat over covariances does not,
and calls what is left of shared noise a link: of 60 experiments without any effect, errors correlated by 0.9, it would
have made a proxy in four histories of five.
"""
_PRECISION: Final = np.geomspace(0.05, 2.4, 5)
SHARE: Final = _PRECISION**2 * np.exp(-2 * _PRECISION) / (_PRECISION**2 * np.exp(-2 * _PRECISION)).sum()
"""How many experiments have each of the `VARIANCE`s."""
VARIANCE: Final = 1 / _PRECISION / (SHARE / _PRECISION).sum()
"""Variances of effects beside their mean: normals that add up to Student's t with 4 degrees of freedom.

One node per factor 2.6 in the gamma distribution of its precision: tail probabilities are right to 3 % up to three
standard deviations and a third too low at six.
"""


def coordinates_of(size: int) -> int:
    """How many coordinates so many metrics have."""
    return size * (size + 3) // 2


def effect_density(z: Array, estimate: Array, error: Array, largest: Array) -> tuple[float, Array]:
    """Log density at `z` (P,) and its gradient (P,); floats, for Numba.

    `estimate` (K, M) and their error covariances `error` (K, M, M) are in units of each metric's scale. `largest` (1,)
    is how many metrics the program has room for; P is `coordinates_of` it. Common means are standard normal in those
    units.
    """
    experiments, metrics, room = estimate.shape[0], estimate.shape[1], int(largest[0])
    means = room * (room + 1) // 2
    nodes = VARIANCE.shape[0]
    gradient = np.empty(z.shape[0])
    total = 0.0
    for i in range(z.shape[0]):
        total -= 0.5 * z[i] * z[i]
        gradient[i] = -z[i]

    # The Cholesky factor of the correlation matrix, row by row, and its own density.
    lower, tangent, secant = np.zeros((metrics, metrics)), np.zeros((metrics, metrics)), np.zeros((metrics, metrics))
    rest = np.ones((metrics, metrics))
    lower[0, 0] = 1.0
    for i in range(1, metrics):
        for k in range(i):
            shape = LKJ + 0.5 * (metrics - 2 - k)
            at = room + i * (i - 1) // 2 + k
            u = z[at] / math.sqrt(2.0 * shape)
            tail = math.exp(-2.0 * abs(u))
            tangent[i, k] = (1.0 - tail) / (1.0 + tail) * (1.0 if u >= 0 else -1.0)
            secant[i, k] = 2.0 * math.exp(-abs(u)) / (1.0 + tail)
            total += 0.5 * z[at] * z[at] - 2.0 * shape * (abs(u) + math.log1p(tail) - math.log(2.0))
            gradient[at] = -math.sqrt(2.0 * shape) * tangent[i, k]
            lower[i, k] = tangent[i, k] * rest[i, k]
            rest[i, k + 1] = rest[i, k] * secant[i, k]
        lower[i, i] = rest[i, i]

    spread = np.zeros((metrics, metrics))
    for i in range(metrics):
        for j in range(i + 1):
            value = 0.0
            for k in range(j + 1):
                value += lower[i, k] * lower[j, k]
            spread[i, j] = spread[j, i] = z[i] * z[j] * value

    by_spread = np.zeros((metrics, metrics))
    factor, inverse = np.zeros((metrics, metrics)), np.zeros((metrics, metrics))
    precision, pull = np.zeros((nodes, metrics, metrics)), np.zeros((nodes, metrics))
    logs = np.zeros(nodes)
    for e in range(experiments):
        for n in range(nodes):
            logs[n] = math.log(SHARE[n])
            for i in range(metrics):
                for j in range(i + 1):
                    value = VARIANCE[n] * spread[i, j] + error[e, i, j]
                    for k in range(j):
                        value -= factor[i, k] * factor[j, k]
                    if i == j:
                        if value <= 0.0:
                            return -np.inf, gradient
                        factor[i, i] = math.sqrt(value)
                        logs[n] -= math.log(factor[i, i])
                    else:
                        factor[i, j] = value / factor[j, j]
            for i in range(metrics):
                inverse[i, i] = 1.0 / factor[i, i]
                for j in range(i):
                    value = 0.0
                    for k in range(j, i):
                        value -= factor[i, k] * inverse[k, j]
                    inverse[i, j] = value * inverse[i, i]
            for i in range(metrics):
                for j in range(i + 1):
                    value = 0.0
                    for k in range(i, metrics):
                        value += inverse[k, i] * inverse[k, j]
                    precision[n, i, j] = precision[n, j, i] = value
            for i in range(metrics):
                value = 0.0
                for j in range(metrics):
                    value += precision[n, i, j] * (estimate[e, j] - z[means + j])
                pull[n, i] = value
                logs[n] -= 0.5 * value * (estimate[e, i] - z[means + i])
        highest = logs.max()
        together = 0.0
        for n in range(nodes):
            logs[n] = math.exp(logs[n] - highest)
            together += logs[n]
        total += highest + math.log(together)
        for n in range(nodes):
            chance = logs[n] / together
            for i in range(metrics):
                gradient[means + i] += chance * pull[n, i]
                for j in range(i + 1):
                    squares = pull[n, i] * pull[n, j] - precision[n, i, j]
                    by_spread[i, j] += 0.5 * chance * VARIANCE[n] * squares
    for i in range(metrics):
        for j in range(i):
            by_spread[j, i] = by_spread[i, j]

    by_lower = np.zeros((metrics, metrics))
    for i in range(metrics):
        for k in range(i + 1):
            value = 0.0
            for j in range(k, metrics):
                value += 2.0 * by_spread[i, j] * z[j] * lower[j, k]
            gradient[i] += value * lower[i, k]
            by_lower[i, k] = value * z[i]
    for i in range(1, metrics):
        by_rest = by_lower[i, i]
        for back in range(i):
            k = i - 1 - back
            shape = LKJ + 0.5 * (metrics - 2 - k)
            by_u = rest[i, k] * (by_lower[i, k] * secant[i, k] - by_rest * tangent[i, k]) * secant[i, k]
            gradient[room + i * (i - 1) // 2 + k] += by_u / math.sqrt(2.0 * shape)
            by_rest = by_lower[i, k] * tangent[i, k] + by_rest * secant[i, k]
    return total, gradient


def covariances_at(z: Array, scale: Array) -> Array:
    """(..., M, M) covariance matrices of true effects at `z` (..., P), in units of the metrics' `scale` (M,)."""
    metrics = len(scale)
    # room * (room + 3) / 2 coordinates: the number of metrics that there is room for.
    room = (math.isqrt(8 * z.shape[-1] + 9) - 3) // 2
    lower = np.zeros((*z.shape[:-1], metrics, metrics))
    lower[..., 0, 0] = 1.0
    for i in range(1, metrics):
        rest = np.ones(z.shape[:-1])
        for k in range(i):
            u = z[..., room + i * (i - 1) // 2 + k] / math.sqrt(2.0 * (LKJ + 0.5 * (metrics - 2 - k)))
            lower[..., i, k] = np.tanh(u) * rest
            rest = rest / np.cosh(u)
        lower[..., i, i] = rest
    factor = (scale * z[..., :metrics])[..., None] * lower
    return np.asarray(factor @ np.swapaxes(factor, -1, -2))
