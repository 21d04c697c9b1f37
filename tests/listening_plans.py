"""The listening service's plans without a database: what the registry would pin, from the arrays of its truth.

Validation runs many companies; a service for each would take minutes.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from experiments.definitions import Direction, NorthStarSpec, ReviewSpec
from experiments.plan import (
    HoldoutEvidence,
    InfluenceWeeks,
    JointEvidence,
    LedgerLaunch,
    LinksPlan,
    MissingEffect,
    PlannedNorthStar,
    ProgrammeEffect,
    ProgrammePlan,
    ReviewedDecision,
    ReviewPlan,
)
from stats.company.listening import Listening
from stats.company.listening.definitions import HOURS, INPUTS, METRICS, SERIES
from stats.company.listening.story import GAMED, HOLDOUT_SHARE, IDEAS, PEEKED, WEEKS

WEEK = timedelta(weeks=1)
BIAS_OF_PEEKED = 0.005


def programme_plan(told: Listening, *, weeks: int = WEEKS, with_holdout: bool = True) -> ProgrammePlan:
    """All experiments on the hours that had ended after so many weeks: all effects count but that of the broken one."""
    tried = told.truth.trials
    ended = [k for k, outcome in enumerate(tried.outcome) if outcome and tried.last_week[k] <= weeks]
    launch_of = dict(zip(told.truth.launches.source, told.truth.launches.keys, strict=True))
    return ProgrammePlan(
        metric_key=HOURS,
        metric_name="Hours listened",
        direction=Direction.INCREASE,
        started=int((tried.first_week < weeks).sum()),
        effects=[_effect(told, k, launch_of.get(k)) for k in ended if tried.usable[k]],
        missing=[
            MissingEffect(experiment_key=IDEAS[k].key, name=IDEAS[k].name, reason="unreliable")
            for k in ended
            if not tried.usable[k]
        ],
        holdouts=[_holdout(told)] if with_holdout and weeks == WEEKS else [],
    )


def links_plan(told: Listening, metrics: tuple[str, ...] = INPUTS) -> LinksPlan:
    """Effects on the hours and on these metrics, with what the same listeners make of their errors.

    Playlist saves are not in the identity of the North Star, so the registry would not pin them; here one can ask.
    """
    tried = told.truth.trials
    pick = [METRICS.index(key) for key in (HOURS, *metrics)]
    return LinksPlan(
        north_star=_north_star(told),
        effects=[
            JointEvidence(
                experiment_key=IDEAS[k].key,
                name=IDEAS[k].name,
                team=IDEAS[k].team,
                variant_key="treatment",
                analysis_id=f"analysis-of-{IDEAS[k].key}",
                data_as_of=_moment(told, tried.last_week[k]),
                log_lifts=tried.log_lift[k, pick].tolist(),
                covariance=tried.error[k][np.ix_(pick, pick)].tolist(),
            )
            for k, outcome in enumerate(tried.outcome)
            if outcome and tried.usable[k]
        ],
        missing=[],
    )


def review_plan(told: Listening, review: int = -1, *, with_holdout: bool = True) -> ReviewPlan:
    """A review (by default the last one) as it would be planned on the day on which its period ends."""
    spec = ReviewSpec.model_validate(told.reviews[review])
    seen = told.truth.weeks
    count = round((datetime(*spec.ends_on.timetuple()[:3], tzinfo=told.started_at.tzinfo) - told.started_at) / WEEK)
    values = {SERIES[HOURS]: seen.hours, **dict(zip(INPUTS, (seen.listeners, seen.sessions, seen.length), strict=True))}
    influences = _north_star(told).spec.influences
    names = {record.spec["key"]: record.spec["name"] for record in told.series}
    programme = programme_plan(told, weeks=count, with_holdout=with_holdout)
    return ReviewPlan(
        review=spec,
        north_star=_north_star(told),
        unit="h",
        direction=Direction.INCREASE,
        weeks=[told.started_at + week * WEEK for week in range(count)],
        values=values[SERIES[HOURS]][:count].tolist(),
        inputs={key: values[key][:count].tolist() for key in INPUTS},
        influences=[
            InfluenceWeeks(
                series_key=item.series_key,
                name=names[item.series_key],
                rationale=item.rationale,
                values=seen.influences[:count, place].tolist(),
            )
            for place, item in enumerate(influences)
        ],
        programme=programme,
        launches=_launches(told, programme, count),
        decisions=[
            ReviewedDecision(
                experiment_key=effect.experiment_key,
                name=effect.name,
                outcome=effect.outcome,
                variant_key=effect.variant_key if effect.shipped else None,
                decided_at=effect.decided_at,
                reason="As the hours said.",
                learnings="",
                against_recommendation=False,
            )
            for effect in programme.effects
            if effect.outcome and effect.decided_at and spec.begins_on <= effect.decided_at.date() < spec.ends_on
        ],
        running=[],
        previous=None,
        sources=[],
    )


def _effect(told: Listening, k: int, launch_key: str | None) -> ProgrammeEffect:
    tried, idea = told.truth.trials, IDEAS[k]
    stopped = _moment(told, tried.last_week[k])
    peeked = idea.key == PEEKED
    return ProgrammeEffect(
        experiment_key=idea.key,
        name=idea.name,
        team=idea.team,
        owner=idea.team,
        variant_key="treatment",
        variants=1,
        analysis_id=f"analysis-of-{idea.key}",
        data_as_of=stopped,
        verdict="better" if tried.outcome[k] == "ship" and idea.key != GAMED else "inconclusive",
        log_lift=float(tried.log_lift[k, 0]),
        standard_error=float(np.sqrt(tried.error[k, 0, 0])),
        topline_log_lift=float(tried.topline[k]),
        topline_standard_error=float(tried.topline_error[k]),
        topline_source="declared",
        evidence_grade="B" if peeked else "A",
        bias_sd=BIAS_OF_PEEKED if peeked else 0.0,
        started_at=_moment(told, tried.first_week[k]),
        stopped_at=stopped,
        outcome=tried.outcome[k],
        decided_at=stopped + timedelta(days=1),
        shipped=tried.outcome[k] == "ship",
        launch_key=launch_key,
    )


def _launches(told: Listening, programme: ProgrammePlan, count: int) -> list[LedgerLaunch]:
    launched = told.truth.launches
    grades = {effect.experiment_key: effect.evidence_grade for effect in programme.effects}
    found = []
    for j, record in enumerate(told.launches):
        if not launched.coverage[:count, j].any():
            continue
        source = int(launched.source[j])
        key = IDEAS[source].key if source >= 0 else None
        found.append(
            LedgerLaunch(
                launch_key=record.spec["key"],
                name=record.spec["name"],
                owner=record.spec["owner"],
                first_at=_moment(told, launched.first_week[j]),
                coverage=launched.coverage[:count, j].tolist(),
                experiment_key=key,
                evidence_grade=grades[key] if key else "U",
            )
        )
    return found


def _holdout(told: Listening) -> HoldoutEvidence:
    held, spec = told.truth.holdout, told.holdout
    return HoldoutEvidence(
        holdout_key=spec["key"],
        name=spec["name"],
        experiment_key=spec["experiment_key"],
        share=HOLDOUT_SHARE,
        started_at=spec["started_at"],
        released_at=spec["released_at"],
        launch_keys=spec["launch_keys"],
        analysis_id="analysis-of-the-holdout",
        log_lift=held.log_lift,
        standard_error=held.standard_error,
        contaminated_share=None,
        failed_checks=[],
    )


def _north_star(told: Listening) -> PlannedNorthStar:
    return PlannedNorthStar(version=1, spec=NorthStarSpec.model_validate(told.north_star))


def _moment(told: Listening, week: int) -> datetime:
    return min(told.started_at + int(week) * WEEK, told.started_at + WEEKS * WEEK)
