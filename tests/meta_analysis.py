"""What the reference numbers of many experiments were computed with."""

import numpy as np
from numpy.typing import ArrayLike


def random_effects(effects: ArrayLike, standard_errors: ArrayLike) -> dict[str, float]:
    """DerSimonian and Laird's Q, between-experiment sd and mean, under the names of the reference."""
    effect, variance = np.asarray(effects, float), np.asarray(standard_errors, float) ** 2
    weight = 1 / variance
    fixed = (weight * effect).sum() / weight.sum()
    q = (weight * (effect - fixed) ** 2).sum()
    spread = max(0.0, (q - len(effect) + 1) / (weight.sum() - (weight**2).sum() / weight.sum()))
    weight = 1 / (variance + spread)
    mean = (weight * effect).sum() / weight.sum()
    return {"k": len(effect), "mu_rel_DL": float(mean), "tau_rel_DL": float(np.sqrt(spread)), "Q": float(q)}
