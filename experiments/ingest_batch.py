"""Recorded batches: which client batches are in the store, with what report. Readers of the store go by these rows."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from experiments.errors import NotFound
from experiments.paging import Page, page_of
from experiments.tables import IngestBatch


async def find(session: AsyncSession, *, stream: str, batch_id: str) -> IngestBatch | None:
    """The recorded batch of a client's id, if there is one."""
    found = await session.execute(
        select(IngestBatch).where(col(IngestBatch.stream) == stream, col(IngestBatch.batch_id) == batch_id)
    )
    return found.scalar_one_or_none()


async def get(session: AsyncSession, *, stream: str, batch_id: str) -> IngestBatch:
    """The recorded batch of a client's id. Raises `NotFound`."""
    batch = await find(session, stream=stream, batch_id=batch_id)
    if batch is None:
        raise NotFound(
            f"No batch {batch_id!r} of {stream} is in the store",
            remedy="GET /v1/ingest/batches lists those that are; a batch that was refused is not among them.",
        )
    return batch


async def page(session: AsyncSession, *, stream: str | None, limit: int, after: str | None) -> Page[IngestBatch]:
    """Recorded batches, newest first."""
    statement = select(IngestBatch)
    if stream is not None:
        statement = statement.where(col(IngestBatch.stream) == stream)
    return await page_of(session, statement, IngestBatch, limit=limit, after=after)


async def with_refused_rows(session: AsyncSession, *, limit: int) -> list[IngestBatch]:
    """The newest batches that were taken without some of their rows."""
    refused = select(IngestBatch).where(col(IngestBatch.rejected) > 0).order_by(col(IngestBatch.id).desc())
    return list(await session.scalars(refused.limit(limit)))


async def forget_dead_letters(session: AsyncSession, *, before: datetime) -> list[str]:
    """Take the names of their dead letters from batches recorded before a time, and return those names."""
    old = sa.and_(col(IngestBatch.dead_letters).is_not(None), col(IngestBatch.created_at) < before)
    names = [str(name) for name in await session.scalars(sa.select(col(IngestBatch.dead_letters)).where(old))]
    await session.execute(sa.update(IngestBatch).where(old).values(dead_letters=None))
    return names


async def dead_letter_names(session: AsyncSession) -> set[str]:
    """Names of all files of dead letters that a batch refers to."""
    named = sa.select(col(IngestBatch.dead_letters)).where(col(IngestBatch.dead_letters).is_not(None))
    return {str(name) for name in await session.scalars(named)}


async def reports_with_errors(session: AsyncSession) -> list[tuple[uuid.UUID, list[dict[str, Any]]]]:
    """The refused rows that the report of each batch lists."""
    columns = sa.select(col(IngestBatch.id), col(IngestBatch.errors)).where(col(IngestBatch.rejected) > 0)
    return [(batch_id, errors) for batch_id, errors in await session.execute(columns)]


async def replace_errors(session: AsyncSession, *, batch_id: uuid.UUID, errors: Sequence[Mapping[str, Any]]) -> None:
    """Let a batch's report list its refused rows in other words."""
    report = sa.update(IngestBatch).where(col(IngestBatch.id) == batch_id)
    await session.execute(report.values(errors=[dict(error) for error in errors]))


async def record(
    session: AsyncSession,
    *,
    stream: str,
    batch_id: str,
    digest: str,
    path: str,
    accepted: int,
    rejected: int,
    errors: Sequence[Mapping[str, Any]],
    subjects: Sequence[str],
    first_at: datetime | None,
    last_at: datetime | None,
    dead_letters: str | None = None,
    actor: str,
    at: datetime,
) -> IngestBatch:
    """Make a stored batch visible. `IntegrityError` when the client's id was recorded meanwhile."""
    batch = IngestBatch(
        stream=stream,
        batch_id=batch_id,
        digest=digest,
        path=path,
        accepted=accepted,
        rejected=rejected,
        errors=[dict(error) for error in errors],
        subjects=list(subjects),
        first_at=first_at,
        last_at=last_at,
        dead_letters=dead_letters,
        created_at=at,
        created_by=actor,
    )
    session.add(batch)
    await session.flush()
    return batch


@dataclass(frozen=True, slots=True)
class Recorded:
    """A batch with rows of a subject: the name of its files, when it was recorded, and when its rows happened."""

    name: str
    at: datetime
    first_at: datetime
    last_at: datetime
    swept: bool


async def recorded(
    session: AsyncSession, *, stream: str, subjects: Collection[str], until: datetime
) -> dict[str, list[Recorded]]:
    """For each subject its batches recorded up to `until`, oldest first; those without good rows are left out."""
    batch = IngestBatch
    rows = await session.execute(
        sa.select(
            col(batch.path),
            col(batch.created_at),
            col(batch.first_at),
            col(batch.last_at),
            col(batch.swept_at),
            col(batch.subjects),
        )
        .where(col(batch.stream) == stream, col(batch.created_at) <= until, col(batch.accepted) > 0)
        .order_by(col(batch.created_at), col(batch.id))
    )
    found: dict[str, list[Recorded]] = {subject: [] for subject in subjects}
    for path, at, first_at, last_at, swept_at, kept in rows:
        if first_at is None or last_at is None:
            raise ValueError(f"batch file {path!r} has rows but no times")
        one = Recorded(path, at, first_at, last_at, swept_at is not None)
        for subject in kept:
            if subject in found:
                found[subject].append(one)
    return found


async def accepted_rows(
    session: AsyncSession, *, stream: str, subjects: Collection[str], until: datetime
) -> dict[str, int]:
    """For each subject the rows of its batches recorded up to `until`; those of others in the same batch count too."""
    batch = IngestBatch
    rows = await session.execute(
        sa.select(col(batch.accepted), col(batch.subjects)).where(
            col(batch.stream) == stream, col(batch.created_at) <= until, col(batch.accepted) > 0
        )
    )
    found = dict.fromkeys(subjects, 0)
    for accepted, kept in rows:
        for subject in found.keys() & set(kept):
            found[subject] += accepted
    return found
