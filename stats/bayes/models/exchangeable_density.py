"""The density of (mu, tau) in the coordinates that `exchangeable` samples, written as loops (METHODS C4).

The coordinates are `z`, how far mu is from where data and prior together put it, given tau: under a normal prior it is
exactly standard normal and independent of tau; and `u`, an axis on which tau's half-normal prior looks like a normal on
both sides: linear where tau is large, and logarithmic with a quadratic bend where tau cannot be told from zero, so that
the sampler meets neither the edge at zero nor the cliff of a logarithm at large tau. With a plain logarithm up to one
fit in five had divergences; on these axes there are none, and draws are worth three to four times as much.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from stats.bayes.hierarchy import Array

BEND: Final = 0.25


def coordinates(position: Any, value: Any, loading: Any, variance: Any, constants: Any) -> tuple[Any, Any]:
    """mu and tau at a `position` (2,) = (z, u), as PyTensor graphs."""
    import pytensor.tensor as pt

    z, u = position[0], position[1]
    reference_mean, reference_precision, scale = constants[0], constants[1], constants[2]
    below = pt.log1p(pt.exp(-pt.abs(u))) + pt.maximum(-u, 0.0)  # softplus of -u
    bent = u - BEND * below**2
    tau = scale * (pt.log1p(pt.exp(-pt.abs(bent))) + pt.maximum(bent, 0.0))
    total = variance + tau**2
    precision = reference_precision + (loading**2 / total).sum()
    centre = (reference_precision * reference_mean + (loading * value / total).sum()) / precision
    return centre + z / pt.sqrt(precision), tau


def density(
    position: Array, value: Array, loading: Array, variance: Array, prior: Array, constants: Array
) -> tuple[float, Array]:
    """Log density at a `position` (2,) = (z, u), Jacobians included, and its gradient (2,); floats, for Numba.

    `value`, `loading`, `variance` (E,) are those of a `Hierarchy`, `prior` (K, 4) as in `lift_prior.components`;
    `constants` are a mean and a precision that centre mu, and the scale of tau.
    """
    z, u = position[0], position[1]
    tail = math.log1p(math.exp(-abs(u)))
    below = tail + max(-u, 0.0)  # softplus of -u
    falling = math.exp(-tail - max(u, 0.0))  # logistic of -u
    bent = u - BEND * below * below
    steep = 1.0 + 2 * BEND * below * falling
    bend_tail = math.log1p(math.exp(-abs(bent)))
    t = bend_tail + max(bent, 0.0)
    log_share = -bend_tail - max(-bent, 0.0)  # log of the logistic of bent
    slope = math.exp(log_share) * steep  # dt / du
    curving = -2 * BEND * falling * (falling + below * (1.0 - falling))
    tau = constants[2] * t

    precision, weighted = constants[1], constants[1] * constants[0]
    precision_slope, weighted_slope = 0.0, 0.0
    for i in range(value.shape[0]):
        w = 1.0 / (variance[i] + tau * tau)
        pull = loading[i] * w
        precision += loading[i] * pull
        weighted += value[i] * pull
        precision_slope -= 2 * tau * w * loading[i] * pull
        weighted_slope -= 2 * tau * w * value[i] * pull
    width = 1.0 / math.sqrt(precision)
    centre = weighted / precision
    mu = centre + z * width
    mu_slope = (weighted_slope - centre * precision_slope) / precision - 0.5 * z * width / precision * precision_slope

    top, among, toward = -np.inf, 0.0, 0.0
    for k in range(prior.shape[0]):
        far = (mu - prior[k, 1]) / prior[k, 2]
        if prior[k, 3] > 0:
            term, pull = prior[k, 0] - 2.5 * math.log1p(far * far / 4), -5 * far / (4 + far * far) / prior[k, 2]
        else:
            term, pull = prior[k, 0] - 0.5 * far * far, -far / prior[k, 2]
        if term > top:
            among, toward, top = among * math.exp(top - term) + 1.0, toward * math.exp(top - term) + pull, term
        else:
            among, toward = among + math.exp(term - top), toward + math.exp(term - top) * pull
    log_density = top + math.log(among)
    by_mu, by_tau = toward / among, -0.5 * precision_slope / precision
    for i in range(value.shape[0]):
        total = variance[i] + tau * tau
        residual = (value[i] - loading[i] * mu) / total
        log_density -= 0.5 * (math.log(total) + residual * residual * total)
        by_mu += loading[i] * residual
        by_tau += tau * (residual * residual - 1.0 / total)

    gradient = np.empty(2)
    gradient[0] = by_mu * width
    gradient[1] = (
        ((by_mu * mu_slope + by_tau) * constants[2] - t) * slope + (1.0 - math.exp(log_share)) * steep + curving / steep
    )
    return log_density - 0.5 * (math.log(precision) + t * t) + log_share + math.log(steep), gradient
