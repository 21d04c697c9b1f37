"""What brings analyses back that nobody works on: expired leases, and rows the queue may have forgotten."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.analysis import UNOWNED
from experiments.tables import Analysis


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What became of the analyses whose worker went silent."""

    queued: tuple[uuid.UUID, ...]
    failed: tuple[uuid.UUID, ...]
    cancelled: tuple[uuid.UUID, ...]


async def any_expired(session: AsyncSession, *, at: datetime) -> bool:
    """Whether `reclaim_expired` has anything to do: a read, so the common case takes no write lock."""
    statement = sa.select(col(Analysis.id)).where(_expired(at)).limit(1)
    return (await session.execute(statement)).first() is not None


async def reclaim_expired(session: AsyncSession, *, at: datetime) -> Reclaimed:
    """Running with an expired lease -> queued; or cancelled, if someone asked; or failed, if it was the last attempt.

    The last is our dead letter: an input that kills its worker `max_attempts` times must not go round for ever.
    """
    cancelled = await _move(
        session,
        [_expired(at), col(Analysis.cancel_requested_at).is_not(None)],
        {**UNOWNED, "state": "cancelled", "finished_at": at},
    )
    queued = await _move(
        session,
        [_expired(at), col(Analysis.attempt) < col(Analysis.max_attempts)],
        {**UNOWNED, "state": "queued"},
    )
    exhausted = (await session.execute(sa.select(col(Analysis.id), col(Analysis.attempt)).where(_expired(at)))).all()
    failed: list[uuid.UUID] = []
    for analysis_id, attempt in exhausted:
        error = {
            "type": "worker-crashed",
            "detail": f"the worker crashed or went silent {attempt} times",
            "remedy": "look for memory limits and worker logs, then queue the analysis again",
            "attempts": attempt,
        }
        failed += await _move(
            session,
            [col(Analysis.id) == analysis_id, col(Analysis.attempt) == attempt, _expired(at)],
            {**UNOWNED, "state": "failed", "error": error, "finished_at": at},
        )
    return Reclaimed(tuple(queued), tuple(failed), tuple(cancelled))


async def queued_ids(session: AsyncSession, *, limit: int = 1000) -> list[tuple[uuid.UUID, int]]:
    """(id, attempt) of queued analyses, oldest first: what the queue should know about."""
    statement = (
        sa.select(col(Analysis.id), col(Analysis.attempt))
        .where(col(Analysis.state) == "queued")
        .order_by(col(Analysis.created_at), col(Analysis.id))
        .limit(limit)
    )
    return [(analysis_id, attempt) for analysis_id, attempt in (await session.execute(statement)).all()]


def _expired(at: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(col(Analysis.state) == "running", col(Analysis.lease_until) <= at)


async def _move(
    session: AsyncSession, where: Sequence[sa.ColumnElement[bool]], values: dict[str, object]
) -> list[uuid.UUID]:
    statement = sa.update(Analysis).where(*where).values(**values).returning(col(Analysis.id))
    options = {"synchronize_session": False}
    return list((await session.execute(statement, execution_options=options)).scalars())
