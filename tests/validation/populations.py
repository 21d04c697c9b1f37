"""The populations of METHODS I1: what a unit's value may look like, with exact means and third moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.special as sc
import scipy.stats as sps

from stats.moments import Floats

SPLITS = (0.5, 0.2, 0.05)
SIZES = (200, 2_000, 20_000)


@dataclass(frozen=True, slots=True)
class Population:
    """`transform` makes values of two independent standard normals of the same shape, so that two values made of
    correlated normals are correlated. `mean`, `variance` and `third` central moment are exact.
    """

    name: str
    transform: Callable[[Floats, Floats], Floats]
    mean: float
    variance: float
    third: float

    def skewness_of_difference(self, treated: float, control: float) -> float:
        """Standardised skewness of the difference of means of so many units (METHODS A1)."""
        spread = self.variance * (1 / treated + 1 / control)
        return float(self.third * (1 / treated**2 - 1 / control**2) / spread**1.5)


def _normal() -> Population:
    return Population("normal", lambda z, w: 1 + z, 1.0, 1.0, 0.0)


def _log_normal(sigma: float) -> Population:
    w = float(np.exp(sigma**2))
    mean = float(np.exp(sigma**2 / 2))
    variance = (w - 1) * mean**2
    third = (w + 2) * (w - 1) ** 0.5 * variance**1.5
    return Population(f"lognormal {sigma:g}", lambda z, _: np.exp(sigma * z), mean, variance, third)


def _bernoulli(p: float) -> Population:
    edge = float(sc.ndtri(1 - p))
    third = p * (1 - p) * (1 - 2 * p)
    return Population(f"Bernoulli {p:g}", lambda z, _: (z > edge).astype(np.float64), p, p * (1 - p), third)


def _zero_inflated(positive: float) -> Population:
    """Most units spend nothing, the others a log-normal amount: revenue."""
    edge = float(sc.ndtri(1 - positive))
    raw = [positive * float(np.exp(k**2 / 2)) for k in (1, 2, 3)]
    return Population(
        "zero-inflated",
        lambda z, w: np.where(z > edge, np.exp(w), 0.0),
        raw[0],
        raw[1] - raw[0] ** 2,
        raw[2] - 3 * raw[0] * raw[1] + 2 * raw[0] ** 3,
    )


def _negative_binomial(mean: float, size: float) -> Population:
    law = sps.nbinom(size, size / (size + mean))
    edges = sc.ndtri(law.cdf(np.arange(0, 400)))
    edges = edges[np.isfinite(edges)]
    variance = mean + mean**2 / size
    skewness = float(law.stats(moments="s"))
    return Population(
        "NegBin",
        lambda z, _: np.searchsorted(edges, z).astype(np.float64),
        mean,
        variance,
        skewness * variance**1.5,
    )


POPULATIONS = (
    _normal(),
    _log_normal(1.0),
    _log_normal(1.5),
    _bernoulli(0.5),
    _bernoulli(0.01),
    _zero_inflated(0.1),
    _negative_binomial(2.0, 0.5),
)


def splits_of(n: int) -> tuple[int, ...]:
    """Treated units of each split, ascending."""
    return tuple(sorted(round(n * split) for split in SPLITS))


def label(n: int, treated: int) -> dict[str, str]:
    return {"units": f"{n:,}", "treated": f"{treated / n:.0%}"}
