"""One log lift made of several: conversion times order value, with the metric's prior on the product (METHODS C2, C3).

A log lift `delta` with prior `f` is the sum of m parts. Given the component of the mixture `f` is (and the latent scale
of a Student-t4), the parts are independent normals with mean / m and variance / m each, so their sum has exactly the
prior `f`: the parts of a t4 are a multivariate t4.
"""

from __future__ import annotations

import numpy as np
import scipy.special as sc

from stats.bayes.models.lift_prior import components
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Array


def part_of(prior: Prior, parts: int) -> Array:
    """The prior of a single part, as components (K, 4) of `stats.bayes.models.lift_prior`."""
    whole = components(prior)
    root = np.sqrt(parts)
    return np.column_stack([whole[:, 0] + np.log(root), whole[:, 1] / parts, whole[:, 2] / root, whole[:, 3]])


def shared_log_density(values: tuple[Array, ...], lift_prior: Array) -> Array:
    """Log density (...,) of the parts, each (...,), under the components (K, 4) of their sum's prior.

    Without a constant that depends only on the number of parts.
    """
    log_weight, mean, scale, heavy = lift_prior.T
    parts = len(values)
    squared = parts * sum((value[..., None] - mean / parts) ** 2 for value in values) / scale**2
    tail = np.where(heavy > 0, (4 + parts) / 2 * np.log1p(squared / 4), 0.5 * squared)
    return np.asarray(sc.logsumexp(log_weight - (parts - 1) * np.log(scale) - tail, axis=-1))
