"""What a single series is explained by besides its wandering level, and how large that can be (METHODS D1, D4, F6).

METHODS F6 gives prior scales for a weekly logarithm whose changes have a standard deviation of 0.015. Here the unit is
the series' own change from period to period before the launch, so every scale of F6 is divided by 0.015: the level's
steps are HalfNormal(0.4), the noise HalfNormal(1), a trend N(0, 0.2^2) per period, seasons and influences N(0, 2^2).
The last three widen where the history itself shows more: a prior that contradicts the history is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from stats.bayes.mixture import Mixture
from stats.launch.contract import NotEstimable, Series
from stats.launch.reasons import LaunchReason
from stats.launch.state_space import Array, Flags, Indices, Posterior, equal_tails

NOISE: Final = 1.0
STEP: Final = 0.4
_TREND: Final = 0.2
_SWING: Final = 2.0
_FEWEST_PERIODS: Final = 12
_SHORT_SEASON: Final = 10.0
_MIDDLE_SEASON: Final = 30.0
_FEW_GAPS: Final = 0.9
_SHUT: Final = 1e12
"""A precision that holds a coefficient at 0."""
_ROUNDING: Final = 1e-12
"""Share of its size by which a series must move to be said to move at all."""
_SAME: Final = 1e-9
"""What is missing from a squared correlation of 1 between an outcome and itself, in another unit."""


class Part(IntEnum):
    """What a column stands for."""

    LEVEL = 0
    TREND = 1
    SEASON = 2
    INFLUENCE = 3


@dataclass(frozen=True, slots=True)
class Scales:
    """Standard deviations of a history: of its changes, and a priori of a trend per period and of a swing."""

    change: float
    trend: float
    swing: float


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What explains a series whatever the launch did: `values` (T, K), the `part` of each, and the periods of history
    that it `needs` (K,) to be learned at all."""

    values: Array
    part: Indices
    needs: Array

    def precision(self, known: Flags, end: int, scales: Scales, *, influence: float = 1.0) -> Array:
        """Prior precisions (K,) for a history of the `known` periods before `end`, in the unit of `scales`.

        Influences are standardised by that history, and have `influence` times the standard deviation of a swing.
        """
        history = known[:end]
        spread = self.values[:end][history].std(axis=0)
        spread = np.where(spread > _ROUNDING, spread, 1.0)
        swing = 1 / scales.swing**2
        by_part = np.array([0.0, 1 / scales.trend**2, swing, swing / influence**2])[self.part]
        precision = np.where(self.part == Part.INFLUENCE, by_part * spread**2, by_part)
        return np.asarray(np.where(end - int(history.argmax()) >= self.needs, precision, _SHUT))


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """A series made ready: `outcome` (T,) is `(y - centre) / unit`, 0 where not `usable` (T,).

    `explained` (T,): periods in which all influences are known. `begin` is the first period with any of the launch,
    `treated` (P,) those with some of it and a value, `least` the number of usable periods of history without which
    nothing is said.
    """

    outcome: Array
    centre: float
    unit: float
    columns: Columns
    usable: Flags
    explained: Flags
    begin: int
    treated: Indices
    least: int
    notes: tuple[str, ...]


def scales(history: Array) -> Scales:
    """What the values (n,) before the launch say about scale. Raises `NotEstimable` where they lie on a line."""
    change = np.diff(history)
    unit = float(change.std(ddof=1))
    if not unit > _ROUNDING * float(np.abs(history).max()):
        raise NotEstimable(LaunchReason.CONSTANT_SERIES)
    time = np.arange(history.size) - (history.size - 1) / 2
    around = history - history.mean() - time * ((time @ history) / (time @ time))
    return Scales(unit, max(_TREND * unit, abs(float(change.mean()))), max(_SWING * unit, float(around.std())))


def least_history(season: tuple[tuple[float, int], ...]) -> int:
    """Usable periods before the launch without which nothing is said: 12, or what the shortest season needs.

    Weekly values (a season of 52.18) need 12, daily ones (7) 28 and hourly ones (24) 48. No rule says how long the time
    after the launch may be: what the level may have done by then is part of the standard error.
    """
    shortest = min((period for period, _ in season), default=np.inf)
    return max(_FEWEST_PERIODS, int(np.ceil(_needed(shortest)))) if shortest <= _MIDDLE_SEASON else _FEWEST_PERIODS


def _needed(period: float) -> float:
    """Periods of history that carry a season: four short ones, two of middle length, one and a half long ones."""
    if period <= _SHORT_SEASON:
        return 4 * period
    return (2 if period <= _MIDDLE_SEASON else 1.5) * period


def calendar(periods: int, begin: int, season: tuple[tuple[float, int], ...], *, trend: bool = True) -> Columns:
    """Where the level starts, a straight line, and the seasons' harmonics, with time counted from the launch."""
    time: Array = np.arange(periods, dtype=np.float64) - begin
    values: list[Array] = [np.ones(periods)]
    part, needs = [Part.LEVEL], [0.0]
    if trend:
        values, part, needs = [*values, time], [*part, Part.TREND], [*needs, 0.0]
    for period, harmonics in season:
        for number in range(1, harmonics + 1):
            if 2 * number > period:
                break
            angle = 2 * np.pi * number / period * time
            waves = [np.cos(angle)] if 2 * number == period else [np.cos(angle), np.sin(angle)]
            values += waves
            part += [Part.SEASON] * len(waves)
            needs += [_needed(period)] * len(waves)
    return Columns(np.column_stack(values), np.array(part, dtype=np.intp), np.array(needs))


def design(series: Series, *, donors: bool, trend: bool = True) -> Design:
    """Make a series ready. Raises `NotEstimable` where nothing can be said.

    Periods without a value, excluded ones, and those in which a regressor or a donor is not known are skipped; donors
    that are missing in more than a tenth of the other periods are left out instead.
    """
    reached = series.coverage > 0
    if not reached.any():
        raise NotEstimable(LaunchReason.NO_COVERAGE)
    begin, notes = int(reached.argmax()), []
    usable = np.isfinite(series.y) & ~series.excluded
    if not usable.any():
        raise NotEstimable(LaunchReason.NO_DATA)
    influences = series.regressors
    if donors:
        fit, said = usable_donors(series, usable)
        notes += said
        influences = np.column_stack([series.donors[:, fit], influences])
    explained = np.isfinite(influences).all(axis=1)
    usable = usable & explained
    treated = np.flatnonzero(reached & usable)
    if treated.size == 0:
        raise NotEstimable(LaunchReason.NO_PERIOD_AFTER_LAUNCH)
    before = usable[:begin]
    least = least_history(series.season)
    if before.sum() < least:
        raise NotEstimable(LaunchReason.TOO_LITTLE_HISTORY)
    history = series.y[:begin][before]
    unit, centre = scales(history).change, float(history.mean())
    started = int(usable.argmax())
    if usable[started:][~series.excluded[started:]].mean() < _FEW_GAPS:
        notes.append("gaps")
    time = calendar(series.y.size, begin, series.season, trend=trend)
    if (time.needs > begin - started).any():
        notes.append("season_left_out")
    standard, unmoved = _standardised(influences, usable, begin)
    if unmoved:
        notes.append("influence_without_history")
    return Design(
        outcome=np.where(usable, (series.y - centre) / unit, 0.0),
        centre=centre,
        unit=unit,
        columns=Columns(
            np.column_stack([time.values, standard]),
            np.append(time.part, np.full(standard.shape[1], Part.INFLUENCE)),
            np.append(time.needs, np.zeros(standard.shape[1])),
        ),
        usable=usable,
        explained=explained,
        begin=begin,
        treated=treated,
        least=least,
        notes=tuple(notes),
    )


def usable_donors(series: Series, usable: Flags) -> tuple[Flags, list[str]]:
    """Which donors (J,) can be used: seen in most periods, and not the outcome itself, which shares every effect."""
    seen = np.isfinite(series.donors)
    often = seen[usable].sum(axis=0) >= max(1.0, _FEW_GAPS * usable.sum())
    itself = np.zeros_like(often)
    for place in np.flatnonzero(often):
        both = usable & seen[:, place]
        outcome = series.y[both] - series.y[both].mean()
        donor = series.donors[both, place] - series.donors[both, place].mean()
        together, apart = (outcome @ donor) ** 2, (outcome @ outcome) * (donor @ donor)
        itself[place] = apart > 0 and together > (1 - _SAME) * apart
    said = ["donor_with_gaps"] * int(not often.all()) + ["donor_is_the_outcome"] * int(itself.any())
    return often & ~itself, said


def _standardised(influences: Array, usable: Flags, begin: int) -> tuple[Array, bool]:
    """Influences in standard deviations of the history, and whether one did not move in it.

    That one is in standard deviations of the whole time: only its prior says what it does, and the launch's standard
    error grows by as much. What never moves is left out.
    """
    before = influences[:begin][usable[:begin]]
    spread, overall = before.std(axis=0), influences[usable].std(axis=0)
    size = _ROUNDING * np.abs(influences[usable]).max(axis=0, initial=0.0)
    unmoved = (spread <= size) & (overall > size)
    divisor = np.where(unmoved, overall, spread)
    moving = divisor > size
    standard = (influences[:, moving] - before.mean(axis=0)[moving]) / divisor[moving]
    return np.where(np.isfinite(standard), standard, 0.0), bool(unmoved.any())


def history_scales(ready: Design, end: int) -> Scales:
    """`scales` of the usable values before period `end`, in the design's unit."""
    return scales(ready.outcome[:end][ready.usable[:end]])


def hyper(found: Posterior, ready: Design, level: float) -> dict[str, tuple[float, float, float]]:
    """Mean and equal-tailed interval of the noise's and the steps' standard deviation, and of the trend per period."""
    weight = found.weight.ravel()
    said = {
        "sigma_obs": _of_nodes(found.noise.ravel() * ready.unit, weight, level),
        "sigma_level": _of_nodes(found.step.ravel() * ready.unit, weight, level),
    }
    for column in np.flatnonzero(ready.columns.part == Part.TREND):
        mean, covariance = found.all()
        sd = np.sqrt(covariance[..., column, column].ravel()) * ready.unit
        mixture = Mixture(weight, mean[..., column].ravel() * ready.unit, sd)
        said["trend"] = (float(mixture.moments()[0]), *equal_tails(mixture, level))
    return said


def _of_nodes(value: Array, weight: Array, level: float) -> tuple[float, float, float]:
    order = np.argsort(value)
    below = np.cumsum(weight[order]) - 0.5 * weight[order]
    lower, upper = np.interp([0.5 - level / 2, 0.5 + level / 2], below, value[order])
    return float(weight @ value), float(lower), float(upper)
