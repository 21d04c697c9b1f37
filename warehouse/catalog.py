"""What the database knows about data: experiments that take rows, and the recorded files an analysis may read."""

from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import ingest_batch
from experiments.allocation import allocation_of
from experiments.definitions import EventSource
from experiments.plan import AnalysisPlan, DataPlan
from experiments.settings import Settings
from experiments.tables import AuditEvent, Experiment
from warehouse.data_slice import ConcurrentExposures, DataSlice
from warehouse.rows import KnownExperiment
from warehouse.store import batch_file

MAX_CONCURRENT = 8
"""More experiments at the same time are screened by the length of their overlap."""


async def known_experiments(session: AsyncSession) -> dict[str, KnownExperiment]:
    """Every experiment by key, as ingest must know it."""
    columns = sa.select(col(Experiment.key), col(Experiment.spec), col(Experiment.started_at))
    rows = await session.execute(columns)
    known = {}
    for key, document, started_at in rows:
        # Stored definitions were validated when they were stored; this runs for every batch of exposures.
        known[key] = KnownExperiment(
            variants=frozenset(variant["key"] for variant in document["variants"]),
            started=started_at is not None,
            takes_exposures=document["data"] == "events",
        )
    return known


async def slice_for(
    session: AsyncSession,
    settings: Settings,
    plan: DataPlan,
    experiment: Experiment | None,
    data_as_of: datetime,
    known_at: datetime | None = None,
) -> DataSlice:
    """The data of an analysis as it was recorded at `data_as_of`: later batches do not change an old analysis.

    `experiment` is None for analyses of the company (North Star series, baselines). Other experiments count as
    concurrent if they were registered by `known_at` (default: `data_as_of`).
    """
    events = {source.event for source in plan.fact_sources if isinstance(source, EventSource)}
    event_files = await _files(session, settings.data_dir, "events", events, data_as_of)
    if not isinstance(plan, AnalysisPlan):
        return DataSlice((), event_files, None, None, data_as_of, settings.file_source_dir)
    if experiment is None or experiment.started_at is None:
        raise ValueError("the analysis of an experiment needs the experiment, and a start")
    files = await _files(session, settings.data_dir, "exposures", {plan.experiment_key}, data_as_of)
    return DataSlice(
        exposure_files=files[plan.experiment_key],
        event_files=event_files,
        started_at=experiment.started_at,
        ended_at=experiment.stopped_at,
        data_as_of=data_as_of,
        file_source_dir=settings.file_source_dir,
        allocation=await allocation_of(session, experiment=experiment, plan=plan, until=data_as_of),
        concurrent=await _concurrent(session, settings, plan, experiment, data_as_of, known_at or data_as_of),
    )


async def _concurrent(
    session: AsyncSession,
    settings: Settings,
    plan: AnalysisPlan,
    experiment: Experiment,
    data_as_of: datetime,
    known_at: datetime,
) -> tuple[ConcurrentExposures, ...]:
    """Other experiments with exposures on units of this type while this one ran, the longest overlaps first (A16).

    None with clustered randomisation: the arms of another experiment cut through clusters.
    """
    if not plan.estimation.screen_interactions or plan.cluster is not None or experiment.started_at is None:
        return ()
    start, end = experiment.started_at, min(experiment.stopped_at or data_as_of, data_as_of)
    # A stop may be dated back: an attempt after it was recorded must see what one before it saw.
    stops = sa.select(col(AuditEvent.subject_key)).where(
        col(AuditEvent.at) > known_at, col(AuditEvent.action) == "experiment.stop"
    )
    stopped_since = set(await session.scalars(stops))
    columns = sa.select(
        col(Experiment.key), col(Experiment.spec), col(Experiment.started_at), col(Experiment.stopped_at)
    )
    beside = columns.where(
        col(Experiment.id) != experiment.id,
        col(Experiment.created_at) <= known_at,
        col(Experiment.started_at) < end,
    )
    found = []
    for key, document, began, stopped in await session.execute(beside):
        if document["data"] == "events" and document["unit_type"] == plan.unit_type:
            known_stop = data_as_of if stopped is None or key in stopped_since else stopped
            period = (began, min(known_stop, data_as_of))
            if period[1] <= start:
                continue
            overlap = min(end, period[1]) - max(start, period[0])
            variants = sorted(document["variants"], key=lambda variant: not variant["is_control"])
            found.append((overlap, key, tuple(variant["key"] for variant in variants), period))
    found.sort(key=lambda one: (-one[0], one[1]))
    files = await _files(session, settings.data_dir, "exposures", {key for _, key, _, _ in found}, data_as_of)
    others = [ConcurrentExposures(key, arms, files[key], *period) for _, key, arms, period in found if files[key]]
    return tuple(others[:MAX_CONCURRENT])


async def _files(
    session: AsyncSession, data_dir: Path, stream: str, subjects: set[str], until: datetime
) -> dict[str, tuple[Path, ...]]:
    names = await ingest_batch.recorded(session, stream=stream, subjects=subjects, until=until)
    return {
        subject: tuple(batch_file(data_dir, stream, subject, name) for name in found)
        for subject, found in names.items()
    }
