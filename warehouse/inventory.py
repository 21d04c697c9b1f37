"""What is in the store, subject by subject: rows, batches, files, bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import anyio
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlmodel import col

from experiments import ingest_batch, retention, store_segment
from experiments.database import Database
from experiments.settings import Settings
from experiments.tables import IngestBatch
from warehouse.compaction import STREAMS
from warehouse.rows import Stream
from warehouse.store import batch_file


@dataclass(frozen=True, slots=True)
class SubjectInventory:
    """An event, or the exposures of an experiment. `loose_files` and `segments` are what a reader opens;

    `rows` and `size_bytes` are of these. `latest_batch_at` is when the newest batch was recorded.
    """

    stream: Stream
    subject: str
    rows: int
    batches: int
    loose_files: int
    segments: int
    size_bytes: int
    latest_batch_at: datetime


@dataclass(frozen=True, slots=True)
class Inventory:
    """All subjects, and per stream the day since which rows are kept (None: for ever)."""

    subjects: tuple[SubjectInventory, ...]
    kept_since: dict[Stream, datetime | None]
    batches_with_refused_rows: int
    refused_rows: int


async def inventory(database: Database, settings: Settings, *, at: datetime) -> Inventory:
    """What was recorded until a time. Rows of loose files are read from their footers, once per process."""
    found: list[SubjectInventory] = []
    kept: dict[Stream, datetime | None] = {}
    for stream in STREAMS:
        async with database.read() as session:
            kept[stream] = await retention.kept_since(session, stream=stream)
            names = sa.select(col(IngestBatch.subjects)).where(
                col(IngestBatch.stream) == stream, col(IngestBatch.accepted) > 0
            )
            subjects = {subject for some in await session.scalars(names) for subject in some}
            recorded = await ingest_batch.recorded(session, stream=stream, subjects=subjects, until=at)
            segments = await store_segment.all_live(session, stream=stream)
        # What was recorded a moment later is not in yet.
        for subject in sorted(subject for subject in subjects if recorded[subject]):
            together = segments.get(subject, [])
            compacted = {name for row in together for name in row.batches}
            loose = [
                batch_file(settings.data_dir, stream, subject, one.name)
                for one in recorded[subject]
                if one.name not in compacted and not one.swept
            ]
            rows, size = await anyio.to_thread.run_sync(_sizes, loose)
            found.append(
                SubjectInventory(
                    stream=stream,
                    subject=subject,
                    rows=rows + sum(row.rows for row in together),
                    batches=len(recorded[subject]),
                    loose_files=len(loose),
                    segments=len(together),
                    size_bytes=size + sum(row.size_bytes for row in together),
                    latest_batch_at=recorded[subject][-1].at,
                )
            )
    async with database.read() as session:
        refused = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(col(IngestBatch.rejected)), 0)).where(
            col(IngestBatch.rejected) > 0
        )
        batches, rejected = (await session.execute(refused)).one()
    return Inventory(tuple(found), kept, int(batches), int(rejected))


def _sizes(paths: Sequence[Path]) -> tuple[int, int]:
    known = [_about(path) for path in paths]
    return sum(rows for rows, _ in known), sum(size for _, size in known)


@lru_cache(maxsize=100_000)
def _about(path: Path) -> tuple[int, int]:
    """Rows and bytes of a loose file, which never changes."""
    return pq.read_metadata(path).num_rows, path.stat().st_size
