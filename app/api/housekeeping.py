"""What the web process tidies up by itself, now and then."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from experiments import idempotency
from experiments.database import Database
from experiments.settings import Settings
from warehouse.scratch import sweep_scratch

INTERVAL_SECONDS: Final = 3600.0
log = structlog.get_logger(__name__)


async def keep_house(database: Database, settings: Settings, clock: Callable[[], datetime]) -> None:
    """At the start and every hour, until cancelled: forget old idempotency keys, remove what dead processes left.

    A database that is away is tried again later.
    """
    while True:
        # Cancelled in the middle of connecting, the driver would leave a connection that nobody closes: let it finish.
        tidying = asyncio.ensure_future(_tidy(database, settings, clock()))
        try:
            await asyncio.shield(tidying)
        except asyncio.CancelledError:
            await tidying
            raise
        await asyncio.sleep(INTERVAL_SECONDS)


async def _tidy(database: Database, settings: Settings, at: datetime) -> None:
    try:
        await asyncio.to_thread(sweep_scratch, settings.data_dir)
        async with database.write() as session:
            await idempotency.forget(session, at=at)
    except (SQLAlchemyError, OSError) as error:
        log.warning("housekeeping_failed", error=type(error).__name__)
