"""A launch that was measured stage by stage: users with it against users without, drawn by lot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.pages import formats
from experiments.definitions import LaunchSpec, RolloutStep
from experiments.result import LaunchEstimate, MeasuredLaunch, PeriodPoint
from experiments.series_table import PERIOD

MOST_STAGES: Final = 12
"""More values than this are a course over time."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A value of those who had it beside one of those who had not, and the lift between them.

    It is of a step of the rollout, or of a single period where a step has several; `until` is None where no later step
    is on record.
    """

    began_at: datetime
    until: datetime | None
    coverage: float
    with_it: float
    without_it: float | None
    lift: float | None
    lower: float | None
    upper: float | None


def by_arm(item: MeasuredLaunch) -> bool:
    """Whether users with it are measured beside users without, instead of everybody over time."""
    return item.dimension == "arm"


def stages_of(item: MeasuredLaunch, spec: LaunchSpec, lead: LaunchEstimate | None) -> list[Stage]:
    """The stages with values, in order; none where the launch was not measured by stages, or at very many times."""
    known = [(point, point.actual) for point in item.periods if point.actual is not None and point.coverage > 0]
    if not by_arm(item) or len(known) > MOST_STAGES:
        return []
    around = [_steps_around(point, item, spec) for point, _ in known]
    if len(set(around)) < len(around):
        around = [(point.at, point.at + PERIOD[item.grain]) for point, _ in known]
    found = [_stage(point, actual, ends) for (point, actual), ends in zip(known, around, strict=True)]
    if len(found) == 1 and lead is not None and lead.lift is not None:
        return [replace(found[0], lift=lead.lift, lower=lead.ci_lower, upper=lead.ci_upper)]
    return found


def time_since(item: MeasuredLaunch, spec: LaunchSpec) -> str:
    """How long it was measured: `83 days`, or `2 stages, 14 days`, which is how long the rollout stood at them."""
    if not by_arm(item):
        return formats.plural(item.periods_after, item.grain)
    lengths: dict[datetime, timedelta] = {}
    for point in item.periods:
        if point.actual is not None and point.coverage > 0:
            began_at, until = _steps_around(point, item, spec)
            lengths[began_at] = (until or point.at + PERIOD[item.grain]) - began_at
    days = round(sum(lengths.values(), timedelta()) / timedelta(days=1))
    said = formats.plural(len(lengths), "stage")
    return f"{said}, {formats.plural(days, 'day')}" if days else said


def reach_of(stages: Sequence[Stage]) -> float:
    """How far the axis of the stages' intervals must go from zero."""
    ends = [abs(end) for stage in stages for end in (stage.lift, stage.lower, stage.upper) if end is not None]
    return 1.1 * max(ends, default=0.0)


def _steps_around(point: PeriodPoint, item: MeasuredLaunch, spec: LaunchSpec) -> tuple[datetime, datetime | None]:
    """When the step began that was in force at the end of a period, and when the next one did."""
    end = point.at + PERIOD[item.grain]
    steps: list[RolloutStep] = sorted(spec.rollout, key=lambda step: step.at)
    began_at = max((step.at for step in steps if step.at < end), default=point.at)
    return began_at, min((step.at for step in steps if step.at >= end), default=None)


def _stage(point: PeriodPoint, actual: float, around: tuple[datetime, datetime | None]) -> Stage:
    def lift(without: float | None) -> float | None:
        return actual / without - 1 if without is not None and without > 0 else None

    return Stage(
        *around,
        point.coverage,
        actual,
        point.counterfactual,
        lift(point.counterfactual),
        lift(point.counterfactual_upper),
        lift(point.counterfactual_lower),
    )
