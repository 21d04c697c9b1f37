"""Who may call, and what was called: keys, browser sessions, answered requests, the audit log."""

import uuid
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from experiments.tables.fields import document, identifier, moment


class ApiKey(SQLModel, table=True):
    """A key; only its digest is kept."""

    __tablename__: ClassVar[Any] = "api_keys"
    id: uuid.UUID = identifier()
    name: str = Field(max_length=200)
    prefix: str = Field(max_length=16)
    digest: str = Field(max_length=64, unique=True)
    scopes: list[str] = document()
    created_at: datetime = moment()
    created_by: str = Field(default="", max_length=200)
    expires_at: datetime | None = moment(nullable=True)
    revoked_at: datetime | None = moment(nullable=True)


class BrowserSession(SQLModel, table=True):
    """A signed-in browser: the cookie's digest, the key behind it and the CSRF token of its forms."""

    __tablename__: ClassVar[Any] = "browser_sessions"
    id: uuid.UUID = identifier()
    digest: str = Field(max_length=64, unique=True)
    api_key_id: uuid.UUID = Field(sa_type=sa.Uuid, foreign_key="api_keys.id", index=True)
    csrf_token: str = Field(max_length=64)
    created_at: datetime = moment()
    expires_at: datetime = moment()


class IdempotentRequest(SQLModel, table=True):
    """The stored answer to a POST with an Idempotency-Key, in the same transaction as its effect."""

    __tablename__: ClassVar[Any] = "idempotent_requests"
    __table_args__ = (sa.UniqueConstraint("principal", "idempotency_key"),)
    id: uuid.UUID = identifier()
    principal: str = Field(max_length=64)
    idempotency_key: str = Field(max_length=200)
    fingerprint: str = Field(max_length=64)
    status: int
    headers: dict[str, str] = document()
    body: bytes = Field(sa_type=sa.LargeBinary)
    created_at: datetime = moment(index=True)


class AuditEvent(SQLModel, table=True):
    """Who changed what, with the state before and after."""

    __tablename__: ClassVar[Any] = "audit_events"
    id: uuid.UUID = identifier()
    at: datetime = moment(index=True)
    actor: str = Field(max_length=200)
    action: str = Field(max_length=100)
    subject_type: str = Field(max_length=32)
    subject_key: str = Field(max_length=100)
    before: dict[str, Any] | None = document(nullable=True)
    after: dict[str, Any] | None = document(nullable=True)
    __table_args__ = (sa.Index("ix_audit_events_subject", "subject_type", "subject_key"),)
