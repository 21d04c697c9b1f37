"""Quantile metrics among all others (METHODS A6): they have no moments, but an estimate and a variance in every arm.

Their intervals come from order statistics with clustering, arms' variances add, and lifts follow the rules of A3 like
everybody's. Nothing is adjusted: covariates do not move a quantile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from experiments.evidence.magnitudes import LARGEST, OUT_OF_RANGE
from experiments.evidence.shapes import NO_DATA, BlockShapes
from stats.estimate import Estimates
from stats.moments import Bools, Ints
from stats.quantile import QuantileSummary, quantile_estimates


def with_quantiles(
    estimates: Estimates,
    units: Ints,
    block: BlockShapes,
    summaries: Mapping[str, QuantileSummary],
    refused: Mapping[str, str],
) -> tuple[Estimates, Ints]:
    """Put the block's quantile metrics into their places, also among `units` (..., V, M): those that have an event.

    `summaries` by metric key have the cells (..., V) of the estimates. A metric that is `refused` has that reason; one
    without a summary has no data.
    """
    if not block.quantiles:
        return estimates, units
    value, variance = estimates.unadjusted.copy(), estimates.raw_variance.copy()
    adjusted, residual, cross = estimates.value.copy(), estimates.variance.copy(), estimates.cross.copy()
    reason, freedom, behind = estimates.reason.copy(), estimates.arm_freedom.copy(), units.copy()
    baseline = estimates.control_covariance.copy()
    for m in block.quantiles:
        key = block.metrics[m].metric_key
        summary = summaries.get(key)
        if summary is None or key in refused:
            reason[..., m] = refused.get(key, NO_DATA)
            behind[..., m] = 0
            continue
        beyond = _beyond(summary)
        centre, lower, upper = (np.where(beyond, 0.0, end) for end in (summary.value, summary.lower, summary.upper))
        point, spread, why = quantile_estimates(replace(summary, value=centre, lower=lower, upper=upper))
        value[..., m] = adjusted[..., m] = np.where(beyond, np.nan, point)
        variance[..., m] = residual[..., m] = cross[..., m] = np.where(beyond, 0.0, spread)
        reason[..., m] = np.where(beyond, OUT_OF_RANGE, why)
        behind[..., m] = summary.units
        freedom[..., m] = np.maximum(summary.units - 1.0, 1.0)
        baseline[..., m] = -variance[..., :1, m]
    merged = replace(
        estimates,
        unadjusted=value,
        raw_variance=variance,
        value=adjusted,
        variance=residual,
        cross=cross,
        reason=reason,
        freedom=freedom,
        baseline_covariance=baseline,
    )
    return merged, behind


def _beyond(summary: QuantileSummary) -> Bools:
    """(..., V) numbers that cannot be squared and divided, as for columns of moments."""
    sizes = np.abs(np.stack([summary.value, summary.lower, summary.upper]))
    known = np.isfinite(sizes)
    return np.asarray((~known | (sizes > LARGEST) | ((sizes > 0) & (sizes < 1 / LARGEST))).any(axis=0))
