"""The company's business with accounts: members, their events, and experiments that use every option (METHODS I2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from stats.company.launches import OWNERS
from stats.company.member_story import WINDOW_DAYS, MemberTrial
from stats.company.members import Cohort, cohorts, facts, member_lifts
from stats.company.population import COUNTRIES, PLATFORMS
from stats.company.records import Column, ExperimentRecord, times
from stats.company.truth import TrueLift

_SOURCES: Final = {
    "purchases": "purchase", "page_views": "page_view", "survey_answers": "survey_answer",
    "checkout_views": "checkout_view",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Business:
    """Everything the platform would be told of members, and the `truth` it is not. Columns as in `Company`.

    `exposures` also name the `account`. Purchases carry their amount, page views their milliseconds, survey answers
    their score from 0 to 10. In an experiment with a trigger the exposures are assignments.
    """

    exposures: dict[str, Column]
    events: dict[str, Column]
    experiments: tuple[ExperimentRecord, ...]
    fact_sources: tuple[dict[str, Any], ...]
    metrics: tuple[dict[str, Any], ...]
    truth: tuple[TrueLift, ...]


def business(begin: datetime, *, seed: int, users: int) -> Business:
    """The members of a company of so many users, whose data begin at `begin`; the same seed gives identical arrays."""
    found = cohorts(seed, users)
    return Business(
        exposures=_exposures(found, begin),
        events=_events(found, begin, seed),
        experiments=tuple(_experiment(cohort, begin) for cohort in found),
        fact_sources=tuple(
            {"key": key, "name": key.replace("_", " ").capitalize(), "kind": "events", "event": event,
             "unit_type": "member"}
            for key, event in _SOURCES.items()
        ),
        metrics=_metrics(),
        truth=tuple(
            TrueLift(cohort.trial.key, "treatment", metric, "", "", lift)
            for cohort in found
            for metric, lift in member_lifts(cohort).items()
        ),
    )  # fmt: skip


def _names(cohort: Cohort) -> Column:
    return np.array([f"m{number:06d}" for number in range(cohort.first, cohort.first + cohort.arm.size)])


def _exposures(found: tuple[Cohort, ...], begin: datetime) -> dict[str, Column]:
    seconds = np.concatenate([cohort.assigned for cohort in found])
    order = np.argsort(seconds, kind="stable")
    columns: dict[str, list[Column]] = {
        "experiment_key": [np.full(cohort.arm.size, cohort.trial.key) for cohort in found],
        "unit_id": [_names(cohort) for cohort in found],
        "variant_key": [np.array(["control", "treatment"])[cohort.arm] for cohort in found],
        "country": [np.array(COUNTRIES)[cohort.country] for cohort in found],
        "platform": [np.array(PLATFORMS)[cohort.platform] for cohort in found],
        "account": [np.array([f"a{n:06d}" for n in cohort.first + cohort.account]) for cohort in found],
    }
    return {"exposed_at": times(begin, seconds[order]), **{k: np.concatenate(v)[order] for k, v in columns.items()}}


def _events(found: tuple[Cohort, ...], begin: datetime, seed: int) -> dict[str, Column]:
    # Who is in two experiments lives once: the facts of the first one hold both effects.
    lives = [cohort for cohort in found if cohort.trial.beside is None]
    streams = np.random.SeedSequence([seed, WINDOW_DAYS, 1]).spawn(len(lives))
    done = [facts(cohort, np.random.default_rng(stream)) for cohort, stream in zip(lives, streams, strict=True)]
    seconds = np.concatenate([part.seconds for part in done])
    order = np.argsort(seconds, kind="stable")
    names = [_names(cohort)[part.member] for cohort, part in zip(lives, done, strict=True)]
    return {
        "unit_id": np.concatenate(names)[order],
        "event": np.concatenate([part.event for part in done])[order],
        "occurred_at": times(begin, seconds[order]),
        "value": np.concatenate([part.value for part in done])[order],
    }


def _experiment(cohort: Cohort, begin: datetime) -> ExperimentRecord:
    trial = cohort.trial
    start = begin + timedelta(days=trial.first_day)
    planned_end = start + timedelta(days=trial.days)
    (_, first_share), *later = trial.ramp
    spec = {
        "key": trial.key,
        "name": trial.name,
        "hypothesis": trial.hypothesis,
        "owner": OWNERS[trial.team],
        "team": trial.team,
        "tags": [trial.team, "members"],
        "unit_type": "member",
        "variants": [
            {"key": "control", "name": "Control", "weight": 1 - first_share, "is_control": True},
            {"key": "treatment", "name": "Treatment", "weight": first_share},
        ],
        "metrics": list(trial.metrics),
        "planned_units": _planned_units(cohort),
        "planned_end_at": planned_end.isoformat(),
        **trial.options,
    }
    ended = planned_end if trial.ended_after is None else start + timedelta(days=trial.ended_after)
    stages = tuple((start + timedelta(days=day), (1 - share, share)) for day, share in later)
    return ExperimentRecord(spec, start, ended, stages)


def _planned_units(cohort: Cohort) -> int:
    trial: MemberTrial = cohort.trial
    planned_days = trial.days - WINDOW_DAYS - trial.trigger_days
    return round(int(np.isfinite(cohort.counts_from).sum()) * planned_days / trial.exposure_days)


def _metrics() -> tuple[dict[str, Any], ...]:
    bought: dict[str, Any] = {"fact_source": "purchases"}
    common = {"owner": "analytics", "window_days": WINDOW_DAYS}
    return (
        {"key": "buyers", "name": "Members who buy", "kind": "proportion", "unit": "%", "aarrr_stage": "revenue",
         "measure": {**bought, "aggregation": "any"}, "pre_period_days": 28, **common},
        {"key": "spend", "name": "Spend per member", "kind": "mean", "unit": "EUR", "aarrr_stage": "revenue",
         "measure": {**bought, "aggregation": "sum"}, "cap": {"quantile": 0.999}, "pre_period_days": 28, **common},
        {"key": "page_latency", "name": "Page latency, 90th percentile", "kind": "quantile", "unit": "ms",
         "direction": "decrease", "quantile": 0.9, "quantile_of": "event", "pre_period_days": 0,
         "measure": {"fact_source": "page_views", "aggregation": "sum"}, **common},
        {"key": "nps", "name": "Would recommend us", "kind": "survey", "scale": "nps", "pre_period_days": 0,
         "measure": {"fact_source": "survey_answers", "aggregation": "sum"}, **common},
    )  # fmt: skip
