"""Least squares over weights that are not negative and sum to 1: the core of synthetic control methods (METHODS D3)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from stats.moments import Floats

AT_FIRST, MORE = 100, 30
"""Columns tried at first, and added at a time: the effort grows by the square of their number."""
NO_SLOPE = 1e-12
"""A column that improves the fit by less improves nothing but rounding."""


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
    # In units of the best single column q is at most 1, and q / (1 + q) keeps its digits.
    nearest = float(np.sqrt((difference**2).sum(axis=0).min() + ridge))
    if nearest == 0:
        return np.asarray(np.eye(difference.shape[1])[(difference**2).sum(axis=0).argmin()])
    weights = _scaled(difference / nearest, np.sqrt(ridge) / nearest)
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _scaled(difference: Floats, ridge: float) -> Floats:
    """w >= 0 (J,) that minimises ||difference @ w||^2 + ridge^2 ||w||^2 + (sum(w) - 1)^2.

    Few weights are positive, so that only some columns are tried at first, and then those that would improve the fit.
    """
    count = difference.shape[1]
    weights = np.zeros(count)
    tried = np.argsort((difference**2).sum(axis=0), kind="stable")[:AT_FIRST] if count > AT_FIRST else np.arange(count)
    while True:
        some = difference[:, tried]
        own = ridge * np.eye(tried.size if ridge > 0 else 0, tried.size)
        system = np.vstack([some, own, np.ones((1, tried.size))])
        weights[tried] = nnls(system, np.append(np.zeros(len(system) - 1), 1.0))[0]
        slope = difference.T @ (some @ weights[tried]) + (weights.sum() - 1)
        slope[tried] = 0.0
        better = np.argsort(slope, kind="stable")[:MORE]
        better = better[slope[better] < -NO_SLOPE]
        if better.size == 0:
            return weights
        tried = np.concatenate([tried, better])
