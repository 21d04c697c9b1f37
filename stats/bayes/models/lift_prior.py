"""The prior of a log lift as data of a compiled model: one graph for every family of prior (METHODS C1, C3).

A prior is a mixture of K components, each a normal or a Student-t4: a stated prior is one component, a learned one as
many as it has. K is not compiled in.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
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
    return _operation()(log_lift, parts)[0]


@functools.cache
def _operation() -> Any:
    """One loop over arms and components, with its slope: as matrices it would cost more than the rest of a model.

    The class is made here because importing this module must not import PyTensor.
    """
    from pytensor.gradient import DisconnectedType
    from pytensor.graph.basic import Apply
    from pytensor.graph.op import Op
    from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

    class LogLiftPrior(Op):
        """Log densities and their slopes, both (A,)."""

        __props__ = ()

        def make_node(self, *inputs: Any) -> Any:
            return Apply(self, list(inputs), [inputs[0].type(), inputs[0].type()])

        def perform(self, node: Any, inputs: Sequence[Any], output_storage: list[list[Any]]) -> None:
            log_lift, parts = inputs
            precision, mean = local_normal(log_lift, parts)
            output_storage[0][0] = log_density(log_lift, parts)
            output_storage[1][0] = precision * (mean - log_lift)

        def infer_shape(self, fgraph: Any, node: Any, shapes: list[Any]) -> list[Any]:
            return [shapes[0], shapes[0]]

        def connection_pattern(self, node: Any) -> list[list[bool]]:
            return [[True, False], [False, False]]

        def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
            return [cotangents[0] * outputs[1], DisconnectedType()()]

    @register_funcify_default_op_cache_key(LogLiftPrior)  # type: ignore[no-untyped-call, untyped-decorator]  # theirs
    def compiled(op: Any, node: Any, **kwargs: Any) -> tuple[Any, int]:
        return numba_njit(density_and_slope), 1

    return LogLiftPrior()


def density_and_slope(log_lift: Array, parts: Array) -> tuple[Array, Array]:
    """`log_density` of log lifts (A,) and its derivative, for Numba: the sum is relative to the largest term so far."""
    density, slope = np.empty(log_lift.shape[0]), np.empty(log_lift.shape[0])
    for a in range(log_lift.shape[0]):
        top, total, falls = -np.inf, 0.0, 0.0
        for k in range(parts.shape[0]):
            z = (log_lift[a] - parts[k, 1]) / parts[k, 2]
            if parts[k, 3] > 0:
                term = parts[k, 0] - 2.5 * math.log1p(z * z / 4)
                fall = 5 * z / (4 + z * z) / parts[k, 2]
            else:
                term = parts[k, 0] - 0.5 * z * z
                fall = z / parts[k, 2]
            if term > top:
                rest = math.exp(top - term)
                total, falls, top = total * rest + 1.0, falls * rest + fall, term
            else:
                share = math.exp(term - top)
                total, falls = total + share, falls + share * fall
        density[a] = top + math.log(total)
        slope[a] = -falls / total
    return density, slope


def _terms(log_lift: Array, parts: Array) -> Array:
    log_weight, mean, scale, heavy = parts.T
    squared = ((log_lift[..., None] - mean) / scale) ** 2
    return np.asarray(log_weight + np.where(heavy > 0, -2.5 * np.log1p(squared / 4), -0.5 * squared))
