"""The listening service by week: hours, and the listeners, sessions and lengths whose product they are (METHODS F6).

On the log scale the hours are a base that wanders, a season, outside influences, launches and noise, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np

from stats.company.deliveries import autoregression
from stats.company.listening.definitions import (
    ACTIVE,
    CATALOGUE,
    HOURS,
    INFLUENCES,
    LENGTH,
    MARKETING,
    OUTAGE,
    SERIES,
    SESSIONS,
)  # fmt: skip
from stats.company.listening.launches import Launches
from stats.company.listening.story import DISPUTE, FUTURE_WEEKS, OUTAGE_WEEK, OWNERS, WEEKS
from stats.company.population import Array
from stats.company.records import Calendar, SeriesRecord, by_period

LEVEL_STEP, SLOPE_STEP, NOISE = 0.004, 0.0002, 0.01
_FIRST_SLOPE: Final = (0.001, 0.0008)
_SEASON_SD: Final = 0.02
_PER_MARKETING_SD, _OUTAGE, _CATALOGUE = 0.008, -0.06, -0.04
_OUTAGE_HOURS: Final = 9.0
_MISSING: Final = np.array([1.0, 0.9, 0.5, 0.2])
_LISTENERS, _SESSIONS, _LENGTH = 380_000.0, 6.2, 0.7
_RETENTION: Final = 0.93
_A_YEAR: Final = 52.18
_BASE_IN_LISTENERS: Final = 0.7
_WEEK: Final = timedelta(weeks=1)


@dataclass(frozen=True, slots=True, eq=False)
class Weeks:
    """By week, the W = 104 weeks of data and 26 more: values, and the parts of the log of the hours, which add up.

    `listeners`, `sessions` (per listener), `length` (hours of a session) and `hours` (W,); `retention` (W,) of the week
    before and `joined` (W,) make the listeners. `base`, `season`, `noise` (W,), `outside` (W, 3) in the order of
    `INFLUENCES`, `launched` (W, J). Outside influences count from their mean over the data; `influences` (W, 3) are
    their values.
    """

    listeners: Array
    sessions: Array
    length: Array
    hours: Array
    retention: Array
    joined: Array
    base: Array
    season: Array
    outside: Array
    launched: Array
    noise: Array
    influences: Array

    @property
    def without_launches(self) -> Array:
        """(W,) the hours that there would have been."""
        return np.asarray(self.hours * np.exp(-self.launched.sum(1)))


def weeks(rng: np.random.Generator, launched: Launches) -> Weeks:
    """The history that holds what the launches did, and half a year more without another one."""
    count = WEEKS + FUTURE_WEEKS
    slope = rng.normal(*_FIRST_SLOPE) + np.cumsum(SLOPE_STEP * rng.standard_normal(count))
    level = np.cumsum(np.concatenate([[0.0], slope[:-1]]) + LEVEL_STEP * rng.standard_normal(count))
    phase = 2 * np.pi * np.arange(count) / _A_YEAR
    waves = np.stack([np.sin(phase), np.cos(phase), np.sin(2 * phase), np.cos(2 * phase)])
    season = np.array([1.0, 1.0, 0.5, 0.5]) * _SEASON_SD * rng.standard_normal(4) @ waves
    influences, outside = _influences(rng, count)
    noise = NOISE * rng.standard_normal((2, count)) / np.sqrt(2)
    added = launched.added
    listeners = np.round(_LISTENERS * np.exp(_BASE_IN_LISTENERS * level + added[:, 0]))
    other = (1 - _BASE_IN_LISTENERS) * level + season + outside.sum(1)
    sessions = np.round(_SESSIONS * np.exp(other + added[:, 1] + noise[0]), 5)
    length = np.round(_LENGTH * np.exp(added[:, 2] + noise[1]), 6)
    hours = listeners * sessions * length
    base = np.log(_LISTENERS * _SESSIONS * _LENGTH) + level
    paths = launched.path * launched.theta
    retention = _RETENTION + autoregression(rng, count, 0.6, 0.002)
    before = np.concatenate([listeners[:1], listeners[:-1]])
    return Weeks(
        listeners=listeners,
        sessions=sessions,
        length=length,
        hours=hours,
        retention=retention,
        joined=listeners - retention * before,
        base=base,
        season=season,
        outside=outside,
        launched=paths,
        noise=np.log(hours) - base - season - outside.sum(1) - paths.sum(1),  # and what rounding took
        influences=influences,
    )


def series_records(seen: Weeks, calendar: Calendar) -> tuple[SeriesRecord, ...]:
    """The weeks of data as series that are pushed: the hours, their inputs, and what moves them from outside."""
    values = {HOURS: seen.hours, ACTIVE: seen.listeners, SESSIONS: seen.sessions, LENGTH: seen.length}
    told = {
        HOURS: ("Hours listened by week", "h", "total"),
        ACTIVE: ("Listeners by week", "listeners", "total"),
        SESSIONS: ("Sessions per listener by week", "sessions", "mean"),
        LENGTH: ("Hours per session by week", "h", "mean"),
    }
    outside = {
        MARKETING: ("Spend on campaigns", "EUR", "total"),
        OUTAGE: ("Hours of outage", "h", "total"),
        CATALOGUE: ("Share of a label's music that was missing", "", "mean"),
    }
    found = [
        SeriesRecord(
            {"key": SERIES[key], "name": name, "owner": "analytics", "grain": "week", "unit": unit,
             "aggregation": how, "metric_key": key},
            _by_week(calendar, values[key]),
        )
        for key, (name, unit, how) in told.items()
    ]  # fmt: skip
    found += [
        SeriesRecord(
            {"key": key, "name": name, "owner": OWNERS["growth"], "grain": "week", "unit": unit, "aggregation": how,
             "role": "regressor"},
            _by_week(calendar, seen.influences[:, place]),
        )
        for place, (key, (name, unit, how)) in enumerate(outside.items())
    ]  # fmt: skip
    return tuple(found)


def _by_week(calendar: Calendar, values: Array) -> dict[str, np.ndarray]:
    # Not rounded: the hours are the product of the other three to the last digit.
    columns = by_period(calendar.first, _WEEK, {"": values[:WEEKS]})
    return {**columns, "value": values[:WEEKS]}


def _influences(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Values (W, 3), and what they add to the log of the hours, without its mean over the data."""
    campaigns = autoregression(rng, count, 0.7, np.sqrt(1 - 0.7**2))
    outage, missing = np.zeros(count), np.zeros(count)
    outage[OUTAGE_WEEK] = _OUTAGE_HOURS
    missing[slice(*DISPUTE)] = _MISSING
    spend = np.round(50_000 * np.maximum(1 + 0.2 * campaigns, 0.1), 2)
    values = np.column_stack([spend, outage, missing])
    per_unit = np.array([_PER_MARKETING_SD / 10_000, _OUTAGE / _OUTAGE_HOURS, _CATALOGUE])
    added = values * per_unit
    assert values.shape[1] == len(INFLUENCES)
    return values, added - added[:WEEKS].mean(0)
