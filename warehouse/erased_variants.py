"""Whose rows are whose: the streams that hold units of a type, and the arms that erased units were in."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio
import duckdb
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import erasure
from experiments.database import Database
from experiments.definitions import EventSource
from experiments.erasure import SEVERAL
from experiments.errors import DomainError
from experiments.plan import AnalysisPlan
from experiments.settings import Settings
from experiments.tables import Experiment, FactSource, IngestBatch, StoreSegment
from experiments.unit_digest import digest_key
from warehouse import exposures, parquet
from warehouse.catalog import slice_for
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, connect, epoch_us
from warehouse.erased_rows import variants_of
from warehouse.refused_units import RefusedUnits
from warehouse.rows import Stream


@dataclass(frozen=True, slots=True)
class Subjects:
    """Where units of a type may be: experiments on it, and every event but those that only other types read."""

    experiments: frozenset[str]
    other_events: frozenset[str]

    def has(self, stream: Stream, subject: str) -> bool:
        """Whether this stream's subject may hold rows of these units."""
        return subject in self.experiments if stream == "exposures" else subject not in self.other_events

    async def on_disk(self, database: Database, stream: Stream) -> list[str]:
        """Those that have or had files."""
        async with database.read() as session:
            subjects = set(
                await session.scalars(
                    sa.select(col(StoreSegment.subject)).where(col(StoreSegment.stream) == stream).distinct()
                )
            )
            for some in await session.scalars(sa.select(col(IngestBatch.subjects)).where(_loose(stream))):
                subjects.update(some)
        return sorted(subject for subject in subjects if self.has(stream, subject))


def _loose(stream: Stream) -> sa.ColumnElement[bool]:
    return sa.and_(
        col(IngestBatch.stream) == stream, col(IngestBatch.accepted) > 0, col(IngestBatch.swept_at).is_(None)
    )


async def types_of_events(session: AsyncSession) -> dict[str, set[str]]:
    """The unit types of all events that a fact source reads, or a plan that was frozen with one."""
    types: dict[str, set[str]] = {}
    for spec in await session.scalars(sa.select(col(FactSource.spec))):
        if spec["kind"] == "events":
            types.setdefault(spec["event"], set()).add(spec["unit_type"])
    for plan, _ in (await erasure.plans(session)).values():
        for source in plan.fact_sources:
            if isinstance(source, EventSource):
                types.setdefault(source.event, set()).add(source.unit_type)
    return types


async def types_of_experiments(session: AsyncSession) -> dict[str, set[str]]:
    """The unit type of every experiment."""
    rows = await session.execute(sa.select(col(Experiment.key), col(Experiment.spec)))
    return {key: {spec["unit_type"]} for key, spec in rows}


async def subjects_of(database: Database, unit_type: str) -> Subjects:
    """Where rows of units of a type may be."""
    async with database.read() as session:
        events = await types_of_events(session)
        experiments = await types_of_experiments(session)
    return Subjects(
        frozenset(key for key, types in experiments.items() if unit_type in types),
        frozenset(event for event, types in events.items() if unit_type not in types),
    )


async def refused_units(session: AsyncSession, settings: Settings, stream: Stream) -> RefusedUnits | None:
    """Whom ingest refuses; None, as long as nobody is: then no row costs anything."""
    refused = await erasure.refused(session)
    if not refused:
        return None
    by_type: dict[str, set[str]] = {}
    for unit_type, digest in refused:
        by_type.setdefault(unit_type, set()).add(digest)
    types = await (types_of_experiments(session) if stream == "exposures" else types_of_events(session))
    return RefusedUnits(
        digest_key(settings.data_dir),
        {unit_type: frozenset(digests) for unit_type, digests in by_type.items()},
        {subject: frozenset(found) for subject, found in types.items()},
    )


async def lost_by_variant(
    database: Database,
    settings: Settings,
    unit_type: str,
    units: Collection[str],
    files: Mapping[tuple[Stream, str], Sequence[Path]],
    *,
    at: datetime,
) -> dict[str, dict[str, dict[str, int]]]:
    """For each unit the experiments that had it, and in which variant: `{unit: {experiment: {variant: 1}}}`.

    `files` are those in which rows of the units were found. A unit in several variants is in none ("").
    """
    lost: dict[str, dict[str, dict[str, int]]] = {}
    async with database.read() as session:
        plans = await erasure.plans(session)
        rows = list(await session.scalars(sa.select(Experiment).where(col(Experiment.started_at).is_not(None))))
    for row in rows:
        plan = plans.get(row.key)
        if plan is None or plan[0].unit_type != unit_type or row.started_at is None:
            continue
        period = (epoch_us(row.started_at), None if row.stopped_at is None else epoch_us(row.stopped_at))
        if plan[0].exposures is None:
            found = await anyio.to_thread.run_sync(
                partial(_sent, settings, files.get(("exposures", row.key), ()), units, period)
            )
        elif any(("events", event) in files for event in _events_of_exposures(plan[0])):
            found = await _read(database, settings, plan[0], row, units, period, at=at)
        else:
            continue
        for unit, variants in found.items():
            lost.setdefault(unit, {})[row.key] = {variants.pop() if len(variants) == 1 else SEVERAL: 1}
    return lost


def _sent(
    settings: Settings, files: Sequence[Path], units: Collection[str], period: tuple[int, int | None]
) -> dict[str, set[str]]:
    if not files:
        return {}
    parameters = Parameters()
    with connect(threads=settings.analysis_threads, memory_limit=f"{settings.analysis_memory_mb}MB") as connection:
        return variants_of(connection, parquet.relation(files, parameters), parameters, units, period)


def _events_of_exposures(plan: AnalysisPlan) -> set[str]:
    """Events whose rows say who was exposed, or whose the ids in them are."""
    assert plan.exposures is not None
    sources = {source.key: source for source in plan.fact_sources}
    own = sources[plan.exposures.fact_source]
    named = [own, *([sources[own.unit_mapping.fact_source]] if own.unit_mapping is not None else [])]
    return {source.event for source in named if isinstance(source, EventSource)}


async def _read(
    database: Database,
    settings: Settings,
    plan: AnalysisPlan,
    experiment: Experiment,
    units: Collection[str],
    period: tuple[int, int | None],
    *,
    at: datetime,
) -> dict[str, set[str]]:
    """The same where exposures are rows of a fact source. What cannot be read now has no variant."""
    try:
        async with database.read() as session:
            data = await slice_for(session, settings, plan, experiment, at)
        return await anyio.to_thread.run_sync(
            partial(_from_source, settings, plan, replace(data, concurrent=()), units, period)
        )
    except (DomainError, duckdb.Error):
        return {}


def _from_source(
    settings: Settings, plan: AnalysisPlan, data: DataSlice, units: Collection[str], period: tuple[int, int | None]
) -> dict[str, set[str]]:
    parameters = Parameters()
    with connect(threads=settings.analysis_threads, memory_limit=f"{settings.analysis_memory_mb}MB") as connection:
        shown = exposures.with_tables(connection, plan, data)
        read = exposures.relation(shown, parameters, shown.recorded_before_us)
        return {} if read is None else variants_of(connection, read, parameters, units, period)
