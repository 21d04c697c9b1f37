"""What shipped to the users, which series tell of it, and what is true there (METHODS I2).

The effect of a launch on a series is the log of the total that is expected at full coverage over that without the
launch, everything else as it really happened, averaged over the days measured. Like the lifts of experiments it is a
closed form, given the latent habits.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from stats.company.population import Array, Integers, World, coverage_on, rates
from stats.company.records import Calendar, Column, LaunchRecord, SeriesRecord, by_period, times
from stats.company.story import CHANNELS, HORIZON_DAYS, LAUNCHES, Rollout

OWNERS: Final = {
    "growth": "Maya", "discovery": "Jonas", "pricing": "Ines", "checkout": "Piotr", "design": "Lena", "loyalty": "Sam",
    "platform": "Noor",
}  # fmt: skip
_ORDERS, _ACTIVE, _SPEND, _ARMS = "orders_by_country", "active_by_country", "marketing_spend", "sessions_by_arm"
_STAGED: Final = "launch_faster_app"
_MEASURED: Final[dict[str, dict[str, Any]]] = {
    "launch_onboarding_checklist": {"series_key": _ORDERS, "regressors": [_SPEND], "measure_for_days": 14},
    "launch_one_click_reorder": {"series_key": _ORDERS, "regressors": [_SPEND], "measure_for_days": 14},
    "launch_new_home": {"series_key": _ACTIVE, "regressors": [_SPEND], "measure_for_days": 28},
    _STAGED: {"series_key": _ARMS},
}
"""The new logo is measured on nothing."""
_DIGEST: Final = "Weekly push digest, tested on some"
_EUR_A_DAY: Final = 2000.0
_SPEND_SHOWS: Final = 0.3
"""Log activity per share of the usual spend."""
_DAY: Final = timedelta(days=1)


def user_series(
    world: World, marketing: Array, events: dict[str, Column], begin: datetime, names: Column, rng: np.random.Generator
) -> tuple[SeriesRecord, ...]:
    """Two series that are counted from facts, the spend that moves activity, and a staged rollout by arm."""
    calendar = Calendar.within(begin, begin + HORIZON_DAYS * _DAY)
    spend = _EUR_A_DAY * np.maximum(1 + (marketing + 0.01 * rng.standard_normal(HORIZON_DAYS)) / _SPEND_SHOWS, 0.1)
    facts = {"dimension": "country", "source": "facts", "owner": "analytics"}
    return (
        SeriesRecord({"key": _ORDERS, "name": "Orders by country", "metric_key": "orders", "unit": "orders", **facts}),
        SeriesRecord(
            {"key": _ACTIVE, "name": "Active users by country", "metric_key": "active_users", "unit": "users", **facts}
        ),
        SeriesRecord(
            {"key": _SPEND, "name": "Spend on marketing", "owner": "Maya", "role": "regressor", "unit": "EUR"},
            by_period(calendar.first, _DAY, {"": spend[: calendar.days]}),
        ),
        SeriesRecord(
            {"key": _ARMS, "name": "Sessions per user by arm", "owner": "Noor", "dimension": "arm",
             "aggregation": "mean", "unit": "sessions"},
            _sessions_by_arm(world, events, begin, names),
        ),
    )  # fmt: skip


def user_launches(world: World, begin: datetime) -> tuple[LaunchRecord, ...]:
    """The launches of the story as teams recorded them, with what is true of each series."""
    return tuple(_record(world, launch, begin) for launch in LAUNCHES)


def _record(world: World, launch: Rollout, begin: datetime) -> LaunchRecord:
    measured = _MEASURED.get(launch.key)
    spec: dict[str, Any] = {
        "key": launch.key,
        "name": launch.name,
        "owner": OWNERS[launch.team],
        "experiment_key": launch.trial,
        "shipped_variant": launch.arm,
        "north_star_key": "weekly_orders",
        "rollout": [
            {"at": (begin + day * _DAY).isoformat(), "coverage": share, "mechanism": launch.mechanism}
            for day, share in launch.steps
        ],
        "measurements": [] if measured is None else [measured],
    }
    if launch.key == "launch_new_home":
        # An experiment that ran at the time moved the same series, if only of the users in one of its arms.
        spec["confounders"] = [
            {"name": _DIGEST, "began_at": (begin + 70 * _DAY).isoformat(), "ended_at": (begin + 91 * _DAY).isoformat()}
        ]
    truth = {} if measured is None else {measured["series_key"]: _true_lift(world, launch, measured)}
    return LaunchRecord(spec, dict(launch.effects), truth)


def _true_lift(world: World, launch: Rollout, measured: dict[str, Any]) -> float:
    (first, _), (last, _) = launch.steps[0], launch.steps[-1]
    until = last if launch.key == _STAGED else min(last + measured.get("measure_for_days", 56), HORIZON_DAYS)
    return float(np.mean([_on_a_day(world, launch, measured["series_key"], day) for day in range(first, until)]))


def _on_a_day(world: World, launch: Rollout, series_key: str, day: int) -> float:
    """Log of what is expected on a day at full coverage, over that without the launch."""
    who = world.who
    alive = (who.joins <= day) & (day < who.leaves)
    totals = []
    actual = {channel: world.log_multiplier(channel, day) for channel in CHANNELS}
    for coverage in (0.0, 1.0):
        other = {
            channel: world.launch_effect(launch, channel, coverage)
            - world.launch_effect(launch, channel, coverage_on(launch, day))
            for channel in launch.effects
        }
        today = rates(who, {channel: actual[channel] + other.get(channel, 0.0) for channel in CHANNELS})
        expected = today.activity
        if series_key != _ACTIVE:
            expected = expected * today.sessions
        if series_key == _ORDERS:
            expected = expected * today.orders
        totals.append(float(expected[alive].sum()))
    return float(np.log(totals[1] / totals[0]))


def _sessions_by_arm(world: World, events: dict[str, Column], begin: datetime, names: Column) -> dict[str, Column]:
    """Sessions of the users who were there when the stage began, over their user-days of it, reached or not.

    The one value of a stage stands for its last whole day.
    """
    launch = next(launch for launch in LAUNCHES if launch.key == _STAGED)
    (first, share), (last, _) = launch.steps
    who = world.who
    counts = _sessions_between(events, names, who.offset, begin, first, last)
    there = (who.joins <= first) & (first < who.leaves)
    arms = {"on": there & (world.reached[_STAGED] < share), "off": there & (world.reached[_STAGED] >= share)}
    whole = Calendar.within(begin, begin + last * _DAY)
    mine = [counts[in_it] for in_it in arms.values()]
    return {
        "segment": np.array(list(arms)),
        "at": np.repeat(times(whole.day(whole.days - 1), np.zeros(1)), len(arms)),
        "value": np.array([sessions.mean() for sessions in mine]),
        "n": np.array([sessions.size for sessions in mine]),
        "variance": np.array([sessions.var(ddof=1) for sessions in mine]),
    }


def _sessions_between(
    events: dict[str, Column], names: Column, offset: Array, begin: datetime, first: int, last: int
) -> Integers:
    """(users,) sessions on their user-days from `first` to before `last`; `names` are in order."""
    borders = times(begin, np.array([first, last + 1]) * 86_400.0)
    near = slice(*np.searchsorted(events["occurred_at"], borders))
    at = (events["occurred_at"][near] - times(begin, np.zeros(1))) / np.timedelta64(1, "s")
    user = np.searchsorted(names, events["unit_id"][near])
    day = (at - offset[user]) // 86_400
    counted = (events["event"][near] == "session") & (day >= first) & (day < last)
    return np.bincount(user[counted], minlength=names.size)
