"""Sample size and duration before the first exposure, from stored baselines (METHODS A14, A10, A11).

Primary metrics are planned for superiority at their `mde`, guardrails for non-inferiority at their margin when the true
effect is zero. To ship, one primary must win and all guardrails must clear, so each test gets the power that makes the
whole decision succeed with the power asked for: 1 - (1 - power) / (guardrails + 1) (A11). Alpha is divided over
primaries x treatments, never over guardrails. The experiment needs what its most demanding metric needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from experiments.definitions import PlanMetric, Role, Variant
from experiments.result import BaselineResult, Document, MetricBaseline
from experiments.types import finite
from stats.accumulation import Accumulation
from stats.power import Design, minimum_detectable_effect, non_inferiority_units, required_units

CURVE_DAYS = 84
NO_BASELINE = "no_baseline"
NO_HISTORY = "no_history"
NO_MDE = "no_mde"
BASELINE_NOT_POSITIVE = "baseline_is_zero"
NOTHING_TO_PLAN_FOR = "nothing_to_plan_for"


class VariantSize(Document):
    variant_key: str
    units: int


class MetricSize(Document):
    """What one metric needs. `effect` is the lift (primary) or the margin (guardrail) it is planned for."""

    metric_key: str
    role: str
    test: Literal["superiority", "non_inferiority"]
    effect: float | None
    baseline_mean: float | None
    baseline_sd: float | None
    variance_reduction: float | None
    units: int | None
    days: float | None
    reason: str | None = None


class CurvePoint(Document):
    """After `day` days: units so far, and the smallest lift each primary metric would detect."""

    day: int
    units: int
    mde: dict[str, float | None]


class SampleSize(Document):
    """How many units and days the experiment needs; null with a `reason` when it cannot be said."""

    units: int | None
    days: float | None
    variants: list[VariantSize]
    limiting_metric: str | None
    metrics: list[MetricSize]
    curve: list[CurvePoint]
    alpha: float
    power: float
    power_per_test: float
    comparisons: int
    monitoring: Literal["fixed", "always_valid"]
    coverage: float
    reason: str | None = None


def sample_size(
    *,
    variants: Sequence[Variant],
    metrics: Sequence[PlanMetric],
    baselines: BaselineResult,
    alpha: float = 0.05,
    power: float = 0.8,
    coverage: float = 1.0,
    cuped: bool = True,
    monitoring: Literal["fixed", "always_valid"] = "fixed",
    curve_days: int = CURVE_DAYS,
) -> SampleSize:
    """Plan an experiment with these variants (one control) and metrics. `alpha` is two-sided for primaries.

    `monitoring="always_valid"` sizes it for deciding by the always-valid interval. Raises `ValueError` for alpha or
    power outside (0, 1), coverage outside (0, 1] and variants without a control.
    """
    if not 0 < coverage <= 1:
        raise ValueError("coverage must be above 0 and at most 1")
    control = next((variant for variant in variants if variant.is_control), None)
    treatments = [variant for variant in variants if not variant.is_control]
    if control is None or not treatments:
        raise ValueError("planning needs a control and a treatment")
    primaries = [metric for metric in metrics if metric.role is Role.PRIMARY]
    guardrails = [metric for metric in metrics if metric.role is Role.GUARDRAIL]
    comparisons = max(1, len(primaries) * len(treatments))
    per_test = 1 - (1 - power) / (len(guardrails) + 1)
    known = {item.metric_key: item for item in baselines.metrics}
    traffic = _traffic(baselines, coverage)

    def design(treatment: Variant, *, guardrail: bool) -> Design:
        return Design(
            alpha=alpha,
            power=per_test,
            treatment_share=treatment.weight,
            control_share=control.weight,
            comparisons=1 if guardrail else comparisons,
            sides=1 if guardrail else 2,
            monitoring=monitoring,
        )

    # The smallest treatment needs the largest experiment.
    smallest = min(treatments, key=lambda variant: variant.weight)
    superiority, safety = design(smallest, guardrail=False), design(smallest, guardrail=True)
    sizes = [_size(m, known.get(m.metric_key), superiority, traffic, cuped) for m in primaries]
    sizes += [_size(m, known.get(m.metric_key), safety, traffic, cuped) for m in guardrails]
    needed = [size for size in sizes if size.units is not None]
    open_questions = [size for size in sizes if size.units is None]
    limiting = max(needed, key=lambda size: size.units or 0, default=None)
    units = limiting.units if limiting and not open_questions else None
    reason: str | None = None
    if units is None:
        reason = (
            f"{open_questions[0].metric_key}: {open_questions[0].reason}" if open_questions else NOTHING_TO_PLAN_FOR
        )
    elif limiting is not None and limiting.days is None:
        reason = limiting.reason
    return SampleSize(
        units=units,
        days=limiting.days if limiting and units is not None else None,
        variants=[VariantSize(variant_key=v.key, units=int(np.ceil(units * v.weight - 1e-9))) for v in variants]
        if units is not None
        else [],
        limiting_metric=limiting.metric_key if limiting and units is not None else None,
        metrics=sizes,
        curve=_curve(primaries, known, superiority, traffic, cuped, curve_days),
        alpha=alpha,
        power=power,
        power_per_test=per_test,
        comparisons=comparisons,
        monitoring=monitoring,
        coverage=coverage,
        reason=reason,
    )


def _traffic(baselines: BaselineResult, coverage: float) -> Accumulation | None:
    curve = baselines.cumulative_units
    return Accumulation.fit(curve, coverage=coverage) if curve and curve[-1] > 0 else None


def _size(
    metric: PlanMetric, known: MetricBaseline | None, design: Design, traffic: Accumulation | None, cuped: bool
) -> MetricSize:
    guardrail = metric.role is Role.GUARDRAIL
    effect = metric.non_inferiority_margin if guardrail else metric.mde
    units: int | None = None
    days: float | None = None
    explained = (known.cuped_r_squared or 0.0) if known and cuped else 0.0
    reason: str | None = None
    if known is None or known.mean is None or known.sd is None:
        reason = (known.reason if known else None) or NO_BASELINE
    elif effect is None:
        reason = NO_MDE
    elif known.mean == 0:
        reason = BASELINE_NOT_POSITIVE
    else:
        absolute = effect * abs(known.mean)
        size = (
            non_inferiority_units(design, known.sd, absolute, 0.0, explained)
            if guardrail
            else required_units(design, known.sd, absolute, explained)
        )
        reason = str(size.reason[()]) or None
        if reason is None:
            units = int(size.units)
            days, reason = _days(traffic, units)
    return MetricSize(
        metric_key=metric.metric_key,
        role=metric.role.value,
        test="non_inferiority" if guardrail else "superiority",
        effect=effect,
        baseline_mean=known.mean if known else None,
        baseline_sd=known.sd if known else None,
        variance_reduction=explained if known else None,
        units=units,
        days=days,
        reason=reason,
    )


def _days(traffic: Accumulation | None, units: int) -> tuple[float | None, str | None]:
    if traffic is None:
        return None, NO_HISTORY
    reached = traffic.days_to_reach(units)
    return (reached, None) if isinstance(reached, float) else (None, str(reached))


def _curve(
    primaries: Sequence[PlanMetric],
    known: dict[str, MetricBaseline],
    design: Design,
    traffic: Accumulation | None,
    cuped: bool,
    days: int,
) -> list[CurvePoint]:
    if traffic is None:
        return []
    grid = np.arange(1, days + 1)
    units = traffic.units_at(grid)
    lifts: dict[str, list[float | None]] = {}
    for metric in primaries:
        base = known.get(metric.metric_key)
        if base is None or not base.mean or base.sd is None:
            continue
        explained = (base.cuped_r_squared or 0.0) if cuped else 0.0
        seen = minimum_detectable_effect(design, base.sd, units, explained) / abs(base.mean)
        lifts[metric.metric_key] = [finite(value) for value in seen.tolist()]
    return [
        CurvePoint(day=int(day), units=int(n), mde={key: values[i] for key, values in lifts.items()})
        for i, (day, n) in enumerate(zip(grid.tolist(), units.tolist(), strict=True))
    ]
