"""Sessions and units of work, the same on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

READ_ONLY = "northlift_read_only"


class Database:
    """One engine and its two kinds of session.

    `write()` is a unit of work: it commits when the block ends and rolls back when it raises. On SQLite it opens with
    BEGIN IMMEDIATE, because a transaction that reads first and then upgrades fails at once with "database is locked".
    `read()` never takes the write lock.
    """

    def __init__(self, url: str, *, synchronous: str = "FULL", pool_size: int = 10) -> None:
        self.url = url
        self._synchronous = synchronous
        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine: AsyncEngine = create_async_engine(url, connect_args={"timeout": 60})
            self._prepare_sqlite()
        else:
            self.engine = create_async_engine(url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False, autoflush=True)

    def _prepare_sqlite(self) -> None:
        @event.listens_for(self.engine.sync_engine, "connect")
        def configure(connection: object, record: ConnectionPoolEntry) -> None:
            driver = record.dbapi_connection
            assert driver is not None
            driver.isolation_level = None  # the driver must not open transactions behind our back
            cursor = driver.cursor()
            for pragma in (
                "journal_mode=WAL",
                f"synchronous={self._synchronous}",
                "busy_timeout=60000",
                "foreign_keys=ON",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(self.engine.sync_engine, "begin")
        def begin(connection: Connection) -> None:
            read_only = connection.get_execution_options().get(READ_ONLY, False)
            connection.exec_driver_sql("BEGIN DEFERRED" if read_only else "BEGIN IMMEDIATE")

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A unit of work: all of it or nothing."""
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A read-only session; whatever is written in it is rolled back."""
        async with self._sessions() as session:
            await session.connection(execution_options={READ_ONLY: True})
            try:
                yield session
            finally:
                session.expunge_all()  # a rollback would expire what was read, and the caller may still hold it
                await session.rollback()

    async def dispose(self) -> None:
        """Close all pooled connections."""
        await self.engine.dispose()
