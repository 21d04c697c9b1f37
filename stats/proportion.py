"""Differences of proportions with small counts: intervals and p-values that hold at 0 of n and n of n (METHODS A2).

Welch's t on 0/1 data calls an arm without successes certain. Newcombe's hybrid-score interval (1998 "Interval
estimation for the difference between independent proportions: comparison of eleven methods", method 10) and the score
interval of Miettinen & Nurminen (1985 "Comparative analysis of two rates") do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.boschloo import boschloo_exact
from stats.difference import Differences
from stats.estimate import Estimates, MetricShape
from stats.moments import Bools, Floats, Moments, safe_divide
from stats.reasons import CovariateNote, Reason, Reasons, clear
from stats.tails import log10_chi_square

SMALL_COUNT = 10
"""Fewer successes or fewer failures than this in an arm, and the normal approximation is not trusted."""
BISECTIONS = 60


def wilson(successes: ArrayLike, units: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's (1927) score interval of one proportion, elementwise; `units` >= 1. Exactly 0 or 1 at the ends."""
    x, n = np.broadcast_arrays(np.asarray(successes, float), np.asarray(units, float))
    z = _quantile(level)
    centre = x + z * z / 2
    half = z * np.sqrt(x * (n - x) / n + z * z / 4)
    low, high = (centre - half) / (n + z * z), (centre + half) / (n + z * z)
    return np.where(x == 0, 0.0, low), np.where(x == n, 1.0, high)


def newcombe(
    successes_t: ArrayLike, units_t: ArrayLike, successes_c: ArrayLike, units_c: ArrayLike, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Newcombe's hybrid-score interval of p_t - p_c, elementwise; needs one unit per arm, has width everywhere."""
    x_t, n_t, x_c, n_c = _table(successes_t, units_t, successes_c, units_c)
    p_t, p_c = x_t / n_t, x_c / n_c
    low_t, high_t = wilson(x_t, n_t, level)
    low_c, high_c = wilson(x_c, n_c, level)
    change = p_t - p_c
    return change - np.hypot(p_t - low_t, high_c - p_c), change + np.hypot(high_t - p_t, p_c - low_c)


def miettinen_nurminen(
    successes_t: ArrayLike, units_t: ArrayLike, successes_c: ArrayLike, units_c: ArrayLike, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Miettinen & Nurminen's score interval of p_t - p_c, elementwise: the differences their test does not reject.

    The variance is that of the constrained maximum likelihood estimates, times N / (N - 1). Needs one unit per arm.
    """
    table = _table(successes_t, units_t, successes_c, units_c)
    z, change = _quantile(level), table[0] / table[1] - table[2] / table[3]
    ends = []
    for edge in (-1.0, 1.0):
        inside, outside = change.copy(), np.full(change.shape, edge)
        for _ in range(BISECTIONS):
            middle = (inside + outside) / 2
            accepted = np.abs(_score(*table, middle)) <= z
            inside, outside = np.where(accepted, middle, inside), np.where(accepted, outside, middle)
        ends.append((inside + outside) / 2)
    return ends[0], ends[1]


def score_p(
    successes_t: ArrayLike, units_t: ArrayLike, successes_c: ArrayLike, units_c: ArrayLike
) -> tuple[Floats, Floats]:
    """(p, log10 p) of Miettinen & Nurminen's two-sided score test of equal proportions; 1 if all units are alike."""
    table = _table(successes_t, units_t, successes_c, units_c)
    return log10_chi_square(_score(*table, np.zeros(table[0].shape)) ** 2, np.ones(table[0].shape))


def small_counts(moments: Moments, shapes: Sequence[MetricShape]) -> Bools:
    """(..., V, M) arms in which a 0/1 proportion has fewer than 10 successes or failures (and one unit at least).

    Columns of a "proportion" that hold anything but 0 and 1 (their squares do not add up) are never marked.
    """
    small = np.zeros((*moments.cells, len(shapes)), dtype=np.bool_)
    metrics = [m for m, shape in enumerate(shapes) if shape.kind == "proportion"]
    if not metrics:
        return small
    columns = [shapes[m].value for m in metrics]
    n = moments.count[..., None]
    total, square = n * moments.mean[..., columns], moments.comoment[..., columns, columns]
    successes = np.rint(total)
    binary = np.abs(successes - total) <= 1e-6
    binary &= np.abs(square - safe_divide(successes * (n - successes), n)) <= 1e-6
    small[..., metrics] = binary & (n > 0) & (np.minimum(successes, n - successes) < SMALL_COUNT)
    return small


def unadjusted_where(estimates: Estimates, where: Bools) -> Estimates:
    """The same estimates with covariate adjustment taken back in the cells and metrics of `where` (..., M).

    For small counts: an exact statement about counts cannot be made of adjusted values, and a handful of successes is
    not enough to know a slope from. Difference, lift and interval then all speak about the plain shares.
    """
    back = where & estimates.adjusted
    arms = back[..., None, :]
    return replace(
        estimates,
        value=np.where(arms, estimates.unadjusted, estimates.value),
        variance=np.where(arms, estimates.raw_variance, estimates.variance),
        cross=np.where(arms, estimates.raw_variance, estimates.cross),
        adjusted=estimates.adjusted & ~back,
        note=np.where(back, str(CovariateNote.SMALL_COUNTS), estimates.note),
        variance_reduction=np.where(back, 0.0, estimates.variance_reduction),
        residual_gradient=np.where(arms[..., None], estimates.gradient, estimates.residual_gradient),
        slope=np.where(back[..., None], 0.0, estimates.slope),
    )


def refine_small_counts(
    differences: Differences, moments: Moments, shapes: Sequence[MetricShape], level: float
) -> tuple[Differences, Bools]:
    """Replace interval and p-value where an arm of a proportion has a small count; also returns where, (..., V-1, M).

    The interval is Newcombe's, the p-value Boschloo's; a table that is too large to enumerate gets the score test's
    (`stats.boschloo`). They are two methods: close to the limit one can exclude 0 and the other not. The standard error
    becomes what the interval implies, its width / 2z, so that it too knows about an arm without successes. A pair
    without any success (or failure) is estimable: it has an interval, and p = 1.

    Only differences of the plain shares are replaced. A covariate-adjusted or stratified difference is left as it is,
    because counts say nothing about it: see `unadjusted_where` for taking the adjustment back first.
    """
    small = small_counts(moments, shapes)
    candidates = small[..., 1:, :] | small[..., :1, :]
    candidates &= clear(differences.reason) | (differences.reason == Reason.ZERO_VARIANCE)
    if not candidates.any():
        return differences, candidates
    cells = np.nonzero(candidates)
    columns = np.array([shape.value for shape in shapes], dtype=np.int64)[cells[-1]]
    lead, arm = cells[:-2], cells[-2] + 1
    n_t, n_c = moments.count[(*lead, arm)], moments.count[(*lead, np.zeros_like(arm))]
    p_t, p_c = moments.mean[(*lead, arm, columns)], moments.mean[(*lead, np.zeros_like(arm), columns)]
    plain = np.abs(differences.value[cells] - (p_t - p_c)) <= 1e-12
    cells = tuple(axis[plain] for axis in cells)
    n_t, n_c, p_t, p_c = n_t[plain], n_c[plain], p_t[plain], p_c[plain]
    replaced = np.zeros(candidates.shape, dtype=np.bool_)
    replaced[cells] = True

    table = (np.rint(n_t * p_t), n_t, np.rint(n_c * p_c), n_c)
    low, high = newcombe(*table, level=level)
    p, log10_p = score_p(*table)
    exact, enumerated = boschloo_exact(*table)
    p = np.where(enumerated, exact, p)
    log10_p = np.where(enumerated, np.log10(np.where(enumerated, exact, 1.0)), log10_p)
    df = differences.df[cells]

    def filled(numbers: Floats, new: Floats) -> Floats:
        result = numbers.copy()
        result[cells] = new
        return result

    return replace(
        differences,
        standard_error=filled(differences.standard_error, (high - low) / (2 * _quantile(level))),
        df=filled(differences.df, np.where(np.isnan(df), np.maximum(n_t + n_c - 2.0, 1.0), df)),
        p_value=filled(differences.p_value, p),
        log10_p=filled(differences.log10_p, log10_p),
        ci_lower=filled(differences.ci_lower, low),
        ci_upper=filled(differences.ci_upper, high),
        estimable=differences.estimable | replaced,
        reason=_without(differences.reason, replaced),
    ), replaced


def _without(reason: Reasons, where: Bools) -> Reasons:
    codes = reason.copy()
    codes[where] = ""
    return codes


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    return float(sc.ndtri(0.5 + level / 2))


def _table(*counts: ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    """x_t, n_t, x_c, n_c as floats of one shape; `ValueError` unless 0 <= x <= n and n >= 1."""
    x_t, n_t, x_c, n_c = np.broadcast_arrays(*(np.asarray(count, dtype=np.float64) for count in counts))
    if ((x_t < 0) | (x_t > n_t) | (x_c < 0) | (x_c > n_c) | (n_t < 1) | (n_c < 1)).any():
        raise ValueError("successes must be between 0 and the units of an arm, and an arm needs a unit")
    return x_t, n_t, x_c, n_c


def _score(x_t: Floats, n_t: Floats, x_c: Floats, n_c: Floats, change: Floats) -> Floats:
    """Standardised distance of the observed difference from `change`, 0 where there is no distance at all."""
    control = _constrained(x_t, n_t, x_c, n_c, change)
    treatment = np.clip(control + change, 0.0, 1.0)
    total = n_t + n_c
    variance = (treatment * (1 - treatment) / n_t + control * (1 - control) / n_c) * total / (total - 1)
    distance = x_t / n_t - x_c / n_c - change
    far = np.where(distance == 0, 0.0, np.copysign(np.inf, distance))
    return np.where(variance > 0, safe_divide(distance, np.sqrt(variance)), far)


def _constrained(x_t: Floats, n_t: Floats, x_c: Floats, n_c: Floats, change: Floats) -> Floats:
    """Most likely control proportion if the treatment's is larger by `change`: a root of a cubic, in closed form."""
    total, successes = n_t + n_c, x_t + x_c
    b = ((total + n_c) * change - total - successes) / (3 * total)
    c = ((n_c * change - total - 2 * x_c) * change + successes) / total
    d = x_c * change * (1 - change) / total
    q = b**3 - b * c / 2 + d / 2
    p = np.where(q < 0, -1.0, 1.0) * np.sqrt(np.maximum(b * b - c / 3, 0.0))
    angle = np.arccos(np.clip(np.where(p == 0, 1.0, safe_divide(q, p**3)), -1.0, 1.0))
    root = 2 * p * np.cos((np.pi + angle) / 3) - b
    low, high = np.maximum(0.0, -change), np.minimum(1.0, 1.0 - change)
    for _ in range(2):  # Newton steps give back the digits that the arc cosine loses near a double root
        slope = 3 * root**2 + 6 * b * root + c
        step = safe_divide(root**3 + 3 * b * root**2 + c * root + d, slope)
        root = np.clip(np.where(np.abs(step) < 1e-6, root - step, root), low, high)
    return np.asarray(root, dtype=np.float64)
