"""Is it safe, is it the same: non-inferiority and equivalence against a margin (METHODS A10).

"Not significantly worse" is no evidence of safety: it clears a harm as large as the margin in most small tests. Here
the harm of `margin` is the hypothesis to be rejected. Estimate, standard error and margin share a scale: differences
in units of the metric, or log lifts with a margin from `log_margin`.
"""

from __future__ import annotations

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.moments import Floats


def log_margin(margin: ArrayLike, direction: ArrayLike = 1) -> Floats:
    """Largest tolerated relative harm as a margin > 0 on the log scale, in the bad direction.

    With `direction` 1 (more is better) a harm of 0.1 means losing a tenth, -ln(0.9) = 0.105; with -1 (less is better)
    gaining a tenth, ln(1.1) = 0.095. Raises `ValueError` for margins that are not positive, or lose everything.
    """
    size, sign = np.asarray(margin, dtype=np.float64), _sign(direction)
    if (size <= 0).any() or (size >= 1)[np.broadcast_to(sign > 0, size.shape)].any():
        raise ValueError("a margin is positive, and below 1 where more is better")
    return np.asarray(-sign * np.log1p(-sign * size), dtype=np.float64)


def non_inferiority(
    estimate: ArrayLike, standard_error: ArrayLike, df: ArrayLike, margin: ArrayLike, direction: ArrayLike = 1
) -> Floats:
    """One-sided p-value of "the harm is `margin` or more"; small means safe. All arguments broadcast.

    `direction` is 1 where more is better and -1 where less is; `margin` > 0 is measured in the bad direction (0 tests
    superiority). `df` of Student's t (inf: normal). p < alpha exactly when the one-sided 1 - alpha bound of the effect
    in the good direction lies above -margin. nan where the estimate or its standard error is nan or not positive.
    """
    value, sign = np.asarray(estimate, dtype=np.float64), _sign(direction)
    room = np.asarray(margin, dtype=np.float64)
    if (room < 0).any():
        raise ValueError("a margin cannot be negative")
    return _upper_tail(sign * value + room, standard_error, df)


def equivalence(
    estimate: ArrayLike,
    standard_error: ArrayLike,
    df: ArrayLike,
    margin: ArrayLike,
    upper_margin: ArrayLike | None = None,
) -> Floats:
    """Two one-sided tests (Schuirmann 1987): p-value of "the effect is not within (-margin, upper_margin)".

    `upper_margin` defaults to `margin`. p < alpha exactly when the two-sided 1 - 2 alpha interval lies within.
    """
    value, below = np.asarray(estimate, dtype=np.float64), np.asarray(margin, dtype=np.float64)
    above = below if upper_margin is None else np.asarray(upper_margin, dtype=np.float64)
    if (below <= 0).any() or (above <= 0).any():
        raise ValueError("margins of equivalence must be positive")
    return np.maximum(_upper_tail(value + below, standard_error, df), _upper_tail(above - value, standard_error, df))


def _upper_tail(distance: Floats, standard_error: ArrayLike, df: ArrayLike) -> Floats:
    error = np.asarray(standard_error, dtype=np.float64)
    usable = error > 0
    return np.where(usable, sc.stdtr(np.asarray(df, float), -distance / np.where(usable, error, 1.0)), np.nan)


def _sign(direction: ArrayLike) -> Floats:
    sign = np.asarray(direction, dtype=np.float64)
    if not np.isin(sign, (-1.0, 1.0)).all():
        raise ValueError("direction is 1 or -1")
    return sign
