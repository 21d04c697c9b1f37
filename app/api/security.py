"""Who is calling: `X-API-Key: …` or `Authorization: Bearer …`, and whether the key's scopes allow it.

A key that was seen is trusted for `TRUST_SECONDS` without asking the database again, so a revocation takes effect
everywhere within that time (at once in the process that revoked it).
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer

from app.api.deps import get_database, get_now
from experiments import api_key
from experiments.api_key import Principal, Scope
from experiments.errors import Unauthenticated

TRUST_SECONDS: Final = 5.0
_CAPACITY: Final = 10_000

_key_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key")
_bearer = HTTPBearer(auto_error=False, description="The same key as a bearer token")


class PrincipalCache:
    """Digest of a key -> its principal, for a few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, Principal]] = {}

    def get(self, digest: str) -> Principal | None:
        entry = self._known.get(digest)
        if entry is None or entry[0] < self._clock():
            return None
        return entry[1]

    def put(self, digest: str, principal: Principal, at: datetime) -> None:
        """Trust the key for a while, but never beyond its expiry."""
        if len(self._known) >= _CAPACITY:
            self._known.clear()
        trust = TRUST_SECONDS
        if principal.expires_at is not None:
            trust = min(trust, (principal.expires_at - at).total_seconds())
        self._known[digest] = (self._clock() + trust, principal)

    def clear(self) -> None:
        """Ask the database again for every key."""
        self._known.clear()


def presented_token(request: Request) -> str | None:
    """The key that the request carries, if any."""
    token = request.headers.get("x-api-key")
    if token:
        return token
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() or None if scheme.lower() == "bearer" else None


def known_principal(request: Request) -> Principal | None:
    """The caller, if the key was seen in the last seconds: no database, for the hot path."""
    token = presented_token(request)
    if token is None:
        return None
    cache: PrincipalCache = request.app.state.principals
    return cache.get(api_key.digest_of(token))


async def get_principal(
    request: Request,
    _key: Annotated[str | None, Depends(_key_header)] = None,
    _token: Annotated[object | None, Depends(_bearer)] = None,
) -> Principal:
    """The caller. Raises `Unauthenticated` without a valid key."""
    token = presented_token(request)
    if token is None:
        raise Unauthenticated("No API key was sent", remedy="Send it as `X-API-Key: …` or `Authorization: Bearer …`.")
    cache: PrincipalCache = request.app.state.principals
    digest = api_key.digest_of(token)
    principal = cache.get(digest)
    if principal is None:
        at = get_now(request)
        async with get_database(request).read() as session:
            principal = await api_key.authenticate(session, token=token, at=at)
        cache.put(digest, principal, at)
    request.state.principal = principal
    return principal


def _scoped(scope: Scope) -> Callable[[Principal], Principal]:
    def require(principal: Annotated[Principal, Depends(get_principal)]) -> Principal:
        principal.require(scope)
        return principal

    return require


Caller = Annotated[Principal, Depends(get_principal)]
Reader = Annotated[Principal, Depends(_scoped("read"))]
Writer = Annotated[Principal, Depends(_scoped("write"))]
Ingester = Annotated[Principal, Depends(_scoped("ingest"))]
Admin = Annotated[Principal, Depends(_scoped("admin"))]
