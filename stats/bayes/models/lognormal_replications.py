"""Replications of statistics of many lognormal values, without making the values (METHODS C2)."""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.sampling.contract import Array

_DRAWN: Final = 64
"""Values drawn one by one per replication, on average: the largest, which decide the mean of a heavy tail."""


def means_of_lognormals(mu: Array, sigma: Array, count: int, rng: np.random.Generator) -> Array:
    """(R,) means of `count` lognormal values each, for parameters (R,).

    The largest values are drawn exactly; the sum of the others, which are bounded, is normal by the central limit
    theorem with the moments of a truncated lognormal. With few values all are drawn.
    """
    if count <= 2 * _DRAWN:
        return np.asarray(np.exp(mu[:, None] + sigma[:, None] * rng.standard_normal((len(mu), count))).mean(axis=1))
    share = _DRAWN / count
    border = sc.ndtri(1 - share)  # of the standardised logarithm
    above = rng.binomial(count, share, len(mu))
    # Uniform within the upper tail, from its far end, where a double is finest.
    tail = -sc.ndtri(share * rng.random((len(mu), above.max())))
    drawn = np.exp(mu[:, None] + sigma[:, None] * tail)
    largest = np.where(np.arange(above.max()) < above[:, None], drawn, 0.0).sum(axis=1)
    first = np.exp(mu + sigma**2 / 2) * sc.ndtr(border - sigma) / (1 - share)
    second = np.exp(2 * mu + 2 * sigma**2) * sc.ndtr(border - 2 * sigma) / (1 - share)
    below = count - above
    rest = below * first + np.sqrt(below * np.maximum(second - first**2, 0.0)) * rng.standard_normal(len(mu))
    return np.asarray((largest + rest) / count)


def largest_percent(mu: Array, sigma: Array, count: int, rng: np.random.Generator) -> Array:
    """(R,) 99 % points of `count` lognormal values each: the order statistic itself, whose rank is Beta distributed."""
    place = -(-99 * count // 100)
    return np.asarray(np.exp(mu + sigma * sc.ndtri(rng.beta(place, count + 1 - place, len(mu)))))
