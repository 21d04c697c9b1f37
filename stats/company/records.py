"""What a team would have told the platform of its experiments and launches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
class LaunchRecord:
    """A launch's definition and its true log effects on behaviours (`story.CHANNELS`)."""

    spec: dict[str, Any]
    true_effects: dict[str, float]


def times(begin: datetime, seconds: Column) -> Column:
    """UTC times as `datetime64[us]`."""
    return np.datetime64(begin.replace(tzinfo=None), "us") + (seconds * 1e6).astype("timedelta64[us]")
