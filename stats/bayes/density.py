"""Curves for pictures: prior and posterior of a lift on one axis (METHODS C1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stats.bayes.mixture import Array
from stats.bayes.normal import Posterior, prior_mixture
from stats.bayes.prior import Family


@dataclass(frozen=True, slots=True)
class DensityCurves:
    """`lift` (..., P) is the axis as a fraction; `posterior` and `prior` (..., P) are densities per unit of lift.

    Cells that are not estimable are NaN throughout.
    """

    lift: Array
    posterior: Array
    prior: Array


def density_curves(posterior: Posterior, *, points: int = 201) -> DensityCurves:
    """Both densities on an axis that shows 4.5 posterior sd and 2.5 prior scales, evenly spaced in the log lift.

    A flat prior has no scale to show.

    Densities carry the Jacobian `1 / (1 + lift)`, so the area under each curve over all lifts is one. Half of the
    points follow the posterior, so that it stays smooth however narrow it is beside its prior.
    """
    known = posterior.estimable
    mean, sd = np.where(known, posterior.mean, 0.0)[..., None], np.where(known, posterior.sd, 1.0)[..., None]
    prior = posterior.prior
    low, high = mean - 4.5 * sd, mean + 4.5 * sd
    if prior.family is not Family.FLAT:
        low = np.minimum(low, prior.mean - 2.5 * prior.scale)
        high = np.maximum(high, prior.mean + 2.5 * prior.scale)
    near = points // 2
    wide = low + (high - low) * np.linspace(0.0, 1.0, points - near)
    axis = np.sort(np.concatenate([wide, mean + sd * np.linspace(-4.4, 4.4, near)], axis=-1), axis=-1)
    jacobian = np.exp(-axis)
    mask = known[..., None]
    return DensityCurves(
        lift=np.where(mask, np.expm1(axis), np.nan),
        posterior=np.where(mask, posterior.mixture.density(axis) * jacobian, np.nan),
        prior=np.where(mask, prior_mixture(prior).density(axis) * jacobian, np.nan),
    )
