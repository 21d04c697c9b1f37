"""The real application over a real database, in this process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from experiments.settings import Settings
from tests.app.api.service import Service, serving


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return _settings(database_url, redis_url, tmp_path)


def _settings(database_url: str, redis_url: str, folder: Path) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        data_dir=folder / "data",
        sqlite_synchronous="OFF",
        max_upload_bytes=64 * 1024,
    )


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    async with serving(settings) as running:
        yield running


@pytest.fixture(scope="module")
async def shop(
    module_database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """The small shop with a draft, for requests that are refused: they leave nothing behind, so a module shares it."""
    settings = _settings(module_database_url, redis_url, tmp_path_factory.mktemp("shop"))
    async with serving(settings) as running:
        await running.fill()
        yield running
