"""The company's one shop in a street: what it takes a day, the weather, and a product that moves with it (METHODS I2).

Everything there changes for everybody at once, so what would have been has to come from what the launch left alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np

from stats.company.deliveries import autoregression
from stats.company.records import Calendar, LaunchRecord, SeriesRecord, by_period
from stats.company.story import HORIZON_DAYS

REFIT: Final = 0.08
"""Log effect of the new interior on the shop's revenue."""
_REFIT_DAY: Final = 133
_PER_DEGREE: Final = 0.008
_WEEKDAY: Final = np.array([-0.15, -0.1, -0.08, 0.0, 0.15, 0.35, -0.2])
_DAY: Final = timedelta(days=1)


def store(calendar: Calendar, seed: int) -> tuple[tuple[SeriesRecord, ...], tuple[LaunchRecord, ...]]:
    """Revenue, the weather, the orders of a partner's product, and the shop's new interior."""
    rng = np.random.default_rng([seed, _REFIT_DAY])
    day = np.arange(HORIZON_DAYS)
    demand = np.cumsum(0.01 * rng.standard_normal(HORIZON_DAYS))
    degrees = 12 + 7 * np.sin(2 * np.pi * (day - 40) / 365) + autoregression(rng, HORIZON_DAYS, 0.7, 2.0)
    noise = rng.standard_normal((2, HORIZON_DAYS))
    takings = demand + _WEEKDAY[day % 7] + _PER_DEGREE * (degrees - 12) + 0.02 * noise[0] + REFIT * (day >= _REFIT_DAY)
    partner = demand + 0.4 * _WEEKDAY[day % 7] + 0.004 * noise[1]
    series = (
        SeriesRecord(
            {"key": "store_revenue", "name": "Revenue of the shop", "owner": "Lena", "unit": "EUR"},
            by_period(calendar.first, _DAY, {"": 12_000 * np.exp(takings)[: calendar.days]}),
        ),
        SeriesRecord(
            {"key": "partner_orders", "name": "Orders of a partner's product", "owner": "Lena", "unit": "orders",
             "description": "Sold elsewhere to the same people: demand moves it, what we change does not."},
            by_period(calendar.first, _DAY, {"": np.round(40_000 * np.exp(partner))[: calendar.days]}),
        ),
        SeriesRecord(
            {"key": "temperature", "name": "Temperature at noon", "owner": "Lena", "role": "regressor",
             "aggregation": "mean", "unit": "°C"},
            by_period(calendar.first, _DAY, {"": degrees[: calendar.days]}),
        ),
    )  # fmt: skip
    launch = {
        "key": "launch_store_refit",
        "name": "New interior of the shop",
        "owner": "Lena",
        "north_star_key": "weekly_orders",
        "rollout": [{"at": calendar.day(_REFIT_DAY).isoformat(), "coverage": 1, "mechanism": "all_at_once"}],
        "measurements": [
            {"series_key": "store_revenue", "regressors": ["temperature"], "controls": ["partner_orders"]}
        ],
    }
    return series, (LaunchRecord(launch, {}, {"store_revenue": REFIT}),)
