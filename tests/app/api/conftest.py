"""The real application over a real database, in this process."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from experiments.settings import Settings
from tests.app.api.service import Service, serving


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        sqlite_synchronous="OFF",
        max_upload_bytes=64 * 1024,
    )


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    async with serving(settings) as running:
        yield running


@pytest.fixture
def start() -> datetime:
    return datetime(2026, 6, 1, tzinfo=UTC)
