"""Would the ledger have foreseen the last weeks? (METHODS F6, rule vi)

It is fitted again as if they were unknown: what launches, season and outside influences did in them follows from what
is recorded, the base wanders on from where it was, and what came should lie in the 80 % interval four times in five.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from stats.ledger import collapsed
from stats.ledger.contract import Array, LedgerData, LedgerPriors

TOO_SHORT: Final = "series_too_short_for_a_backtest"
_EIGHTY: Final = (0.1, 0.9)


@dataclass(frozen=True, slots=True, eq=False)
class Backtested:
    """What was predicted for the `weeks` from position `origin` on, and what came.

    `predicted` with its 80 % interval, and `observed`, are units of the North Star summed over the weeks that are
    known. `quantile` is where in the prediction the observed sum lies: uniform over many backtests. By week, (weeks,):
    `week_predicted`, `week_lower`, `week_upper`, `week_observed` (nan where unknown). With a `reason` there is nothing.
    """

    origin: int
    weeks: int
    predicted: float
    lower: float
    upper: float
    observed: float
    inside: bool
    quantile: float
    share_of_weeks_inside: float
    week_predicted: Array
    week_lower: Array
    week_upper: Array
    week_observed: Array
    reason: str = ""


def backtest(data: LedgerData, priors: LedgerPriors, *, seed: int, weeks: int = 13, draws: int = 1000) -> Backtested:
    """Fit without the last `weeks`, and compare. Holdouts that were measured in them are left out.

    Launches in those weeks count as planned: with what their experiments said. `reason` is
    `series_too_short_for_a_backtest` where what remains is too short for a ledger, or none of the weeks is known, and
    `unreliable_sampling` where the engine says so.
    """
    origin = len(data.log_values) - weeks
    came = data.log_values[max(origin, 0) :]
    known = np.isfinite(came)
    if origin <= 0 or not known.any():
        return _nothing(max(origin, 0), weeks, TOO_SHORT)
    past = data.log_values.copy()
    past[origin:] = np.nan
    earlier = data.holdout_week < origin
    before = replace(
        data,
        log_values=past,
        held_out=data.held_out[earlier],
        holdout_week=data.holdout_week[earlier],
        holdout_estimate=data.holdout_estimate[earlier],
        holdout_error=data.holdout_error[earlier],
    )
    if not collapsed.long_enough(before):
        return _nothing(origin, weeks, TOO_SHORT)
    fit = collapsed.fit(before, priors, seed=seed, draws=draws)
    if fit.reason:
        return _nothing(origin, weeks, fit.reason)
    launches = np.einsum("stj,sj->st", fit.path[:, origin:], fit.theta, optimize=True)
    parts = fit.level + fit.season + fit.outside.sum(axis=2) + fit.noise
    values = np.exp(parts[:, origin:] + launches)
    total, observed = values[:, known].sum(axis=1), np.exp(came)
    lower, upper = np.quantile(total, _EIGHTY)
    week_lower, week_upper = np.quantile(values, _EIGHTY, axis=0)
    sum_observed = float(observed[known].sum())
    return Backtested(
        origin=origin,
        weeks=weeks,
        predicted=float(np.median(total)),
        lower=float(lower),
        upper=float(upper),
        observed=sum_observed,
        inside=bool(lower <= sum_observed <= upper),
        quantile=float((total < sum_observed).mean()),
        share_of_weeks_inside=float(((week_lower <= observed) & (observed <= week_upper))[known].mean()),
        week_predicted=np.median(values, axis=0),
        week_lower=week_lower,
        week_upper=week_upper,
        week_observed=observed,
    )


def _nothing(origin: int, weeks: int, reason: str) -> Backtested:
    none = np.empty(0)
    return Backtested(origin, weeks, 0.0, 0.0, 0.0, 0.0, False, 0.0, 0.0, none, none, none, none, reason)
