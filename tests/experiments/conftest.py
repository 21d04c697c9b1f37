"""Fixtures for tests of the services."""

from collections.abc import AsyncIterator

import pytest

from experiments.database import Database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated, empty database: each test runs on SQLite and on PostgreSQL."""
    database = Database(database_url, synchronous="OFF")
    yield database
    await database.dispose()
