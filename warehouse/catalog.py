"""What the database knows about data: experiments that take rows, and the recorded files an analysis may read."""

from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import ingest_batch
from experiments.definitions import EventSource
from experiments.plan import AnalysisPlan, Plan
from experiments.settings import Settings
from experiments.tables import Experiment
from warehouse.data_slice import DataSlice
from warehouse.rows import KnownExperiment
from warehouse.store import batch_file


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
    session: AsyncSession, settings: Settings, plan: Plan, experiment: Experiment | None, data_as_of: datetime
) -> DataSlice:
    """The data of an analysis as it was recorded at `data_as_of`: later batches do not change an old analysis.

    `experiment` is None for analyses of the company (North Star series, baselines).
    """
    events = {source.event for source in plan.fact_sources if isinstance(source, EventSource)}
    started_at = ended_at = None
    exposure_files: tuple[Path, ...] = ()
    if isinstance(plan, AnalysisPlan):
        if experiment is None or experiment.started_at is None:
            raise ValueError("the analysis of an experiment needs the experiment, and a start")
        started_at, ended_at = experiment.started_at, experiment.stopped_at
        files = await _files(session, settings.data_dir, "exposures", {plan.experiment_key}, data_as_of)
        exposure_files = files[plan.experiment_key]
    return DataSlice(
        exposure_files=exposure_files,
        event_files=await _files(session, settings.data_dir, "events", events, data_as_of),
        started_at=started_at,
        ended_at=ended_at,
        data_as_of=data_as_of,
        file_source_dir=settings.file_source_dir,
    )


async def _files(
    session: AsyncSession, data_dir: Path, stream: str, subjects: set[str], until: datetime
) -> dict[str, tuple[Path, ...]]:
    names = await ingest_batch.recorded(session, stream=stream, subjects=subjects, until=until)
    return {
        subject: tuple(batch_file(data_dir, stream, subject, name) for name in found)
        for subject, found in names.items()
    }
