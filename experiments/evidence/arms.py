"""Arm estimates of all metrics of a block, each from the estimator its kind and its plan call for.

Means, proportions, ratios and formulas come from moments (A1, A4, E1), adjusted by covariates (A7). Proportions with
small counts are left unadjusted, so that exact methods speak about the same numbers (A2). Clusters get the precision of
clusters (A5), and quantiles their places (A6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.evidence.cells import Cells
from experiments.evidence.cluster_effects import FewClusters, few_cluster_inference, with_cluster_precision
from experiments.evidence.quantile_effects import with_quantiles
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from stats.estimate import Estimates, estimate
from stats.moments import Bools, Floats, Ints
from stats.proportion import small_counts, unadjusted_where


@dataclass(frozen=True, slots=True, eq=False)
class Arms:
    """Estimates and how they were made.

    Behind each are `units` and `freedom` (..., V, M), the degrees of freedom of its variance. `stratified` (A8) and
    `jackknifed` (A4) are (..., M).
    """

    estimates: Estimates
    units: Ints
    freedom: Floats
    stratified: Bools
    jackknifed: Bools
    few_clusters: FewClusters | None


def arm_estimates(plan: AnalysisPlan, block: BlockShapes, cells: Cells) -> Arms:
    """Estimates of every cell, arm and metric of the block."""
    estimates = estimate(cells.moments, block.shapes, plan.estimation.cuped, block.invalid)
    if estimates.adjusted.any():
        estimates = unadjusted_where(estimates, small_counts(cells.moments, block.shapes).any(axis=-2))
    shape = (*cells.moments.cells[:-1], len(block.shapes))
    units: Ints = np.broadcast_to(cells.moments.count[..., None], estimates.value.shape)
    freedom: Floats = np.maximum(units - 1.0, 1.0)
    few = None
    if block.cluster_size is not None:
        few = few_cluster_inference(plan, block, cells, estimates)
        estimates, freedom = with_cluster_precision(estimates, block, cells.moments)
    estimates, units = with_quantiles(estimates, units, block, cells.quantiles, cells.refused)
    freedom[..., list(block.quantiles)] = np.maximum(units[..., list(block.quantiles)] - 1.0, 1.0)
    return Arms(
        estimates=estimates,
        units=units,
        freedom=freedom,
        stratified=np.zeros(shape, dtype=np.bool_),
        jackknifed=np.zeros(shape, dtype=np.bool_),
        few_clusters=few,
    )
