"""The company's deliveries, known by series alone: 24 cities, and launches that no user was randomised to (METHODS I2).

One launch goes to cities drawn by lot, one to cities that were chosen, and one is switched on and off for everybody by
lot. Effects are written down; cities share a demand that wanders, and each has a life of its own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import numpy as np

from stats.company.population import Array
from stats.company.records import Calendar, Column, LaunchRecord, SeriesRecord, by_period
from stats.company.story import HORIZON_DAYS

CITIES: Final = (
    "Amsterdam", "Barcelona", "Berlin", "Bilbao", "Cologne", "Frankfurt", "Gdansk", "Hamburg", "Krakow", "Leipzig",
    "Lille", "Lyon", "Madrid", "Marseille", "Munich", "Nantes", "Paris", "Rotterdam", "Seville", "Stuttgart",
    "Toulouse", "Valencia", "Warsaw", "Wroclaw",
)  # fmt: skip
EVENING: Final = 0.08
"""Log effect of evening deliveries on a city's orders."""
_EVENING_WAVES: Final = ((98, 7), (119, 8), (140, 7))
"""Days, and how many cities each time; two stay without it."""
PACKAGING: Final = -0.12
"""Log effect of sturdier parcels on a city's complaints."""
_PACKAGING_DAY: Final = 133
_PACKAGING_CITIES: Final = 6
DISPATCH: Final = -0.06
"""Log effect of the new dispatch on the minutes that a delivery takes, an hour after it was switched on."""
_DISPATCH_DAY, _DISPATCH_HISTORY, _BLOCKS, _BLOCK_HOURS = 147, 14, 56, 12
_WEEKDAY: Final = np.array([0.0, -0.03, -0.02, 0.02, 0.08, 0.12, 0.05])
_DAY: Final = timedelta(days=1)


def deliveries(calendar: Calendar, seed: int) -> tuple[tuple[SeriesRecord, ...], tuple[LaunchRecord, ...]]:
    """The series of the deliveries and what was launched there; the same seed gives identical arrays."""
    orders, lot, complaints, minutes = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence([seed, len(CITIES)]).spawn(4)
    )
    found = (_evening(orders, lot, calendar), _packaging(complaints, calendar), _dispatch(minutes, calendar))
    return tuple(series for series, _ in found), tuple(launch for _, launch in found)


def _evening(
    rng: np.random.Generator, lot: np.random.Generator, calendar: Calendar
) -> tuple[SeriesRecord, LaunchRecord]:
    ends = np.cumsum([size for _, size in _EVENING_WAVES])
    *waves, _ = np.split(lot.permutation(len(CITIES)), ends)
    effect = np.zeros((len(CITIES), HORIZON_DAYS))
    for (day, _), wave in zip(_EVENING_WAVES, waves, strict=True):
        effect[wave, day:] = EVENING
    series = SeriesRecord(
        {"key": "city_orders", "name": "Orders delivered by city", "owner": "Sam", "dimension": "city",
         "unit": "orders"},
        _counts(rng, rng.uniform(4.8, 7.2, len(CITIES)), effect, calendar),
    )  # fmt: skip
    steps = [
        _step(calendar, day, "random", sorted(CITIES[i] for i in wave))
        for (day, _), wave in zip(_EVENING_WAVES, waves, strict=True)
    ]
    return series, LaunchRecord(
        _launch("launch_evening_delivery", "Deliveries in the evening", "Sam", steps, "city_orders",
                description="To some cities after others, drawn by lot; two wait for what comes of it."),
        {}, {"city_orders": EVENING},
    )  # fmt: skip


def _packaging(rng: np.random.Generator, calendar: Calendar) -> tuple[SeriesRecord, LaunchRecord]:
    level = rng.uniform(3.4, 4.8, len(CITIES))
    chosen = np.argsort(-level)[:_PACKAGING_CITIES]
    effect = np.zeros((len(CITIES), HORIZON_DAYS))
    effect[chosen, _PACKAGING_DAY:] = PACKAGING
    series = SeriesRecord(
        {"key": "city_complaints", "name": "Complaints by city", "owner": "Noor", "dimension": "city",
         "unit": "complaints", "direction": "decrease"},
        _counts(rng, level, effect, calendar),
    )  # fmt: skip
    steps = [_step(calendar, _PACKAGING_DAY, "ordered", sorted(CITIES[i] for i in chosen))]
    return series, LaunchRecord(
        _launch("launch_sturdy_parcels", "Sturdier parcels", "Noor", steps, "city_complaints",
                description="First where people complain most."),
        {}, {"city_complaints": PACKAGING},
    )  # fmt: skip


def _dispatch(rng: np.random.Generator, calendar: Calendar) -> tuple[SeriesRecord, LaunchRecord]:
    first = _DISPATCH_DAY - _DISPATCH_HISTORY
    hours = 24 * (HORIZON_DAYS - first)
    begin = 24 * _DISPATCH_HISTORY
    drawn = rng.permutation(np.arange(_BLOCKS) % 2 == 0)
    on = np.zeros(hours, dtype=np.bool_)
    on[begin : begin + _BLOCKS * _BLOCK_HOURS] = np.repeat(drawn, _BLOCK_HOURS)
    on[begin + _BLOCKS * _BLOCK_HOURS :] = True
    # In the hour after a change couriers are still under way on their former routes.
    acts = np.concatenate([on[:1], on[:-1]])
    hour = np.arange(hours)
    log_minutes = (
        np.log(38)
        + 0.12 * np.sin(2 * np.pi * (hour % 24 - 13) / 24)
        + _WEEKDAY[hour // 24 % 7]
        + autoregression(rng, hours, 0.7, 0.02)
        + DISPATCH * acts
    )
    series = SeriesRecord(
        {"key": "delivery_minutes", "name": "Minutes until delivery", "owner": "Piotr", "grain": "hour",
         "aggregation": "mean", "unit": "min", "direction": "decrease"},
        by_period(calendar.day(first), _DAY / 24, {"": np.exp(log_minutes)[: 24 * (calendar.days - first)]}),
    )  # fmt: skip
    launched = calendar.day(_DISPATCH_DAY)
    steps: list[dict[str, Any]] = [
        {"at": (launched + block * _BLOCK_HOURS * _DAY / 24).isoformat(), "coverage": float(state),
         "mechanism": "random"}
        for block, state in enumerate(drawn)
    ]  # fmt: skip
    steps.append(
        {"at": (launched + _BLOCKS * _BLOCK_HOURS * _DAY / 24).isoformat(), "coverage": 1, "mechanism": "all_at_once"}
    )
    return series, LaunchRecord(
        _launch("launch_new_dispatch", "New dispatch of couriers", "Piotr", steps, "delivery_minutes",
                description="On and off for half a day at a time, by lot.", carry_over_periods=1, measure_for_days=7),
        {}, {"delivery_minutes": DISPATCH},
    )  # fmt: skip


def _counts(rng: np.random.Generator, level: Array, effect: Array, calendar: Calendar) -> dict[str, Column]:
    """Daily counts of cities whose expected logarithms are `level` (cities,) and a common and an own demand."""
    cities, days = effect.shape
    common = np.cumsum(0.01 * rng.standard_normal(days)) + _WEEKDAY[np.arange(days) % 7]
    own = np.stack([autoregression(rng, days, 0.6, 0.015) for _ in range(cities)])
    counts = rng.poisson(np.exp(level[:, None] + common + own + effect)).astype(np.float64)
    return by_period(calendar.first, _DAY, dict(zip(CITIES, counts[:, : calendar.days], strict=True)))


def autoregression(rng: np.random.Generator, periods: int, memory: float, sd: float) -> Array:
    """(periods,) a stationary process that keeps the share `memory` of itself; `sd` is that of its news."""
    news = sd * rng.standard_normal(periods)
    path = np.empty(periods)
    path[0] = news[0] / np.sqrt(1 - memory**2)
    for t in range(1, periods):
        path[t] = memory * path[t - 1] + news[t]
    return path


def _step(calendar: Calendar, day: int, mechanism: str, segments: list[str]) -> dict[str, Any]:
    return {"at": calendar.day(day).isoformat(), "coverage": 1, "mechanism": mechanism, "segments": segments}


def _launch(
    key: str, name: str, owner: str, steps: list[dict[str, Any]], series_key: str, *, description: str, **options: Any
) -> dict[str, Any]:
    return {
        "key": key,
        "name": name,
        "description": description,
        "owner": owner,
        "north_star_key": "weekly_orders",
        "rollout": steps,
        "measurements": [{"series_key": series_key, **options}],
    }
