"""What the ledger is told of a North Star's weeks and of everything on record about them (METHODS F6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from math import log
from typing import Final

import numpy as np

from experiments.definitions import ReviewSpec
from experiments.plan import HoldoutEvidence, LedgerLaunch, ProgrammeEffect, ReviewPlan
from stats.ledger.contract import Array, Indices, LedgerData, LedgerPriors

_WEEK: Final = timedelta(weeks=1)
_YEAR: Final = timedelta(days=365.25)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_MISSING: Final = 0.1
_HARDLY_LIVE: Final = 0.1
_LEAST_ERROR: Final = 1e-6
"""Of a holdout: nobody differs by less in truth, and the algebra of the ledger could not hold it."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """The ledger's data with what its places stand for.

    `effects` are those of the programme that have a topline, in the order of the data; `unused` influences are series
    of which too little is known or that never change, `unused_holdouts` measured something else than these launches.
    """

    data: LedgerData
    priors: LedgerPriors
    effects: tuple[ProgrammeEffect, ...]
    launches: tuple[LedgerLaunch, ...]
    influences: tuple[str, ...]
    unused: tuple[str, ...]
    holdouts: tuple[HoldoutEvidence, ...]
    unused_holdouts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Weeks of the period and those that they are held against, pair by pair; `known` are pairs with both values.

    Arrays hold positions in the weeks of the plan; times are those of whole pairs, whatever is known of them.
    """

    after: Indices
    before: Indices
    known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    begins_at: datetime
    ends_at: datetime
    compared_begins_at: datetime
    compared_ends_at: datetime


def told(plan: ReviewPlan) -> Told:
    """The data of a plan, weeks from the first to the last."""
    effects = tuple(
        effect
        for effect in plan.programme.effects
        if effect.topline_log_lift is not None and (effect.topline_standard_error or 0.0) > 0
    )
    place = {effect.experiment_key: i for i, effect in enumerate(effects)}
    on_series = [each for each in plan.launches if _own_effect(each, place)]
    place_of_launch = {each.launch_key: len(effects) + i for i, each in enumerate(on_series)}
    source = [place_of_launch.get(each.launch_key, place.get(each.experiment_key or "", -1)) for each in plan.launches]
    estimate = [effect.topline_log_lift for effect in effects] + [each.log_effect for each in on_series]
    error = [effect.topline_standard_error for effect in effects] + [each.standard_error for each in on_series]
    # The same bias relative to the error, as in the programme: a share of the company takes as much from both.
    scaled = [effect.bias_sd * (effect.topline_standard_error or 0.0) / effect.standard_error for effect in effects]
    bias = scaled + [each.bias_sd or 0.0 for each in on_series]
    influences, names, unused = _influences(plan)
    measured = [each for each in plan.programme.holdouts if each.log_lift is not None]
    holdouts = tuple(each for each in measured if _usable(each) and _about_these(plan, each))
    persistence = [each.persistence for each in plan.launches]
    values = _array(plan.values)
    log_values: Array = np.log(np.where(values > 0, values, np.nan))
    data = LedgerData(
        log_values=log_values,
        season_phase=np.array([(week - _EPOCH) / _YEAR for week in plan.weeks]),
        influences=influences,
        estimate=_array(estimate),
        error=_array(error),
        bias_sd=_array(bias),
        source=np.array(source, dtype=np.intp),
        coverage=np.array([each.coverage for each in plan.launches], dtype=np.float64).reshape(-1, len(plan.weeks)).T,
        remaining=_array([None if each is None else each.remaining for each in persistence]),
        remaining_log_sd=_array([None if each is None else each.log_sd for each in persistence]),
        time_constant=_array(
            [
                None if each is None or not each.half_life_days else each.half_life_days / (7 * log(2))
                for each in persistence
            ]
        ),
        held_out=np.array(
            [[float(_kept_from(each, launch)) for launch in plan.launches] for each in holdouts], dtype=np.float64
        ).reshape(len(holdouts), len(plan.launches)),
        holdout_week=np.array([_end_of(plan, each) for each in holdouts], dtype=np.intp),
        holdout_estimate=_array([each.log_lift for each in holdouts]),
        holdout_error=np.maximum(_array([each.standard_error for each in holdouts]), _LEAST_ERROR),
    )
    changes = np.diff(log_values)
    spread = float(np.nanstd(changes)) if np.isfinite(changes).sum() > 1 else 0.0
    return Told(
        data=data,
        priors=LedgerPriors().rescaled(spread),
        effects=effects,
        launches=tuple(plan.launches),
        influences=names,
        unused=unused,
        holdouts=holdouts,
        unused_holdouts=tuple(each.holdout_key for each in measured if each not in holdouts),
    )


def compared(plan: ReviewPlan) -> Compared:
    """The weeks of the review beside those that they are held against; weeks before the first are left out."""
    begin, end = _bounds(plan.review)
    lag = plan.review.lag_weeks
    after = [i for i in plan.weeks_of(begin, end) if i >= lag]
    known = [min(plan.values[i] or 0.0, plan.values[i - lag] or 0.0) > 0 for i in after]
    first = plan.weeks[after[0]] if after else begin
    last = plan.weeks[after[-1]] + _WEEK if after else end
    return Compared(
        after=np.array(after, dtype=np.intp),
        before=np.array(after, dtype=np.intp) - lag,
        known=np.array(known, dtype=np.bool_),
        begins_at=first,
        ends_at=last,
        compared_begins_at=first - lag * _WEEK,
        compared_ends_at=last - lag * _WEEK,
    )


def weeks_of_period(plan: ReviewPlan) -> list[int]:
    """Positions of the weeks of the reviewed period, those that there are."""
    begin, end = _bounds(plan.review)
    return plan.weeks_of(begin, end)


def _own_effect(launch: LedgerLaunch, place: dict[str, int]) -> bool:
    """Whether what a series said of the launch speaks for it, for want of an experiment with a topline."""
    measured = launch.log_effect is not None and (launch.standard_error or 0.0) > 0
    return measured and launch.experiment_key not in place


def _influences(plan: ReviewPlan) -> tuple[Array, tuple[str, ...], tuple[str, ...]]:
    """Standardised influences (T, P), those that are used and those that are not; what is unknown is the mean."""
    columns, used, unused = [], [], []
    for each in plan.influences:
        values = _array(each.values)
        known = np.isfinite(values)
        spread = float(values[known].std()) if known.any() else 0.0
        if known.mean() < 1 - _MOST_MISSING or spread == 0:
            unused.append(each.series_key)
            continue
        columns.append(np.where(known, (values - values[known].mean()) / spread, 0.0))
        used.append(each.series_key)
    return np.array(columns, dtype=np.float64).reshape(-1, len(plan.weeks)).T, tuple(used), tuple(unused)


def _usable(holdout: HoldoutEvidence) -> bool:
    return holdout.log_lift is not None and (holdout.standard_error or 0.0) > 0 and not holdout.failed_checks


def _about_these(plan: ReviewPlan, holdout: HoldoutEvidence) -> bool:
    """Whether the ledger knows what the holdout was kept from: else other launches would be taken for these.

    A launch that was out for next to none of the measured time may be missing.
    """
    known = {each.launch_key for each in plan.launches}
    missing = [key for key in holdout.launch_keys if key not in known]
    foreign = any(holdout.live.get(key, 1.0) > _HARDLY_LIVE for key in missing)
    return _end_of(plan, holdout) >= 0 and any(_kept_from(holdout, each) for each in plan.launches) and not foreign


def _end_of(plan: ReviewPlan, holdout: HoldoutEvidence) -> int:
    """The position of the last week that the holdout measured, -1 when that was before the first."""
    last = holdout.measured_at or holdout.released_at
    if last is None:
        return len(plan.weeks) - 1
    return sum(week + _WEEK <= last for week in plan.weeks) - 1


def _kept_from(holdout: HoldoutEvidence, launch: LedgerLaunch) -> bool:
    if holdout.launch_keys:
        return holdout.kept_from(launch.launch_key)
    began = holdout.started_at <= launch.first_at
    return began and (holdout.released_at is None or launch.first_at < holdout.released_at)


def _bounds(review: ReviewSpec) -> tuple[datetime, datetime]:
    begin, end = (datetime.combine(day, time(), UTC) for day in (review.begins_on, review.ends_on))
    return begin, end


def _array(numbers: list[float | None] | list[float]) -> Array:
    return np.array([np.nan if each is None else each for each in numbers], dtype=np.float64)
