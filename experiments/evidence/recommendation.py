"""What the rest of an experiment may bring, and what the plan says about the North Star (METHODS H2, H4, A11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import scipy.special as sc

from experiments.definitions import Role
from experiments.evidence.contract import EvidenceContext
from experiments.evidence.monitors import Course, Key
from experiments.evidence.schedule import ripening, still_ripening
from experiments.plan import AnalysisPlan
from experiments.result import Check, DecisionErrors, Row
from experiments.types import finite
from experiments.verdict import Forecast, Situation, good, situation
from stats.bayes import waiting
from stats.moments import Ints
from stats.multiplicity import decision_errors

RECENT = timedelta(days=14)
_FARTHEST = 37.0


def errors_of(plan: AnalysisPlan) -> DecisionErrors:
    """How the plan's errors are divided over its tests (A11), as sample sizes are planned.

    A rule of doing no harm needs no win, so its guardrails share the power alone.
    """
    alpha, power = 1 - plan.estimation.ci_level, plan.estimation.power
    tests = (len(plan.variants) - 1) * sum(metric.role is Role.PRIMARY for metric in plan.metrics)
    guardrails = sum(metric.role is Role.GUARDRAIL for metric in plan.metrics)
    wins = plan.estimation.decision_rule == "superiority"
    found = decision_errors(alpha, power, tests if wins else 0, guardrails)
    return DecisionErrors(
        alpha=alpha,
        alpha_per_success_test=alpha / (1 if plan.estimation.correction == "none" else max(tests, 1)),
        power=power,
        power_per_test=found.power_per_test,
        success_tests=tests,
        guardrails=guardrails,
    )


def standing_of(plan: AnalysisPlan, context: EvidenceContext, courses: Mapping[Key, Course]) -> Situation:
    """Which numbers may decide now. A group-sequential plan is complete when all its monitors are."""
    return situation(
        plan,
        running=context.running,
        exposed_until=context.exposed_until,
        full_weeks=context.full_weeks,
        ripening=still_ripening(plan, context),
        last_look_taken=bool(courses) and all(course.complete for course in courses.values()),
    )


def predictive_power(z: float, fraction: float, critical: float) -> float | None:
    """Probability that the planned end shows a win, with a flat prior (H4).

    `z` in the good direction with a part `fraction` of the information; None at the end, when nothing is left to come.
    """
    return finite(float(waiting.predictive_power(np.array(z), np.array(fraction), np.array(critical))))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a comparison is on its way to its planned end: its score in the good direction, the part of the

    information it has, and the score it takes then.
    """

    z: float
    fraction: float
    critical: float


def progress(
    row: Row,
    measured: float | None,
    errors: DecisionErrors,
    courses: Mapping[Key, Course],
) -> Progress | None:
    """The progress of a primary with this part of the planned units `measured`; None without an end, or after it."""
    course = courses.get((row.metric_key, row.variant_key))
    if course is not None:
        if course.z is None or course.fraction is None or course.complete:
            return None
        return Progress(course.z, course.fraction, course.final_bound)
    if measured is None or row.p_value is None:
        return None
    return Progress(_score(row), measured, float(sc.ndtri(1 - errors.alpha_per_success_test / 2)))


def measured_part(plan: AnalysisPlan, context: EvidenceContext, total: Traffic) -> float | None:
    """The part of the planned units whose windows are complete; None without a planned end."""
    target = total.planned(plan)
    measured = total.by(context.data_as_of - ripening(plan))
    return None if target is None or target <= 0 else min(measured / target, 1.0)


def forecast(
    plan: AnalysisPlan,
    context: EvidenceContext,
    rows: Sequence[Row],
    looks: Sequence[datetime],
    exposures: Ints,
    errors: DecisionErrors,
    courses: Mapping[Key, Course],
) -> Forecast:
    """The forecast from `exposures` (looks, V) at the times `looks`, the rows, and group-sequential monitors if any."""
    total = Traffic(context, looks, exposures)
    fraction = measured_part(plan, context, total)
    chances: list[float | None] = []
    for row in rows:
        if row.role != "primary" or row.segment is not None or row.p_value is None:
            continue
        now = progress(row, fraction, errors, courses)
        if now is not None:
            chances.append(predictive_power(now.z, now.fraction, now.critical))
    stops = {key: course.document.stopped_for for key, course in courses.items()}
    return Forecast(
        predictive_power=max((chance for chance in chances if chance is not None), default=None),
        fraction=fraction,
        days=total.days_left(plan),
        futile=frozenset(key for key, stop in stops.items() if stop == "futility"),
        harmed=frozenset(key for key, stop in stops.items() if stop == "harm"),
    )


def north_star_check(plan: AnalysisPlan) -> list[Check]:
    """The North Star is at least a guardrail of every experiment; without a margin it can only be watched (H2)."""
    if plan.north_star is None or plan.purpose != "test":
        return []
    star = next((m for m in plan.metrics if m.metric_key == plan.north_star.spec.metric_key), None)
    if star is None or star.role is Role.PRIMARY:
        return []
    name, margin = "north_star_margin", star.non_inferiority_margin
    if margin is not None:
        detail = f"Shipping needs {star.spec.name}, the North Star, to stay within its margin of {margin * 100:g} %."
        return [Check(name=name, status="pass", detail=detail)]
    return [
        Check(
            name=name,
            status="warn",
            detail=f"{star.spec.name}, the North Star, has no margin here: harm to it is watched, safety not shown.",
            remedy="Give it a `non_inferiority_margin` in the next plan.",
        )
    ]


def _score(row: Row) -> float:
    """The row's statistic as a normal score, positive in the good direction."""
    size = float(-sc.ndtri((row.p_value if row.p_value is not None else 1.0) / 2))
    return min(size, _FARTHEST) * (1 if good(row) else -1)


class Traffic:
    """Exposed units of all variants as a function of time, linear between looks and at the recent rate after them."""

    def __init__(self, context: EvidenceContext, looks: Sequence[datetime], exposures: Ints) -> None:
        self.context = context
        later = [(at, int(n)) for at, n in zip(looks, exposures.sum(axis=-1), strict=True) if at > context.started_at]
        self.seconds = np.array([0.0, *((at - context.started_at).total_seconds() for at, _ in later)])
        self.units = np.array([0.0, *(n for _, n in later)])

    def by(self, at: datetime) -> float:
        """Units exposed by then."""
        return float(np.interp((at - self.context.started_at).total_seconds(), self.seconds, self.units))

    def ahead(self, at: datetime) -> float:
        """Units that will be exposed by then, if units keep coming while exposure goes on."""
        beyond = max((at - self.context.exposed_until) / timedelta(days=1), 0.0)
        return self.by(at) + (beyond * self.per_day if self.context.running else 0.0)

    @property
    def per_day(self) -> float:
        """Over the last two weeks, or since the start if that is later."""
        now = self.context.exposed_until
        since = max(now - RECENT, self.context.started_at)
        days = (now - since) / timedelta(days=1)
        return (self.by(now) - self.by(since)) / days if days > 0 else 0.0

    def planned(self, plan: AnalysisPlan) -> float | None:
        """Units at the planned end: as planned, or as many as come until then at the present rate."""
        if plan.planned_units is not None:
            return float(plan.planned_units)
        if plan.planned_end_at is None or not self.units[-1]:
            return None
        left = max((plan.planned_end_at - self.context.exposed_until) / timedelta(days=1), 0.0)
        return float(self.units[-1]) + (left * self.per_day if self.context.running else 0.0)

    def days_left(self, plan: AnalysisPlan) -> float | None:
        """Days until the planned sample is exposed, or until the planned end where no sample was planned."""
        if not self.context.running:
            return None
        if plan.planned_units is not None:
            missing = plan.planned_units - float(self.units[-1])
            if missing <= 0:
                return 0.0
            return missing / self.per_day if self.per_day > 0 else None
        if plan.planned_end_at is None:
            return None
        return max((plan.planned_end_at - self.context.exposed_until) / timedelta(days=1), 0.0)
