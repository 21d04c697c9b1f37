"""What more data are worth for each primary metric and variant (METHODS H4).

Effects are log lifts oriented so that positive is good; a day of the metric at its present level is the unit of value.
New units arrive at the rate of the last two weeks and count once their windows are complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from experiments.evidence.beliefs import metric_prior
from experiments.evidence.contract import EvidenceContext
from experiments.evidence.monitors import Course, Key
from experiments.evidence.recommendation import Progress, Traffic, measured_part, progress
from experiments.evidence.schedule import ripening
from experiments.plan import AnalysisPlan
from experiments.result import DecisionErrors, NorthStarEffect, Row, WaitingPoint, WaitingValue
from experiments.types import finite
from experiments.verdict import Situation, north_star_share, withheld
from stats.bayes.mixture import Array, Mixture
from stats.bayes.normal import posterior
from stats.bayes.waiting import oriented, predictive_power, predictive_power_with_prior, value_of_information
from stats.bayes.waiting import waiting as waiting_for
from stats.moments import Ints

EXPOSURE_ENDED = "exposure_ended"
NO_TRAFFIC = "no_traffic"
NO_PLANNED_END = "no_planned_end"
NO_LOG_LIFT = "no_log_lift"
_DIGITS = 6


def log_lift(row: Row) -> tuple[float, float] | None:
    """The row's log lift and its standard error, oriented as measured; None where the means are not both positive."""
    if row.lift is None or row.standard_error is None or row.lift <= -1 or (row.mean_control or 0.0) <= 0:
        return None
    found = float(np.log1p(row.lift)), row.standard_error / (1 + row.lift)
    return found if found[1] > 0 else None


def waiting_values(
    plan: AnalysisPlan,
    context: EvidenceContext,
    rows: Sequence[Row],
    looks: Sequence[datetime],
    exposures: Ints,
    *,
    standing: Situation,
    errors: DecisionErrors,
    courses: Mapping[Key, Course],
    impact: Sequence[NorthStarEffect],
) -> list[WaitingValue]:
    """One entry per primary and variant, a reason where nothing can be said; none where beliefs are off or withheld."""
    if plan.estimation.engine == "frequentist" or plan.purpose != "test" or withheld(plan, standing) is not None:
        return []
    traffic = Traffic(context, looks, exposures)
    growth = _Growth(traffic, context, ripening(plan))
    part = measured_part(plan, context, traffic)
    found = []
    for row in rows:
        if row.role == "primary" and row.segment is None:
            now = progress(row, part, errors, courses)
            share = north_star_share(plan, impact, row.metric_key, row.variant_key)
            found.append(_value(plan, context, row, growth, now, share))
    return found


@dataclass(frozen=True, slots=True)
class _Growth:
    """Units whose windows become complete in so many days, as a multiple of those that are."""

    traffic: Traffic
    context: EvidenceContext
    wait: timedelta

    @property
    def measured(self) -> float:
        return self.traffic.by(self.context.data_as_of - self.wait)

    def __call__(self, days: Array) -> Array:
        now = self.context.data_as_of - self.wait
        later = [self.traffic.ahead(now + timedelta(days=float(day))) for day in np.ravel(days)]
        grown = (np.reshape(later, np.shape(days)) - self.measured) / max(self.measured, 1.0)
        return np.asarray(np.maximum(grown, 0.0))


def _value(
    plan: AnalysisPlan,
    context: EvidenceContext,
    row: Row,
    growth: _Growth,
    now: Progress | None,
    share: float | None,
) -> WaitingValue:
    horizon = plan.estimation.beliefs.horizon_days
    seen = log_lift(row)
    reason = _reason(context, row, growth, horizon, known=seen is not None)
    if seen is None or reason is not None:
        return _nothing(row, horizon, reason or NO_LOG_LIFT)
    metric = next(metric for metric in plan.metrics if metric.metric_key == row.metric_key)
    belief = posterior(np.array(seen[0]), np.array(seen[1]), metric_prior(plan, metric), direction=row.direction)
    believed, error = oriented(belief.mixture, row.direction), np.array(seen[1])
    best = waiting_for(
        believed,
        error,
        growth,
        horizon=horizon,
        share=_share_in_treatment(plan, context, row.variant_key),
        # A day of the North Star is as many days of the metric as its link says; one where the link is not known.
        cost=plan.estimation.beliefs.waiting_cost / (share or 1.0),
    )
    flat, with_prior = _powers(row, now, seen, believed)
    days = float(best.best_days)
    return WaitingValue(
        metric_key=row.metric_key,
        variant_key=row.variant_key,
        predictive_power=flat,
        predictive_power_with_prior=with_prior,
        evsi=_evsi(believed, error, growth, days or _days_to_the_end(plan, growth), horizon),
        net_gain=finite(float(best.best_gain)),
        days_worth_waiting=days,
        horizon_days=horizon,
        curve=[
            WaitingPoint(days=day, net_gain=float(f"{gain:.{_DIGITS}g}"))
            for day, gain in zip(best.days.tolist(), best.net_gain.tolist(), strict=True)
        ],
        reason=NO_PLANNED_END if growth.traffic.planned(plan) is None else None,
    )


def _nothing(row: Row, horizon: float, reason: str) -> WaitingValue:
    return WaitingValue(
        metric_key=row.metric_key,
        variant_key=row.variant_key,
        predictive_power=None,
        predictive_power_with_prior=None,
        evsi=None,
        net_gain=None,
        days_worth_waiting=None,
        horizon_days=horizon,
        curve=[],
        reason=reason,
    )


def _reason(context: EvidenceContext, row: Row, growth: _Growth, horizon: float, *, known: bool) -> str | None:
    if not known:
        return row.reason or NO_LOG_LIFT
    if growth.measured <= 0 or not growth(np.array([horizon]))[0] > 0:
        return NO_TRAFFIC if context.running else EXPOSURE_ENDED
    return None


def _powers(
    row: Row, now: Progress | None, seen: tuple[float, float], believed: Mixture
) -> tuple[float | None, float | None]:
    """Predictive power at the planned end: if the effect is as measured, and given the prior."""
    if now is None:
        return None, None
    part, critical = np.array(now.fraction), np.array(now.critical)
    sign = 1.0 if row.direction == "increase" else -1.0
    flat = predictive_power(np.array(now.z), part, critical)
    with_prior = predictive_power_with_prior(np.array(sign * seen[0]), np.array(seen[1]), believed, part, critical)
    return finite(float(flat)), finite(float(with_prior))


def _evsi(believed: Mixture, error: Array, growth: _Growth, days: float, horizon: float) -> float | None:
    """What so many days more would be worth over the horizon if they cost nothing, in days of the metric."""
    with np.errstate(divide="ignore"):
        new = error / np.sqrt(growth(np.array([days])))
    return finite(horizon * float(value_of_information(believed, new)[0]))


def _days_to_the_end(plan: AnalysisPlan, growth: _Growth) -> float:
    """Days until all units of the planned end are measured; a week without one."""
    left = growth.traffic.days_left(plan)
    return (7.0 if left is None else left) + growth.wait / timedelta(days=1)


def _share_in_treatment(plan: AnalysisPlan, context: EvidenceContext, variant_key: str) -> float:
    """The share of units that get this variant while the test runs."""
    at = next(i for i, variant in enumerate(plan.variants) if variant.key == variant_key)
    weights = context.allocation[-1][1] if context.allocation else [variant.weight for variant in plan.variants]
    return float(weights[at] / max(sum(weights), 1e-12))
