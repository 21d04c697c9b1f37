"""Erasing units: every row of theirs that the store holds, in steps that may be killed anywhere and begun again.

1. What will go is found and recorded (`experiments.erasure.begin`), so that it is known whatever happens then.
2. Batches and segments with such rows are rewritten without them into new segments, by the transaction that compaction
   uses. A file is never replaced under its own name: a reader that opens it a second time would see other rows.
3. Refused rows go (`warehouse.erased_letters`), what analyses kept is forgotten, and from then on no reader finds them.
4. When no analysis that began before can be running, everything on the disk is looked through again: files that
   nobody reads any more and that hold such rows are deleted. Only when none is left is the id forgotten.

An id is erased in the exposures of all experiments on its unit type, and in all events that a fact source of that type
reads, or that no fact source reads. Rows that stay elsewhere (warehouses, files, DuckDB databases) stay there.
"""

import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Final

import anyio
import duckdb
import structlog

from experiments import analysis_request, erasure, store_segment
from experiments.database import Database
from experiments.erasure import Effects
from experiments.settings import Settings
from experiments.tables import Erasure
from warehouse.compaction import MOST_FILES, STREAMS, Run, in_one_schema, rewrite, runs_of
from warehouse.engine import connect, epoch_us
from warehouse.erased_letters import erase_refused
from warehouse.erased_rows import Found, files_of, find
from warehouse.erased_variants import Subjects, lost_by_variant, subjects_of
from warehouse.kept_moments import forget_moments
from warehouse.parquet import bucket_of
from warehouse.rows import Stream
from warehouse.scratch import sweep_scratch
from warehouse.state.lane import forget_lanes

MOST_ROUNDS: Final = 5
"""So often somebody else may replace the files that are being rewritten, before it is left for the next time."""
type Place = tuple[Stream, str]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Erased:
    """How many erasures no reader finds any more, how many are done, and rows that were found."""

    rewritten: int = 0
    done: int = 0
    rows: int = 0


@dataclass(slots=True)
class _Group:
    """Erasures of one unit type, and until when rows of each unit must have been recorded to be erased."""

    unit_type: str
    rows: list[Erasure]
    until_us: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.unit_id is not None:
                at = epoch_us(row.requested_at)
                self.until_us[row.unit_id] = max(at, self.until_us.get(row.unit_id, at))

    @property
    def ids(self) -> dict[uuid.UUID, str]:
        return {row.id: row.unit_id for row in self.rows if row.unit_id is not None}


def waits(settings: Settings) -> timedelta:
    """How long files wait for analyses that may be reading them."""
    return timedelta(seconds=settings.analysis_timeout_seconds * settings.max_attempts)


async def erase_units(database: Database, settings: Settings, *, at: datetime) -> Erased:
    """Carry out the erasures that were asked for, and finish those whose files have waited for long enough."""
    async with database.read() as session:
        due = await erasure.in_states(session, "removing", rewritten_before=at - waits(settings))
    done = sum([await _finish(database, settings, group, at=at) for group in _groups(due)])
    async with database.read() as session:
        waiting = await erasure.in_states(session, "queued", "running")
    found = [await _rewrite(database, settings, group, at=at) for group in _groups(waiting)]
    erased = Erased(sum(len(one) for one in found), done, sum(sum(one.values()) for one in found))
    if erased != Erased():
        log.info("erased", rewritten=erased.rewritten, done=erased.done, rows=erased.rows)
    return erased


def _groups(rows: Sequence[Erasure]) -> list[_Group]:
    by_type: dict[str, list[Erasure]] = defaultdict(list)
    for row in rows:
        by_type[row.unit_type].append(row)
    return [_Group(unit_type, each) for unit_type, each in sorted(by_type.items())]


async def _rewrite(database: Database, settings: Settings, group: _Group, *, at: datetime) -> dict[uuid.UUID, int]:
    """Steps 1 to 3. Rows found by erasure; empty where others kept replacing the files."""
    subjects = await subjects_of(database, group.unit_type)
    live = await _live_rows(database, settings, group, subjects, at=at)
    effects = await _effects(database, settings, group, live, at=at)
    async with database.write() as session:
        await erasure.begin(session, found=effects)
    for _ in range(MOST_ROUNDS):
        if not live:
            break
        for (stream, subject), found in sorted(live.items()):
            without = sorted({one.unit_id for one in found.rows})
            for alike in in_one_schema(found.runs):
                for some in batched(alike, MOST_FILES):
                    await rewrite(database, settings, stream, subject, some, at=at, without_units=without)
        live = await _live_rows(database, settings, group, subjects, at=at)
    if live:
        return {}
    refused = await erase_refused(database, settings, group.ids)
    await _forget_what_was_kept(database, settings, effects)
    async with database.write() as session:
        await erasure.rewritten(session, refused_rows=refused, at=at)
    await _ask_again(database, settings, effects, at=at)
    return {key: sum(sum(one.values()) for one in found.rows.values()) for key, found in effects.items()}


@dataclass(slots=True)
class _Live:
    """Runs of a subject that readers use and that hold rows of units."""

    runs: list[Run]
    rows: list[Found]


async def _live_rows(
    database: Database, settings: Settings, group: _Group, subjects: Subjects, *, at: datetime
) -> dict[Place, _Live]:
    places: dict[Place, _Live] = {}
    for stream in STREAMS:
        for subject, runs in (await runs_of(database, settings, stream, until=at)).items():
            if not subjects.has(stream, subject):
                continue
            recorded = {run.files[0].name: epoch_us(run.newest_batch_at) for run in runs if run.loose}
            files = [path for run in runs for path in run.files]
            found = await anyio.to_thread.run_sync(partial(_find, settings, files, group.until_us, recorded))
            if found:
                hit = {one.path for one in found}
                places[stream, subject] = _Live([run for run in runs if not hit.isdisjoint(run.files)], found)
    return places


def _find(
    settings: Settings, files: Sequence[Path], until_us: Mapping[str, int], recorded_us: Mapping[str, int]
) -> list[Found]:
    with connect(threads=settings.analysis_threads, memory_limit=f"{settings.analysis_memory_mb}MB") as connection:
        try:
            return find(connection, files, until_us, recorded_us) if files and until_us else []
        except duckdb.IOException:
            raise OSError("a stored file went while it was searched, or cannot be read") from None


async def _effects(
    database: Database, settings: Settings, group: _Group, live: Mapping[Place, _Live], *, at: datetime
) -> dict[uuid.UUID, Effects]:
    files = {place: sorted({one.path for one in found.rows}) for place, found in live.items()}
    lost = await lost_by_variant(database, settings, group.unit_type, set(group.until_us), files, at=at)
    effects = {}
    for key, unit_id in group.ids.items():
        rows: dict[str, dict[str, int]] = {}
        for (stream, subject), found in sorted(live.items()):
            count = sum(one.rows for one in found.rows if one.unit_id == unit_id)
            if count:
                rows.setdefault(stream, {})[subject] = count
        effects[key] = Effects(rows=rows, experiments=lost.get(unit_id, {}))
    return effects


async def _forget_what_was_kept(database: Database, settings: Settings, effects: Mapping[uuid.UUID, Effects]) -> None:
    touched = await _touched(database, list(effects.values()))
    for key in touched:
        await anyio.to_thread.run_sync(forget_lanes, settings.data_dir, key)
    if touched:
        await anyio.to_thread.run_sync(forget_moments, settings.data_dir)


async def _touched(database: Database, effects: Sequence[Effects]) -> list[str]:
    async with database.read() as session:
        plans = await erasure.plans(session)
    return sorted(
        key for key, (_, events) in plans.items() if any(erasure.touches(one, key, events) for one in effects)
    )


async def _ask_again(
    database: Database, settings: Settings, effects: Mapping[uuid.UUID, Effects], *, at: datetime
) -> None:
    """Analyse running experiments again that lost a unit."""
    keys = {key for found in effects.values() for key in found.experiments}
    async with database.write() as session:
        for experiment in await erasure.running(session, keys=keys):
            await analysis_request.of_experiment(
                session, experiment=experiment, actor=erasure.ACTOR, at=at, max_attempts=settings.max_attempts
            )


async def _finish(database: Database, settings: Settings, group: _Group, *, at: datetime) -> int:
    """Step 4. How many are done; those with rows that were recorded late are begun again."""
    subjects = await subjects_of(database, group.unit_type)
    live = await _live_rows(database, settings, group, subjects, at=at)
    if live:
        effects = await _effects(database, settings, group, live, at=at)
        async with database.write() as session:
            await erasure.begin(session, found={key: one for key, one in effects.items() if one.rows})
        late = {one.unit_id for found in live.values() for one in found.rows}
        group = _Group(group.unit_type, [row for row in group.rows if row.unit_id not in late])
    await anyio.to_thread.run_sync(sweep_scratch, settings.data_dir)
    await erase_refused(database, settings, group.ids)
    left: set[str] = set()
    for stream in STREAMS:
        store = await _store(database, settings, stream, at=at)
        for subject in await subjects.on_disk(database, stream):
            files = [path for path in files_of(settings.data_dir, stream, subject) if path not in store.used]
            found = await anyio.to_thread.run_sync(partial(_find, settings, files, group.until_us, store.recorded_us))
            left |= await anyio.to_thread.run_sync(_remove, found, store, time.time() - waits(settings).total_seconds())
    await _forget_what_was_kept(database, settings, {row.id: erasure.effects_of(row) for row in group.rows})
    ready = [row.id for row in group.rows if row.unit_id not in left]
    async with database.write() as session:
        await erasure.finish(session, ids=ready, at=at)
    return len(ready)


@dataclass(frozen=True, slots=True)
class _Store:
    """What the database says of a stream's files: those in use, when loose ones were recorded, and all segments."""

    used: frozenset[Path]
    recorded_us: Mapping[str, int]
    segments: frozenset[str]

    def knows(self, path: Path) -> bool:
        return path.name in self.recorded_us or path.parent.name in self.segments


async def _store(database: Database, settings: Settings, stream: Stream, *, at: datetime) -> _Store:
    every = await runs_of(database, settings, stream, until=at)
    async with database.read() as session:
        batches = await store_segment.unswept(session, stream=stream)
        segments = await store_segment.names(session)
    used = frozenset(path for runs in every.values() for run in runs for path in run.files)
    return _Store(used, {one.name: epoch_us(one.recorded_at) for one in batches}, frozenset(segments))


def _remove(found: Sequence[Found], store: _Store, old: float) -> set[str]:
    """Delete files that nobody reads; the units of those that a process may be about to record."""
    left = set()
    for one in found:
        try:
            if not store.knows(one.path) and one.path.stat().st_mtime > old:
                # A loose one is a batch that came after the request, or it will be found once it is recorded.
                left |= {one.unit_id} if bucket_of(one.path) is not None else set()
                continue
            shutil.rmtree(one.path.parent) if bucket_of(one.path) is not None else one.path.unlink()
        except FileNotFoundError:
            continue
    return left
