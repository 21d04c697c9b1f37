"""Log densities of the models of counts with their gradients, as loops (METHODS C2, `written_density`).

Each function here takes `jit`, which compiles the functions they share, and returns `density(z, *data)`: `z` (2, A) or
(A,) are the sampler's parameters, `position = centre + pull * z[0] + width * z` (`arrowhead`). Arms with `real` 0 are
not there: their `z` are standard normal. Arms with `treated` 1 have a log lift. `baseline` is location and scale of the
control's log mean, `lift_prior` (K, 4) the components of `stats.bayes.models.lift_prior`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stats.bayes.models.lift_prior import density_and_slope
from stats.bayes.sampling.contract import Array

type Jit = Callable[[Any], Any]


def add_priors(log_mean: Array, slope: Array, treated: Array, baseline: Array, values: Array, slopes: Array) -> float:
    """The priors of control and lifts at log means (A,); `slope` (A,), in the log means, takes theirs as well.

    `values`, `slopes` (A,) are the log density of every arm's log lift and its derivative.
    """
    gap = (log_mean[0] - baseline[0]) / baseline[1]
    total: float = -0.5 * gap * gap
    slope[0] -= gap / baseline[1]
    for a in range(1, log_mean.shape[0]):
        total += treated[a] * values[a]
        slope[a] += treated[a] * slopes[a]
        slope[0] -= treated[a] * slopes[a]
    return total


def to_parameters(z: Array, slope: Array, pull: Array, width: Array, there: Array, gradient: Array) -> float:
    """From slopes (A,) in positions to the `gradient` (A,) in `z`; parameters not `there` are standard normal."""
    total = 0.0
    gradient[0] = 0.0
    for a in range(z.shape[0]):
        if there[a] > 0:
            own = slope[a] * width[a]
        else:
            own = -z[a]
            total -= 0.5 * z[a] * z[a]
        gradient[a] = own + (gradient[0] if a == 0 else 0.0)
        gradient[0] += slope[a] * pull[a]
    return total


@functools.cache
def binomial_density(jit: Jit) -> Callable[..., tuple[float, Array]]:
    """`successes` of `units`, both (A,); positions are logits."""
    lifts, priors, back = jit(density_and_slope), jit(add_priors), jit(to_parameters)

    def density(
        z: Array,
        centre: Array,
        pull: Array,
        width: Array,
        units: Array,
        successes: Array,
        real: Array,
        treated: Array,
        baseline: Array,
        lift_prior: Array,
    ) -> tuple[float, Array]:
        arms = z.shape[0]
        log_rate, no = np.empty(arms), np.empty(arms)
        slope, prior_slope, gradient = np.empty(arms), np.zeros(arms), np.empty(arms)
        total = 0.0
        for a in range(arms):
            logit = centre[a] + pull[a] * z[0] + width[a] * z[a]
            log_no = -max(logit, 0.0) - math.log1p(math.exp(-abs(logit)))
            log_rate[a], no[a] = logit + log_no, math.exp(log_no)
            # d log p / d logit = 1 - p, once per arm: the priors are densities of log rates.
            failures = units[a] - successes[a] + real[a]
            total += successes[a] * log_rate[a] + failures * log_no
            slope[a] = successes[a] * no[a] - failures * math.exp(log_rate[a])
        values, slopes = lifts(log_rate - log_rate[0], lift_prior)
        total += priors(log_rate, prior_slope, treated, baseline, values, slopes)
        for a in range(arms):
            slope[a] += prior_slope[a] * no[a]
        return total + back(z, slope, pull, width, real, gradient), gradient

    return density


@functools.cache
def poisson_density(jit: Jit) -> Callable[..., tuple[float, Array]]:
    """`events` of `units`, both (A,); positions are log means."""
    lifts, priors, back = jit(density_and_slope), jit(add_priors), jit(to_parameters)

    def density(
        z: Array,
        centre: Array,
        pull: Array,
        width: Array,
        units: Array,
        events: Array,
        real: Array,
        treated: Array,
        baseline: Array,
        lift_prior: Array,
    ) -> tuple[float, Array]:
        arms = z.shape[0]
        log_mean, slope, gradient = np.empty(arms), np.empty(arms), np.empty(arms)
        total = 0.0
        for a in range(arms):
            log_mean[a] = centre[a] + pull[a] * z[0] + width[a] * z[a]
            expected = units[a] * math.exp(log_mean[a])
            total += events[a] * log_mean[a] - expected
            slope[a] = events[a] - expected
        values, slopes = lifts(log_mean - log_mean[0], lift_prior)
        total += priors(log_mean, slope, treated, baseline, values, slopes)
        return total + back(z, slope, pull, width, real, gradient), gradient

    return density


def rising_factorials(size: float, above: Array, large: Array, large_units: Array) -> tuple[float, float]:
    """Sum over units of `log Gamma(y + size) - log Gamma(size)`, and its derivative in `size`.

    `above` (T,) counts the units with more than j events, j = 0 .. T - 1: a count y adds `log(size + j)` for every
    j < y, so no gamma function is needed. Beyond T there are `large_units` (Q,) with `large` (Q,) events each: there
    Stirling's series is exact to machine precision.
    """
    value, slope = 0.0, 0.0
    for j in range(above.shape[0]):
        if above[j] == 0:
            break
        value += above[j] * math.log(size + j)
        slope += above[j] / (size + j)
    edge = size + above.shape[0]
    for q in range(large.shape[0]):
        if large_units[q] > 0:
            x = size + large[q]
            rise = (x - 0.5) * math.log(x) - x + 1 / (12 * x) - 1 / (360 * x**3)
            rise -= (edge - 0.5) * math.log(edge) - edge + 1 / (12 * edge) - 1 / (360 * edge**3)
            climb = math.log(x) - 1 / (2 * x) - 1 / (12 * x**2) + 1 / (120 * x**4)
            climb -= math.log(edge) - 1 / (2 * edge) - 1 / (12 * edge**2) + 1 / (120 * edge**4)
            value += large_units[q] * rise
            slope += large_units[q] * climb
    return value, slope


@functools.cache
def negative_binomial_density(jit: Jit) -> Callable[..., tuple[float, Array]]:
    """Positions (2, A) are log means and log dispersions; `units`, `events` (A,).

    `above` (A, T), `large` and `large_units` (A, Q) are as in `rising_factorials`.
    `own` (A,) is 1 for arms whose dispersion is a parameter, the control's always; the others have the control's.
    `dispersion` (3,) is location and scale of the control's log dispersion, and the scale of an arm's around it.
    """
    lifts, priors, back = jit(density_and_slope), jit(add_priors), jit(to_parameters)
    factorials = jit(rising_factorials)

    def density(
        z: Array,
        centre: Array,
        pull: Array,
        width: Array,
        units: Array,
        events: Array,
        above: Array,
        large: Array,
        large_units: Array,
        real: Array,
        treated: Array,
        own: Array,
        baseline: Array,
        dispersion: Array,
        lift_prior: Array,
    ) -> tuple[float, Array]:
        arms = z.shape[1]
        log_mean, slope = np.empty(arms), np.zeros(arms)
        spread, spread_slope = np.empty(arms), np.zeros(arms)
        gradient = np.empty((2, arms))
        total = 0.0
        for a in range(arms):
            log_mean[a] = centre[0, a] + pull[0, a] * z[0, 0] + width[0, a] * z[0, a]
            spread[a] = centre[1, a] + pull[1, a] * z[1, 0]
            if own[a] > 0:
                spread[a] += width[1, a] * z[1, a]
            if real[a] == 0:
                continue
            mean, size = math.exp(log_mean[a]), math.exp(-spread[a])
            value, climb = factorials(size, above[a], large[a], large_units[a])
            odds = mean / size
            draws = events[a] + units[a] * size
            total += value + events[a] * (log_mean[a] + spread[a]) - draws * math.log1p(odds)
            slope[a] = events[a] - draws * odds / (1 + odds)
            # size * d/d(size): its own logarithms, and the odds that fall as it grows.
            rise = size * climb - events[a] - units[a] * size * math.log1p(odds) + draws * odds / (1 + odds)
            spread_slope[a] = -rise
        gap = (spread[0] - dispersion[0]) / dispersion[1]
        total -= 0.5 * gap * gap
        spread_slope[0] -= gap / dispersion[1]
        for a in range(1, arms):
            if real[a] * own[a] > 0:
                gap = (spread[a] - spread[0]) / dispersion[2]
                total -= 0.5 * gap * gap
                spread_slope[a] -= gap / dispersion[2]
                spread_slope[0] += gap / dispersion[2]
        values, slopes = lifts(log_mean - log_mean[0], lift_prior)
        total += priors(log_mean, slope, treated, baseline, values, slopes)
        total += back(z[0], slope, pull[0], width[0], real, gradient[0])
        total += back(z[1], spread_slope, pull[1], width[1], own, gradient[1])
        return total, gradient

    return density
