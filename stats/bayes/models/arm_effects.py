"""From draws of arm means to effects: what every model of arms reports (METHODS C1, C2, C5)."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np

from stats.bayes.diagnostics import bulk_sizes
from stats.bayes.models.fit import ArmPosteriors, Densities, EffectPosteriors
from stats.bayes.normal import Direction, prior_mixture
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Array

POINTS: Final = 101
_AXIS: Final = np.linspace(-4.5, 4.5, POINTS)
_EDGES: Final = np.linspace(-6.0, 6.0, 1201)


def shortest(draws: Array, level: float) -> tuple[Array, Array]:
    """The shortest interval holding `level` of the draws (D, K), for each of K quantities."""
    ordered = np.sort(draws, axis=0)
    width = min(int(np.ceil(level * len(ordered))), len(ordered) - 1)
    start = np.argmin(ordered[width:] - ordered[:-width], axis=0)
    columns = np.arange(ordered.shape[1])
    return ordered[start, columns], ordered[start + width, columns]


def arm_effects(
    means: Array, *, direction: Direction, rope: float, level: float
) -> tuple[EffectPosteriors, ArmPosteriors]:
    """Effects against the first arm and every arm's posterior, from draws (chains, draws, A) of positive arm means.

    `rope` is the half-width of the region of practical equivalence on the log lift. The best arm is the one with the
    largest mean, or the smallest where the metric should decrease.
    """
    sign = 1.0 if direction == "increase" else -1.0
    log_lifts = np.log(means[..., 1:]) - np.log(means[..., :1])
    flat = means.reshape(-1, means.shape[-1])
    logs = log_lifts.reshape(-1, log_lifts.shape[-1])
    differences = flat[:, 1:] - flat[:, :1]
    lower, upper = shortest(logs, level)
    difference_lower, difference_upper = shortest(differences, level)
    gain = sign * logs
    ess = bulk_sizes(np.moveaxis(log_lifts, -1, 0))
    log_mean, log_sd = logs.mean(axis=0), logs.std(axis=0)
    effects = EffectPosteriors(
        log_mean=log_mean,
        log_sd=log_sd,
        mcse=log_sd / np.sqrt(ess),
        lift=np.expm1(log_mean),
        hdi_lower=np.expm1(lower),
        hdi_upper=np.expm1(upper),
        chance_to_win=(gain > 0).mean(axis=0),
        expected_loss=np.maximum(-gain, 0.0).mean(axis=0),
        expected_loss_of_not_shipping=np.maximum(gain, 0.0).mean(axis=0),
        rope_probability=(np.abs(logs) < rope).mean(axis=0),
        difference=differences.mean(axis=0),
        difference_hdi_lower=difference_lower,
        difference_hdi_upper=difference_upper,
        sign_differs=np.full(logs.shape[1], np.nan),
    )
    best = np.argmax(sign * flat, axis=1)
    arm_lower, arm_upper = shortest(flat, level)
    arms = ArmPosteriors(
        mean=flat.mean(axis=0),
        hdi_lower=arm_lower,
        hdi_upper=arm_upper,
        chance_to_be_best=np.bincount(best, minlength=flat.shape[1]) / len(flat),
    )
    return effects, arms


def lift_densities(log_lifts: Array, prior: Prior) -> Densities:
    """Densities of the lifts behind draws (D, E) of log lifts, by a Gaussian kernel (Silverman 1986), beside the prior.

    The axis shows the draws with a margin; densities are per unit of lift.
    """
    centre, spread = log_lifts.mean(axis=0), log_lifts.std(axis=0)
    axis = centre[:, None] + spread[:, None] * _AXIS
    edges = centre[:, None] + spread[:, None] * _EDGES
    counts = [np.histogram(draws, bins=bins)[0] for draws, bins in zip(log_lifts.T, edges, strict=True)]
    density = counts @ _kernels(len(log_lifts)).T / np.maximum(spread, 1e-12)[:, None]
    jacobian = np.exp(-axis)
    return Densities(
        lift=np.expm1(axis), posterior=density * jacobian, prior=prior_mixture(prior).density(axis) * jacobian
    )


@functools.lru_cache(maxsize=4)
def _kernels(draws: int) -> Array:
    """(POINTS, bins): what one draw of each bin adds to the density on the axis, both in standard deviations."""
    width = 1.06 * draws**-0.2
    z = (_AXIS[:, None] - (_EDGES[1:] + _EDGES[:-1]) / 2) / width
    return np.asarray(np.exp(-0.5 * z * z) / (draws * width * np.sqrt(2 * np.pi)))
