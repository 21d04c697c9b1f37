"""The audit log: who changed what, with the state before and after. Written in the transaction of the change."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from experiments.paging import Page, page_of
from experiments.tables import AuditEvent


def record(
    session: AsyncSession,
    *,
    actor: str,
    action: str,
    subject_type: str,
    subject_key: str,
    at: datetime,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Add one event. `before` and `after` are the parts of the subject that the action may change."""
    session.add(
        AuditEvent(
            actor=actor,
            action=action,
            subject_type=subject_type,
            subject_key=subject_key,
            at=at,
            before=None if before is None else dict(before),
            after=None if after is None else dict(after),
        )
    )


async def events(
    session: AsyncSession,
    *,
    subject_type: str | None = None,
    subject_key: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[AuditEvent]:
    """Events, newest first."""
    statement = sa.select(AuditEvent)
    wanted = {"subject_type": subject_type, "subject_key": subject_key, "actor": actor, "action": action}
    for column, value in wanted.items():
        if value is not None:
            statement = statement.where(getattr(AuditEvent, column) == value)
    return await page_of(session, statement, AuditEvent, limit=limit, after=after)
