"""Clusters as units (METHODS A5): how precise their ratios are, in every cell and, where totals are kept, exactly.

A linearised ratio takes the spread of its residuals for their variance, but a large cluster pulls the estimate towards
itself. CR2 undoes that by 1 / (1 - h) with h the cluster's share of the denominator (Bell & McCaffrey 2002). Cells that
have only moments take the share that counts, h = sum d^3 / (sum d^2 sum d), as if residual totals grew with the
cluster, and 1 / sum h^2 - 1 degrees of freedom: with log-normal sizes (sigma = 1) and 4 to 40 clusters per arm a true
null is then rejected in 2 to 6 % of cases, without it in 6 to 11 %. Everybody at the last look has the table of totals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.special as sc

from experiments.evidence.cells import Cells
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from stats.clusters import ClusterInference, few_clusters
from stats.difference import Differences
from stats.estimate import Estimates
from stats.moments import Bools, Floats, Moments, safe_divide
from stats.reasons import Reason

FEW_CLUSTERS = 40
"""With fewer clusters than this in an arm, inference comes from the clusters' totals (CR2)."""
ALONE = 0.99
"""A cluster that makes up this much of an arm leaves nothing to compare it with."""
CLEARLY_POSITIVE = 3.0
"""Standard errors that the mean of a denominator must be away from zero when units are clusters."""


@dataclass(frozen=True, slots=True, eq=False)
class FewClusters:
    """Inference from cluster totals at the last look, and `used` (V-1, M): where it replaces that from moments."""

    inference: ClusterInference
    used: Bools


def with_cluster_precision(estimates: Estimates, block: BlockShapes, moments: Moments) -> Estimates:
    """Estimates with variances as CR2 would have them, and the degrees of freedom that leaves.

    A cluster's size is never zero, so its ratio needs no precise denominator like that of A4; other denominators must
    be three standard errors away from zero.
    """
    assert block.cluster_size is not None
    inflation, freedom = np.ones(estimates.value.shape), np.ones(estimates.value.shape)
    reason, count = estimates.reason.copy(), moments.count
    known = {column: _pull(moments, column) for column in {block.cluster_size, *_denominators(block)}}
    for m, shape in enumerate(block.shapes):
        column = block.cluster_size if shape.denominator is None else shape.denominator
        pull = known[column]
        inflation[..., m], freedom[..., m] = pull.inflation, pull.freedom
        precise = pull.positive if column == block.cluster_size else pull.clearly_positive
        codes = reason[..., m]
        flat = estimates.variance[..., m] * count <= (1e-9 * np.nan_to_num(estimates.value[..., m])) ** 2
        vague = codes == Reason.DENOMINATOR_NEAR_ZERO
        codes[vague & precise & flat] = str(Reason.ZERO_VARIANCE)
        codes[vague & precise & ~flat] = ""
        codes[(codes == "") & pull.alone] = str(Reason.TOO_FEW_CLUSTERS)
    return replace(
        estimates,
        variance=estimates.variance * inflation,
        raw_variance=estimates.raw_variance * inflation,
        cross=estimates.cross * inflation,
        baseline_covariance=estimates.control_covariance * inflation[..., :1, :],
        freedom=np.minimum(freedom, estimates.arm_freedom),
        mean_covariance=estimates.mean_covariance * known[block.cluster_size].inflation[..., None, None],
        reason=reason,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Pull:
    """What unequal clusters do to the variance of a ratio with one denominator, arrays (..., V)."""

    inflation: Floats
    freedom: Floats
    alone: Bools
    positive: Bools
    clearly_positive: Bools


def _denominators(block: BlockShapes) -> set[int]:
    return {shape.denominator for shape in block.shapes if shape.denominator is not None}


def _pull(moments: Moments, column: int) -> _Pull:
    count, mean = moments.count.astype(float), moments.mean[..., column]
    spread = np.maximum(moments.comoment[..., column, column], 0.0)
    square = spread + count * mean**2
    cube = moments.third[..., column] + 3 * mean * spread + count * mean**3
    total = count * mean
    share = np.clip(safe_divide(cube, square * total), 0.0, 1.0)
    alone = share >= ALONE
    left = np.where((total > 0) & ~alone, 1 - share, 1.0)
    linear = np.where(total > 0, safe_divide(np.maximum(count - 1, 0.0), count), 1.0)
    error = np.sqrt(safe_divide(spread, count * np.maximum(count - 1, 0.0)))
    return _Pull(
        inflation=linear / left,
        freedom=np.maximum(safe_divide(total**2, square) - 1, 1.0),
        alone=alone,
        positive=mean > 0,
        clearly_positive=(mean > 0) & (mean >= CLEARLY_POSITIVE * error),
    )


def few_cluster_inference(
    plan: AnalysisPlan, block: BlockShapes, cells: Cells, estimates: Estimates, stratified: Bools
) -> FewClusters | None:
    """Everybody at the last look from cluster totals, where an arm has few and estimates are those of totals."""
    if cells.clusters is None:
        return None
    count = cells.moments.count[cells.last]
    few = np.minimum(count[1:], count[0]) < FEW_CLUSTERS
    if not few.any():
        return None
    found = few_clusters(cells.clusters, block.shapes, len(count), plan.estimation.ci_level, plan.estimation.seed)
    if (vain := found.estimable & (found.df < 1)).any():
        # One cluster says nearly everything: with less than one degree of freedom there is no interval worth the name.
        found = replace(found, reason=np.where(vain, str(Reason.TOO_FEW_CLUSTERS), found.reason))
    refused = np.array([any(column in block.invalid for column in shape.columns) for shape in block.shapes])
    quantile = np.isin(np.arange(len(block.shapes)), block.quantiles)
    changed = refused | quantile | stratified[cells.last] | estimates.adjusted[cells.last]
    return FewClusters(found, few[:, None] & ~changed)


def with_few_clusters(differences: Differences, few: FewClusters, last: int) -> Differences:
    """The differences, at cell `last` with inference from cluster totals where that is used."""
    found, used = few.inference, few.used
    half = sc.stdtrit(np.where(found.estimable, found.df, 1.0), 0.5 + differences.ci_level / 2) * found.standard_error

    def placed(numbers: Floats, new: Floats) -> Floats:
        result = numbers.copy()
        result[last][used] = np.where(found.estimable, new, np.nan)[used]
        return result

    reason, estimable = differences.reason.copy(), differences.estimable.copy()
    reason[last][used] = found.reason[used]
    estimable[last][used] = found.estimable[used]
    return replace(
        differences,
        standard_error=placed(differences.standard_error, found.standard_error),
        df=placed(differences.df, found.df),
        p_value=placed(differences.p_value, found.p_value),
        log10_p=placed(differences.log10_p, found.log10_p),
        ci_lower=placed(differences.ci_lower, found.difference - half),
        ci_upper=placed(differences.ci_upper, found.difference + half),
        estimable=estimable,
        reason=reason,
    )
