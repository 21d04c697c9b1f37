"""Differences and lifts of every treatment against control, by the method that the data allow (A1, A2, A3, A5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.special as sc

from experiments.evidence.arms import Arms
from experiments.evidence.cells import Cells
from experiments.evidence.cluster_effects import with_few_clusters
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from stats.difference import Differences, difference
from stats.lift import Lifts, lift, lift_from
from stats.moments import Bools, Floats
from stats.proportion import refine_small_counts


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Arrays (..., V-1, M). The bounds of `safe` are one-sided with error 1 - ci_level; `few` marks A2."""

    difference: Differences
    lift: Lifts
    safe: Lifts
    few: Bools


def compare(plan: AnalysisPlan, block: BlockShapes, cells: Cells, arms: Arms) -> Comparison:
    """Every treatment with control, in every cell."""
    level, e = plan.estimation.ci_level, arms.estimates
    plain = difference(e, level)
    if block.cluster_size is None:
        found, few = refine_small_counts(plain, cells.moments, block.shapes, level)
        return Comparison(found, lift(e, level, plain.df), lift(e, 2 * level - 1, plain.df), few)
    if arms.few_clusters is not None:
        plain = with_few_clusters(plain, arms.few_clusters, cells.last)
    return Comparison(
        plain,
        _lift_of_clusters(plain, cells, arms, level),
        _lift_of_clusters(plain, cells, arms, 2 * level - 1),
        np.zeros(plain.value.shape, dtype=np.bool_),
    )


def _lift_of_clusters(differences: Differences, cells: Cells, arms: Arms, level: float) -> Lifts:
    """Lifts whose intervals use t instead of the normal distribution, with the degrees of freedom of the difference.

    `log_standard_error` is widened as well, because everything made of it is normal theory; `standard_error` is not.
    """
    e = arms.estimates
    shape = differences.value.shape
    control = np.broadcast_to(e.unadjusted[..., :1, :], shape)
    v_control = np.broadcast_to(e.raw_variance[..., :1, :], shape).copy()
    v_change = e.variance[..., 1:, :] + e.variance[..., :1, :]
    covariance = e.control_covariance.copy()
    if arms.few_clusters is not None:
        found, used = arms.few_clusters.inference, arms.few_clusters.used
        v_control[cells.last][used] = found.control_variance[used]
        v_change[cells.last][used] = np.nan_to_num(found.variance)[used]
        covariance[cells.last][used] = -found.control_variance[used]
    wider = np.where(differences.estimable, _t_over_z(differences.df, level), 1.0)
    square: Floats = wider**2
    reason = differences.reason
    found_lift = lift_from(
        control, differences.value, v_control * square, v_change * square, covariance * square, reason, level
    )
    return replace(found_lift, standard_error=found_lift.standard_error / wider)


def _t_over_z(df: Floats, level: float) -> Floats:
    upper = 0.5 + level / 2
    return np.asarray(sc.stdtrit(np.where(np.isfinite(df), df, 1.0), upper) / sc.ndtri(upper))
