"""What a worker looks up in the database for each kind of analysis, before a child computes."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import connection, erasure, series, series_values
from experiments.allocation import allocation_of, coverage_of
from experiments.definitions import Role
from experiments.errors import NotFound, NotReady
from experiments.evidence import EvidenceContext, LaunchContext, LinksContext
from experiments.evidence.launch.window import history_used
from experiments.evidence.review.context import ReviewContext
from experiments.launch_plan import series_of
from experiments.plan import (
    AnalysisPlan,
    BaselinePlan,
    LaunchPlan,
    LinksPlan,
    NorthStarPlan,
    PriorPlan,
    ProgrammePlan,
    ReviewPlan,
    load,
)
from experiments.replications import replications_of
from experiments.result import AmendmentNote
from experiments.series_table import PERIOD
from experiments.settings import Settings
from experiments.tables import Amendment, Analysis, Experiment, IngestBatch, Summary
from experiments.version import code_version
from warehouse.catalog import slice_for
from warehouse.data_slice import DataSlice
from workers import companions
from workers.jobs import (
    CompanyJob,
    ExperimentJob,
    LaunchJob,
    LinksJob,
    PriorJob,
    ProgrammeJob,
    ReviewJob,
    SummaryLine,
)
from workers.kinds import JobKind, Kinds
from workers.reading import Resources


async def prepare_experiment(session: AsyncSession, settings: Settings, analysis: Analysis) -> ExperimentJob:
    """The payload of an experiment's analysis."""
    plan = load(analysis.plan)
    assert isinstance(plan, AnalysisPlan)
    experiment = await session.get(Experiment, analysis.experiment_id)
    if experiment is None:
        raise NotFound(f"the experiment {plan.experiment_key} no longer exists")
    if experiment.started_at is None:
        raise NotReady(f"the experiment {plan.experiment_key} was never started", remedy="start it first")
    # Only what was known when the analysis was asked for: a later attempt must give the same document.
    amendments = sa.select(Amendment).where(
        col(Amendment.experiment_id) == experiment.id, col(Amendment.at) <= analysis.created_at
    )
    context = EvidenceContext(
        analysis_id=str(analysis.id),
        data_as_of=analysis.data_as_of,
        seed=analysis.seed,
        code_version=code_version(),
        plan_hash=analysis.plan_hash,
        started_at=experiment.started_at,
        stopped_at=experiment.stopped_at,
        amendments=tuple(
            AmendmentNote(
                at=row.at, actor=row.actor, reason=row.reason, changed=[str(change["path"]) for change in row.changes]
            )
            for row in (await session.execute(amendments.order_by(col(Amendment.at)))).scalars()
        ),
        allocation=await allocation_of(session, experiment=experiment, plan=plan, until=analysis.data_as_of),
        coverage=await coverage_of(session, experiment=experiment, until=analysis.data_as_of),
        erased=tuple((await erasure.lost_units(session, experiment_key=experiment.key)).items()),
        replications=await replications_of(
            session,
            experiment=experiment,
            metric_keys=[
                metric.metric_key
                for metric in plan.metrics
                if metric.role is Role.PRIMARY and plan.estimation.engine != "frequentist"
            ],
            known_at=analysis.created_at,
        ),
    )
    resources = _resources(settings)
    if plan.data == "summary":
        lines = await _summaries(session, experiment, analysis)
        return ExperimentJob(plan, context, None, lines, resources)
    data = await slice_for(
        session,
        settings,
        plan,
        experiment=experiment,
        data_as_of=analysis.data_as_of,
        known_at=analysis.created_at,
    )
    access = await connection.access_for(session, sources=plan.fact_sources, settings=settings)
    together = None if access is not None else await companions.of(session, settings, analysis, plan, data)
    return ExperimentJob(plan, context, data, (), resources, access, together)


async def prepare_north_star(
    session: AsyncSession, settings: Settings, analysis: Analysis
) -> CompanyJob[NorthStarPlan]:
    """The payload of a North Star's series."""
    plan = load(analysis.plan)
    assert isinstance(plan, NorthStarPlan)
    data = await slice_for(session, settings, plan, experiment=None, data_as_of=analysis.data_as_of)
    access = await connection.access_to_all(session, sources=plan.fact_sources, settings=settings)
    return CompanyJob(plan, str(analysis.id), data, code_version(), _resources(settings), access)


async def prepare_baseline(session: AsyncSession, settings: Settings, analysis: Analysis) -> CompanyJob[BaselinePlan]:
    """The payload of a unit type's baselines."""
    plan = load(analysis.plan)
    assert isinstance(plan, BaselinePlan)
    data = await slice_for(session, settings, plan, experiment=None, data_as_of=analysis.data_as_of)
    access = await connection.access_to_all(session, sources=plan.fact_sources, settings=settings)
    return CompanyJob(plan, str(analysis.id), data, code_version(), _resources(settings), access)


async def prepare_prior(session: AsyncSession, settings: Settings, analysis: Analysis) -> PriorJob:
    """The payload of a learned prior: its plan holds the effects it learns from."""
    plan = load(analysis.plan)
    assert isinstance(plan, PriorPlan)
    return PriorJob(plan, str(analysis.id), analysis.data_as_of, code_version())


async def prepare_programme(session: AsyncSession, settings: Settings, analysis: Analysis) -> ProgrammeJob:
    """The payload of a programme: its plan holds all its effects."""
    plan = load(analysis.plan)
    assert isinstance(plan, ProgrammePlan)
    return ProgrammeJob(plan, str(analysis.id), analysis.data_as_of, code_version())


async def prepare_links(session: AsyncSession, settings: Settings, analysis: Analysis) -> LinksJob:
    """The payload of learned links: their plan holds the effects they are learned from."""
    plan = load(analysis.plan)
    assert isinstance(plan, LinksPlan)
    return LinksJob(plan, LinksContext(str(analysis.id), analysis.data_as_of, analysis.seed, code_version()))


async def prepare_launch(session: AsyncSession, settings: Settings, analysis: Analysis) -> LaunchJob:
    """The payload of a launch: its pushed series as they were known then, and the facts behind the others."""
    plan = load(analysis.plan)
    assert isinstance(plan, LaunchPlan)
    longest = max(history_used(item.options, PERIOD[item.outcome.spec.grain]) for item in plan.measurements)
    since = (plan.announced_at or plan.rollout[0].at) - longest
    planned = series_of(plan)
    tables = {
        key: await series_values.table_of(
            session, series=await series.get(session, key=key), known_at=analysis.data_as_of, since=since
        )
        for key, each in sorted(planned.items())
        if each.spec.source == "pushed"
    }
    data: DataSlice | None = None
    access: tuple[connection.Access, ...] = ()
    if len(tables) < len(planned):
        access = await connection.access_to_all(session, sources=plan.fact_sources, settings=settings)
        data = await slice_for(session, settings, plan, experiment=None, data_as_of=analysis.data_as_of)
    context = LaunchContext(
        analysis_id=str(analysis.id),
        data_as_of=analysis.data_as_of,
        seed=analysis.seed,
        code_version=code_version(),
        plan_hash=analysis.plan_hash,
    )
    return LaunchJob(plan, context, tables, data, _resources(settings), access)


async def prepare_growth_review(session: AsyncSession, settings: Settings, analysis: Analysis) -> ReviewJob:
    """The payload of a growth review: its plan holds all its numbers."""
    plan = load(analysis.plan)
    assert isinstance(plan, ReviewPlan)
    context = ReviewContext(
        analysis_id=str(analysis.id),
        data_as_of=analysis.data_as_of,
        seed=analysis.seed,
        code_version=code_version(),
        plan_hash=analysis.plan_hash,
    )
    return ReviewJob(plan, context)


KINDS: Final[Kinds] = {
    "experiment": JobKind("workers.jobs:run_experiment", prepare_experiment),
    "north_star": JobKind("workers.jobs:run_north_star", prepare_north_star),
    "baseline": JobKind("workers.jobs:run_baseline", prepare_baseline),
    "prior": JobKind("workers.jobs:run_prior", prepare_prior),
    "launch": JobKind("workers.jobs:run_launch", prepare_launch),
    "programme": JobKind("workers.jobs:run_programme", prepare_programme),
    "links": JobKind("workers.jobs:run_links", prepare_links),
    "growth_review": JobKind("workers.jobs:run_growth_review", prepare_growth_review),
}


def _resources(settings: Settings) -> Resources:
    return Resources(
        threads=settings.analysis_threads,
        memory_limit=f"{settings.analysis_memory_mb}MB",
        keep_state=settings.keep_state,
    )


async def _summaries(session: AsyncSession, experiment: Experiment, analysis: Analysis) -> tuple[SummaryLine, ...]:
    """Summaries that had arrived by, and describe nothing later than, the time of the analysis."""
    statement = (
        sa.select(Summary)
        .join(IngestBatch, col(Summary.batch_id) == col(IngestBatch.id))
        .where(
            col(Summary.experiment_id) == experiment.id,
            col(Summary.as_of) <= analysis.data_as_of,
            col(IngestBatch.created_at) <= analysis.data_as_of,
        )
        .order_by(col(Summary.metric_key), col(Summary.variant_key), col(Summary.as_of))
    )
    rows = (await session.execute(statement)).scalars()
    return tuple(
        SummaryLine(row.metric_key, row.variant_key, row.as_of, row.n, row.mean, row.variance, row.covariances)
        for row in rows
    )
