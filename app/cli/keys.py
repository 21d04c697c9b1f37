"""Make, list and revoke API keys directly in the database: how the first admin key comes to be."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from rich.table import Table

from experiments import api_key
from experiments.database import Database
from experiments.errors import NotFound, Unauthenticated
from experiments.settings import Settings
from experiments.tables import ApiKey
from experiments.types import utc_now

ACTOR = "command line"


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings.database_url)
    try:
        yield database
    finally:
        await database.dispose()


async def create_key(settings: Settings, *, name: str, scopes: Sequence[str], days: float | None = None) -> str:
    """The token of a new key; it is shown once and only its digest is kept."""
    now = utc_now()
    expires_at = None if days is None else now + timedelta(days=days)
    async with _database(settings) as database, database.write() as session:
        _, token = await api_key.issue(session, name=name, scopes=scopes, expires_at=expires_at, actor=ACTOR, at=now)
    return token


def create_key_blocking(settings: Settings, *, name: str, scopes: Sequence[str], days: float | None = None) -> str:
    """`create_key` for callers without an event loop."""
    return asyncio.run(create_key(settings, name=name, scopes=scopes, days=days))


async def is_valid(settings: Settings, key: str) -> bool:
    """Whether this database knows the key, and the key has neither expired nor been revoked."""
    async with _database(settings) as database, database.read() as session:
        try:
            await api_key.authenticate(session, token=key, at=utc_now())
        except Unauthenticated:
            return False
    return True


def is_valid_blocking(settings: Settings, key: str) -> bool:
    """`is_valid` for callers without an event loop."""
    return asyncio.run(is_valid(settings, key))


async def table_of_keys(settings: Settings) -> Table:
    """All keys as a table, newest first."""
    table = Table("key", "name", "scopes", "created", "expires", "revoked")
    after: str | None = None
    async with _database(settings) as database, database.read() as session:
        while True:
            page = await api_key.page(session, limit=200, after=after)
            for key in page.items:
                times = [
                    f"{time:%Y-%m-%d}" if time else "" for time in (key.created_at, key.expires_at, key.revoked_at)
                ]
                table.add_row(f"{key.prefix}…", key.name, " ".join(key.scopes), *times)
            after = page.next_cursor
            if after is None:
                return table


async def revoke_key(settings: Settings, *, prefix: str) -> None:
    """Revoke the key that begins with `prefix`. Raises `NotFound` when none or several do."""
    after: str | None = None
    matching: list[ApiKey] = []
    async with _database(settings) as database, database.write() as session:
        while True:
            page = await api_key.page(session, limit=200, after=after)
            matching += [key for key in page.items if key.prefix.startswith(prefix) and key.revoked_at is None]
            after = page.next_cursor
            if after is None:
                break
        if len(matching) != 1:
            raise NotFound(f"{len(matching)} valid keys begin with {prefix!r}; `northlift keys list` shows them")
        await api_key.revoke(session, key=matching[0], actor=ACTOR, at=utc_now())
