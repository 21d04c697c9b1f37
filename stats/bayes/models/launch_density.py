"""The log density of a series before its launch and its gradient, in one operation (METHODS D4).

The level and the coefficients of everything linear are integrated out. Explicit, they are a parameter per period, in a
posterior that NUTS does not walk without divergences. The Kalman filter would do it, period after period for every
column, its derivatives and every gradient. But all that a gradient changes is how much of the changes' variance is the
level's and how much the noise's, so the columns come rotated once and for all (`launch_history.rotated`) to where both
are independent: the same density, in half the time for half a year of days and less for longer series.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from stats.bayes.sampling.contract import Array

FIRST_DONOR: Final = 4
"""Where `z` turns to the donors: log sigma of noise and level, the reach of all donors, and the slab come before."""


def launch_density(z: Array, columns: Array, roughness: Array, scales: Array) -> tuple[float, Array]:
    """For `stats.bayes.models.written_density`.

    `columns` (F + R + 1, m) are F influences with standard normal coefficients, R donors, and last the outcome, in
    m coordinates in which what is left of the outcome is independent with variance step² + noise² `roughness` (m,).
    `scales` (5,): R, then the scales of the priors of noise, step, donors' reach tau and slab.

    `z` is (4 + J,), J >= R. Log sigmas are log scale + z, the sigmas half-normal. tau and lambda_j are half-Cauchy with
    z their normal scores: what is far out for a Cauchy is near for a sampler. The coefficient of donor j is
    Normal(0, c² u / (c² + u)), u = (tau lambda_j)² and c² inverse gamma with log c² = 2 log scale + z[3] (Piironen &
    Vehtari 2017). Donors that are not there are standard normal and touch nothing else.
    """
    width, rows = columns.shape
    linear, donors, parameters = width - 1, int(scales[0]), z.shape[0]
    fixed = linear - donors
    gradient, logs, slopes = np.zeros(parameters), np.zeros(parameters), np.zeros(parameters)
    total = -2.0 * z[3] - 2.0 * math.exp(-z[3])
    gradient[3] = -2.0 + 2.0 * math.exp(-z[3])
    for k in range(2, parameters):
        if k != 3:
            total -= 0.5 * z[k] * z[k]
            gradient[k] = -z[k]
            if k < FIRST_DONOR + donors:
                sine = math.sin(0.25 * math.pi * math.erfc(-z[k] / math.sqrt(2.0)))
                cosine = math.sin(0.25 * math.pi * math.erfc(z[k] / math.sqrt(2.0)))
                logs[k] = math.log(sine) - math.log(cosine)
                slopes[k] = math.sqrt(math.pi / 8.0) * math.exp(-0.5 * z[k] * z[k]) / (sine * cosine)
    sd, reach = np.ones(linear), np.zeros(linear)
    slab = scales[4] * scales[4] * math.exp(z[3])
    for j in range(donors):
        wide = math.exp(2.0 * (math.log(scales[3]) + logs[2] + logs[FIRST_DONOR + j]))
        reach[fixed + j] = slab / (slab + wide)
        sd[fixed + j] = math.sqrt(wide * reach[fixed + j])

    noise, step = scales[1] * math.exp(z[0]), scales[2] * math.exp(z[1])
    for k in range(2):
        ratio = math.exp(z[k])
        total += z[k] - 0.5 * ratio * ratio
        gradient[k] = 1.0 - ratio * ratio

    # Sums of products over the variances: `gram`, and `of_step`, weighted by the step's share of the variance.
    weight, share = np.empty(rows), np.empty(rows)
    product, determinant, steps = 1.0, 0.0, 0.0
    for t in range(rows):
        variance = step * step + noise * noise * roughness[t]
        weight[t] = 1.0 / variance
        share[t] = step * step / variance
        steps += share[t]
        product *= variance
        if product < 1e-200 or product > 1e200 or t == rows - 1:  # a logarithm now and then
            determinant += math.log(product)
            product = 1.0
    gram, of_step = np.empty((width, width)), np.empty((width, width))
    weighted, shared = np.empty(rows), np.empty(rows)
    for i in range(width):
        for t in range(rows):
            weighted[t] = weight[t] * columns[i, t]
            shared[t] = share[t] * weighted[t]
        for j in range(i + 1):
            products, crossed = 0.0, 0.0
            for t in range(rows):
                products += weighted[t] * columns[j, t]
                crossed += shared[t] * columns[j, t]
            gram[i, j], of_step[i, j] = products, crossed

    # Coefficients, in units of their prior sds D: precision 1 + D gram D. An sd may be next to nothing.
    lower, inverse = np.zeros((linear, linear)), np.zeros((linear, linear))
    for i in range(linear):
        for j in range(i + 1):
            value = sd[i] * sd[j] * gram[i, j] + (1.0 if i == j else 0.0)
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            if i == j:
                lower[i, i] = math.sqrt(value)
                total -= math.log(lower[i, i])
            else:
                lower[i, j] = value / lower[j, j]
    for i in range(linear):
        inverse[i, i] = 1.0 / lower[i, i]
        for j in range(i):
            value = 0.0
            for k in range(j, i):
                value -= lower[i, k] * inverse[j, k]
            inverse[j, i] = value * inverse[i, i]
    half, mean = np.zeros(linear), np.zeros(linear)
    for i in range(linear):
        for j in range(i + 1):
            half[i] += inverse[j, i] * sd[j] * gram[linear, j]
    for i in range(linear):
        for k in range(i, linear):
            mean[i] += inverse[i, k] * half[k]

    # By Fisher's identity, from the squares that the data leave expected: of the coefficients, of all that is left, and
    # of the part of it that is the steps'.
    squares, left, by_step = gram[linear, linear], gram[linear, linear] + linear, of_step[linear, linear]
    for i in range(linear):
        squares -= half[i] * half[i]
        by_step -= 2.0 * mean[i] * sd[i] * of_step[linear, i]
        second = 0.0
        for j in range(i + 1):
            second = mean[i] * mean[j]
            for k in range(i, linear):
                second += inverse[i, k] * inverse[j, k]
            by_step += (1.0 if i == j else 2.0) * sd[i] * sd[j] * second * of_step[i, j]
        left -= half[i] * half[i] + second
        if i >= fixed:
            by_log_variance = 0.5 * (second - 1.0)
            gradient[3] += by_log_variance * (1.0 - reach[i])
            gradient[2] += by_log_variance * 2.0 * reach[i] * slopes[2]
            own = FIRST_DONOR + i - fixed
            gradient[own] += by_log_variance * 2.0 * reach[i] * slopes[own]
    gradient[0] += left - by_step - (rows - steps)
    gradient[1] += by_step - steps
    total -= 0.5 * (determinant + squares)
    return total, gradient
