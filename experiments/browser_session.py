"""Browser sessions: a signed-in key as a cookie. Like keys, tokens are random and only their digest is kept."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import api_key, audit
from experiments.api_key import Principal, digest_of
from experiments.errors import Unauthenticated
from experiments.tables import ApiKey, BrowserSession

TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is behind a cookie, and the token that every form of this session must carry."""

    principal: Principal
    csrf_token: str
    expires_at: datetime


async def open_session(
    session: AsyncSession, *, key_token: str, at: datetime, hours: float, replaces: str | None = None
) -> tuple[str, SignedIn]:
    """Sign in with an API key: a new session, never the cookie the browser brought (it ends when given as `replaces`).

    The first value is the cookie's content; it exists nowhere else. The session ends with the key at the latest.
    Raises `Unauthenticated` for a key that is unknown, expired or revoked.
    """
    principal = await api_key.authenticate(session, token=key_token, at=at)
    if replaces is not None:
        await close_session(session, token=replaces, at=at)
    await session.execute(sa.delete(BrowserSession).where(col(BrowserSession.expires_at) <= at))
    ends = at + timedelta(hours=hours)
    if principal.expires_at is not None:
        ends = min(ends, principal.expires_at)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    row = BrowserSession(
        digest=digest_of(token),
        api_key_id=principal.key_id,
        csrf_token=secrets.token_urlsafe(TOKEN_BYTES),
        created_at=at,
        expires_at=ends,
    )
    session.add(row)
    _record(session, row, "session.opened", actor=principal.name, at=at)
    await session.flush()
    return token, SignedIn(principal, row.csrf_token, ends)


async def resume(session: AsyncSession, *, token: str, at: datetime) -> SignedIn:
    """The session behind a cookie. Raises `Unauthenticated` when it is over or its key no longer works."""
    statement = (
        sa.select(BrowserSession, ApiKey)
        .join(ApiKey, col(ApiKey.id) == col(BrowserSession.api_key_id))
        .where(col(BrowserSession.digest) == digest_of(token), col(BrowserSession.expires_at) > at)
    )
    found = (await session.execute(statement)).one_or_none()
    if found is None:
        raise Unauthenticated("The session is over", remedy="Sign in again.")
    row, key = found
    return SignedIn(api_key.principal(key, at=at), row.csrf_token, row.expires_at)


async def close_session(session: AsyncSession, *, token: str, at: datetime) -> None:
    """Sign out; a cookie that is not a session changes nothing."""
    statement = (
        sa.select(BrowserSession, ApiKey)
        .join(ApiKey, col(ApiKey.id) == col(BrowserSession.api_key_id))
        .where(col(BrowserSession.digest) == digest_of(token))
    )
    found = (await session.execute(statement)).one_or_none()
    if found is not None:
        row, key = found
        _record(session, row, "session.closed", actor=key.name, at=at)
        await session.delete(row)
        await session.flush()


def _record(session: AsyncSession, row: BrowserSession, action: str, *, actor: str, at: datetime) -> None:
    audit.record(session, actor=actor, action=action, subject_type="session", subject_key=str(row.id), at=at)
