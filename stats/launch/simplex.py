"""Least squares over weights that are not negative and sum to 1: the core of synthetic control methods (METHODS D3)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from stats.moments import Floats


def simplex_weights(columns: Floats, target: Floats, *, ridge: float = 0.0, intercept: bool = False) -> Floats:
    """Weights (J,) that minimise ||columns @ w - target||^2 + ridge ||w||^2 over w >= 0, sum(w) = 1.

    `columns` (R, J), `target` (R,), finite. With `intercept` a free constant is added to the fit. Where several weights
    fit equally well, the answer is one with few positive entries. J = 1 gives weight 1.

    Exact, by non-negative least squares (Lawson & Hanson 1974): weights sum to 1, so the fit's error is D w with
    D = columns - target. For w times a scale s the sum ||s D w||^2 + (s - 1)^2 is least at s = 1 / (1 + q), where it is
    q / (1 + q), q = ||D w||^2: it grows with q, so that its minimum over s w >= 0 is ours up to the scale.
    """
    difference = columns - target[:, None]
    if intercept:
        difference = difference - difference.mean(axis=0)
    count = difference.shape[1]
    if ridge > 0:
        difference = np.vstack([difference, np.sqrt(ridge) * np.eye(count)])
    # In units of the best single column q is at most 1, and q / (1 + q) keeps its digits.
    nearest = float(np.sqrt((difference**2).sum(axis=0).min()))
    if nearest == 0:
        return np.asarray(np.eye(count)[(difference**2).sum(axis=0).argmin()])
    scaled = np.vstack([difference / nearest, np.ones((1, count))])
    weights, _ = nnls(scaled, np.append(np.zeros(len(difference)), 1.0))
    return np.asarray(weights / weights.sum(), dtype=np.float64)
