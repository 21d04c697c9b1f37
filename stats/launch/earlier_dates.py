"""Dates before the launch at which nothing happened: what an estimator of one series finds there is its bias (D7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.launch.contract import NotEstimable, PlaceboRuns
from stats.launch.series_design import Design, history_scales
from stats.launch.state_space import Array

_FEWEST_DATES: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class PlaceboDates:
    """Increasing `dates` at which nothing happened, the periods to judge each by, and the coverage from a date on."""

    dates: list[int]
    horizon: int
    path: Array


def placebo_dates(ready: Design, coverage: Array, horizon: int, most: int) -> PlaceboDates:
    """Dates evenly spread over the history, as if the launch had been then.

    Every date has enough history, and within `horizon` periods of history after it half of those with any coverage can
    be used. The horizon is cut where that is what it takes for 8 dates. Dates close to each other are far from
    independent. Periods between an announcement and the launch are left out there and not here, so that a placebo has
    a little less time to wander than the launch had: its standard error knows.
    """
    seen = np.append(0, np.cumsum(ready.usable[: ready.begin]))
    first = int(np.searchsorted(seen, ready.least))
    stop = int(np.searchsorted(seen, seen[-1]))
    horizon = min(horizon, max(1, stop - first - _FEWEST_DATES + 1))
    path = np.append(coverage[ready.begin :], np.full(ready.begin, coverage[-1]))
    reached = (path[:horizon] > 0).astype(float)
    if first == stop:
        return PlaceboDates([], horizon, path)
    known = np.correlate(ready.usable[first:stop].astype(float), reached, mode="valid")
    candidates = first + np.flatnonzero(2 * known >= reached.sum())
    if candidates.size > most:
        candidates = candidates[np.linspace(0, candidates.size - 1, most).round().astype(int)]
    return PlaceboDates([date for date in candidates.tolist() if _varies(ready, date)], horizon, path)


def _varies(ready: Design, date: int) -> bool:
    try:
        history_scales(ready, date)
    except NotEstimable:
        return False
    return True


def placebo_runs(placed: PlaceboDates, effect: Array, error: Array) -> PlaceboRuns:
    """Effects and standard errors (J + 1,) of the dates, and of the launch itself last."""
    score = np.abs(effect) / error
    return PlaceboRuns(
        kind="time",
        effect=effect[:-1],
        standard_error=error[:-1],
        place=np.array(placed.dates, dtype=np.intp),
        score=score[:-1],
        own_score=float(score[-1]),
        horizon=placed.horizon,
    )


def no_runs() -> PlaceboRuns:
    """No placebo in time could be made."""
    empty = np.empty(0)
    return PlaceboRuns("time", empty, empty, np.empty(0, dtype=np.intp), empty, float("nan"))
