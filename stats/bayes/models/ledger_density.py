"""The log density of the ledger and its gradient, in one operation (METHODS F6).

Level, slope, season and outside influences are integrated out. In second differences the wandering level and slope
under noise have a covariance of five diagonals: its Cholesky factor, and the same diagonals of its inverse, are all
that the density and its gradient need. That is linear in the number of weeks, where the multivariate normal of METHODS
takes the cube of it.

What experiments say of their own effects is integrated out as well. What is sampled for a launch is how far its effect
lies from what its experiment expects, in standard deviations: nearly independent of all the rest, whatever the
experiment's precision.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from stats.bayes.sampling.contract import Array

SCALARS: Final = ("mean", "tau", "kappa", "scatter", "noise", "level_step", "slope_step", "remaining", "weeks")
"""The first of the parameters, in their order."""


def ledger_density(
    z: Array,
    differences: Array,
    coverage: Array,
    launches: Array,
    effects: Array,
    held: Array,
    holdouts: Array,
    priors: Array,
) -> tuple[float, Array]:
    """For `stats.bayes.models.written_density`.

    `differences` (C + 1, N): of the first week's change, then of second differences, N = T - 1; C columns with standard
    normal coefficients, last the log series. `coverage` (J, T). `launches` (J, 8): the week it began; the parameters
    that are its own score, its shared experiment's and its persistence's (-1: none); its effect (-1: blind); median and
    log sd of what remains; its time constant (0: the common one). `effects` (K, 3): estimate, variance, the parameter
    that is its tail (-1: a normal population). `held` (H, J); `holdouts` (H, 3): week, estimate, variance. `priors`
    (14,): of `LedgerPriors`, medians of log-normals as logarithms.

    `z` begins with `SCALARS`: a log-normal is its median times exp(sd z), a half-normal its scale times s(z), with
    s² = -2 log of the normal chance above z. (Logarithms of half-normals have long tails below, which chains seldom
    visit; s makes of them little more than a normal's.) The tail of an effect is log lambda, its variance
    tau² / lambda, lambda Gamma(nu/2, nu/2). Everything else is standard normal, also parameters that nothing refers to.
    """
    parameters, weeks, linear = z.shape[0], differences.shape[1] + 1, differences.shape[0] - 1
    number, measured = launches.shape[0], effects.shape[0]
    gradient = np.empty(parameters)
    total = 0.0
    for k in range(parameters):
        total -= 0.5 * z[k] * z[k]
        gradient[k] = -z[k]
    ratio, rate = np.empty(7), np.empty(7)  # of half-normals to their scales, and how fast the logarithm of it grows
    for k in (1, 3, 4, 5, 6):
        beyond = 0.5 * math.erfc(z[k] / math.sqrt(2.0))
        square = -2.0 * (math.log(beyond) if z[k] > 0.0 else math.log1p(-0.5 * math.erfc(-z[k] / math.sqrt(2.0))))
        ratio[k], rate[k] = math.sqrt(square), math.exp(-0.5 * z[k] * z[k]) / math.sqrt(2.0 * math.pi) / beyond / square
        total -= math.log(ratio[k])
        gradient[k] -= rate[k]
    mean, tau = priors[0] * z[0], priors[1] * ratio[1]
    kappa, scatter = math.exp(priors[2] + priors[3] * z[2]), priors[4] * ratio[3]
    remaining, constant = math.exp(priors[5] + priors[6] * z[7]), math.exp(priors[7] + priors[8] * z[8])
    noise, step = priors[9] * ratio[4], priors[10] * ratio[5]
    turn, first_slope, shape = priors[11] * ratio[6], priors[12], 0.5 * priors[13]

    # Experiments: what each expects of its effect, and how surely, before the series is looked at.
    expected, variance, wide = np.empty(measured), np.empty(measured), np.empty(measured)
    of_expected, of_variance = np.zeros(measured), np.zeros(measured)
    for k in range(measured):
        wide[k] = tau * tau
        if effects[k, 2] >= 0.0:
            tail = int(effects[k, 2])
            weight = math.exp(z[tail])
            wide[k] /= weight
            total += shape * (z[tail] - weight) + 0.5 * z[tail] * z[tail]
            gradient[tail] = shape * (1.0 - weight)
        whole, gap = wide[k] + effects[k, 1], effects[k, 0] - mean
        expected[k] = mean + wide[k] / whole * gap
        variance[k] = wide[k] / whole * effects[k, 1]
        total -= 0.5 * (math.log(whole) + gap * gap / whole)

    # Launches: their effects, and what they add to each week.
    effect, slope = np.empty(number), np.zeros(number)
    left, decay = np.empty(number), np.empty(number)
    added = np.zeros(weeks)
    for j in range(number):
        source = int(launches[j, 4]) if launches[j, 4] >= 0.0 else -1
        centre, spread = (expected[source], variance[source]) if source >= 0 else (mean, tau * tau)
        own = z[int(launches[j, 1])]
        if launches[j, 2] >= 0.0:
            effect[j] = kappa * (centre + math.sqrt(spread) * z[int(launches[j, 2])]) + scatter * own
        else:
            effect[j] = kappa * centre + math.sqrt(kappa * kappa * spread + scatter * scatter) * own
        left[j] = remaining
        if launches[j, 3] >= 0.0:
            left[j] = math.exp(math.log(launches[j, 5]) + launches[j, 6] * z[int(launches[j, 3])])
        decay[j] = math.exp(-1.0 / (launches[j, 7] if launches[j, 7] > 0.0 else constant))
        passing = 1.0
        for t in range(int(launches[j, 0]), weeks):
            added[t] += effect[j] * coverage[j, t] * (left[j] + (1.0 - left[j]) * passing)
            passing *= decay[j]

    # The covariance of second differences by diagonals, and its factor L D L' with L one on the diagonal.
    rows = weeks - 1
    noisy, stepping, turning = noise * noise, step * step, turn * turn
    pivot, below, further = np.empty(rows), np.zeros(rows), np.zeros(rows)
    determinant, product = 0.0, 1.0
    for i in range(rows):
        pivot[i] = 6.0 * noisy + 2.0 * stepping + turning if i > 0 else 2.0 * noisy + stepping + first_slope**2
        near = 0.0
        if i >= 2:
            further[i] = noisy / pivot[i - 2]
            near -= further[i] * pivot[i - 2] * below[i - 1]
            pivot[i] -= further[i] * further[i] * pivot[i - 2]
        if i >= 1:
            near -= (3.0 if i == 1 else 4.0) * noisy + stepping
            below[i] = near / pivot[i - 1]
            pivot[i] -= below[i] * below[i] * pivot[i - 1]
        product *= pivot[i]
        if product < 1e-200 or product > 1e200 or i == rows - 1:  # a logarithm now and then
            determinant += math.log(product)
            product = 1.0

    # Columns and what launches leave of the series, made independent: L⁻¹ x.
    white = np.empty((linear + 1, rows))
    for c in range(linear + 1):
        for i in range(rows):
            value = differences[c, i]
            if c == linear:
                value -= added[i + 1] - added[i]
                if i > 0:
                    value += added[i] - added[i - 1]
            if i >= 1:
                value -= below[i] * white[c, i - 1]
            if i >= 2:
                value -= further[i] * white[c, i - 2]
            white[c, i] = value
    scaled = np.empty(rows)
    lower, half = np.zeros((linear, linear)), np.zeros(linear)
    squares = 0.0
    for c in range(linear + 1):
        for i in range(rows):
            scaled[i] = white[c, i] / pivot[i]
        for d in range(c + 1):
            value = 0.0
            for i in range(rows):
                value += scaled[i] * white[d, i]
            if c == linear:
                if d == linear:
                    squares += value
                else:
                    for e in range(d):
                        value -= lower[d, e] * half[e]
                    half[d] = value / lower[d, d]
                    squares -= half[d] * half[d]
            else:
                if c == d:
                    value += 1.0
                for e in range(d):
                    value -= lower[c, e] * lower[d, e]
                lower[c, d] = math.sqrt(value) if c == d else value / lower[d, d]
        if c < linear:
            total -= math.log(lower[c, c])
    total -= 0.5 * (determinant + squares)

    # The inverse: columns times the root of the coefficients' covariance, and the outcome less what they explain of it.
    for i in range(rows):
        for c in range(linear):
            value = white[c, i]
            for d in range(c):
                value -= lower[c, d] * white[d, i]
            white[c, i] = value / lower[c, c]
            white[linear, i] -= half[c] * white[c, i]
    for c in range(linear + 1):
        for i in range(rows - 1, -1, -1):
            value = white[c, i] / pivot[i]
            if i + 1 < rows:
                value -= below[i + 1] * white[c, i + 1]
            if i + 2 < rows:
                value -= further[i + 2] * white[c, i + 2]
            white[c, i] = value

    # Gradient in the three variances: half of what the residuals have beyond what they are expected to have, along the
    # diagonals: those of the inverse come from the last row up, each from the two below it (Takahashi et al. 1973).
    by_noise, by_step, by_turn = 0.0, 0.0, 0.0
    next_own, next_near, after_own = 0.0, 0.0, 0.0
    for i in range(rows - 1, -1, -1):
        b = below[i + 1] if i + 1 < rows else 0.0
        f = further[i + 2] if i + 2 < rows else 0.0
        near = -b * next_own - f * next_near
        far = -b * next_near - f * after_own
        own = 1.0 / pivot[i] - b * near - f * far
        diagonal, beside, second = -own, -near, -far
        for c in range(linear + 1):
            diagonal += white[c, i] * white[c, i]
            if i + 1 < rows:
                beside += white[c, i] * white[c, i + 1]
            if i + 2 < rows:
                second += white[c, i] * white[c, i + 2]
        by_noise += (1.0 if i == 0 else 3.0) * diagonal - (3.0 if i == 0 else 4.0) * beside + second
        by_step += (0.5 if i == 0 else 1.0) * diagonal - beside
        by_turn += 0.0 if i == 0 else 0.5 * diagonal
        after_own, next_own, next_near = next_own, own, near
    gradient[4] += 2.0 * noisy * by_noise * rate[4]
    gradient[5] += 2.0 * stepping * by_step * rate[5]
    gradient[6] += 2.0 * turning * by_turn * rate[6]

    # Gradient in what launches add to each week, then in holdouts, then back through effects and persistence.
    by_week = np.zeros(weeks)
    for i in range(rows):
        by_week[i + 1] += white[linear, i]
        by_week[i] -= white[linear, i]
        if i > 0:
            by_week[i] -= white[linear, i]
            by_week[i - 1] += white[linear, i]
    pull = np.zeros(holdouts.shape[0])
    for h in range(holdouts.shape[0]):
        week, gap = int(holdouts[h, 0]), holdouts[h, 1]
        for j in range(number):
            age = week - int(launches[j, 0])
            if held[h, j] > 0.0 and age >= 0:
                gap -= held[h, j] * coverage[j, week] * effect[j] * (left[j] + (1.0 - left[j]) * decay[j] ** age)
        total -= 0.5 * gap * gap / holdouts[h, 2]
        pull[h] = gap / holdouts[h, 2]
    for j in range(number):
        by_left, by_constant, passing = 0.0, 0.0, 1.0
        for age in range(weeks - int(launches[j, 0])):
            t = int(launches[j, 0]) + age
            moved = by_week[t]
            for h in range(holdouts.shape[0]):
                if int(holdouts[h, 0]) == t:
                    moved += pull[h] * held[h, j]
            moved *= coverage[j, t]
            slope[j] += moved * (left[j] + (1.0 - left[j]) * passing)
            by_left += moved * (1.0 - passing)
            by_constant += moved * age * passing
            passing *= decay[j]
        if launches[j, 3] >= 0.0:
            gradient[int(launches[j, 3])] += effect[j] * by_left * left[j] * launches[j, 6]
        else:
            gradient[7] += effect[j] * by_left * left[j] * priors[6]
        if launches[j, 7] <= 0.0:
            gradient[8] += effect[j] * by_constant * (1.0 - left[j]) / constant * priors[8]
        source = int(launches[j, 4]) if launches[j, 4] >= 0.0 else -1
        centre, spread = (expected[source], variance[source]) if source >= 0 else (mean, tau * tau)
        own = z[int(launches[j, 1])]
        by_spread = 0.0
        if launches[j, 2] >= 0.0:
            shared, root = z[int(launches[j, 2])], math.sqrt(spread)
            gradient[int(launches[j, 1])] += slope[j] * scatter
            gradient[int(launches[j, 2])] += slope[j] * kappa * root
            gradient[2] += slope[j] * kappa * (centre + root * shared) * priors[3]
            gradient[3] += slope[j] * scatter * own * rate[3]
            by_spread = 0.5 * slope[j] * kappa * shared / root
        else:
            root = math.sqrt(kappa * kappa * spread + scatter * scatter)
            gradient[int(launches[j, 1])] += slope[j] * root
            gradient[2] += slope[j] * kappa * (centre + own * kappa * spread / root) * priors[3]
            gradient[3] += slope[j] * own * scatter * scatter / root * rate[3]
            by_spread = 0.5 * slope[j] * own * kappa * kappa / root
        if source >= 0:
            of_expected[source] += slope[j] * kappa
            of_variance[source] += by_spread
        else:
            gradient[0] += slope[j] * kappa * priors[0]
            gradient[1] += by_spread * 2.0 * spread * rate[1]
    for k in range(measured):
        whole, gap = wide[k] + effects[k, 1], effects[k, 0] - mean
        share = effects[k, 1] / whole
        by_wide = 0.5 * (gap * gap / whole - 1.0) / whole + of_expected[k] * gap * share / whole
        by_wide += of_variance[k] * share * share
        gradient[0] += (gap / whole + of_expected[k] * share) * priors[0]
        gradient[1] += 2.0 * wide[k] * by_wide * rate[1]
        if effects[k, 2] >= 0.0:
            gradient[int(effects[k, 2])] -= wide[k] * by_wide
    return total, gradient
