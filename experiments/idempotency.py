"""Idempotency keys: the answer to a POST is stored in the transaction of its effect, so a retry gets the same answer.

The row is inserted before the effect: a second request with the same key waits for the first one (PostgreSQL: on the
unique index; SQLite: for the write lock) and then finds its answer, or, if the first failed, takes its place.
"""

from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.errors import IdempotencyMismatch
from experiments.tables import IdempotentRequest
from experiments.types import new_id

KEPT: Final = timedelta(days=3)
"""How long an answer is kept; later the same key is a new request."""


async def claim(
    session: AsyncSession, *, principal: str, key: str, fingerprint: str, at: datetime
) -> IdempotentRequest | None:
    """None: the request is new and must be carried out, then `complete`d. Else the stored answer to repeat.

    Raises `IdempotencyMismatch` when the key came with another request before.
    """
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = (
        insert(IdempotentRequest)
        .values(
            id=new_id(),
            principal=principal,
            idempotency_key=key,
            fingerprint=fingerprint,
            status=0,
            headers={},
            body=b"",
            created_at=at,
        )
        .on_conflict_do_nothing(index_elements=["principal", "idempotency_key"])
        .returning(col(IdempotentRequest.id))
    )
    if (await session.execute(statement)).first() is not None:
        return None
    stored: IdempotentRequest = (await session.scalars(_of(principal, key))).one()
    if stored.fingerprint != fingerprint:
        raise IdempotencyMismatch(
            "This Idempotency-Key came with another request before",
            remedy="Send a new key with every new request, and the same key only to repeat the very same request.",
        )
    return stored


async def complete(
    session: AsyncSession, *, principal: str, key: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Keep the answer; it is committed together with what it is the answer to."""
    statement = (
        sa.update(IdempotentRequest)
        .where(col(IdempotentRequest.principal) == principal, col(IdempotentRequest.idempotency_key) == key)
        .values(status=status, headers=headers, body=body)
    )
    await session.execute(statement, execution_options={"synchronize_session": False})


async def forget(session: AsyncSession, *, at: datetime) -> None:
    """Drop the answers that are older than `KEPT`."""
    old = sa.delete(IdempotentRequest).where(col(IdempotentRequest.created_at) < at - KEPT)
    await session.execute(old, execution_options={"synchronize_session": False})


def _of(principal: str, key: str) -> sa.Select[Any]:
    return sa.select(IdempotentRequest).where(
        col(IdempotentRequest.principal) == principal, col(IdempotentRequest.idempotency_key) == key
    )
