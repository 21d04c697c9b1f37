"""What the web process tidies up by itself, now and then."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from experiments import idempotency
from experiments.database import Database

INTERVAL_SECONDS: Final = 3600.0
log = structlog.get_logger(__name__)


async def keep_house(database: Database, clock: Callable[[], datetime]) -> None:
    """Forget old idempotency keys every hour, until cancelled. A database that is away is tried again later."""
    while True:
        # Cancelled in the middle of connecting, the driver would leave a connection that nobody closes: let it finish.
        tidying = asyncio.ensure_future(_tidy(database, clock()))
        try:
            await asyncio.shield(tidying)
        except asyncio.CancelledError:
            await tidying
            raise
        await asyncio.sleep(INTERVAL_SECONDS)


async def _tidy(database: Database, at: datetime) -> None:
    try:
        async with database.write() as session:
            await idempotency.forget(session, at=at)
    except (SQLAlchemyError, OSError) as error:
        log.warning("housekeeping_failed", error=type(error).__name__)
