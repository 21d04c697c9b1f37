"""Recorded batches: which client batches are in the store, with what report. Readers of the store go by these rows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from experiments.tables import IngestBatch


async def find(session: AsyncSession, *, stream: str, batch_id: str) -> IngestBatch | None:
    """The recorded batch of a client's id, if there is one."""
    found = await session.execute(
        select(IngestBatch).where(col(IngestBatch.stream) == stream, col(IngestBatch.batch_id) == batch_id)
    )
    return found.scalar_one_or_none()


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
        created_at=at,
        created_by=actor,
    )
    session.add(batch)
    await session.flush()
    return batch


async def recorded(
    session: AsyncSession, *, stream: str, subjects: Collection[str], until: datetime
) -> dict[str, list[str]]:
    """For each subject the file names of the batches recorded up to `until`, oldest first; empty batches have none."""
    rows = await session.execute(
        sa.select(col(IngestBatch.path), col(IngestBatch.subjects))
        .where(col(IngestBatch.stream) == stream, col(IngestBatch.created_at) <= until, col(IngestBatch.accepted) > 0)
        .order_by(col(IngestBatch.created_at), col(IngestBatch.id))
    )
    found: dict[str, list[str]] = {subject: [] for subject in subjects}
    for path, kept in rows:
        for subject in kept:
            if subject in found:
                found[subject].append(path)
    return found
