"""Sample ratio mismatch: did the arms receive the traffic they were configured to receive (METHODS A12)?

`chi_square` answers once, at the end; `sequential` may be looked at every day. Weights are the *configured* ones; an
arm with weight 0 must stay empty, and units in it are a mismatch by themselves. Weights that changed on the way (a
ramp) are given per stage: `staged` adds up what each stage should have brought, `sequential` multiplies the evidence of
the stages, `drift` asks whether the split changed between days. `same_rate` compares what became of the units of each
arm, whatever the weights were. Units are what was randomised: with clustered randomisation, clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.moments import Bools, Floats, Ints, safe_divide
from stats.tails import log10_chi_square

FIXED_ALPHA = 0.0005
"""The fixed test alarms below this (Fabijan et al. 2019)."""
SEQUENTIAL_ALPHA = 0.001
"""The sequential test alarms when its e-value reaches 1 / 0.001."""
CONCENTRATION = 1000.0
"""Dirichlet concentration: tuned to small departures; catches a 52/48 split of 1,000 units a day in about 11 days."""
FEWEST_EXPECTED = 5.0
"""Days are merged until every arm expects this many units, where the chi-square approximation begins to hold."""
MANY_EXPECTED = 100.0
"""Above this the chi-square tail is right to a factor of two as far out as alarms are raised, below it is exact."""
RANK = 1e-10
"""Directions with less than this share of the largest variance are not there at all."""
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


def few_or_many(observed: ArrayLike, weights: ArrayLike) -> SampleRatio:
    """`chi_square`, with exact p-values in cells where some arm expects fewer than `MANY_EXPECTED` units.

    There the chi-square tail is far too thin: one unit in an arm of weight 0.05 would be a mismatch at p = 1e-5. Each
    arm's count is binomial given the total: the p-value is the smallest of the arms' two-sided ones (twice the smaller
    tail), times their number where there are more than two.
    """
    many = chi_square(observed, weights)
    counts = _counts(observed)
    share = _shares(weights, counts.shape[-1])
    live = share > 0
    n, w = counts.sum(axis=-1)[..., None], share[live]
    few = ((n * w).min(axis=-1) < MANY_EXPECTED) & ~many.unexpected & (many.df > 0)
    k = counts[..., live]
    # Tails of the binomial as incomplete beta functions; P(X <= n) and P(X >= 0) are certain.
    below = np.where(k < n, sc.betainc(np.maximum(n - k, 1), k + 1, 1 - w), 1.0)
    above = np.where(k > 0, sc.betainc(np.maximum(k, 1), n - k + 1, w), 1.0)
    arms = float(live.sum())
    p_value = np.minimum(2 * np.minimum(below, above).min(axis=-1) * (arms if arms > 2 else 1.0), 1.0)
    with np.errstate(divide="ignore"):
        log10_p = np.where(p_value > 0, np.log10(p_value), -LOG_E_CAP)
    return SampleRatio(
        many.statistic,
        many.df,
        np.where(few, p_value, many.p_value),
        np.where(few, log10_p, many.log10_p),
        many.unexpected,
    )


def staged(arrived: ArrayLike, weights: ArrayLike) -> SampleRatio:
    """One test of the totals of several stages: `arrived` (stages, V) units of each, `weights` (stages, V) in force.

    Expected counts add up over stages, and so do their multinomial covariances: the statistic is the squared distance
    (O - E)' Cov^-1 (O - E). With a single stage that is Pearson's chi-square exactly. Holding the totals of a ramp
    against one global ratio would find a mismatch in every healthy ramp.
    """
    counts, share, _ = _stages(arrived, weights)
    unexpected = np.asarray(((share == 0) & (counts > 0)).any())
    n = counts.sum(axis=-1)
    expected = n @ share
    covariance = np.diag(expected) - (n[:, None] * share).T @ share
    scale = np.where(expected > 0, np.sqrt(np.where(expected > 0, expected, 1.0)), np.inf)
    roots, vectors = np.linalg.eigh(covariance / scale[:, None] / scale)
    kept = roots > RANK * max(float(roots[-1]), RANK)
    gap = (vectors.T @ ((counts.sum(axis=0) - expected) / scale))[kept]
    df = float(kept.sum())
    statistic = np.asarray((gap**2 / roots[kept]).sum())
    p_value, log10_p = log10_chi_square(statistic, max(df, 1.0))
    return SampleRatio(
        statistic,
        np.asarray(df),
        np.where(unexpected, 0.0, p_value if df else 1.0),
        np.where(unexpected, -LOG_E_CAP, log10_p if df else 0.0),
        np.asarray(unexpected, dtype=np.bool_),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """Whether the split changed between days. `began`: index of the day from which on it departs most from its weights.

    `began` is where a mismatch most likely began, given that there is one; it says nothing about whether there is.
    """

    statistic: float
    df: float
    p_value: float
    began: int


def drift(arrived: ArrayLike, weights: ArrayLike) -> Drift:
    """Homogeneity of the split over days: `arrived` (days, V) new units of each day, `weights` (days, V) in force.

    The statistic is the sum of the days' chi-squares minus that of their total (`staged`): a projection, so under the
    configured weights it is chi-square with the difference of the degrees of freedom, independent of the test of the
    total. Neighbouring days are merged until every arm expects `FEWEST_EXPECTED` units.
    """
    counts, share, position = _stages(arrived, weights)
    days, day_share, first = _enough(counts, share)
    expected = days.sum(axis=-1, keepdims=True) * day_share
    squares = np.divide((days - expected) ** 2, expected, out=np.zeros(days.shape), where=expected > 0)
    total = staged(days, day_share) if len(days) else None
    df = float((np.maximum((day_share > 0).sum(axis=-1) - 1, 0)).sum()) - (float(total.df) if total else 0.0)
    statistic = max(float(squares.sum()) - (float(total.statistic) if total else 0.0), 0.0)
    later = [float(staged(days[i:], day_share[i:]).statistic) for i in range(len(days))]
    return Drift(
        statistic if df > 0 else 0.0,
        max(df, 0.0),
        float(sc.chdtrc(df, statistic)) if df > 0 else 1.0,
        int(position[first[int(np.argmax(later))]]) if later else 0,
    )


def same_rate(part: ArrayLike, whole: ArrayLike) -> SampleRatio:
    """Whether the same share of every arm's units became part: `part` (..., V) of `whole` (..., V), by chi-square.

    For triggered among assigned units, respondents among those asked, capped among measured units: valid whatever the
    weights were. Arms without units are left out; where some arm expects fewer than `FEWEST_EXPECTED` units inside or
    outside the part, nothing can be compared (p = 1).
    """
    inside, all_units = np.broadcast_arrays(_counts(part), _counts(whole))
    if (inside > all_units).any():
        raise ValueError("a part cannot be larger than the whole")
    there = all_units > 0
    rate = safe_divide(inside.sum(axis=-1), all_units.sum(axis=-1))[..., None]
    variance = all_units * rate * (1 - rate)
    squares = safe_divide((inside - all_units * rate) ** 2, variance)
    statistic = np.where(there, squares, 0.0).sum(axis=-1)
    expected = np.where(there, all_units * np.minimum(rate, 1 - rate), np.inf)
    mixed = expected.min(axis=-1) >= FEWEST_EXPECTED
    df = np.where(mixed, np.maximum(there.sum(axis=-1) - 1, 0), 0).astype(np.float64)
    p_value, log10_p = log10_chi_square(statistic, np.maximum(df, 1))
    nothing = df == 0
    return SampleRatio(
        np.where(nothing, 0.0, statistic),
        df,
        np.where(nothing, 1.0, p_value),
        np.where(nothing, 0.0, log10_p),
        np.zeros(df.shape, dtype=np.bool_),
    )


def sequential(
    observed: ArrayLike,
    weights: ArrayLike,
    concentration: float = CONCENTRATION,
    alpha: float = SEQUENTIAL_ALPHA,
) -> SequentialSampleRatio:
    """Dirichlet-multinomial e-process (Lindon & Malek 2022) over cumulative counts (looks, V), in ascending looks.

    `weights` (V,), or (looks, V) for the weights in force when the new units of a look came; units of a look whose
    weights are nan (they changed in between) are left out. Each stretch of constant weights has an e-process of its
    own and their product is one again, because a stretch's units are independent of those before. Type-I error over
    all looks together is at most `alpha`, however often and whenever one looks.
    """
    counts = _counts(observed)
    if counts.ndim != 2:
        raise ValueError("observed must be cumulative counts of shape (looks, arms)")
    if concentration <= 0 or not 0 < alpha < 1:
        raise ValueError("concentration must be positive and alpha between 0 and 1")
    configured = np.asarray(weights, dtype=np.float64)
    if configured.ndim == 1:
        log_e = _log_e(counts, _shares(configured, counts.shape[1]), concentration)
    else:
        log_e = _log_e_of_stages(counts, configured, concentration)
    largest = np.maximum.accumulate(np.maximum(log_e, 0.0))
    crossed = np.flatnonzero(log_e >= -np.log(alpha))
    return SequentialSampleRatio(log_e, np.exp(-largest), alpha, int(crossed[0]) if crossed.size else None)


def _log_e(counts: Floats, share: Floats, concentration: float) -> Floats:
    """(looks,) log e-values of cumulative counts (looks, V) under constant shares (V,)."""
    live = share > 0
    prior, n = concentration * share[live], counts[:, live]
    log_e = _log_beta(prior + n) - _log_beta(prior) - (n * np.log(share[live])).sum(axis=-1)
    return np.where((counts[:, ~live] > 0).any(axis=-1), LOG_E_CAP, log_e)


def _log_e_of_stages(counts: Floats, weights: Floats, concentration: float) -> Floats:
    if weights.shape != counts.shape:
        raise ValueError(f"counts of shape {counts.shape} need weights per look of that shape, got {weights.shape}")
    arrived = np.diff(counts, axis=0, prepend=0.0)
    known = ~np.isnan(weights).any(axis=-1)
    log_e = np.zeros(len(counts))
    before, start = 0.0, 0
    while start < len(counts):
        same = (weights[start:] == weights[start]).all(axis=-1) if known[start] else ~known[start:]
        stop = start + (int(np.argmin(same)) if not same.all() else len(same))
        log_e[start:stop] = before
        if known[start]:
            share = _shares(weights[start], counts.shape[1])
            log_e[start:stop] += _log_e(np.cumsum(arrived[start:stop], axis=0), share, concentration)
        before, start = float(log_e[stop - 1]), stop
    return np.clip(log_e, -LOG_E_CAP, LOG_E_CAP)


def _stages(arrived: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats, Ints]:
    """Counts and shares (stages, V) of the stages whose weights are known, and their positions."""
    counts, configured = _counts(arrived), np.asarray(weights, dtype=np.float64)
    if counts.ndim != 2 or configured.shape != counts.shape:
        raise ValueError("arrived and weights must both have the shape (stages, arms)")
    known = ~np.isnan(configured).any(axis=-1)
    shares = [_shares(row, counts.shape[1]) for row in configured[known]]
    return counts[known], np.array(shares).reshape(-1, counts.shape[1]), np.flatnonzero(known)


def _enough(counts: Floats, share: Floats) -> tuple[Floats, Floats, Ints]:
    """Neighbouring days of the same weights merged; also the index of the first day of each group."""
    groups: list[tuple[Floats, Floats, int]] = []
    for day, (n, w) in enumerate(zip(counts, share, strict=True)):
        alike = bool(groups) and bool((groups[-1][1] == w).all())
        if alike and _fewest(groups[-1][0], w) < FEWEST_EXPECTED:
            groups[-1] = (groups[-1][0] + n, w, groups[-1][2])
        else:
            groups.append((n, w, day))
    groups = [group for group in groups if _fewest(group[0], group[1]) >= FEWEST_EXPECTED]
    arms = counts.shape[-1]
    return (
        np.array([n for n, _, _ in groups]).reshape(-1, arms),
        np.array([w for _, w, _ in groups]).reshape(-1, arms),
        np.array([day for _, _, day in groups], dtype=np.int64),
    )


def _fewest(counts: Floats, share: Floats) -> float:
    return float(counts.sum() * share[share > 0].min())


def _log_beta(shape: Floats) -> Floats:
    """Log multivariate beta function over the last axis."""
    value: Floats = sc.gammaln(shape).sum(axis=-1) - sc.gammaln(shape.sum(axis=-1))
    return value
