"""Sample ratio mismatch: did the arms receive the traffic they were configured to receive (METHODS A12)?

`chi_square` answers once, at the end; `sequential` may be looked at every day. Weights are the *configured* ones; an
arm with weight 0 must stay empty, and units in it are a mismatch by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.moments import Bools, Floats
from stats.tails import log10_chi_square

FIXED_ALPHA = 0.0005
"""The fixed test alarms below this (Fabijan et al. 2019)."""
SEQUENTIAL_ALPHA = 0.001
"""The sequential test alarms when its e-value reaches 1 / 0.001."""
CONCENTRATION = 1000.0
"""Dirichlet concentration: tuned to small departures; catches a 52/48 split of 1,000 units a day in about 11 days."""
LOG_E_CAP = 1e6
"""Stands for an infinite log e-value (units in an arm that must be empty), so that results stay finite."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleRatio:
    """Fixed-horizon test, arrays (...,). `unexpected`: units sit in an arm of weight zero (then p = 0, by design)."""

    statistic: Floats
    df: Floats
    p_value: Floats
    log10_p: Floats
    unexpected: Bools

    @property
    def mismatch(self) -> Bools:
        return np.asarray((self.p_value < FIXED_ALPHA) | self.unexpected, dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class SequentialSampleRatio:
    """Test valid at every look: `log_e` (looks,) natural log e-values, `p_value` (looks,) = min over looks so far.

    `first_crossing` is the index of the first look at which the e-value reached `1 / alpha`, None if none did.
    """

    log_e: Floats
    p_value: Floats
    alpha: float
    first_crossing: int | None

    @property
    def mismatch(self) -> bool:
        return self.first_crossing is not None


def _shares(weights: ArrayLike, arms: int) -> Floats:
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (arms,):
        raise ValueError(f"{arms} arms need {arms} weights, got {w.size}")
    if not np.isfinite(w).all() or (w < 0).any() or (w > 0).sum() < 1:
        raise ValueError("weights must be finite, not negative, and one must be positive")
    return w / w.sum()


def _counts(observed: ArrayLike) -> Floats:
    counts = np.asarray(observed, dtype=np.float64)
    if counts.ndim < 1 or not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("observed counts must be finite and not negative")
    return counts


def chi_square(observed: ArrayLike, weights: ArrayLike) -> SampleRatio:
    """Pearson's test of counts (..., V) against configured weights (V,); p = 1 where there are no units."""
    counts = _counts(observed)
    share = _shares(weights, counts.shape[-1])
    live = share > 0
    total = counts.sum(axis=-1)
    expected = total[..., None] * share[live]
    squares = (counts[..., live] - expected) ** 2
    statistic = np.divide(squares, expected, out=np.zeros(squares.shape), where=expected > 0).sum(axis=-1)
    df = np.full(total.shape, max(int(live.sum()) - 1, 0), dtype=np.float64)
    unexpected = np.asarray((counts[..., ~live] > 0).any(axis=-1), dtype=np.bool_)
    p_value, log10_p = log10_chi_square(statistic, np.maximum(df, 1))
    testable = df > 0
    p_value = np.where(unexpected, 0.0, np.where(testable, p_value, 1.0))
    log10_p = np.where(unexpected, -LOG_E_CAP, np.where(testable, log10_p, 0.0))
    return SampleRatio(statistic, df, p_value, log10_p, unexpected)


def sequential(
    observed: ArrayLike,
    weights: ArrayLike,
    concentration: float = CONCENTRATION,
    alpha: float = SEQUENTIAL_ALPHA,
) -> SequentialSampleRatio:
    """Dirichlet-multinomial e-process (Lindon & Malek 2022) over cumulative counts (looks, V), in ascending looks.

    Type-I error over all looks together is at most `alpha`, however often and whenever one looks.
    """
    counts = _counts(observed)
    if counts.ndim != 2:
        raise ValueError("observed must be cumulative counts of shape (looks, arms)")
    if concentration <= 0 or not 0 < alpha < 1:
        raise ValueError("concentration must be positive and alpha between 0 and 1")
    share = _shares(weights, counts.shape[1])
    live = share > 0
    prior, n = concentration * share[live], counts[:, live]
    log_e = _log_beta(prior + n) - _log_beta(prior) - (n * np.log(share[live])).sum(axis=-1)
    log_e = np.where((counts[:, ~live] > 0).any(axis=-1), LOG_E_CAP, log_e)
    largest = np.maximum.accumulate(np.maximum(log_e, 0.0))
    crossed = np.flatnonzero(log_e >= -np.log(alpha))
    return SequentialSampleRatio(log_e, np.exp(-largest), alpha, int(crossed[0]) if crossed.size else None)


def _log_beta(shape: Floats) -> Floats:
    """Log multivariate beta function over the last axis."""
    value: Floats = sc.gammaln(shape).sum(axis=-1) - sc.gammaln(shape.sum(axis=-1))
    return value
