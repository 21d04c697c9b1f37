"""Is the normal approximation of a difference trustworthy? Standardised skewness of the difference (METHODS A1).

Skewed metrics with unequal arms put all their false positives in one tail. The one-arm rule n >= 355 skew^2 (Kohavi,
Deng, Longbotham & Xu 2014) is the special case of a threshold of 0.053; we warn at 0.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stats.estimate import MetricShape
from stats.moments import Bools, Floats, Moments, safe_divide

WARN_ABOVE = 0.1


def difference_skewness(moments: Moments, shapes: Sequence[MetricShape]) -> Floats:
    """(..., V-1, M) skewness of (treatment mean - control mean); cells (..., V), control first.

    Exact for means and proportions (unadjusted values). Ratios and formulas would need joint third moments, which are
    not kept: nan. Also nan where both arms are constant or a cell has fewer than two units in an arm.
    """
    columns = [shape.value if shape.kind in ("mean", "proportion") else -1 for shape in shapes]
    known = np.array([column >= 0 for column in columns])
    pick = np.maximum(np.array(columns, dtype=np.int64), 0)
    n = moments.count[..., None].astype(np.float64)
    square = np.diagonal(moments.comoment, axis1=-2, axis2=-1)[..., pick]
    variance = safe_divide(square, n * np.maximum(n - 1, 0))
    third = safe_divide(moments.third[..., pick], n**3)
    total = variance[..., 1:, :] + variance[..., :1, :]
    defined = known & (total > 0) & (n[..., 1:, :] >= 2) & (n[..., :1, :] >= 2)
    gap = third[..., 1:, :] - third[..., :1, :]
    return np.where(defined, gap / np.where(defined, total, 1.0) ** 1.5, np.nan)


def too_skewed(skewness: Floats) -> Bools:
    """Where inference deserves a warning; unknown skewness (nan) is not a warning."""
    return np.asarray(np.abs(skewness) > WARN_ABOVE, dtype=np.bool_)


def ratio_skewness(moments: Moments, shapes: Sequence[MetricShape]) -> Floats:
    """(..., V-1, M) approximate skewness of the difference of two ratios, nan for other metrics; cells (..., V).

    The influence of a unit is N - R D. Joint third moments are not kept, so N is taken as its regression on D plus a
    rest whose spread grows with D: either of D independent parts (its variance grows like D), or one that all parts
    share (like D^2). The smaller of the two answers is given, 0 if they differ in sign: a warning needs both.
    """
    result = np.full((*moments.count.shape[:-1], moments.count.shape[-1] - 1, len(shapes)), np.nan)
    ratios = [m for m, shape in enumerate(shapes) if shape.kind == "ratio"]
    if not ratios:
        return result
    top = [shapes[m].value for m in ratios]
    bottom = [shapes[m].denominator or 0 for m in ratios]
    n = moments.count[..., None].astype(np.float64)
    per_unit = safe_divide(1.0, np.maximum(n - 1, 1.0))
    v_n, v_d = moments.comoment[..., top, top] * per_unit, moments.comoment[..., bottom, bottom] * per_unit
    both = moments.comoment[..., top, bottom] * per_unit
    mean = moments.mean[..., bottom]
    ratio, slope = safe_divide(moments.mean[..., top], mean), safe_divide(both, v_d)
    k_n, k_d = safe_divide(moments.third[..., top], n), safe_divide(moments.third[..., bottom], n)
    rest = np.maximum(v_n - slope * both, 0.0)
    excess = slope - ratio
    spread = np.maximum(v_n - 2 * ratio * both + ratio**2 * v_d, 0.0)
    variance = safe_divide(spread, mean**2 * n)
    total = variance[..., 1:, :] + variance[..., :1, :]
    defined = (total > 0) & (n[..., 1:, :] >= 2) & (n[..., :1, :] >= 2)
    answers = []
    for growth in (safe_divide(v_d, mean), safe_divide(k_d + 2 * mean * v_d, v_d + mean**2)):
        third = k_n + (excess**3 - slope**3) * k_d + 3 * (excess - slope) * rest * growth
        third = safe_divide(third, mean**3 * n**2)
        gap = third[..., 1:, :] - third[..., :1, :]
        answers.append(gap / np.where(defined, total, 1.0) ** 1.5)
    one, two = answers
    smaller = np.where(one * two > 0, np.sign(one) * np.minimum(np.abs(one), np.abs(two)), 0.0)
    result[..., ratios] = np.where(defined, smaller, np.nan)
    return result
