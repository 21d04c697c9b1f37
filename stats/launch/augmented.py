"""Synthetic control whose imbalance before the launch is corrected by a ridge regression (METHODS D3)."""

from __future__ import annotations

import numpy as np

from stats.launch.donors import Comparison, Weighted
from stats.launch.simplex import simplex_weights
from stats.moments import Floats

PENALTIES = np.geomspace(1.0, 1e-8, 20)
"""Candidates for the penalty, in units of the largest squared singular value of the donors' past."""
HELD_OUT = 24
"""At most so many periods are held out in turn to choose the penalty, spread evenly over the past."""


def augmented_weights(case: Comparison) -> Weighted:
    """Simplex weights plus the ridge correction of what they leave unexplained; sum to 1, may be negative.

    The penalty is the largest whose error in held-out periods is within one standard error of the least. Source:
    Ben-Michael, Feller & Rothstein (2021), sections 3 and 5.3.
    """
    past, outcome = case.donors[:, : case.before], case.outcome[: case.before]
    centre = past.mean(axis=0)
    past, outcome = past - centre, outcome - centre
    products = past @ past.T
    largest = float(np.linalg.norm(products, ord=2))
    if largest == 0:
        return Weighted(simplex_weights(past.T, outcome), np.zeros(case.before))
    penalties = PENALTIES * largest
    held = np.unique(np.linspace(0, case.before - 1, min(HELD_OUT, case.before)).astype(int))
    errors = np.empty((held.size, penalties.size))
    for row, period in enumerate(held):
        column = past[:, period]
        rest, target = np.delete(past, period, axis=1), np.delete(outcome, period)
        weights = _corrected(rest, target, products - np.outer(column, column), penalties)
        errors[row] = (outcome[period] - weights @ column) ** 2
    mean, spread = errors.mean(axis=0), errors.std(axis=0, ddof=1) / np.sqrt(held.size)
    best = int(mean.argmin())
    chosen = penalties[np.flatnonzero(mean <= mean[best] + spread[best])[:1]]
    return Weighted(_corrected(past, outcome, products, chosen)[0], np.zeros(case.before))


def _corrected(past: Floats, outcome: Floats, products: Floats, penalties: Floats) -> Floats:
    """(L, J) weights w + (y - w X) X' (X X' + penalty)^-1 for penalties (L,), `products` X X' of X = `past` (J, R)."""
    weights = simplex_weights(past.T, outcome)
    size, vectors = np.linalg.eigh(products)
    missed = (past @ (outcome - weights @ past)) @ vectors
    return np.asarray(weights + (missed / (size.clip(min=0.0) + penalties[:, None])) @ vectors.T)
