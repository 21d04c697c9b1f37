"""Look at what a service needs on this machine and say what is missing and what to do."""

import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import redis.asyncio
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.cli.services import REPOSITORY
from experiments.database import Database
from experiments.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `detail` says what was found and, when not `ok`, what to do."""

    name: str
    ok: bool
    detail: str


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything; a fault in one place does not hide the others."""
    looks: tuple[tuple[str, Callable[[Settings], Awaitable[str]]], ...] = (
        ("database", _database),
        ("queue", _queue),
        ("store", _store),
        ("statistics", _statistics),
        ("charts", _charts),
    )
    return [await _look(name, look, settings) for name, look in looks]


async def _look(name: str, look: Callable[[Settings], Awaitable[str]], settings: Settings) -> Finding:
    try:
        return Finding(name, True, await look(settings))
    except _FAULTS as error:
        return Finding(name, False, (str(error) or type(error).__name__).splitlines()[0])


class Fault(RuntimeError):
    """Something is wrong; the text says what to do."""


# What the libraries raise for an address or a server that cannot be used; ValueError is for malformed addresses.
_FAULTS = (
    Fault, OSError, ImportError, ValueError, sa.exc.SQLAlchemyError, asyncpg.PostgresError, redis.exceptions.RedisError
)  # fmt: skip


async def _database(settings: Settings) -> str:
    head = ScriptDirectory.from_config(Config(str(REPOSITORY / "alembic.ini"))).get_current_head()
    _require_file(sa.make_url(settings.database_url))
    database = Database(settings.database_url)
    try:
        async with database.read() as session:
            connection = await session.connection()
            tables = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
            if "alembic_version" not in tables:
                raise Fault("the database is empty; run `northlift migrate`")
            current = (await session.execute(sa.text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
    finally:
        await database.dispose()
    if current != head:
        raise Fault(f"the schema is at {current}, this version needs {head}; run `northlift migrate`")
    return f"{'SQLite' if database.is_sqlite else 'PostgreSQL'}, schema {current}"


def _require_file(url: sa.URL) -> None:
    """Looking must not create the SQLite file that a migration would."""
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        raise Fault(f"there is no database at {url.database}; run `northlift migrate`")


async def _queue(settings: Settings) -> str:
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(settings.redis_url)
    try:
        server = await client.info("server")
    finally:
        await client.aclose()
    return f"answers, version {server.get('valkey_version') or server.get('redis_version')}"


async def _store(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=settings.data_dir) as probe:
        probe.write(b"northlift")
        probe.flush()
    return f"{settings.data_dir.absolute()} can be written"


async def _statistics(settings: Settings) -> str:
    import importlib.metadata

    names = ("numpy", "scipy", "pymc", "nutpie", "numba", "duckdb")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


async def _charts(settings: Settings) -> str:
    bundle = REPOSITORY / "app" / "pages" / "static" / "vega.js"
    if not bundle.exists():
        raise Fault("the chart bundle is missing; run `make setup`")
    return f"bundle of {bundle.stat().st_size / 1e6:.1f} MB"
