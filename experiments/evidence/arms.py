"""Arm estimates of all metrics of a block, each from the estimator its kind and its plan call for.

Means, proportions, ratios and formulas come from moments (A1, A4, E1), adjusted by covariates (A7) and within strata
(A8). Proportions with small counts are left unadjusted, so that exact methods speak about the same numbers (A2). Ratios
that the delta method refuses may have a jackknife (A4). Clusters get the precision of clusters (A5), quantiles their
places (A6).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from experiments.evidence.cells import Cells
from experiments.evidence.cluster_effects import FewClusters, few_cluster_inference, with_cluster_precision
from experiments.evidence.quantile_effects import with_quantiles
from experiments.evidence.shapes import BlockShapes
from experiments.evidence.strata import with_strata
from experiments.plan import AnalysisPlan
from stats.estimate import Estimates, estimate
from stats.jackknife import with_jackknife
from stats.moment_set import MomentSet
from stats.moments import Bools, Ints
from stats.proportion import small_counts, unadjusted_where
from stats.reasons import Reason, is_code
from stats.stratification import COMPLETE, estimate_stratified, with_cells


@dataclass(frozen=True, slots=True, eq=False)
class Arms:
    """Estimates, the `units` (..., V, M) behind each, and how they were made: `stratified` (A8) and `jackknifed` (A4)

    are (..., M).
    """

    estimates: Estimates
    units: Ints
    stratified: Bools
    jackknifed: Bools
    few_clusters: FewClusters | None


def arm_estimates(plan: AnalysisPlan, block: BlockShapes, cells: Cells) -> Arms:
    """Estimates of every cell, arm and metric of the block."""
    estimates = estimate(cells.moments, block.shapes, plan.estimation.cuped, block.invalid)
    if estimates.adjusted.any():
        estimates = unadjusted_where(estimates, small_counts(cells.moments, block.shapes).any(axis=-2))
    estimates, stratified = with_strata(plan, block, cells, estimates)
    units: Ints = np.broadcast_to(cells.moments.count[..., None], estimates.value.shape)
    jackknifed = np.zeros(stratified.shape, dtype=np.bool_)
    few = None
    if block.cluster_size is not None:
        few = few_cluster_inference(plan, block, cells, estimates, stratified)
        estimates = with_cluster_precision(estimates, block, cells.moments)
    elif cells.buckets is not None:
        estimates, jackknifed = _with_jackknife(estimates, block, cells, stratified)
    estimates, units = with_quantiles(estimates, units, block, cells.quantiles, cells.refused)
    stratified[..., list(block.quantiles)] = False
    return Arms(estimates, units, stratified, jackknifed, few)


def joint_estimates(block: BlockShapes, data: MomentSet, adjust: bool) -> Estimates:
    """Estimates (V, M) of everybody at the last look by one method for all metrics, so that identities between metrics

    hold among estimates too (METHODS E1, E2): within strata and with the precision of clusters, but without what only
    some metrics need (A2, A4 by jackknife, A6).
    """
    if data.by_stratum is not None:
        estimates = estimate_stratified(data.by_stratum[-1], block.shapes, adjust, block.invalid)
    else:
        estimates = estimate(data.last, block.shapes, adjust, block.invalid)
    return estimates if block.cluster_size is None else with_cluster_precision(estimates, block, data.last)


def _with_jackknife(
    estimates: Estimates, block: BlockShapes, cells: Cells, stratified: Bools
) -> tuple[Estimates, Bools]:
    """Everybody at the last look by the jackknife where the delta method refuses a ratio, and (..., M) where.

    Buckets know nothing of strata, so where these are used ratios stay refused.
    """
    used, last = np.zeros(stratified.shape, dtype=np.bool_), cells.last
    refused = is_code(estimates.reason[last], Reason.DENOMINATOR_NEAR_ZERO).any(axis=0)
    ratios = np.array([shape.denominator is not None for shape in block.shapes], dtype=np.bool_)
    if cells.buckets is None or stratified[last].any() or not (refused & ratios).any():
        return estimates, used
    arrays = {name: getattr(estimates, COMPLETE.get(name, name)) for name in _ARRAYS}
    one = replace(estimates, **{name: array[last] for name, array in arrays.items()})
    found = with_jackknife(one, cells.buckets, block.shapes)
    used[last] = refused & ratios & is_code(found.reason, "").all(axis=0)
    again = replace(found, **{name: getattr(found, name)[None] for name in _ARRAYS})
    return with_cells(estimates, slice(last, last + 1), again), used


_ARRAYS = tuple(field.name for field in fields(Estimates) if field.name != "keys")
