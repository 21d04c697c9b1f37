"""The plan of a growth review: everything on record about a North Star's weeks, with all its numbers (METHODS H6)."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import metric, north_star, programme_plan
from experiments.belonging import experiment_is_about
from experiments.definitions import NorthStarSpec, ReviewSpec
from experiments.formula_defects import natures
from experiments.growth_review import midnight, spec_of
from experiments.ledger_lines import KIND
from experiments.plan import (
    LedgerLaunch,
    PlannedNorthStar,
    PreviousReview,
    ReviewedDecision,
    ReviewPlan,
    RunningExperiment,
    SegmentRates,
    Source,
)
from experiments.review_launches import launches_of
from experiments.segment_rates import segment_rates
from experiments.tables import Analysis, Decision, Experiment, GrowthReview, NorthStar, Result
from experiments.weekly_values import WEEK, company_weeks


async def review_plan(session: AsyncSession, review: GrowthReview, *, at: datetime) -> ReviewPlan:
    """The plan of a review with what is on record now and was known of values and results at `at`.

    Weeks go up to the last whole one before then, or before the period ended. Notes are no part of it: they change no
    number. Raises `NotReady` where no week of the North Star is known.
    """
    spec = spec_of(review)
    star = await session.get_one(NorthStar, review.north_star_id)
    tree = north_star.spec_of(star)
    known = await metric.all_known(session, archived=True)
    definition = known[tree.metric_key].spec
    company = await company_weeks(session, spec=tree, known_at=at, until=min(at, midnight(spec.ends_on)))
    programme, programme_as_of = await programme_plan.programme_plan(session, metric_key=tree.metric_key, at=at)
    launches = await launches_of(
        session,
        north_star_key=star.key,
        metric_key=tree.metric_key,
        weeks=company.weeks,
        effects=programme.effects,
        known_at=at,
    )
    return ReviewPlan(
        review=spec.model_copy(update={"notes": "", "next_bets": ""}),
        north_star=PlannedNorthStar(version=star.version, spec=tree),
        unit=company.unit or definition.unit,
        direction=definition.direction,
        weeks=company.weeks,
        values=company.values,
        inputs=company.inputs,
        without=company.without,
        names={key: known[key].spec.name for key in north_star.metric_keys_of(tree)},
        natures=await natures(session, tree, {key: item.spec for key, item in known.items()}),
        segments=await _segments(session, tree, spec, company.weeks, at),
        influences=company.influences,
        programme=programme,
        launches=launches,
        decisions=await _decisions(session, tree, midnight(spec.begins_on), min(at, midnight(spec.ends_on))),
        running=await _running(session, tree, at),
        previous=await _previous(session, review, at),
        sources=[
            *company.sources,
            Source(name="programme", analysis_id=None, known_at=programme_as_of),
            *await _sources_of(session, launches),
        ],
    )


async def _segments(
    session: AsyncSession, tree: NorthStarSpec, spec: ReviewSpec, weeks: Sequence[datetime], at: datetime
) -> list[SegmentRates]:
    """Inputs by segment in the weeks that there are of the period, and in those that they are held against."""
    begin, end = midnight(spec.begins_on), min(midnight(spec.ends_on), weeks[-1] + WEEK)
    if begin >= end:
        return []
    lag = spec.lag_weeks * WEEK
    return await segment_rates(session, spec=tree, begin=begin, end=end, lag=lag, known_at=at)


async def _decisions(
    session: AsyncSession, tree: NorthStarSpec, begin: datetime, end: datetime
) -> list[ReviewedDecision]:
    """The last decision of the period on each experiment about the North Star, in order of time."""
    statement = (
        sa.select(Decision, Experiment)
        .join(Experiment, col(Experiment.id) == col(Decision.experiment_id))
        .where(col(Decision.decided_at) >= begin, col(Decision.decided_at) < end)
        .order_by(col(Decision.decided_at), col(Decision.id))
    )
    last: dict[str, ReviewedDecision] = {}
    for decision, experiment in await session.execute(statement):
        if not experiment_is_about(tree.key, north_star.metric_keys_of(tree), experiment):
            continue
        last.pop(experiment.key, None)
        last[experiment.key] = ReviewedDecision(
            experiment_key=experiment.key,
            name=experiment.name,
            outcome=decision.outcome,
            variant_key=decision.shipped_variant,
            decided_at=decision.decided_at,
            reason=decision.reason,
            learnings=decision.learnings,
            against_recommendation=bool(decision.against_recommendation),
        )
    return list(last.values())


async def _running(session: AsyncSession, tree: NorthStarSpec, at: datetime) -> list[RunningExperiment]:
    """The tests about the North Star under way, as their newest results see them."""
    newest = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = (
        sa.select(col(Result.id), col(Result.subject_key), newest.label("rank"))
        .where(col(Result.kind) == "experiment", col(Result.data_as_of) <= at)
        .subquery()
    )
    statement = (
        sa.select(Experiment, col(Result.body))
        .outerjoin(ranked, sa.and_(ranked.c.subject_key == col(Experiment.key), ranked.c.rank == 1))
        .outerjoin(Result, col(Result.id) == ranked.c.id)
        .where(col(Experiment.status).in_(("running", "paused")))
        .order_by(col(Experiment.key))
    )
    found: Sequence[tuple[Experiment, bytes | None]] = [(row[0], row[1]) for row in await session.execute(statement)]
    return [
        _as_running(experiment, {} if body is None else json.loads(body))
        for experiment, body in found
        if experiment.spec.get("purpose", "test") == "test"
        and experiment_is_about(tree.key, north_star.metric_keys_of(tree), experiment)
    ]


def _as_running(experiment: Experiment, seen: Mapping[str, Any]) -> RunningExperiment:
    """Documents of earlier schemas have no recommendation and no value of waiting."""
    advice: Mapping[str, Any] = seen.get("recommendation") or {}
    gains = [each["net_gain"] for each in seen.get("waiting", ()) if each.get("net_gain") is not None]
    return RunningExperiment(
        experiment_key=experiment.key,
        name=experiment.name,
        analysis_id=seen.get("analysis_id"),
        verdict=seen.get("verdict"),
        recommendation=advice.get("action"),
        days_left=advice.get("expected_days"),
        value_of_waiting=max(gains, default=None),
        failed_checks=[check["name"] for check in seen.get("checks", ()) if check["status"] == "fail"],
        metric_keys=[item["metric_key"] for item in experiment.spec.get("metrics", ())],
    )


async def _previous(session: AsyncSession, review: GrowthReview, at: datetime) -> PreviousReview | None:
    """The newest result of the review with the last end before this one's."""
    statement = (
        sa.select(col(Result.body))
        .join(GrowthReview, col(GrowthReview.key) == col(Result.subject_key))
        .where(
            col(Result.kind) == KIND,
            col(Result.data_as_of) <= at,
            col(GrowthReview.north_star_id) == review.north_star_id,
            col(GrowthReview.ends_at) < review.ends_at,
        )
        .order_by(col(GrowthReview.ends_at).desc(), col(Result.data_as_of).desc(), col(Result.id).desc())
        .limit(1)
    )
    body = await session.scalar(statement)
    if body is None:
        return None
    seen = json.loads(body)
    return PreviousReview(
        review_key=seen["review_key"],
        analysis_id=seen["analysis_id"],
        data_as_of=seen["data_as_of"],
        numbers=seen["headline"],
    )


async def _sources_of(session: AsyncSession, launches: list[LedgerLaunch]) -> list[Source]:
    """The results that measured launches without an experiment."""
    on_series = [each for each in launches if each.experiment_key is None]
    wanted = {each.analysis_id: each.launch_key for each in on_series if each.analysis_id is not None}
    statement = sa.select(Analysis).where(
        col(Analysis.kind) == "launch", col(Analysis.subject_key).in_(sorted(wanted.values()))
    )
    rows = [row for row in await session.scalars(statement) if str(row.id) in wanted]
    return [
        Source(name=f"launch {row.subject_key}", analysis_id=str(row.id), known_at=row.data_as_of)
        for row in sorted(rows, key=lambda row: row.subject_key)
    ]
