"""Is the growth that nothing on record explains gone? (METHODS F7)

The ledger is fitted as it was known some weeks ago, and its draws follow the series from there: a Kalman filter for the
base of each draw, and the draws themselves weighted by how well they foresaw each week. So the chance that the base's
slope is below a floor is what was known at the time, week by week, for the price of one fit.

The alarm is slow and hardly ever false. In ten simulated companies (noise 1 %, steps of the level 0.4 % a week) there
were 0.2 alarms in two years with growth exactly at the floor and none above it; a base that turned from growing by
0.2 % to falling by 0.4 % a week set it off after 15 to 38 weeks. What falls at once, the surprise notices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.special as sc

from stats.ledger import collapsed
from stats.ledger.contract import Array, Indices, LedgerData, LedgerPriors
from stats.ledger.series_covariance import START_SD

ALARM_ABOVE: Final = 0.9
IN_A_ROW: Final = 3
SURPRISING: Final = 0.01
RECENT_WEEKS: Final = 4
NO_RECENT_WEEKS: Final = "no_recent_weeks"
_LEAST_SHARE: Final = 0.15
"""Of draws that must still count; then the ledger is fitted again as of that week."""


@dataclass(frozen=True, slots=True, eq=False)
class Stagnated:
    """`chances` (weeks,): that the slope was below the floor, as known in each of the last weeks, oldest first.

    `slope` is the base's growth per week on the log scale as known now, launches removed, with its 80 % interval. The
    `alarm` needs a chance above 0.9 in three weeks in a row, the last three. `surprise` is the two-sided tail
    probability of the average of the last four weeks given all before; `changed` that it is below 0.01. With a `reason`
    there are no numbers.
    """

    chances: Array
    alarm: bool
    slope: float
    lower: float
    upper: float
    surprise: float
    changed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Base:
    """What a filter knows of level and slope, per draw (S,): means, variances, covariance."""

    level: Array
    slope: Array
    level_variance: Array
    both: Array
    slope_variance: Array

    def ahead(self, level_step: Array, slope_step: Array) -> _Base:
        """A week later."""
        return _Base(
            self.level + self.slope,
            self.slope,
            self.level_variance + 2 * self.both + self.slope_variance + level_step**2,
            self.both + self.slope_variance,
            self.slope_variance + slope_step**2,
        )

    def told(self, value: Array, noise: Array) -> _Base:
        """After seeing the level plus noise."""
        total = self.level_variance + noise**2
        gain, of_slope, gap = self.level_variance / total, self.both / total, value - self.level
        return _Base(
            self.level + gain * gap,
            self.slope + of_slope * gap,
            self.level_variance * (1 - gain),
            self.both * (1 - gain),
            self.slope_variance - of_slope * self.both,
        )


def stagnation(data: LedgerData, priors: LedgerPriors, *, floor: float, seed: int, weeks: int = IN_A_ROW) -> Stagnated:
    """Follow the last `weeks` weeks, or four if that is more; `floor` is log growth per week.

    `reason` is `no_recent_weeks` where none of the last four is known, or that of `collapsed.fit` for a ledger of the
    weeks before: `series_too_short`, `unreliable_sampling`.
    """
    last = data.log_values.size
    begin = last - max(weeks, RECENT_WEEKS)
    recent = np.flatnonzero(np.isfinite(data.log_values[-RECENT_WEEKS:]))
    if begin <= 0 or not recent.size:
        return _nothing(NO_RECENT_WEEKS)
    followed = _Followed.of(data, priors, begin, seed)
    if isinstance(followed, str):
        return _nothing(followed)
    chances: list[float] = []
    surprise = np.nan
    for week in range(begin, last):
        if week == last - RECENT_WEEKS:
            surprise = followed.surprise(week + recent, week)
        followed.see(week)
        if followed.share_that_counts() < _LEAST_SHARE:
            followed = _Followed.of(data, priors, week + 1, seed)
            if isinstance(followed, str):
                return _nothing(followed)
        chances.append(followed.chance_below(floor))
    slope, lower, upper = followed.slope()
    seen = np.array(chances[-weeks:])
    alarm = bool((np.array(chances[-IN_A_ROW:]) > ALARM_ABOVE).all())
    return Stagnated(seen, alarm, slope, lower, upper, surprise, bool(surprise < SURPRISING))


class _Followed:
    """Draws of a ledger known up to a week, and what each makes of the weeks from there on."""

    def __init__(self, left: Array, known: Array, scales: tuple[Array, Array, Array], start: _Base) -> None:
        self._left, self._known = left, known
        self._noise, self._level_step, self._slope_step = scales
        self._base = start
        self._log_weight = np.zeros(left.shape[0])

    @classmethod
    def of(cls, data: LedgerData, priors: LedgerPriors, origin: int, seed: int) -> _Followed | str:
        """As known before the week at `origin`; the reason where there is no ledger."""
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
        fit = collapsed.fit(before, priors, seed=seed)
        if fit.reason:
            return fit.reason
        launched = np.einsum("stj,sj->st", fit.path, fit.theta, optimize=True)
        left = data.log_values - fit.season - fit.outside.sum(axis=2) - launched
        scales = (fit.scalars["noise"], fit.scalars["level_step"], fit.scalars["slope_step"])
        known = np.isfinite(data.log_values)
        draws = left.shape[0]
        first = np.full(draws, float(data.log_values[known][0]))
        nothing, zero = np.full(draws, START_SD**2), np.zeros(draws)
        followed = cls(left, known, scales, _Base(first, zero, nothing, zero, np.full(draws, priors.slope**2)))
        for week in range(origin):
            followed._filter(week)
        return followed

    def see(self, week: int) -> None:
        """Weigh the draws by how well they foresaw the week, and learn from it."""
        if self._known[week]:
            base = self._base.ahead(self._level_step, self._slope_step)
            total = base.level_variance + self._noise**2
            self._log_weight -= 0.5 * (np.log(total) + (self._left[:, week] - base.level) ** 2 / total)
        self._filter(week)

    def chance_below(self, floor: float) -> float:
        """That the slope is below."""
        standard = (floor - self._base.slope) / np.sqrt(np.maximum(self._base.slope_variance, 1e-24))
        return float(self._weight() @ sc.ndtr(standard))

    def slope(self) -> tuple[float, float, float]:
        """Mean and 80 % interval."""
        weight, base = self._weight(), self._base
        sd = np.sqrt(np.maximum(base.slope_variance, 1e-24))
        reach = 6 * float(sd.max())
        at = np.linspace(base.slope.min() - reach, base.slope.max() + reach, 2001)
        below = weight @ sc.ndtr((at - base.slope[:, None]) / sd[:, None])
        lower, upper = np.interp((0.1, 0.9), below, at)
        return float(weight @ base.slope), float(lower), float(upper)

    def share_that_counts(self) -> float:
        """Effective share of the draws."""
        return float(1 / (self._weight() ** 2).sum() / self._log_weight.size)

    def surprise(self, weeks: Indices, begin: int) -> float:
        """Two-sided tail probability of the average of these weeks, when all before `begin` are known and none since.

        The level's step into a week reaches all weeks from it on, the slope's step in a week those after it, each by as
        many times as there are weeks between.
        """
        base, steps = self._base, weeks - begin + 1
        each = np.arange(1, steps.max() + 1)
        of_level = (steps[:, None] >= each).mean(axis=0)
        of_slope = np.maximum(steps[:, None] - each, 0).mean(axis=0)
        ahead = steps.mean()
        variance = base.level_variance + 2 * ahead * base.both + ahead**2 * base.slope_variance
        variance = variance + (of_level**2).sum() * self._level_step**2 + (of_slope**2).sum() * self._slope_step**2
        variance = variance + self._noise**2 / steps.size
        gap = self._left[:, weeks].mean(axis=1) - base.level - ahead * base.slope
        below = float(self._weight() @ sc.ndtr(gap / np.sqrt(variance)))
        return 2 * min(below, 1 - below)

    def _filter(self, week: int) -> None:
        base = self._base.ahead(self._level_step, self._slope_step) if week else self._base
        self._base = base.told(self._left[:, week], self._noise) if self._known[week] else base

    def _weight(self) -> Array:
        weight = np.exp(self._log_weight - self._log_weight.max())
        return np.asarray(weight / weight.sum())


def _nothing(reason: str) -> Stagnated:
    return Stagnated(np.empty(0), False, np.nan, np.nan, np.nan, np.nan, False, reason)
