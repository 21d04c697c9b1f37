"""API keys: 256 random bits of which only the SHA-256 digest is kept, with scopes, expiry and revocation.

A slow password hash would protect nothing here (nobody guesses 256 bits) and would cost every request.
"""

import hashlib
import secrets
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit
from experiments.errors import FieldError, Forbidden, InvalidDefinition, NotFound, Unauthenticated
from experiments.paging import Page, page_of
from experiments.tables import ApiKey

type Scope = Literal["read", "write", "ingest", "admin"]

SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "ingest", "admin")
PREFIX: Final = "nl_"
_GRANTS: Final[dict[str, frozenset[str]]] = {
    "read": frozenset({"read"}),
    "write": frozenset({"read", "write"}),
    "ingest": frozenset({"ingest"}),
    "admin": frozenset(SCOPES),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. `scopes` are those granted: `write` includes `read`, `admin` includes everything."""

    key_id: uuid.UUID
    name: str
    scopes: frozenset[str]
    expires_at: datetime | None

    def may(self, scope: Scope) -> bool:
        """Whether the key grants the scope."""
        return scope in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the key grants the scope."""
        if not self.may(scope):
            raise Forbidden(
                f"This needs the scope `{scope}`; the key `{self.name}` has {', '.join(sorted(self.scopes))}",
                remedy=f"Use a key with the scope `{scope}`; an administrator makes one with POST /v1/api-keys.",
            )


def digest_of(token: str) -> str:
    """The digest under which a key or a session is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


async def issue(
    session: AsyncSession,
    *,
    name: str,
    scopes: Collection[str],
    actor: str,
    at: datetime,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key. The second value is the key itself; it exists nowhere else and cannot be shown again.

    Raises `InvalidDefinition` for an unknown scope, no scope, or an expiry that has passed.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise InvalidDefinition(
            f"Unknown scope: {', '.join(unknown)}" if unknown else "A key needs at least one scope",
            remedy=f"Scopes are {', '.join(SCOPES)}.",
            errors=[FieldError("/scopes", f"one or more of {', '.join(SCOPES)}")],
        )
    if expires_at is not None and expires_at <= at:
        raise InvalidDefinition(
            "The key would already have expired",
            remedy="Give an `expires_at` in the future, or none.",
            errors=[FieldError("/expires_at", "is in the past")],
        )
    token = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        name=name,
        prefix=token[:9],
        digest=digest_of(token),
        scopes=[scope for scope in SCOPES if scope in scopes],
        created_at=at,
        created_by=actor,
        expires_at=expires_at,
    )
    session.add(key)
    audit.record(
        session,
        actor=actor,
        action="api_key.issued",
        subject_type="api_key",
        subject_key=str(key.id),
        at=at,
        after=_auditable(key),
    )
    await session.flush()
    return key, token


async def authenticate(session: AsyncSession, *, token: str, at: datetime) -> Principal:
    """Who this key belongs to. Raises `Unauthenticated`, saying whether it is unknown, expired or revoked."""
    key = (await session.scalars(sa.select(ApiKey).where(col(ApiKey.digest) == digest_of(token)))).one_or_none()
    if key is None:
        raise Unauthenticated("The API key is not known", remedy="Check that the key is complete and of this service.")
    return principal(key, at=at)


def principal(key: ApiKey, *, at: datetime) -> Principal:
    """The caller behind a stored key. Raises `Unauthenticated` when it is expired or revoked."""
    if key.revoked_at is not None and key.revoked_at <= at:
        raise Unauthenticated(
            f"The API key `{key.name}` was revoked on {key.revoked_at:%Y-%m-%d}",
            remedy="Ask an administrator for a new key.",
        )
    if key.expires_at is not None and key.expires_at <= at:
        raise Unauthenticated(
            f"The API key `{key.name}` expired on {key.expires_at:%Y-%m-%d}",
            remedy="Ask an administrator for a new key.",
        )
    granted: frozenset[str] = frozenset().union(*(_GRANTS[scope] for scope in key.scopes))
    return Principal(key.id, key.name, granted, key.expires_at)


async def get(session: AsyncSession, *, key_id: uuid.UUID) -> ApiKey:
    """The key with this id. Raises `NotFound`."""
    key = await session.get(ApiKey, key_id)
    if key is None:
        raise NotFound(f"There is no API key {key_id}", remedy="GET /v1/api-keys lists them.")
    return key


async def revoke(session: AsyncSession, *, key: ApiKey, actor: str, at: datetime) -> ApiKey:
    """End a key's life now; revoking again changes nothing."""
    if key.revoked_at is None:
        before = _auditable(key)
        key.revoked_at = at
        audit.record(
            session,
            actor=actor,
            action="api_key.revoked",
            subject_type="api_key",
            subject_key=str(key.id),
            at=at,
            before=before,
            after=_auditable(key),
        )
        await session.flush()
    return key


async def page(session: AsyncSession, *, limit: int = 50, after: str | None = None) -> Page[ApiKey]:
    """Keys, newest first."""
    return await page_of(session, sa.select(ApiKey), ApiKey, limit=limit, after=after)


def _auditable(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }
