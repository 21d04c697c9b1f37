"""Compacted segments of the store: which batches of a subject lie together, in files by hash bucket."""

import math
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.tables import IngestBatch, StoreSegment

FEWEST_BATCHES: Final = 16
"""Fewer batches than this are fewer files as they are: a segment has 16."""
MERGED_SEGMENTS: Final = 8
"""So many segments of a level become one of the next."""
_A_STATEMENT: Final = 500


def level_of(batches: int) -> int:
    """The level of a segment: it grows with every merge, so that a row is rewritten O(log batches) times."""
    return 0 if batches < FEWEST_BATCHES else 1 + int(math.log2(batches / FEWEST_BATCHES) / math.log2(MERGED_SEGMENTS))


async def live(session: AsyncSession, *, stream: str, subjects: Collection[str]) -> dict[str, list[StoreSegment]]:
    """For each subject the segments that readers use now, oldest first. No batch is in two of them."""
    rows = await session.scalars(_live(stream).where(col(StoreSegment.subject).in_(subjects)))
    found: dict[str, list[StoreSegment]] = {subject: [] for subject in subjects}
    for row in rows:
        found[row.subject].append(row)
    return found


async def all_live(session: AsyncSession, *, stream: str) -> dict[str, list[StoreSegment]]:
    """The live segments of every subject of a stream that has any."""
    found: dict[str, list[StoreSegment]] = {}
    for row in await session.scalars(_live(stream)):
        found.setdefault(row.subject, []).append(row)
    return found


def _live(stream: str) -> sa.Select[StoreSegment]:
    return (
        sa.select(StoreSegment)
        .where(col(StoreSegment.stream) == stream, col(StoreSegment.retired_at).is_(None))
        .order_by(col(StoreSegment.created_at), col(StoreSegment.id))
    )


@dataclass(frozen=True, slots=True)
class UnsweptBatch:
    """A recorded batch that may still have loose files."""

    id: uuid.UUID
    name: str
    subjects: Sequence[str]
    recorded_at: datetime
    first_at: datetime
    last_at: datetime


async def unswept(session: AsyncSession, *, stream: str, until: datetime | None = None) -> list[UnsweptBatch]:
    """Recorded batches with rows that were not swept, oldest first; `until`: only those recorded by then."""
    statement = sa.select(
        col(IngestBatch.id),
        col(IngestBatch.path),
        col(IngestBatch.subjects),
        col(IngestBatch.created_at),
        col(IngestBatch.first_at),
        col(IngestBatch.last_at),
    ).where(
        col(IngestBatch.stream) == stream,
        col(IngestBatch.accepted) > 0,
        col(IngestBatch.swept_at).is_(None),
    )
    if until is not None:
        statement = statement.where(col(IngestBatch.created_at) <= until)
    found = []
    for key, name, subjects, recorded_at, first_at, last_at in await session.execute(
        statement.order_by(col(IngestBatch.created_at), col(IngestBatch.id))
    ):
        if first_at is None or last_at is None:
            raise ValueError(f"batch file {name!r} has rows but no times")
        found.append(UnsweptBatch(key, name, subjects, recorded_at, first_at, last_at))
    return found


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A segment whose files are complete: of which `batches`, and what it replaces.

    `loose` are the ids of batches that were loose, `replaced` those of segments.
    """

    stream: str
    subject: str
    name: str
    batches: Sequence[str]
    rows: int
    size_bytes: int
    newest_batch_at: datetime
    loose: Collection[uuid.UUID]
    replaced: Collection[uuid.UUID]


async def publish(session: AsyncSession, new: NewSegment, *, at: datetime) -> bool:
    """Let readers use a segment instead of what it replaces, in the caller's transaction.

    False, and nothing is changed, where others were faster: a replaced segment is not live any more, or one of the
    loose batches lies in another segment by now.
    """
    # Two who compact the same batches wait for each other at these rows, and the second sees what the first did.
    for some in batched(sorted(new.loose), _A_STATEMENT):
        ids = col(IngestBatch.id)
        await session.execute(sa.select(ids).where(ids.in_(some)).order_by(ids).with_for_update())
    rows = await session.scalars(
        sa.select(StoreSegment)
        .where(
            col(StoreSegment.stream) == new.stream,
            col(StoreSegment.subject) == new.subject,
            col(StoreSegment.retired_at).is_(None),
        )
        .order_by(col(StoreSegment.id))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    known = {row.id: row for row in rows}
    if not known.keys() >= set(new.replaced):
        return False
    elsewhere = {name for row in known.values() if row.id not in new.replaced for name in row.batches}
    if not elsewhere.isdisjoint(new.batches):
        return False
    for replaced in new.replaced:
        known[replaced].retired_at = at
    session.add(
        StoreSegment(
            stream=new.stream,
            subject=new.subject,
            name=new.name,
            level=level_of(len(new.batches)),
            batches=list(new.batches),
            rows=new.rows,
            size_bytes=new.size_bytes,
            newest_batch_at=new.newest_batch_at,
            created_at=at,
        )
    )
    await session.flush()
    return True


async def retired(session: AsyncSession, *, before: datetime) -> list[StoreSegment]:
    """Segments that were replaced before a time: nobody reads them any more."""
    rows = await session.scalars(
        sa.select(StoreSegment)
        .where(col(StoreSegment.retired_at).is_not(None), col(StoreSegment.retired_at) < before)
        .order_by(col(StoreSegment.retired_at), col(StoreSegment.id))
    )
    return list(rows)


async def forget(session: AsyncSession, *, ids: Collection[uuid.UUID]) -> None:
    """Drop the rows of retired segments whose files are gone."""
    for some in batched(sorted(ids), _A_STATEMENT):
        old = sa.delete(StoreSegment).where(col(StoreSegment.id).in_(some), col(StoreSegment.retired_at).is_not(None))
        await session.execute(old, execution_options={"synchronize_session": False})


async def mark_swept(session: AsyncSession, *, ids: Collection[uuid.UUID], at: datetime) -> None:
    """Say of batches that their loose files are gone."""
    for some in batched(sorted(ids), _A_STATEMENT):
        swept = sa.update(IngestBatch).where(col(IngestBatch.id).in_(some), col(IngestBatch.swept_at).is_(None))
        await session.execute(swept.values(swept_at=at), execution_options={"synchronize_session": False})


async def names(session: AsyncSession) -> set[str]:
    """The folders of all segments that have a row, retired or not."""
    return set(await session.scalars(sa.select(col(StoreSegment.name))))
