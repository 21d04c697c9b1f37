"""The scheduler: submits what `experiments.refresh` finds due. Every worker runs one; identity removes the doubles."""

import asyncio
import uuid
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from experiments import refresh
from experiments.database import Database
from experiments.settings import Settings
from experiments.types import utc_now
from workers.queue import Bell

LONGEST_PAUSE_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Scheduler:
    """Keeps the results of running experiments, North Stars and baselines no older than `refresh_minutes`."""

    def __init__(self, database: Database, settings: Settings, bell: Bell) -> None:
        self._database = database
        self._settings = settings
        self._bell = bell
        self._every = timedelta(minutes=settings.refresh_minutes)

    async def forever(self) -> None:
        """Look now and several times in every period."""
        pause = min(LONGEST_PAUSE_SECONDS, self._every.total_seconds() / 4)
        while True:
            try:
                await self.once()
            except (SQLAlchemyError, OSError) as error:
                log.warning("scheduler_without_database", error=type(error).__name__)
            await asyncio.sleep(pause)

    async def once(self) -> int:
        """Submit what is due and ring; how many analyses are new."""
        at = utc_now()
        async with self._database.read() as session:
            wanted = await refresh.due(session, at=at, every=self._every)
        created: list[tuple[uuid.UUID, int]] = []
        for each in wanted:
            async with self._database.write() as session:
                row, new = await refresh.submit_due(session, each, at=at, max_attempts=self._settings.max_attempts)
            if new:
                created.append((row.id, row.attempt))
        if created:
            # Not before all are there: the first to be computed measures the others with it.
            await self._bell.ring_all(created)
            log.info("analyses_scheduled", analyses=len(created))
        return len(created)
