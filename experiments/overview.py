"""What the pages show at a glance: the newest evidence and decisions, read in a few queries for any number of rows."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import metric, north_star, stored_result
from experiments.belonging import launch_is_about
from experiments.definitions import LaunchSpec, MetricSpec, NorthStarSpec
from experiments.tables import Analysis, Decision, Experiment, Launch, NorthStar, Result, ResultRow

ACTIVE = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Glance:
    """An experiment in a list: its latest verdict, the rows of its primary metrics and what was decided last."""

    experiment: Experiment
    verdict: str | None
    data_as_of: datetime | None
    primary: Sequence[ResultRow]
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Learning:
    """A decision with what it was about."""

    decision: Decision
    experiment: Experiment
    launch_key: str | None


@dataclass(frozen=True, slots=True)
class FilterChoices:
    """Values that a list can be filtered by, each in alphabetical order."""

    owners: Sequence[str]
    teams: Sequence[str]
    tags: Sequence[str]


@dataclass(frozen=True, slots=True)
class Home:
    """The home page: one North Star with its newest series, and what is going on around it."""

    north_stars: Sequence[NorthStar]
    chosen: NorthStar | None
    spec: NorthStarSpec | None
    metrics: Mapping[str, MetricSpec]
    series: Result | None
    refreshing: Analysis | None
    launches: Sequence[Launch]
    running: Sequence[Glance]
    learnings: Sequence[Learning]
    experiments: int
    metric_count: int = field(default=0)


@dataclass(frozen=True, slots=True)
class _Latest:
    id: uuid.UUID
    verdict: str | None
    data_as_of: datetime


async def latest_result(session: AsyncSession, *, kind: str, subject_key: str) -> Result | None:
    """The stored result with the newest data, None when there is none."""
    result_id = await stored_result.latest_id(session, kind=kind, subject_key=subject_key)
    return None if result_id is None else await stored_result.get(session, result_id=result_id)


async def subjects_with_results(session: AsyncSession, *, kind: str) -> frozenset[str]:
    """Keys of all that was ever answered about by this kind of analysis: metrics with a prior, with a programme."""
    statement = sa.select(col(Result.subject_key)).where(col(Result.kind) == kind).distinct()
    return frozenset((await session.execute(statement)).scalars())


async def glances(session: AsyncSession, *, experiments: Sequence[Experiment]) -> list[Glance]:
    """The same experiments in the same order, with what is known about them: three queries, however many they are."""
    keys = [experiment.key for experiment in experiments]
    results = await _latest_results(session, keys)
    rows = await _primary_rows(session, [result.id for result in results.values()])
    decisions = await _latest_decisions(session, experiments)
    found: list[Glance] = []
    for experiment in experiments:
        result = results.get(experiment.key)
        found.append(
            Glance(
                experiment,
                result.verdict if result else None,
                result.data_as_of if result else None,
                [row for row in rows if result is not None and row.result_id == result.id],
                decisions.get(str(experiment.id)),
            )
        )
    return found


async def filter_choices(session: AsyncSession) -> FilterChoices:
    """Owners, teams and tags that some experiment has."""
    owners = await session.scalars(sa.select(col(Experiment.owner)).distinct())
    teams = await session.scalars(sa.select(col(Experiment.team)).distinct())
    specs = await session.scalars(sa.select(col(Experiment.spec)))
    tags = {str(tag) for spec in specs for tag in spec.get("tags", [])}
    return FilterChoices(sorted(filter(None, owners)), sorted(filter(None, teams)), sorted(tags))


async def recent_learnings(session: AsyncSession, *, limit: int) -> list[Learning]:
    """The newest decisions."""
    statement = (
        sa.select(Decision, Experiment, col(Launch.key))
        .join(Experiment, col(Experiment.id) == col(Decision.experiment_id))
        .outerjoin(Launch, col(Launch.id) == col(Decision.launch_id))
        .order_by(col(Decision.decided_at).desc(), col(Decision.id).desc())
        .limit(limit)
    )
    return [Learning(decision, experiment, key) for decision, experiment, key in await session.execute(statement)]


async def analyses_of(session: AsyncSession, *, kind: str, subject_key: str, limit: int) -> list[tuple[Analysis, str]]:
    """The newest analyses of a subject, each with the verdict of its result (empty when there is none)."""
    statement = (
        sa.select(Analysis, sa.func.coalesce(col(Result.verdict), ""))
        .outerjoin(Result, col(Result.id) == col(Analysis.result_id))
        .where(col(Analysis.kind) == kind, col(Analysis.subject_key) == subject_key)
        .order_by(col(Analysis.created_at).desc(), col(Analysis.id).desc())
        .limit(limit)
    )
    return [(analysis, verdict) for analysis, verdict in await session.execute(statement)]


async def active_analysis(session: AsyncSession, *, kind: str, subject_key: str) -> Analysis | None:
    """The newest analysis of a subject that is not over."""
    statement = (
        sa.select(Analysis)
        .where(col(Analysis.kind) == kind, col(Analysis.subject_key) == subject_key, col(Analysis.state).in_(ACTIVE))
        .order_by(col(Analysis.created_at).desc(), col(Analysis.id).desc())
        .limit(1)
    )
    found: Analysis | None = await session.scalar(statement)
    return found


async def launches_in_order(session: AsyncSession) -> Sequence[tuple[Launch, str | None]]:
    """All launches by when they first reached somebody, newest first, with the key of their experiment."""
    statement = (
        sa.select(Launch, col(Experiment.key))
        .outerjoin(Experiment, col(Experiment.id) == col(Launch.experiment_id))
        .order_by(col(Launch.first_at).desc(), col(Launch.id).desc())
    )
    return [(launch, key) for launch, key in await session.execute(statement)]


async def home(session: AsyncSession, *, key: str | None) -> Home:
    """Everything on the home page; `key` chooses among several North Stars (the first registered one otherwise)."""
    stars = (await session.scalars(sa.select(NorthStar).order_by(col(NorthStar.id)))).all()
    chosen = next((star for star in stars if star.key == key), stars[0] if stars else None)
    spec = north_star.spec_of(chosen) if chosen else None
    known = await metric.all_known(session, archived=True)
    running = await session.scalars(
        sa.select(Experiment).where(col(Experiment.status).in_(("running", "paused"))).order_by(col(Experiment.id))
    )
    statement = (
        sa.select(Launch, Experiment)
        .outerjoin(Experiment, col(Experiment.id) == col(Launch.experiment_id))
        .order_by(col(Launch.first_at), col(Launch.id))
    )
    launches = [
        row
        for row, experiment in (await session.execute(statement)).all()
        if chosen is None
        or launch_is_about([chosen.key], launch=LaunchSpec.model_validate(row.spec), experiment=experiment)
    ]
    return Home(
        north_stars=stars,
        chosen=chosen,
        spec=spec,
        metrics={name: item.spec for name, item in known.items()},
        series=await latest_result(session, kind="north_star", subject_key=chosen.key) if chosen else None,
        refreshing=await active_analysis(session, kind="north_star", subject_key=chosen.key) if chosen else None,
        launches=launches,
        running=await glances(session, experiments=running.all()),
        learnings=await recent_learnings(session, limit=6),
        experiments=await session.scalar(sa.select(sa.func.count()).select_from(Experiment)) or 0,
        metric_count=len(known),
    )


async def _latest_results(session: AsyncSession, keys: Collection[str]) -> dict[str, _Latest]:
    """The latest result of each experiment, without its bytes."""
    newest_first = (col(Result.data_as_of).desc(), col(Result.id).desc())
    rank = sa.func.row_number().over(partition_by=col(Result.subject_key), order_by=newest_first).label("rank")
    ranked = (
        sa.select(col(Result.id), col(Result.subject_key), col(Result.verdict), col(Result.data_as_of), rank)
        .where(col(Result.kind) == "experiment", col(Result.subject_key).in_(keys))
        .subquery()
    )
    found = await session.execute(sa.select(*list(ranked.c)[:4]).where(ranked.c.rank == 1))
    return {key: _Latest(identity, verdict, at) for identity, key, verdict, at in found}


async def _primary_rows(session: AsyncSession, result_ids: Collection[uuid.UUID]) -> Sequence[ResultRow]:
    statement = (
        sa.select(ResultRow)
        .where(
            col(ResultRow.result_id).in_(result_ids),
            col(ResultRow.role) == "primary",
            col(ResultRow.segment).is_(None),
        )
        .order_by(col(ResultRow.id))
    )
    return (await session.scalars(statement)).all()


async def _latest_decisions(session: AsyncSession, experiments: Sequence[Experiment]) -> dict[str, Decision]:
    statement = (
        sa.select(Decision)
        .where(col(Decision.experiment_id).in_([experiment.id for experiment in experiments]))
        .order_by(col(Decision.decided_at), col(Decision.id))
    )
    return {str(decision.experiment_id): decision for decision in await session.scalars(statement)}
