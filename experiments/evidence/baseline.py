"""Baselines for planning: what a unit's metrics were lately, and how fast units come (METHODS A14)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from experiments.evidence.rows import nulls
from experiments.evidence.shapes import joint_shapes
from experiments.plan import BaselinePlan
from experiments.result import BaselineResult, MetricBaseline
from stats.estimate import estimate
from stats.moment_set import MomentSet
from stats.power import baseline
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

    `sd` is that of a unit's influence on the metric, so ratios and formulas plan like means. `cuped_r_squared` is what
    the pre-period explains of it. A metric without any variance keeps its mean and carries a reason.
    """
    shapes = joint_shapes(plan.metrics, plan.metrics, moments)
    estimates = estimate(moments.last, shapes.shapes, True, shapes.invalid)
    found = baseline(estimates)
    units = int(moments.last.count[0])
    mean, sd, explained = nulls(found.value), nulls(found.sd), nulls(found.reduction)
    metrics: list[MetricBaseline] = []
    for m, metric in enumerate(shapes.metrics):
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
