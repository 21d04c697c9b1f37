"""Effects by days since exposure, and whether they wear off or grow (METHODS E6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.special as sc

from experiments.evidence.contract import Block
from experiments.evidence.facts import check
from experiments.evidence.rows import nulls
from experiments.plan import AnalysisPlan
from experiments.result import AgeCurve, AgePoint, Check
from stats.exposure_age import AgeEffects, age_effects
from stats.multiplicity import adjusted

ALPHA = 0.01
"""A slope is called one below this, corrected over all curves (Holm): a warning is shown beside every decision."""


def age_curves(plan: AnalysisPlan, blocks: Sequence[Block]) -> list[AgeCurve]:
    """One curve per followed metric and treatment, in the plan's order."""
    moments = {key: found for block in blocks for key, found in block.moments.by_age.items()}
    curves: list[AgeCurve] = []
    for metric in plan.metrics:
        followed = moments.get(metric.metric_key)
        if followed is None or followed.columns == 0 or not followed.count.all():
            continue
        found = age_effects(followed, plan.estimation.ci_level)
        for v, variant in enumerate(plan.variants[1:]):
            curves.append(
                AgeCurve(
                    metric_key=metric.metric_key,
                    variant_key=variant.key,
                    points=_points(found, v, int(metric.spec.delay_days)),
                    slope=nulls(found.slope)[v],
                    slope_standard_error=nulls(found.slope_error)[v],
                    p_value=nulls(found.p_value)[v],
                    reason=str(found.reason[v]) or None,
                )
            )
    return curves


def novelty_check(curves: Sequence[AgeCurve]) -> list[Check]:
    """Whether any effect is on the move, in the direction it moves."""
    tested = [curve for curve in curves if curve.slope is not None and curve.slope_standard_error]
    if not tested:
        return []
    # Two-sided normal: thousands of units stand behind a curve with a slope.
    z = np.array([(curve.slope or 0.0) / (curve.slope_standard_error or 1.0) for curve in tested])
    p = adjusted(np.minimum(2 * sc.ndtr(-np.abs(z)), 1.0), "holm")
    moving = [_course(curve) for curve, one in zip(tested, p, strict=True) if one < ALPHA]
    least = float(p.min())
    if not moving:
        return [check("novelty", "pass", "No effect wears off or grows with the days since exposure.", p_value=least)]
    return [
        check(
            "novelty",
            "warn",
            f"Effects change with the days since exposure: {'; '.join(moving)} (E6).",
            "Do not project the average: keep a holdout, or run on until the curve is flat, and use its late part.",
            least,
        )
    ]


def _course(curve: AgeCurve) -> str:
    """What the curve does, in words."""
    seen = [point for point in curve.points if point.lift is not None]
    first, last, slope = seen[0], seen[-1], curve.slope or 0.0
    early, late = first.lift or 0.0, last.lift or 0.0
    verb = "wears off" if slope * early < 0 else "grows" if slope * early > 0 else "moves"
    if early * late < 0:
        verb = "turns around"
    return (
        f"the lift of {curve.metric_key} in {curve.variant_key} {verb} from {early:+.2%} on day {first.age_days} to "
        f"{late:+.2%} on day {last.age_days} ({slope * 100:+.2g} points a day)"
    )


def _points(found: AgeEffects, treatment: int, first_day: int) -> list[AgePoint]:
    """The days of one treatment's curve; a metric with a delay begins on a later day."""
    names = ("difference", "ci_lower", "ci_upper", "lift", "lift_ci_lower", "lift_ci_upper")
    change, lift = found.difference, found.lift
    arrays = (
        np.where(change.estimable, change.value, np.nan),
        change.ci_lower,
        change.ci_upper,
        lift.value,
        lift.ci_lower,
        lift.ci_upper,
    )
    columns = [nulls(array[treatment]) for array in arrays]
    return [
        AgePoint(age_days=first_day + day, **dict(zip(names, numbers, strict=True)))
        for day, numbers in enumerate(zip(*columns, strict=True))
    ]
