"""The log density of the hurdle-lognormal model and its gradient (METHODS C2)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from stats.bayes.sampling.contract import Array

SIGMA_GAP: Final = 0.25
"""Standard deviation of log(sigma_v / sigma_0) where every arm has its own."""


def hurdle_density(
    z: Array,
    centre: Array,
    pull: Array,
    width: Array,
    buyers: Array,
    others: Array,
    log_mean: Array,
    log_squares: Array,
    real: Array,
    treated: Array,
    own: Array,
    baseline: Array,
    lift_prior: Array,
) -> tuple[float, Array]:
    """For `stats.bayes.models.written_density`.

    `z`, `centre`, `pull`, `width` are (3, A): rows for the logit of the rate, mu and log sigma. `baseline` (3, 2) is
    location and scale of the control's log rate, log mean order and log sigma. `lift_prior` is (K, 4) as in
    `stats.bayes.models.lift_prior`, of the sum of both log lifts. Everything else is (A,).
    """
    arms, kinds = z.shape[1], lift_prior.shape[0]
    at, slope = np.empty((3, arms)), np.zeros((3, arms))
    rate, log_rate, variance, log_order = np.empty(arms), np.empty(arms), np.empty(arms), np.empty(arms)
    terms = np.empty(kinds)
    total = 0.0

    for a in range(arms):
        for row in range(3):
            at[row, a] = centre[row, a] + pull[row, a] * z[row, 0] + width[row, a] * z[row, a]
        logit, mu, log_sigma = at[0, a], at[1, a], at[2, a]
        log_no = -max(logit, 0.0) - math.log1p(math.exp(-abs(logit)))
        log_rate[a] = logit + log_no
        rate[a] = math.exp(log_rate[a])
        variance[a] = math.exp(2.0 * log_sigma)
        log_order[a] = mu + variance[a] / 2.0
        gap = log_mean[a] - mu
        squares = (log_squares[a] + buyers[a] * gap * gap) / variance[a]
        # d log p / d logit = 1 - p, once per arm: the priors are densities of log rates.
        failures = others[a] + real[a]
        total += buyers[a] * (log_rate[a] - log_sigma) + failures * log_no - squares / 2.0
        slope[0, a] = buyers[a] * (1.0 - rate[a]) - failures * rate[a]
        slope[1, a] = buyers[a] * gap / variance[a]
        slope[2, a] = squares - buyers[a]

    for a in range(1, arms):
        if treated[a] > 0:
            # Both parts of the lift, independent given the component (and the latent scale of a t4).
            rate_lift, order_lift = log_rate[a] - log_rate[0], log_order[a] - log_order[0]
            top = -math.inf
            for k in range(kinds):
                half, scale = lift_prior[k, 1] / 2.0, lift_prior[k, 2]
                squared = 2.0 * ((rate_lift - half) ** 2 + (order_lift - half) ** 2) / scale**2
                tail = 3.0 * math.log1p(squared / 4.0) if lift_prior[k, 3] > 0 else squared / 2.0
                terms[k] = lift_prior[k, 0] - math.log(scale) - tail
                top = max(top, terms[k])
            weight, by_rate, by_order = 0.0, 0.0, 0.0
            for k in range(kinds):
                half, scale = lift_prior[k, 1] / 2.0, lift_prior[k, 2]
                share = math.exp(terms[k] - top)
                precision = 2.0 * share / scale**2
                if lift_prior[k, 3] > 0:
                    squared = 2.0 * ((rate_lift - half) ** 2 + (order_lift - half) ** 2) / scale**2
                    precision *= 6.0 / (4.0 + squared)
                weight += share
                by_rate -= precision * (rate_lift - half)
                by_order -= precision * (order_lift - half)
            total += top + math.log(weight)
            by_rate, by_order = by_rate / weight, by_order / weight
            slope[0, a] += by_rate * (1.0 - rate[a])
            slope[0, 0] -= by_rate * (1.0 - rate[0])
            slope[1, a] += by_order
            slope[1, 0] -= by_order
            slope[2, a] += by_order * variance[a]
            slope[2, 0] -= by_order * variance[0]
        if own[a] > 0:
            apart = (at[2, a] - at[2, 0]) / SIGMA_GAP
            total -= apart * apart / 2.0
            slope[2, a] -= apart / SIGMA_GAP
            slope[2, 0] += apart / SIGMA_GAP

    by_rate = (log_rate[0] - baseline[0, 0]) / baseline[0, 1]
    by_order = (log_order[0] - baseline[1, 0]) / baseline[1, 1]
    by_sigma = (at[2, 0] - baseline[2, 0]) / baseline[2, 1]
    total -= (by_rate**2 + by_order**2 + by_sigma**2) / 2.0
    slope[0, 0] -= by_rate / baseline[0, 1] * (1.0 - rate[0])
    slope[1, 0] -= by_order / baseline[1, 1]
    slope[2, 0] -= by_order / baseline[1, 1] * variance[0] + by_sigma / baseline[2, 1]

    gradient = np.empty((3, arms))
    for row in range(3):
        together = 0.0
        for a in range(arms):
            gradient[row, a] = slope[row, a] * width[row, a]
            together += slope[row, a] * pull[row, a]
            # What is not there is standard normal and touches nothing else: arms, and sigmas of their own.
            if a > 0 and ((row < 2 and real[a] == 0) or (row == 2 and own[a] == 0)):
                total -= z[row, a] ** 2 / 2.0
                gradient[row, a] -= z[row, a]
        gradient[row, 0] += together
    return total, gradient
