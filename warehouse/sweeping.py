"""Removing files that nobody reads any more: what segments replaced, and what processes that died left behind.

An analysis reads the files that it was told of when it began, so files stay for a while after others replaced them.
"""

import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
import structlog

from experiments import store_segment
from experiments.database import Database
from experiments.settings import Settings
from warehouse.compaction import STREAMS
from warehouse.rows import Stream
from warehouse.store import batch_file, subject_folder

SHORTEST_AGE: Final = timedelta(hours=1)
"""A file without a row may be one that is being recorded this very moment."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many loose files, batches with all their files, retired segments and leftovers went."""

    files: int = 0
    batches: int = 0
    segments: int = 0
    leftovers: int = 0

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(
            self.files + other.files,
            self.batches + other.batches,
            self.segments + other.segments,
            self.leftovers + other.leftovers,
        )


def grace_of(settings: Settings) -> timedelta:
    """How long replaced files are kept: always longer than an analysis may take, with its attempts."""
    longest = timedelta(seconds=settings.analysis_timeout_seconds * settings.max_attempts)
    return max(timedelta(hours=settings.compaction_grace_hours), longest)


async def sweep(database: Database, settings: Settings, *, at: datetime) -> Swept:
    """Remove what was replaced longer ago than the grace period, and leftovers older than that."""
    before = at - grace_of(settings)
    swept = await _sweep_retired(database, settings.data_dir, before)
    for stream in STREAMS:
        swept += await _sweep_loose(database, settings.data_dir, stream, before, at)
    swept += await _sweep_leftovers(database, settings)
    if swept != Swept():
        log.info("swept", files=swept.files, segments=swept.segments, leftovers=swept.leftovers)
    return swept


async def _sweep_retired(database: Database, data_dir: Path, before: datetime) -> Swept:
    async with database.read() as session:
        old = await store_segment.retired(session, before=before)
    folders = [subject_folder(data_dir, row.stream, row.subject) / row.name for row in old]
    await anyio.to_thread.run_sync(_remove_folders, folders)
    if old:
        async with database.write() as session:
            await store_segment.forget(session, ids=[row.id for row in old])
    return Swept(segments=len(old))


async def _sweep_loose(database: Database, data_dir: Path, stream: Stream, before: datetime, at: datetime) -> Swept:
    """Loose files of batches that lie in a segment which readers have used for long enough."""
    async with database.read() as session:
        batches = await store_segment.unswept(session, stream=stream)
        segments = await store_segment.all_live(session, stream=stream)
    settled: dict[str, set[str]] = defaultdict(set)
    for subject, rows in segments.items():
        for row in rows:
            if row.created_at < before:
                settled[subject].update(row.batches)
    files = [
        batch_file(data_dir, stream, subject, batch.name)
        for batch in batches
        for subject in batch.subjects
        if batch.name in settled[subject]
    ]
    removed = await anyio.to_thread.run_sync(_remove_files, files)
    done = [batch.id for batch in batches if all(batch.name in settled[subject] for subject in batch.subjects)]
    if done:
        async with database.write() as session:
            await store_segment.mark_swept(session, ids=done, at=at)
    return Swept(files=removed, batches=len(done))


async def _sweep_leftovers(database: Database, settings: Settings) -> Swept:
    """Files of the store that no row speaks of: their process died before it recorded them."""
    # Listed first: what is recorded after that is young, and stays for its age.
    oldest = time.time() - max(grace_of(settings), SHORTEST_AGE).total_seconds()
    found = await anyio.to_thread.run_sync(_old_entries, settings.data_dir, oldest)
    if not found:
        return Swept()
    recorded: set[Path] = set()
    async with database.read() as session:
        known = await store_segment.names(session)
        for stream in STREAMS:
            for batch in await store_segment.unswept(session, stream=stream):
                recorded.update(
                    batch_file(settings.data_dir, stream, subject, batch.name) for subject in batch.subjects
                )
    orphans = [
        path for path, is_folder in found.items() if (path.name not in known if is_folder else path not in recorded)
    ]
    await anyio.to_thread.run_sync(_remove_folders, [path for path in orphans if found[path]])
    removed = await anyio.to_thread.run_sync(_remove_files, [path for path in orphans if not found[path]])
    return Swept(leftovers=removed + sum(found[path] for path in orphans))


def _old_entries(data_dir: Path, before: float) -> Mapping[Path, bool]:
    """Batch files and segment folders that have not been touched since a time; whether each is a folder."""
    found = {}
    for stream in STREAMS:
        for folder in _entries(data_dir / stream):
            for path in _entries(folder):
                try:
                    if path.stat().st_mtime < before:
                        found[path] = path.is_dir()
                except FileNotFoundError:
                    continue
    return found


def _entries(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _remove_folders(folders: Collection[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_files(files: Iterable[Path]) -> int:
    removed = 0
    for path in files:
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        removed += 1
    return removed
