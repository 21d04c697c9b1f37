"""Where the North Star is heading, and whether that is enough (METHODS F8)."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import numpy as np

from experiments.definitions import Direction
from experiments.plan import ReviewPlan
from experiments.result import ForecastPoint, Lever, TargetForecast
from stats.ledger.contract import Array, LedgerFit
from stats.ledger.forecast import Forecast, forecast
from stats.ledger.programme_ahead import programme_ahead

NO_TARGET: Final = "no_target"
TARGET_PASSED: Final = "target_passed"
TOO_FAR: Final = "target_too_far"
_WEEK: Final = timedelta(weeks=1)
_QUARTER: Final = 13 * _WEEK
_MOST_QUARTERS: Final = 8
_SHOWN_WEEKS: Final = 52
_USUAL_HORIZON: Final = 13
_LONGEST: Final = 104


def target_forecast(plan: ReviewPlan, fit: LedgerFit, *, seed: int) -> TargetForecast:
    """The last year and the weeks up to the target, or the next quarter without one.

    A target is about the week that its day lies in; it is hit from the good side.
    """
    target = plan.north_star.spec.target
    place = None if target is None else (_week_of(target.at) - plan.weeks[-1]) // _WEEK - 1
    reason = NO_TARGET if place is None else TARGET_PASSED if place < 0 else TOO_FAR if place >= _LONGEST else None
    horizon = place + 1 if place is not None and reason is None else _USUAL_HORIZON
    found = forecast(fit, horizon, seed=seed) if not fit.reason else None
    ahead = found if found is not None and not found.reason else None
    points = [*_observed(plan), *(_coming(plan, ahead) if ahead is not None else [])]
    at_target = points[-1] if ahead is not None and reason is None else None
    programme = None
    if ahead is not None and at_target is not None and target is not None and target.value > 0:
        ended, shipped = _history(plan)
        programme = programme_ahead(
            fit,
            ahead,
            target=target.value,
            week=horizon - 1,
            experiments=ended,
            shipped=shipped,
            seed=seed,
            increase=plan.direction is not Direction.DECREASE,
        )
    counted = programme is not None and not programme.reason
    return TargetForecast(
        target=None if target is None else target.value,
        target_at=None if target is None else target.at,
        weeks=points,
        median_at_target=at_target.median if at_target else None,
        lower_80_at_target=at_target.lower_80 if at_target else None,
        upper_80_at_target=at_target.upper_80 if at_target else None,
        chance_to_hit=programme.chance_without if programme else None,
        chance_with_programme=programme.chance if programme and counted else None,
        ships_per_quarter=programme.ships_per_quarter if programme and counted else None,
        experiments_per_quarter=programme.experiments_per_quarter if programme and counted else None,
        experiments_needed=programme.experiments_needed if programme and counted else None,
        levers=[Lever(lever=each.name, now=each.now, needed=each.needed) for each in programme.levers]
        if programme
        else [],
        binding_lever=programme.binding if programme else None,
        reason=fit.reason or reason or (programme.reason or None if programme else None),
    )


def _history(plan: ReviewPlan) -> tuple[Array, Array]:
    """How many experiments ended and how many of them shipped, in each quarter of at most the last two years.

    Those that ended after the last week are in none: a review of the past knows of them, its pace does not.
    """
    end = plan.weeks[-1] + _WEEK
    ages = [((end - effect.stopped_at) // _QUARTER, effect.shipped) for effect in plan.programme.effects]
    back = [(quarter, was_shipped) for quarter, was_shipped in ages if quarter >= 0]
    quarters = min(_MOST_QUARTERS, max((quarter for quarter, _ in back), default=0) + 1)
    ended, shipped = np.zeros(quarters), np.zeros(quarters)
    for quarter, was_shipped in back:
        if quarter < quarters:
            ended[quarter] += 1
            shipped[quarter] += was_shipped
    return ended, shipped


def _observed(plan: ReviewPlan) -> list[ForecastPoint]:
    first = max(0, len(plan.weeks) - _SHOWN_WEEKS)
    return [
        ForecastPoint(week=week, observed=value, median=None, lower_80=None, upper_80=None)
        for week, value in zip(plan.weeks[first:], plan.values[first:], strict=True)
    ]


def _coming(plan: ReviewPlan, ahead: Forecast) -> list[ForecastPoint]:
    lower, median, upper = ahead.band()
    return [
        ForecastPoint(
            week=plan.weeks[-1] + (i + 1) * _WEEK,
            observed=None,
            median=float(median[i]),
            lower_80=float(lower[i]),
            upper_80=float(upper[i]),
        )
        for i in range(median.size)
    ]


def _week_of(day: date) -> datetime:
    return datetime.combine(day - timedelta(days=day.weekday()), time(), UTC)
