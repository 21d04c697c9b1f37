"""A database, settings with short periods, and a runner of tiny analyses."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from experiments import analysis
from experiments.database import Database
from experiments.settings import Settings
from experiments.tables import Analysis, Result
from experiments.types import utc_now
from tests.patience import LONG
from tests.workers.tiny import KINDS
from workers.child import Answer
from workers.run import Runner

AS_OF = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, synchronous="OFF")
    yield database
    await database.dispose()


@pytest.fixture
def worker_settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        redis_url="unix:///nowhere/redis.sock",
        lease_seconds=6.0,
        analysis_timeout_seconds=30.0,
        max_attempts=3,
        worker_slots=4,
        warm_models=False,
        sqlite_synchronous="OFF",
    )


class Desk:
    """Submits tiny analyses and looks at what became of them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self.retried: list[tuple[uuid.UUID, int]] = []

    def runner(self, answer: Answer | None = None, **changes: Any) -> Runner:
        async def silence(question: Any, seconds: float, progress: Callable[[float], None]) -> Any:
            await asyncio.sleep(3600)

        async def retry(analysis_id: uuid.UUID, attempt: int) -> None:
            self.retried.append((analysis_id, attempt))

        return Runner(self.database, self.settings.model_copy(update=changes), KINDS, answer or silence, retry)

    async def submit(self, name: str = "one", *, kind: str = "tiny", seed: int = 7, **plan: Any) -> Analysis:
        async with self.database.write() as session:
            row, _ = await analysis.submit(
                session,
                kind=kind,
                subject_key=name,
                experiment_id=None,
                plan_document={"kind": kind, "name": name, **plan},
                data_as_of=AS_OF,
                seed=seed,
                requested_by="tests",
                at=utc_now(),
                max_attempts=self.settings.max_attempts,
            )
        return row

    async def now(self, row: Analysis) -> Analysis:
        async with self.database.read() as session:
            return await analysis.get(session, analysis_id=row.id)

    async def result(self, row: Analysis) -> Result | None:
        async with self.database.read() as session:
            now = await analysis.get(session, analysis_id=row.id)
            return None if now.result_id is None else await session.get(Result, now.result_id)

    async def until(self, row: Analysis, reached: Callable[[Analysis], bool], seconds: float = LONG) -> Analysis:
        """Wait for a state of the row."""
        async with asyncio.timeout(seconds):
            while True:
                seen = await self.now(row)
                if reached(seen):
                    return seen
                await asyncio.sleep(0.05)


@pytest.fixture
def desk(database: Database, worker_settings: Settings) -> Desk:
    return Desk(database, worker_settings)
