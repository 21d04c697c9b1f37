"""What a team would have told the platform of its experiments, series and launches."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

type Column = np.ndarray[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """An experiment's definition (`spec`), when it ran, and when it ended (None: still running).

    `ramp`: later shares of the variants, in their order, and from when on. Until then those of `spec` count.
    """

    spec: dict[str, Any]
    started_at: datetime
    ended_at: datetime | None
    ramp: tuple[tuple[datetime, tuple[float, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class SeriesRecord:
    """A series' definition and the values that are pushed to it, none for one from facts.

    `values` has the columns segment, at (start of a period, UTC, `datetime64[us]`), value and, for means with their
    spread, n and variance.
    """

    spec: dict[str, Any]
    values: dict[str, Column] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """A launch's definition and its true log effects: on behaviours (`story.CHANNELS`), and by series that it is

    measured on, at full coverage and as a mean over the time measured.
    """

    spec: dict[str, Any]
    true_effects: dict[str, float]
    true_lifts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The UTC days that lie wholly within the company's data: `days` of them from the midnight `first`."""

    first: datetime
    days: int

    @classmethod
    def within(cls, begin: datetime, end: datetime) -> Calendar:
        """Those between two times."""
        midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
        first = midnight if midnight == begin else midnight + timedelta(days=1)
        return cls(first, (end - first).days)

    def day(self, number: int) -> datetime:
        """The midnight that day `number` begins with."""
        return self.first + timedelta(days=number)


def times(begin: datetime, seconds: Column) -> Column:
    """UTC times as `datetime64[us]`."""
    return np.datetime64(begin.replace(tzinfo=None), "us") + (seconds * 1e6).astype("timedelta64[us]")


def by_period(first: datetime, period: timedelta, rows: dict[str, Column]) -> dict[str, Column]:
    """The columns of `SeriesRecord` from values by segment, each (periods,), rounded to a thousandth."""
    length = period.total_seconds()
    return {
        "segment": np.repeat(list(rows), [values.size for values in rows.values()]),
        "at": np.concatenate([times(first, np.arange(values.size) * length) for values in rows.values()]),
        "value": np.round(np.concatenate(list(rows.values())), 3),
    }
