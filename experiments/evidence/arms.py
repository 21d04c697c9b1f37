"""Arm estimates of all metrics of a block, each from the estimator its kind and its plan call for.

Means, proportions, ratios and formulas come from moments (A1, A4, E1), adjusted by covariates (A7). Proportions with
small counts are left unadjusted, so that exact methods speak about the same numbers (A2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.evidence.cells import Cells
from experiments.evidence.quantile_effects import with_quantiles
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from stats.estimate import Estimates, estimate
from stats.moments import Bools, Ints
from stats.proportion import small_counts, unadjusted_where


@dataclass(frozen=True, slots=True, eq=False)
class Arms:
    """Estimates and how they were made: `units` (..., V, M) behind each, `stratified` (A8) and `jackknifed` (A4)."""

    estimates: Estimates
    units: Ints
    stratified: Bools
    jackknifed: Bools


def arm_estimates(plan: AnalysisPlan, block: BlockShapes, cells: Cells) -> Arms:
    """Estimates of every cell, arm and metric of the block."""
    estimates = estimate(cells.moments, block.shapes, plan.estimation.cuped, block.invalid)
    if estimates.adjusted.any():
        estimates = unadjusted_where(estimates, small_counts(cells.moments, block.shapes).any(axis=-2))
    units: Ints = np.broadcast_to(cells.moments.count[..., None], estimates.value.shape)
    estimates, units = with_quantiles(estimates, units, block, cells.quantiles, cells.refused)
    shape = (*cells.moments.cells[:-1], len(block.shapes))
    return Arms(
        estimates=estimates,
        units=units,
        stratified=np.zeros(shape, dtype=np.bool_),
        jackknifed=np.zeros(shape, dtype=np.bool_),
    )
