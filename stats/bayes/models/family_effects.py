"""From the posterior of (mu, tau) to what is told of every effect of a family (METHODS A15, C4, C5).

In every cell of the posterior each effect is exactly normal, so means, intervals and probabilities average normals
instead of drawing from them: the same posterior with less Monte Carlo noise, and none on a grid.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.hierarchy import Array, BoolArray, Hierarchy
from stats.bayes.mixture import Mixture, standard_density
from stats.bayes.models.fit import Densities, EffectPosteriors, PredictiveCheck
from stats.bayes.models.lift_prior import components, log_density
from stats.bayes.normal import prior_mixture
from stats.bayes.pooling import Joint, opposite_signs
from stats.bayes.sensitivity import prior_sensitivity

_BATCHES: Final = 10
"""Per chain, for the Monte Carlo error of means."""
_SLICES, _PER_SLICE = 10, 12
_FEW_CELLS: Final = 200
_CHECKED: Final = 1000
_TINY: Final = 1e-200
_DEEPEST: Final = 2000.0
_POINTS: Final = 101


def posteriors(family: Hierarchy, joint: Joint, *, good: Array, rope: float, level: float) -> EffectPosteriors:
    """Posteriors of the effects of a family; `good` (E,) is +1 or -1, the sign of the good direction of each.

    `rope` is a half-width on the log lift. `sign_differs` compares signs in units of each effect's scale.
    """
    offset, slope, noise = family.given_tau(joint.tau)
    mean = offset + slope * joint.centre
    sd = np.sqrt(np.maximum(noise**2 + (slope * joint.spread) ** 2, _TINY))
    weight, z = joint.weight, mean / sd
    log_mean = mean @ weight
    log_sd = np.sqrt((sd**2 + (mean - log_mean[:, None]) ** 2) @ weight)
    above = sc.ndtr(z)
    up = (sd * standard_density(z) + mean * above) @ weight  # E[effect where it is positive]
    down = np.maximum(up - log_mean, 0.0)
    positive = above @ weight
    inside = (sc.ndtr((rope - mean) / sd) - sc.ndtr((-rope - mean) / sd)) @ weight
    toward = np.sign(family.scale)[:, None]
    if joint.chains:
        against = np.where(toward * joint.centre > 0, 1 - above, above) @ weight
        errors = _batch_error(mean.reshape(len(mean), joint.chains, -1))
    else:
        shared = toward * slope * joint.spread / sd
        against = opposite_signs(toward * z, np.broadcast_to(joint.centre / joint.spread, z.shape), shared) @ weight
        errors = np.zeros(len(mean))
    lower, upper = _fewer(joint, mean, sd).hdi(level)
    unknown = np.full(log_mean.shape, np.nan)
    return EffectPosteriors(
        log_mean=log_mean,
        log_sd=log_sd,
        mcse=errors,
        lift=np.expm1(log_mean),
        hdi_lower=np.expm1(lower),
        hdi_upper=np.expm1(upper),
        chance_to_win=np.where(good > 0, positive, 1 - positive),
        expected_loss=np.where(good > 0, down, up),
        expected_loss_of_not_shipping=np.where(good > 0, up, down),
        rope_probability=inside,
        difference=unknown,
        difference_hdi_lower=unknown,
        difference_hdi_upper=unknown,
        sign_differs=against,
    )


def among(effects: EffectPosteriors, known: BoolArray) -> EffectPosteriors:
    """The effects at their places among all that were asked about, NaN elsewhere."""

    def spread(values: Array) -> Array:
        everywhere = np.full(known.shape, np.nan)
        everywhere[known] = values
        return everywhere

    return EffectPosteriors(**{field.name: spread(getattr(effects, field.name)) for field in fields(effects)})


def outlier_check(family: Hierarchy, joint: Joint, seed: int) -> PredictiveCheck:
    """Would families of this model have as large an outlier? Its statistic is the largest standardised residual.

    Fails where one effect is unlike the others. Observed and expected are averages over the posterior.
    """
    rng = np.random.default_rng(seed)
    seen, again = family.standardised_residuals(*joint.drawn(_CHECKED, rng), rng)
    return PredictiveCheck(
        statistic="largest_standardised_residual",
        arm=0,
        observed=float(seen.mean()),
        expected=float(again.mean()),
        p_value=float((again >= seen).mean()),
    )


def sensitivity(family: Hierarchy, joint: Joint, seed: int) -> float:
    """How fast the posterior of any effect moves when the priors of mu and tau are scaled together."""
    rng = np.random.default_rng(seed)
    mu, tau = joint.drawn(_CHECKED, rng)
    log_prior = log_density(mu, components(family.prior)) - 0.5 * (tau / family.between_scale) ** 2
    # Where data and prior are worlds apart weights of 1 and 1e-9 say so as well as weights that leave no draw standing.
    log_prior = np.maximum(log_prior, log_prior.max() - _DEEPEST)
    effects = family.drawn(mu, tau, rng)
    return prior_sensitivity(log_prior[None], {str(e): effects[None, :, e] for e in range(effects.shape[1])})


def densities(family: Hierarchy, joint: Joint) -> Densities:
    """Posterior and prior densities of every lift, per unit of lift; the prior's spread between effects included."""
    offset, slope, noise = family.given_tau(joint.tau)
    mean, sd = offset + slope * joint.centre, np.sqrt(noise**2 + (slope * joint.spread) ** 2)
    effects = _fewer(joint, mean, sd)
    middle, width = effects.moments()
    axis = middle[:, None] + width[:, None] * np.linspace(-4.5, 4.5, _POINTS)
    prior = np.array([_prior_density(family, scale, points) for scale, points in zip(family.scale, axis, strict=True)])
    jacobian = np.exp(-axis)
    return Densities(lift=np.expm1(axis), posterior=effects.density(axis) * jacobian, prior=prior * jacobian)


def _prior_density(family: Hierarchy, scale: float, at: Array) -> Array:
    """Density of one effect before any data, at log lifts (P,): mu's prior widened by tau's."""
    start = prior_mixture(family.prior)
    levels, shares = np.polynomial.legendre.leggauss(24)
    tau = family.between_scale * sc.ndtri((levels + 3) / 4)  # quantiles of the half-normal
    weight, mean = np.multiply.outer(shares / 2, start.weight), np.broadcast_to(start.mean, (tau.size, start.mean.size))
    spread = np.hypot.outer(tau, start.sd)
    return Mixture(weight.ravel(), scale * mean.ravel(), abs(scale) * spread.ravel()).density(at)


def _batch_error(series: Array) -> Array:
    """Monte Carlo standard error (E,) of the means of (E, chains, draws), by batch means."""
    length = max(series.shape[2] // _BATCHES, 1)
    whole = series.shape[2] // length * length
    batches = series[:, :, :whole].reshape(len(series), -1, length).mean(-1)
    return np.asarray(batches.std(axis=1, ddof=1) / np.sqrt(batches.shape[1]))


def _fewer(joint: Joint, mean: Array, sd: Array) -> Mixture:
    """The mixtures of the effects (E, C) with neighbouring cells merged, moments kept: cheap curves and intervals.

    Neighbours have almost the same tau, then almost the same mu.
    """
    weight = joint.weight
    if weight.size <= _FEW_CELLS:
        return Mixture(np.broadcast_to(weight, mean.shape), mean, sd)
    by_tau = np.argsort(joint.tau, kind="stable")
    slices = np.empty(weight.size, dtype=np.int64)
    slices[by_tau] = np.minimum(np.cumsum(weight[by_tau]) * _SLICES, _SLICES - 1e-9).astype(np.int64)
    order = np.lexsort((joint.centre, slices))
    ordered = weight[order]
    within = np.cumsum(ordered) - ordered / 2
    groups = np.minimum((within * _SLICES * _PER_SLICE).astype(np.int64), _SLICES * _PER_SLICE - 1)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    merged = np.add.reduceat(ordered, starts)
    first = np.add.reduceat(ordered * mean[:, order], starts, axis=1) / merged
    second = np.add.reduceat(ordered * (sd[:, order] ** 2 + mean[:, order] ** 2), starts, axis=1) / merged
    return Mixture(np.broadcast_to(merged, first.shape), first, np.sqrt(np.maximum(second - first**2, 1e-300)))
