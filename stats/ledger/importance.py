"""Importance sampling from mixtures of multivariate t, with Pareto-smoothed weights.

Smoothing and its diagnostic are those of Vehtari, Simpson, Gelman, Yao & Gabry 2024 "Pareto smoothed importance
sampling": the largest weights are replaced by quantiles of a generalised Pareto fitted to them (Zhang & Stephens 2009
"A new and efficient estimation method for the generalized Pareto distribution"); a shape above 0.7 says not to trust
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from stats.ledger.contract import Array, Indices

HIGHEST_SHAPE: Final = 0.7
"""Of the weights' tail: beyond, their mean converges too slowly to be used."""

type LogDensity = Callable[[Array], Array]


@dataclass(frozen=True, slots=True, eq=False)
class Elliptical:
    """A multivariate t in D dimensions around `centre` (D,) with scale `root root'`; an infinite `df` is a normal."""

    centre: Array
    root: Array
    df: float

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draws (count, D)."""
        normal = rng.standard_normal((count, self.centre.size)) @ self.root.T
        if np.isfinite(self.df):
            normal *= np.sqrt(self.df / rng.chisquare(self.df, count))[:, None]
        return np.asarray(self.centre + normal)

    def log_density(self, at: Array) -> Array:
        """Log density (S,) at points (S, D)."""
        size = self.centre.size
        square = (np.linalg.solve(self.root, (at - self.centre).T) ** 2).sum(axis=0)
        volume = np.linalg.slogdet(self.root)[1]
        if not np.isfinite(self.df):
            return np.asarray(-0.5 * square - volume - 0.5 * size * np.log(2 * np.pi))
        constant = sc.gammaln((self.df + size) / 2) - sc.gammaln(self.df / 2) - 0.5 * size * np.log(self.df * np.pi)
        return np.asarray(constant - volume - 0.5 * (self.df + size) * np.log1p(square / self.df))


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A mixture of such parts with `share` (parts,)."""

    parts: Sequence[Elliptical]
    share: Array

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draws (count, D) in random order."""
        counts = rng.multinomial(count, self.share)
        draws = np.vstack([part.draw(int(n), rng) for part, n in zip(self.parts, counts, strict=True)])
        return np.asarray(rng.permutation(draws))

    def log_density(self, at: Array) -> Array:
        """Log density (S,) at points (S, D)."""
        logs = np.stack([part.log_density(at) for part in self.parts])
        return np.asarray(sc.logsumexp(logs, axis=0, b=self.share[:, None]))


def mode(log_density: LogDensity, start: Array, *, steps: int = 20) -> tuple[Array, Array]:
    """A local maximum (D,) and the covariance (D, D) by the curvature there; Newton, with every step's stencil at once.

    Assumes unit-scale coordinates, in which no direction is much wider than 1: flatter ones count as such.
    """
    at, apart = start, 0.02
    size = start.size
    first, second = np.triu_indices(size, 1)
    axes = apart * np.eye(size)
    corners = axes[first] + axes[second]
    stencil = np.vstack([np.zeros((1, size)), axes, -axes, corners, -corners])
    covariance = np.eye(size)
    for _ in range(steps):
        height = log_density(at + stencil)
        ahead, behind = height[1 : 1 + size], height[1 + size : 1 + 2 * size]
        both, neither = np.split(height[1 + 2 * size :], 2)
        slope = (ahead - behind) / (2 * apart)
        curvature = np.diag((ahead + behind - 2 * height[0]) / apart**2)
        mixed = both + neither + 2 * height[0] - (ahead + behind)[first] - (ahead + behind)[second]
        curvature[first, second] = curvature[second, first] = mixed / (2 * apart**2)
        value, vector = np.linalg.eigh(-curvature)
        covariance = (vector / np.maximum(value, 1.0)) @ vector.T
        step = covariance @ slope
        step *= min(1.0, 2.0 / max(float(np.linalg.norm(step)), 1e-12))
        tried = at + np.array([1.0, 0.5, 0.25, 0.1])[:, None] * step
        found = log_density(tried)
        best = int(found.argmax())
        if found[best] <= height[0]:
            break
        at = tried[best]
        if found[best] - height[0] < 1e-3:
            break
    return at, covariance


def smoothed(log_weight: Array) -> tuple[Array, float]:
    """Normalised weights (S,) with a smoothed tail, and the Pareto shape of that tail."""
    weight = np.exp(log_weight - log_weight.max())
    count = int(np.ceil(min(0.2 * weight.size, 3 * np.sqrt(weight.size))))
    order = np.argsort(weight)
    tail, cut = order[-count:], weight[order[-count - 1]]
    excess = weight[tail] - cut
    if count < 5 or excess[0] <= 0 or excess[-1] <= 1e-12:
        return weight / weight.sum(), float("-inf")
    shape, scale = _pareto(excess)
    quantile = (np.arange(count) + 0.5) / count
    tall = scale * np.expm1(-shape * np.log1p(-quantile)) / shape
    weight[tail] = cut + np.minimum(tall, excess[-1])
    return weight / weight.sum(), float(shape)


def effective(weight: Array) -> float:
    """Kish's effective sample size of normalised weights."""
    return float(1 / (weight**2).sum())


def resampled(weight: Array, count: int, rng: np.random.Generator) -> Indices:
    """Positions (count,) by systematic resampling, in random order."""
    below = np.cumsum(weight)
    at = (np.arange(count) + rng.random()) / count * below[-1]
    return np.asarray(rng.permutation(np.searchsorted(below, at)), dtype=np.intp)


def _pareto(excess: Array) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto; the shape is drawn towards 1/2 by ten observations' worth."""
    count = excess.size
    grid = 30 + int(np.sqrt(count))
    quartile = excess[int(count / 4 + 0.5) - 1]
    theta = 1 / excess[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
    k = np.log1p(-theta[:, None] * excess).mean(axis=1)
    profile = count * (np.log(-theta / k) - k - 1)
    weight = np.exp(profile - sc.logsumexp(profile))
    best = float((weight * theta).sum())
    shape = float(np.log1p(-best * excess).mean())
    scale = -shape / best
    shape = (count * shape + 5) / (count + 10)
    return (shape if abs(shape) > 1e-6 else 1e-6), scale
