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
