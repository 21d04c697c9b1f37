"""The values of a series as they were known at a time: what the database or the data engine hands to an analysis."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from experiments.definitions import Grain
from stats.moments import Floats

PERIOD: Final[dict[Grain, timedelta]] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}


@dataclass(frozen=True, slots=True, eq=False)
class SeriesTable:
    """Values by segment and period. `values`, `n`, `variance` are (segments, periods), nan where unknown.

    `periods` are the starts of consecutive periods, ascending without gaps from the first with any value to the last
    that is complete. `n` and `variance` are those of units within the period, for series of means that carry them.
    `restated` counts values that had been another number before. `unplaced` counts facts that name no segment, and so
    are in none of them.
    """

    segments: tuple[str, ...]
    periods: tuple[datetime, ...]
    values: Floats
    n: Floats
    variance: Floats
    restated: int = 0
    unplaced: int = 0

    @classmethod
    def empty(cls) -> "SeriesTable":
        """No segment and no period: nothing is known."""
        nothing: Floats = np.empty((0, 0))
        return cls((), (), nothing, nothing, nothing)


def start_of_period(at: datetime, grain: Grain) -> datetime:
    """The start of the period that a time lies in: UTC hours, days, weeks from Monday."""
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if grain == "hour":
        return hour
    day = hour.replace(hour=0)
    return day if grain == "day" else day - timedelta(days=day.weekday())


def periods_between(first: datetime, last: datetime, grain: Grain) -> tuple[datetime, ...]:
    """The starts of consecutive periods from `first` to `last`, both included and both starts of a period."""
    length = PERIOD[grain]
    return tuple(first + length * i for i in range((last - first) // length + 1))
