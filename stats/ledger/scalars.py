"""The nine numbers that the ledger's likelihood depends on, as standard normal scores of their priors (METHODS F6).

A score z ~ N(0, 1) is the prior's own quantile: `mean = 0.003 z`, `kappa = 0.9 exp(0.35 z)`, and a half-normal scale is
where the prior has `Phi(z)` below. What the data say nothing about is then exactly normal, and logarithms' long left
tails are gone: both are what a sampler wants.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.special as sc

from stats.ledger.contract import Array, LedgerPriors

NAMES: Final = ("mean", "tau", "kappa", "scatter", "remaining", "weeks", "noise", "level_step", "slope_step")
_LEAST: Final = 1e-7
"""Of a scale, relative to its prior's: less makes no difference, and divisions by zero."""


def values(score: Array, priors: LedgerPriors) -> dict[str, Array]:
    """The scalars by name (S,) at scores (S, 9)."""
    found: dict[str, Array] = {}
    for place, name in enumerate(NAMES):
        z, prior = score[:, place], getattr(priors, name)
        if name == "mean":
            found[name] = prior * z
        elif isinstance(prior, tuple):
            found[name] = prior[0] * np.exp(prior[1] * z)
        else:
            found[name] = prior * np.maximum(-sc.ndtri(0.5 * sc.ndtr(-z)), _LEAST)
    return found


def scores(scalars: dict[str, Array], priors: LedgerPriors) -> Array:
    """The inverse of `values`: scores (S, 9)."""
    columns = []
    for name in NAMES:
        value, prior = np.asarray(scalars[name], dtype=np.float64), getattr(priors, name)
        if name == "mean":
            columns.append(value / prior)
        elif isinstance(prior, tuple):
            columns.append(np.log(value / prior[0]) / prior[1])
        else:
            columns.append(-sc.ndtri(2 * sc.ndtr(-value / prior)))
    return np.column_stack(columns)
