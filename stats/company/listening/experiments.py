"""The experiments of the listening service as their teams registered them, and the summaries that they send."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from stats.company.listening.definitions import HOURS, METRICS, NORTH_STAR_KEY, SAVES, SESSIONS
from stats.company.listening.launches import Holdout
from stats.company.listening.story import (
    CHEAP,
    GAMED,
    HOLDOUT,
    HOLDOUT_SHARE,
    HOLDOUT_WEEKS,
    IDEAS,
    OWNERS,
    PEEKED,
    RUNNING,
    WEEKS,
)  # fmt: skip
from stats.company.listening.trials import Trials, of_values
from stats.company.population import Array, Integers
from stats.company.records import Calendar, ExperimentRecord

_ARMS: Final = ("control", "treatment")
_ESTIMATION: Final = {"engine": "frequentist", "ci_level": 0.9, "cuped": False}
"""Nine in ten: what is better by its interval is what the company ships."""


def experiment_records(tried: Trials, kept: Holdout, calendar: Calendar) -> tuple[ExperimentRecord, ...]:
    """The sixty, in the order of `IDEAS`, then the holdout."""
    return (*(_experiment(tried, k, calendar) for k in range(len(IDEAS))), _holdout_experiment(kept, calendar))


def summaries(tried: Trials, kept: Holdout, calendar: Calendar) -> dict[str, list[dict[str, Any]]]:
    """By experiment the rows to send: per metric and arm, as of its end or of now; those of the peeker at each look."""
    found = {}
    for k, idea in enumerate(IDEAS):
        begin, end = (calendar.day(7 * int(week[k])) for week in (tried.first_week, tried.last_week))
        if idea.key == PEEKED:
            looks = len(tried.looks)
            found[idea.key] = [
                row
                for look, means in enumerate(tried.looks, start=1)
                for row in _rows(tried.counts[k] * look // looks, means, begin + look * timedelta(days=1))
            ]
        else:
            at = min(end, calendar.day(calendar.days))
            found[idea.key] = _rows(tried.counts[k], tried.means[k], at)
    found[HOLDOUT] = _rows(kept.counts, kept.means, calendar.day(calendar.days))
    return found


def _experiment(tried: Trials, k: int, calendar: Calendar) -> ExperimentRecord:
    idea = IDEAS[k]
    start, planned_end = (calendar.day(7 * int(week[k])) for week in (tried.first_week, tried.last_week))
    primary = SESSIONS if idea.key == GAMED else HOURS
    peeks = idea.key == PEEKED
    spec: dict[str, Any] = {
        "key": idea.key,
        "name": idea.name,
        "hypothesis": idea.hypothesis,
        "owner": OWNERS[idea.team],
        "team": idea.team,
        "tags": [idea.team, *(["cheap to keep"] if idea.key in CHEAP else [])],
        "unit_type": "listener",
        "data": "summary",
        "variants": _variants(0.5),
        "metrics": _metrics(primary),
        "north_star_key": NORTH_STAR_KEY,
        "north_star_share": {"value": float(tried.declared[k]), "standard_error": float(tried.share_error[k])},
        "coverage": float(tried.enrolled[k]),
        "estimation": _ESTIMATION if peeks else {**_ESTIMATION, "sequential": {"method": "fixed"}},
    }
    if peeks:
        return ExperimentRecord(spec, start, start + len(tried.looks) * timedelta(days=1))
    planned = int(tried.counts[k].sum()) * (2 if idea.key in RUNNING else 1)
    spec |= {"planned_units": planned, "planned_end_at": planned_end.isoformat()}
    return ExperimentRecord(spec, start, None if idea.key in RUNNING else planned_end)


def _holdout_experiment(kept: Holdout, calendar: Calendar) -> ExperimentRecord:
    start, end = calendar.day(7 * (WEEKS - HOLDOUT_WEEKS)), calendar.day(calendar.days)
    spec: dict[str, Any] = {
        "key": HOLDOUT,
        "name": "Nothing new for half a year",
        "hypothesis": "All that we ship together makes people listen longer.",
        "owner": "leadership",
        "team": "leadership",
        "tags": ["holdout"],
        "unit_type": "listener",
        "data": "summary",
        "purpose": "holdout",
        "variants": _variants(1 - HOLDOUT_SHARE),
        "metrics": _metrics(HOURS),
        "north_star_key": NORTH_STAR_KEY,
        "north_star_share": {"value": 1.0},
        "planned_units": int(kept.counts.sum()),
        "planned_end_at": end.isoformat(),
        "estimation": {**_ESTIMATION, "sequential": {"method": "fixed"}},
    }
    return ExperimentRecord(spec, start, end)


def _variants(share: float) -> list[dict[str, Any]]:
    return [
        {"key": "control", "name": "As it was", "weight": round(1 - share, 6), "is_control": True},
        {"key": "treatment", "name": "With the change", "weight": share},
    ]


def _metrics(primary: str) -> list[dict[str, Any]]:
    others = [key for key in METRICS if key not in (primary, SAVES)]
    return [
        {"metric_key": primary, "role": "primary", "mde": 0.01},
        *({"metric_key": key, "role": "secondary"} for key in others),
        {"metric_key": SAVES, "role": "monitor"},
    ]


def _rows(counts: Integers, means: Array, as_of: datetime) -> list[dict[str, Any]]:
    """One row per arm and metric, with the covariance of the units' values with those of every other metric."""
    covariances = of_values(means)
    return [
        {
            "metric_key": key,
            "variant_key": arm,
            "as_of": as_of.isoformat(),
            "n": int(counts[a]),
            "mean": float(means[a, m]),
            "variance": float(covariances[a, m, m]),
            "covariances": {other: float(covariances[a, m, o]) for o, other in enumerate(METRICS) if o != m},
        }
        for a, arm in enumerate(_ARMS)
        for m, key in enumerate(METRICS)
    ]
