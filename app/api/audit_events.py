"""/v1/audit-events: who changed what."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from app.api.deps import ReadSession
from app.api.paging import Listing, Paging
from app.api.routing import api_router
from app.api.security import Reader
from experiments import audit
from experiments.tables import AuditEvent

router = api_router("audit", "/audit-events")


class AuditEventOut(BaseModel):
    """One change, with the state before and after."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    at: datetime
    actor: str
    action: str
    subject_type: str
    subject_key: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @classmethod
    def of(cls, row: AuditEvent) -> "AuditEventOut":
        return cls.model_validate(row)


@router.get("", summary="List changes")
async def list_audit_events(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    subject_type: Annotated[str | None, Query(max_length=32)] = None,
    subject_key: Annotated[str | None, Query(max_length=100)] = None,
    actor: Annotated[str | None, Query(max_length=200)] = None,
    action: Annotated[str | None, Query(max_length=100)] = None,
) -> Listing[AuditEventOut]:
    page = await audit.events(
        session,
        subject_type=subject_type,
        subject_key=subject_key,
        actor=actor,
        action=action,
        limit=paging.limit,
        after=paging.after,
    )
    return Listing[AuditEventOut].of(page, AuditEventOut.of)
