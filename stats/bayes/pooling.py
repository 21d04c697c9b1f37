"""The posterior of what a family of effects shares: its mean mu and the sd tau between effects (METHODS A15, C4).

Given tau everything is normal, so `pooled` integrates only tau numerically, on a grid that follows the family, and mu
in closed form under each component of its prior. A sampler's draws take the same shape, so that everything that is
told of a family is computed by the same code either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.hierarchy import Array, Hierarchy
from stats.bayes.mixture import Mixture
from stats.bayes.normal import prior_mixture

# The scan in units of tau's prior scale: 40 scales out the prior is exp(-800).
_SCAN: Final = np.linspace(np.log(1e-3), np.log(40.0), 161)
_NODES: Final = 65
_NEGLIGIBLE: Final = 1e-7
_EQUAL: Final = 0.005
"""In units of the smallest error, or of tau's prior where that is less: a tau so small changes nothing any more."""
_GROUPS: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """The posterior of (mu, tau) as C cells: `weight` (sums to one), `tau`, and mu ~ N(`centre`, `spread`²) in each.

    Draws are cells without spread; `chains` says how many chains they came from, one after another, and is 0 on a grid.
    """

    weight: Array
    centre: Array
    spread: Array
    tau: Array
    chains: int = 0

    @classmethod
    def sampled(cls, mu: Array, tau: Array) -> Joint:
        """Draws (chains, draws)."""
        return cls(np.full(mu.size, 1 / mu.size), mu.ravel(), np.zeros(mu.size), tau.ravel(), len(mu))

    def drawn(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """About `count` pairs of mu and tau (D,): evenly spread among the draws, or drawn from the grid."""
        if self.chains:
            some = slice(None, None, max(1, self.tau.size // count))
            return self.centre[some], self.tau[some]
        places = np.searchsorted(np.cumsum(self.weight), (np.arange(count) + rng.random()) / count)
        cell = np.minimum(places, self.weight.size - 1)
        return self.centre[cell] + self.spread[cell] * rng.standard_normal(count), self.tau[cell]

    def parameters(self) -> dict[str, tuple[float, float, float]]:
        """Mean and 95 % interval (equal tails) of mu and tau."""
        tails = np.array([0.025, 0.975])
        if self.chains:
            ends = np.quantile(self.centre, tails), np.quantile(self.tau, tails)
        else:
            mixture = Mixture(self.weight, self.centre, self.spread)
            middle, width = mixture.moments()
            axis = middle + width * np.linspace(-8.0, 8.0, 401)
            ends = np.interp(tails, mixture.cdf(axis), axis), self._tau_quantiles(tails)
        means = float(self.weight @ self.centre), float(self.weight @ self.tau)
        return {
            name: (mean, float(low), float(high))
            for name, mean, (low, high) in zip(("mean", "between"), means, ends, strict=True)
        }

    def _tau_quantiles(self, at: Array) -> Array:
        nodes, place = np.unique(self.tau, return_inverse=True)
        weight = np.bincount(place, self.weight)
        # Between nodes on the probit scale, where the cumulative of tau's tails is nearly straight.
        below = sc.ndtri(np.clip(np.cumsum(weight) - weight / 2, 1e-300, 1 - 1e-16))
        return np.asarray(np.exp(np.interp(sc.ndtri(at), below, np.log(nodes))))


def pooled(family: Hierarchy) -> Joint:
    """The posterior of (mu, tau) by a grid; deterministic and exact to about 1e-4 standard deviations."""
    prior = prior_mixture(family.prior)
    heavy = prior.weight > _NEGLIGIBLE**2
    prior = Mixture(prior.weight[heavy], prior.mean[heavy], prior.sd[heavy])
    scan: Array = _SCAN
    for _ in range(2):  # the second look has its nodes where the first one found the weight
        tau = family.between_scale * np.exp(scan)
        log_weight, centre, spread = _cells(family, prior, tau)
        weight = np.exp(log_weight - log_weight.max())
        weight[0] *= 1 / (scan[1] - scan[0]) + 0.5  # the first node stands for all below: a tail, not half a step
        weight /= weight.sum()
        if scan is _SCAN:
            scan = _followed(family, weight.sum(axis=1))
    weight, centre, spread = _grouped(weight, centre, spread)
    kept = weight > _NEGLIGIBLE * weight.max()
    here = weight[kept]
    return Joint(here / here.sum(), centre[kept], spread[kept], np.broadcast_to(tau[:, None], weight.shape)[kept])


def _grouped(weight: Array, centre: Array, spread: Array) -> tuple[Array, Array, Array]:
    """At every tau (T,) at most eight normals for mu instead of K, moments kept; neighbours by their width are merged.

    Groups are narrow at the edges, where the widest components make the tails.
    """
    nodes, count = weight.shape
    if count <= _GROUPS:
        return weight, centre, spread
    order = np.argsort(spread, axis=1)
    weight, centre, spread = (np.take_along_axis(part, order, axis=1) for part in (weight, centre, spread))
    total = weight.sum(axis=1, keepdims=True)
    place = sc.ndtri(np.clip((np.cumsum(weight, axis=1) - weight / 2) / np.maximum(total, 1e-300), 1e-9, 1 - 1e-9))
    group = np.clip(np.floor((place + 3.0) * _GROUPS / 6.0), 0, _GROUPS - 1).astype(np.int64)
    bins = (group + _GROUPS * np.arange(nodes)[:, None]).ravel()

    def summed(values: Array) -> Array:
        return np.bincount(bins, values.ravel(), minlength=nodes * _GROUPS).reshape(nodes, _GROUPS)

    merged = summed(weight)
    there = np.maximum(merged, 1e-300)
    middle = summed(weight * centre) / there
    shift = centre - np.take_along_axis(middle, group, axis=1)
    width = np.sqrt(summed(weight * (spread**2 + shift**2)) / there)
    return merged, middle, np.where(width > 0, width, 1.0)


def _followed(family: Hierarchy, weight: Array) -> Array:
    """Log tau in units of its prior scale, between where the weight is, or tau cannot be told from zero."""
    cumulative = np.cumsum(weight)
    low = _SCAN[max(int(np.searchsorted(cumulative, _NEGLIGIBLE)) - 1, 0)]
    high = _SCAN[min(int(np.searchsorted(cumulative, 1 - _NEGLIGIBLE)) + 1, _SCAN.size - 1)]
    alike = np.log(_EQUAL) - 0.5 * np.log1p(family.between_scale**2 / family.variance.min())
    return np.linspace(min(max(low, alike), high - 1.0), high, _NODES)


def _cells(family: Hierarchy, prior: Mixture, tau: Array) -> tuple[Array, Array, Array]:
    """Log weight, centre and spread of mu (T, K) at every tau (T,) and under every component of the prior (K,)."""
    total = family.variance + tau[:, None] ** 2
    precision = (family.loading**2 / total).sum(-1, keepdims=True)
    best = (family.loading * family.value / total).sum(-1, keepdims=True) / precision
    misfit = ((family.value - family.loading * best) ** 2 / total).sum(-1, keepdims=True)
    joined = precision + prior.sd**-2.0
    centre = (precision * best + prior.mean / prior.sd**2) / joined
    residual = misfit + precision * (best - centre) ** 2 + ((centre - prior.mean) / prior.sd) ** 2
    log_weight = (
        np.log(prior.weight / prior.sd)
        - 0.5 * (np.log(joined) + residual + np.log(total).sum(-1, keepdims=True))
        + np.log(tau)[:, None]  # the grid is even in the logarithm of tau
        - 0.5 * (tau[:, None] / family.between_scale) ** 2
    )
    return log_weight, centre, joined**-0.5


def opposite_signs(h: Array, k: Array, correlation: Array) -> Array:
    """P(X Y < 0) for normals of unit variance with means h, k, by Owen's T (Owen 1956)."""
    h, k = (np.where(np.abs(z) < 1e-12, 1e-12, z) for z in (h, k))  # the ratio below must exist; no effect on P
    root = np.sqrt(np.maximum(1 - correlation**2, 1e-16))
    t = sc.owens_t(h, (k / h - correlation) / root) + sc.owens_t(k, (h / k - correlation) / root)
    both_below = 0.5 * (sc.ndtr(-h) + sc.ndtr(-k)) - t - 0.5 * (h * k < 0)
    return np.asarray(np.clip(sc.ndtr(-h) + sc.ndtr(-k) - 2 * both_below, 0.0, 1.0))
