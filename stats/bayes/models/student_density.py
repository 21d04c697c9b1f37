"""The log density of Student-t values in bins and its gradient (METHODS C2)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from stats.bayes.sampling.contract import Array

NU_MEAN: Final = 29.0
"""Of nu - 1, exponential (Kruschke 2013): as many t's with heavy tails as nearly normal ones."""


def student_density(
    z: Array,
    scales: Array,
    centre: Array,
    pull: Array,
    width: Array,
    middle: Array,
    counts: Array,
    real: Array,
    treated: Array,
    priors: Array,
    lift_prior: Array,
) -> tuple[float, Array]:
    """For `stats.bayes.models.written_density`.

    `z` is (1 + 2 A,): log(nu - 1), the arms' positions, their log scales. An arm's location is the exponential of its
    position where `scales[0]` is 1, else `scales[1] + scales[2] * position`. `centre`, `pull`, `width` are (3, A): rows
    for log(nu - 1) (first column), positions (pulled by the control's z) and log scales (pulled by nu's). `counts`
    (A, B) are units in bins around `middle` (B,). `priors` (2, 2) has location and scale of the control's position and
    of every log scale. `lift_prior` (K, 4) is of the position of a treatment less the control's, as in
    `stats.bayes.models.lift_prior`. `real` and `treated` are (A,).
    """
    arms, bins, kinds = real.shape[0], middle.shape[0], lift_prior.shape[0]
    gradient = np.zeros(z.shape[0])
    position, by_position = np.empty(arms), np.zeros(arms)
    terms = np.empty(kinds)

    tail = math.exp(centre[0, 0] + width[0, 0] * z[0])
    nu = 1.0 + tail
    total = centre[0, 0] + width[0, 0] * z[0] - tail / NU_MEAN
    # lgamma((nu + 1) / 2) - lgamma(nu / 2) and its derivative: Stirling's series after eight steps of the recurrence.
    log_ratio, digamma_gap = 0.0, 0.0
    for half in range(2):
        sign, x = (1.0, (nu + 1.0) / 2.0) if half == 0 else (-1.0, nu / 2.0)
        product, reciprocals = 1.0, 0.0
        for step in range(8):
            product *= x + step
            reciprocals += 1.0 / (x + step)
        x += 8.0
        inverse = 1.0 / (x * x)
        series = 1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))
        slope = 1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse * (1 / 240 - inverse / 132)))
        log_ratio += sign * ((x - 0.5) * math.log(x) - x + series / x - math.log(product))
        digamma_gap += sign * (math.log(x) - 0.5 / x - slope * inverse - reciprocals)
    constant = log_ratio - 0.5 * math.log(nu)
    by_nu = 1.0 / tail - 1.0 / NU_MEAN

    for a in range(arms):
        position[a] = centre[1, a] + pull[1, a] * z[1] + width[1, a] * z[1 + a]
        if real[a] == 0:
            # Arms that are not there are standard normal and touch nothing else.
            total -= (z[1 + a] ** 2 + z[1 + arms + a] ** 2) / 2.0
            gradient[1 + a] -= z[1 + a]
            gradient[1 + arms + a] -= z[1 + arms + a]
            continue
        location = math.exp(position[a]) if scales[0] > 0 else scales[1] + scales[2] * position[a]
        log_scale = centre[2, a] + pull[2, a] * z[0] + width[2, a] * z[1 + arms + a]
        per_scale = math.exp(-log_scale)
        units, logs, by_location, shares = 0.0, 0.0, 0.0, 0.0
        for b in range(bins):
            if counts[a, b] > 0:
                t = (middle[b] - location) * per_scale
                spread = nu + t * t
                share = counts[a, b] / spread
                units += counts[a, b]
                logs += counts[a, b] * math.log(spread)
                by_location += share * t
                shares += share * t * t
        logs -= units * math.log(nu)
        total += units * (constant - log_scale) - (nu + 1.0) / 2.0 * logs
        by_location *= (nu + 1.0) * per_scale
        by_scale = (nu + 1.0) * shares - units
        by_nu += units * (digamma_gap / 2.0 - 0.5 / nu) - logs / 2.0 + (nu + 1.0) / (2.0 * nu) * shares
        apart = (log_scale - priors[1, 0]) / priors[1, 1]
        total -= apart * apart / 2.0
        by_scale -= apart / priors[1, 1]
        gradient[0] += by_scale * pull[2, a]
        gradient[1 + arms + a] += by_scale * width[2, a]
        by_position[a] = by_location * (location if scales[0] > 0 else scales[2])

    apart = (position[0] - priors[0, 0]) / priors[0, 1]
    total -= apart * apart / 2.0
    by_position[0] -= apart / priors[0, 1]
    for a in range(1, arms):
        if treated[a] > 0:
            lift = position[a] - position[0]
            top = -math.inf
            for k in range(kinds):
                gap = (lift - lift_prior[k, 1]) / lift_prior[k, 2]
                fall = 2.5 * math.log1p(gap * gap / 4.0) if lift_prior[k, 3] > 0 else gap * gap / 2.0
                terms[k] = lift_prior[k, 0] - fall
                top = max(top, terms[k])
            weight, slope = 0.0, 0.0
            for k in range(kinds):
                gap = (lift - lift_prior[k, 1]) / lift_prior[k, 2]
                share = math.exp(terms[k] - top)
                weight += share
                slope -= share * gap / lift_prior[k, 2] * (5.0 / (4.0 + gap * gap) if lift_prior[k, 3] > 0 else 1.0)
            total += top + math.log(weight)
            by_position[a] += slope / weight
            by_position[0] -= slope / weight

    for a in range(arms):
        gradient[1 + a] += by_position[a] * width[1, a]
        gradient[1] += by_position[a] * pull[1, a]
    gradient[0] += by_nu * tail * width[0, 0]
    return total, gradient
