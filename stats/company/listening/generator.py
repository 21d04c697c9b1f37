"""A listening service in two years of weeks, sixty experiments and their launches, from one seed (METHODS I2, F6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np

from stats.company.listening import definitions
from stats.company.listening.definitions import HOURS, NORTH_STAR_KEY
from stats.company.listening.experiments import experiment_records, summaries
from stats.company.listening.launches import Holdout, Launches, holdout, launch_records, launches
from stats.company.listening.story import HOLDOUT, HOLDOUT_WEEKS, IDEAS, WEEKS
from stats.company.listening.trials import Trials, trials
from stats.company.listening.weeks import Weeks, series_records, weeks
from stats.company.records import Calendar, ExperimentRecord, LaunchRecord, SeriesRecord

_WEEK: Final = timedelta(weeks=1)
_QUARTER: Final = 13
_GROWTH: Final = 1.06


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What nobody told the platform, in arrays; `launches.KAPPA` and `trials.SLOPE` are the same in every company."""

    trials: Trials
    launches: Launches
    holdout: Holdout
    weeks: Weeks

    @property
    def programme(self) -> float:
        """The sum of the true log effects on the company's hours of everything shipped from an experiment."""
        return float(self.launches.effect[self.launches.source >= 0].sum())


@dataclass(frozen=True, slots=True, eq=False)
class Listening:
    """Everything the platform would be told of the listening service, and the `truth` it is not.

    The experiments are 60 and the holdout's; `summaries` are the rows to send by experiment, `decisions` what people
    chose (nothing while it runs). `holdout` names the launches its group was kept from, `reviews` are of the last two
    quarters. Weeks begin on Mondays at 00:00 UTC, and the data end with one.
    """

    started_at: datetime
    ended_at: datetime
    experiments: tuple[ExperimentRecord, ...]
    summaries: dict[str, list[dict[str, Any]]]
    decisions: dict[str, str]
    launches: tuple[LaunchRecord, ...]
    holdout: dict[str, Any]
    series: tuple[SeriesRecord, ...]
    fact_sources: tuple[dict[str, Any], ...]
    metrics: tuple[dict[str, Any], ...]
    north_star: dict[str, Any]
    reviews: tuple[dict[str, Any], ...]
    truth: Truth


def generate(end: date | datetime, *, seed: int = 20260101) -> Listening:
    """The service whose 104 weeks of data end with the last Monday up to `end`; the same seed gives the same arrays."""
    until = _monday(end)
    calendar = Calendar(until - WEEKS * _WEEK, 7 * WEEKS)
    # One stream per purpose: changing how one thing is drawn leaves the others as they were.
    tries, ships, held, days = (np.random.default_rng(s) for s in np.random.SeedSequence([seed, WEEKS]).spawn(4))
    tried = trials(tries)
    launched = launches(ships, tried)
    kept = holdout(held, launched)
    seen = weeks(days, launched)
    return Listening(
        started_at=calendar.first,
        ended_at=until,
        experiments=experiment_records(tried, kept, calendar),
        summaries=summaries(tried, kept, calendar),
        decisions={idea.key: chosen for idea, chosen in zip(IDEAS, tried.outcome, strict=True) if chosen},
        launches=launch_records(launched, calendar),
        holdout=_holdout(launched, calendar),
        series=series_records(seen, calendar),
        fact_sources=definitions.fact_sources(),
        metrics=definitions.metrics(),
        north_star={**definitions.north_star(), "target": _target(seen, until)},
        reviews=_reviews(until),
        truth=Truth(tried, launched, kept, seen),
    )


def _monday(end: date | datetime) -> datetime:
    day = end.astimezone(UTC) if isinstance(end, datetime) else end
    return datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=day.weekday())


def _holdout(launched: Launches, calendar: Calendar) -> dict[str, Any]:
    return {
        "key": HOLDOUT,
        "name": "Nothing new for half a year",
        "description": "One listener in twenty got none of what was launched in the last two quarters.",
        "owner": "leadership",
        "experiment_key": HOLDOUT,
        "metric_key": HOURS,
        "started_at": calendar.day(7 * (WEEKS - HOLDOUT_WEEKS)).isoformat(),
        "released_at": calendar.day(calendar.days).isoformat(),
        "launch_keys": [key for key, kept in zip(launched.keys, launched.held_out, strict=True) if kept],
    }


def _target(seen: Weeks, until: datetime) -> dict[str, Any]:
    """Grow the hours of the last four weeks by 6 % in half a year."""
    recent = float(seen.hours[WEEKS - 4 : WEEKS].mean())
    return {"value": float(round(recent * _GROWTH, -3)), "at": (until + 2 * _QUARTER * _WEEK).date().isoformat()}


def _reviews(until: datetime) -> tuple[dict[str, Any], ...]:
    """Of the last quarter, and of the one before it, which comes first."""
    found = []
    for back, name in ((2, "The quarter before the last"), (1, "The last quarter")):
        ends = until - (back - 1) * _QUARTER * _WEEK
        begins = ends - _QUARTER * _WEEK
        found.append(
            {
                "key": f"listening-{begins.date().isoformat()}",
                "name": f"{name}: {begins:%d %b %Y} to {ends - timedelta(days=1):%d %b %Y}",
                "north_star_key": NORTH_STAR_KEY,
                "begins_on": begins.date().isoformat(),
                "ends_on": ends.date().isoformat(),
                "owner": "leadership",
            }
        )
    return tuple(found)
