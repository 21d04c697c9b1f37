"""What the database knows about data: experiments that take rows, and the recorded files an analysis may read."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import erasure, ingest_batch, retention, store_segment
from experiments.allocation import allocation_of
from experiments.definitions import EventSource, ExposureSource, FactSourceSpec, Place, place_of
from experiments.errors import DataDeleted
from experiments.plan import AnalysisPlan, DataPlan
from experiments.settings import Settings
from experiments.tables import AuditEvent, Experiment
from warehouse.data_slice import Arrival, ConcurrentExposures, DataSlice
from warehouse.engine import epoch_us
from warehouse.rows import KnownExperiment
from warehouse.store import batch_file, segment_files

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
            takes_exposures=document["data"] == "events" and document.get("exposures") is None,
            reads_exposures=document.get("exposures") is not None,
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
    concurrent if they were registered by `known_at` (default: `data_as_of`). Raises `DataDeleted` where an experiment
    needs rows that are not kept any more.
    """
    found = _Concurrent()
    if isinstance(plan, AnalysisPlan):
        if experiment is None or experiment.started_at is None:
            raise ValueError("the analysis of an experiment needs the experiment, and a start")
        await _require_kept(session, plan, experiment.started_at)
        found = await _concurrent(session, settings, plan, experiment, data_as_of, known_at or data_as_of)
    read = [*plan.fact_sources, *(source for other in found.experiments for source in other.fact_sources)]
    events = {source.event for source in read if isinstance(source, EventSource)}
    facts = await _stored(session, settings.data_dir, "events", events, data_as_of)
    of_company = DataSlice(
        exposure_files=(),
        event_files={event: stored.files for event, stored in facts.items()},
        started_at=None,
        ended_at=None,
        data_as_of=data_as_of,
        file_source_dir=settings.file_source_dir,
        recorded_before_us=epoch_us(data_as_of) if any(stored.later for stored in facts.values()) else None,
        event_arrivals={event: stored.arrivals for event, stored in facts.items()},
        data_dir=settings.data_dir,
    )
    if not isinstance(plan, AnalysisPlan) or experiment is None:
        since = await retention.kept_since(session, stream="events")
        return of_company if since is None else replace(of_company, events_since_us=epoch_us(since))
    own = {plan.experiment_key} if plan.exposures is None else set()
    stored = await _stored(session, settings.data_dir, "exposures", own, data_as_of)
    shown = stored.get(plan.experiment_key, _Stored((), (), later=False))
    return replace(
        of_company,
        exposure_files=shown.files,
        exposure_arrivals=shown.arrivals,
        started_at=experiment.started_at,
        ended_at=experiment.stopped_at,
        allocation=await allocation_of(session, experiment=experiment, plan=plan, until=data_as_of),
        concurrent=found.experiments,
        erasures=await erasure.rounds_touching(session, experiment_key=plan.experiment_key, events=events),
        recorded_before_us=epoch_us(data_as_of) if shown.later or found.later else of_company.recorded_before_us,
    )


async def _require_kept(session: AsyncSession, plan: AnalysisPlan, started_at: datetime) -> None:
    """An experiment without a part of its rows would have wrong numbers: it has none instead."""
    needs = {"exposures": started_at, "events": started_at - retention.before_start(plan)}
    if plan.exposures is not None:
        del needs["exposures"]
    if not any(isinstance(source, EventSource) for source in plan.fact_sources):
        del needs["events"]
    for stream, needed in needs.items():
        since = await retention.kept_since(session, stream=stream)
        if since is not None and needed < since:
            raise DataDeleted(
                f"{stream} before {since:%Y-%m-%d} were deleted, and {plan.experiment_key!r} needs them"
                f" since {needed:%Y-%m-%d}",
                remedy="its earlier results stay as they are; data of experiments that run is never deleted",
            )


@dataclass(frozen=True, slots=True)
class _Concurrent:
    """Other experiments, and whether their files also hold batches that were recorded later."""

    experiments: tuple[ConcurrentExposures, ...] = ()
    later: bool = False


async def _concurrent(
    session: AsyncSession,
    settings: Settings,
    plan: AnalysisPlan,
    experiment: Experiment,
    data_as_of: datetime,
    known_at: datetime,
) -> _Concurrent:
    """Other experiments with exposures on units of this type while this one ran, the longest overlaps first (A16).

    None with clustered randomisation: the arms of another experiment cut through clusters. Nobody can join units of one
    place to exposures that stay in another.
    """
    home = next((place for place in map(place_of, plan.fact_sources) if place is not None), None)
    if not plan.estimation.screen_interactions or plan.cluster is not None or experiment.started_at is None:
        return _Concurrent()
    start, end = experiment.started_at, min(experiment.stopped_at or data_as_of, data_as_of)
    # A stop may be dated back: an attempt after it was recorded must see what one before it saw.
    stops = sa.select(col(AuditEvent.subject_key)).where(
        col(AuditEvent.at) > known_at, col(AuditEvent.action) == "experiment.stop"
    )
    stopped_since = set(await session.scalars(stops))
    shown_since = await retention.kept_since(session, stream="exposures")
    columns = sa.select(
        col(Experiment.key), col(Experiment.spec), col(Experiment.started_at), col(Experiment.stopped_at)
    )
    beside = columns.where(
        col(Experiment.id) != experiment.id,
        col(Experiment.created_at) <= known_at,
        col(Experiment.started_at) < end,
    )
    found, reading = [], set()
    for key, document, began, stopped in await session.execute(beside):
        if document["data"] == "events" and document["unit_type"] == plan.unit_type:
            known_stop = data_as_of if stopped is None or key in stopped_since else stopped
            period = (began, min(known_stop, data_as_of))
            if period[1] <= start:
                continue
            reads = document.get("exposures") is not None
            if not reads and shown_since is not None and began < shown_since:
                continue  # some of its exposures are gone
            overlap = min(end, period[1]) - max(start, period[0])
            if reads:
                reading.add(key)
            variants = sorted(document["variants"], key=lambda variant: not variant["is_control"])
            found.append((overlap, key, tuple(variant["key"] for variant in variants), period))
    found.sort(key=lambda one: (-one[0], one[1]))
    stored = await _stored(session, settings.data_dir, "exposures", {key for _, key, _, _ in found}, data_as_of)
    read = await _exposure_sources(session, reading & {key for _, key, _, _ in found}, home)
    others = [
        ConcurrentExposures(key, arms, () if key in read else stored[key].files, *period, *read.get(key, ()))
        for _, key, arms, period in found
        if (key in read if key in reading else home is None and stored[key].files)
    ][:MAX_CONCURRENT]
    return _Concurrent(tuple(others), any(stored[other.key].later for other in others))


async def _exposure_sources(
    session: AsyncSession, keys: set[str], home: Place
) -> dict[str, tuple[ExposureSource, tuple[FactSourceSpec, ...]]]:
    """Of these experiments those whose exposures are rows of a fact source in a place: which rows, and its sources."""
    found = {}
    plans = sa.select(col(Experiment.key), col(Experiment.plan)).where(col(Experiment.key).in_(keys))
    for key, document in await session.execute(plans) if keys else ():
        plan = AnalysisPlan.model_validate(document)
        if plan.exposures is not None:
            own = [source for source in plan.fact_sources if source.key == plan.exposures.fact_source]
            if any(place_of(source) != home for source in own):
                continue
            mapped = {source.unit_mapping.fact_source for source in own if source.unit_mapping is not None}
            found[key] = plan.exposures, (*own, *(source for source in plan.fact_sources if source.key in mapped))
    return found


@dataclass(frozen=True, slots=True)
class _Stored:
    """The files of a subject, its batches, and whether files also hold batches that were recorded later."""

    files: tuple[Path, ...]
    arrivals: tuple[Arrival, ...]
    later: bool


async def _stored(
    session: AsyncSession, data_dir: Path, stream: str, subjects: set[str], until: datetime
) -> dict[str, _Stored]:
    """What is in the store of each subject as it was recorded at `until`."""
    batches = await ingest_batch.recorded(session, stream=stream, subjects=subjects, until=until)
    segments = await store_segment.live(session, stream=stream, subjects=subjects)
    found = {}
    for subject, known in batches.items():
        compacted = {name for segment in segments[subject] for name in segment.batches}
        arrivals = tuple(
            Arrival(
                one.name,
                epoch_us(one.at),
                epoch_us(one.first_at),
                epoch_us(one.last_at),
                None if one.name in compacted or one.swept else batch_file(data_dir, stream, subject, one.name),
            )
            for one in known
        )
        loose = [one.path for one in arrivals if one.path is not None]
        names = {one.name for one in known}
        used = [segment for segment in segments[subject] if not names.isdisjoint(segment.batches)]
        together = [path for segment in used for path in segment_files(data_dir, stream, subject, segment.name)]
        later = any(segment.newest_batch_at > until for segment in used)
        found[subject] = _Stored((*together, *loose), arrivals, later)
    return found
