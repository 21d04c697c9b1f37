"""Baselines for planning: what a unit's metrics were lately, and how fast units come (METHODS A14)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from experiments.evidence.rows import nulls
from experiments.evidence.shapes import NO_DATA, joint_shapes
from experiments.plan import BaselinePlan
from experiments.result import BaselineResult, MetricBaseline
from experiments.types import finite
from stats.estimate import estimate
from stats.moment_set import MomentSet
from stats.power import baseline
from stats.quantile import quantile_estimates
from stats.reasons import Reason


def baseline_result(
    plan: BaselinePlan,
    moments: MomentSet,
    cumulative_units: Sequence[int],
    *,
    analysis_id: str,
    data_as_of: datetime,
    code_version: str,
) -> BaselineResult:
    """The document of the baselines. `moments` have one variant (everybody) and the plan's columns.

    `sd` is that of a unit's influence on the metric, so ratios, formulas, surveys and quantiles plan like means: the
    standard error is sd / sqrt(units), whether or not every unit has a value. `cuped_r_squared` is what the pre-period
    explains of it. A metric without any variance keeps its mean and carries a reason.
    """
    shapes = joint_shapes(plan.metrics, plan.metrics, moments)
    estimates = estimate(moments.last, shapes.shapes, True, shapes.invalid)
    found = baseline(estimates)
    units = int(moments.last.count[0])
    mean, sd, explained = nulls(found.value), nulls(found.sd), nulls(found.reduction)
    metrics: list[MetricBaseline] = []
    for m, metric in enumerate(shapes.metrics):
        if metric.spec.kind == "quantile":
            metrics.append(_quantile(metric.metric_key, moments, units))
            continue
        reason = str(found.reason[m])
        readable = units > 0 and reason in ("", Reason.ZERO_VARIANCE, Reason.TOO_FEW_UNITS)
        metrics.append(
            MetricBaseline(
                metric_key=metric.metric_key,
                n=units,
                mean=mean[m] if readable else None,
                sd=None if reason else sd[m],
                cuped_r_squared=None if reason else explained[m],
                reason=reason or None,
            )
        )
    return BaselineResult(
        analysis_id=analysis_id,
        unit_type=plan.unit_type,
        data_as_of=data_as_of,
        metrics=metrics,
        cumulative_units=[int(n) for n in cumulative_units],
        code_version=code_version,
    )


def joined(plan: BaselinePlan, found: Sequence[BaselineResult]) -> BaselineResult:
    """One document of those of several places, by the order of the plan's metrics.

    Nobody knows which units are in several places: the curve of new units is that of the place with the most of them.
    """
    metrics = {item.metric_key: item for result in found for item in result.metrics}
    busiest = max(found, key=lambda result: result.cumulative_units[-1:])
    ordered = [metrics[item.metric_key] for item in plan.metrics if item.metric_key in metrics]
    return busiest.model_copy(update={"metrics": ordered})


def _quantile(key: str, moments: MomentSet, units: int) -> MetricBaseline:
    """A quantile has no covariates; its sd counts the units without events too, because those are recruited as well."""
    cells = moments.quantiles.get(key)
    if cells is None:
        reason = moments.refused.get(key, NO_DATA)
        return MetricBaseline(metric_key=key, n=units, mean=None, sd=None, cuped_r_squared=None, reason=reason)
    values, variances, reasons = (array[-1, 0] for array in quantile_estimates(cells.overall))
    reason = str(reasons)
    return MetricBaseline(
        metric_key=key,
        n=units,
        mean=finite(float(values)),
        sd=None if reason else float(np.sqrt(variances * units)),
        cuped_r_squared=None if reason else 0.0,
        reason=reason or None,
    )
