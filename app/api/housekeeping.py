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
        try:
            async with database.write() as session:
                await idempotency.forget(session, at=clock())
        except (SQLAlchemyError, OSError) as error:
            log.warning("housekeeping_failed", error=type(error).__name__)
        await asyncio.sleep(INTERVAL_SECONDS)
