"""The prior of a log lift as data of a compiled model: one graph for every family of prior (METHODS C1, C3).

A prior is a mixture of K components, each a normal or a Student-t4: a stated prior is one component, a learned one as
many as it has. K is not compiled in.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Array

_LOG_ROOT_TWO_PI: Final = 0.5 * np.log(2 * np.pi)
_LOG_T4_CONSTANT: Final = np.log(0.375)  # the density of a standard t4 at zero


def components(prior: Prior) -> Array:
    """(K, 4): log weight with all constants, mean, scale, 1 for a t4 and 0 for a normal.

    The density they give is normalised.
    """
    parts = np.array(prior.components or ((1.0, prior.mean, prior.scale),))
    parts = parts[parts[:, 0] > 0]
    heavy = prior.family is Family.STUDENT_T4
    constant = _LOG_T4_CONSTANT if heavy else -_LOG_ROOT_TWO_PI
    log_weight = np.log(parts[:, 0]) - np.log(parts[:, 2]) + constant
    return np.column_stack([log_weight, parts[:, 1], parts[:, 2], np.full(len(parts), float(heavy))])


def log_density(log_lift: Array, parts: Array) -> Array:
    """Log density of `log_lift` (...,) under the components (K, 4)."""
    terms = _terms(log_lift, parts)
    top = terms.max(-1)
    return np.asarray(top + np.log(np.exp(terms - top[..., None]).sum(-1)))


def local_normal(log_lift: Array, parts: Array) -> tuple[Array, Array]:
    """Precision and mean (...,) of the normal that touches the log density at `log_lift` from below.

    Its maximiser climbs (expectation maximisation: responsibilities of the components, and of a t4's latent scale), so
    it stands in for the prior in searches for a mode.
    """
    _, mean, scale, heavy = parts.T
    share = np.exp(_terms(log_lift, parts) - log_density(log_lift, parts)[..., None])
    t4_precision = 5 / (4 * scale**2 + (log_lift[..., None] - mean) ** 2)
    precision = share * np.where(heavy > 0, t4_precision, scale**-2.0)
    total = precision.sum(-1)
    return total, np.asarray((precision * mean).sum(-1) / total)


def graph_log_density(log_lift: Any, parts: Any) -> Any:
    """`log_density` as a PyTensor graph, for a vector (A,) of log lifts and components that are `pm.Data`."""
    import pytensor.tensor as pt
    from pytensor.gradient import disconnected_grad

    log_weight, mean, scale, heavy = (parts[:, column][None, :] for column in range(4))
    squared = ((log_lift[:, None] - mean) / scale) ** 2
    terms = log_weight - heavy * 2.5 * pt.log1p(squared / 4) - (1 - heavy) * 0.5 * squared
    # The largest term only guards against underflow: its own gradient cancels, so it need not be compiled.
    top = disconnected_grad(terms.max(axis=1))
    return top + pt.log(pt.exp(terms - top[:, None]).sum(axis=1))


def _terms(log_lift: Array, parts: Array) -> Array:
    log_weight, mean, scale, heavy = parts.T
    squared = ((log_lift[..., None] - mean) / scale) ** 2
    return np.asarray(log_weight + np.where(heavy > 0, -2.5 * np.log1p(squared / 4), -0.5 * squared))
