"""Compacted segments of the store: which batches of a subject lie together, in files by hash bucket."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.tables import StoreSegment


async def live(session: AsyncSession, *, stream: str, subjects: Collection[str]) -> dict[str, list[StoreSegment]]:
    """For each subject the segments that readers use now, oldest first. No batch is in two of them."""
    rows = await session.scalars(
        sa.select(StoreSegment)
        .where(
            col(StoreSegment.stream) == stream,
            col(StoreSegment.subject).in_(subjects),
            col(StoreSegment.retired_at).is_(None),
        )
        .order_by(col(StoreSegment.created_at), col(StoreSegment.id))
    )
    found: dict[str, list[StoreSegment]] = {subject: [] for subject in subjects}
    for row in rows:
        found[row.subject].append(row)
    return found
