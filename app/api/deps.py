"""What handlers are given: settings, clock, sessions, and what to do after the commit."""

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from experiments.database import Database
from experiments.settings import Settings
from workers.queue import Bell


def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def get_bell(request: Request) -> Bell:
    bell: Bell = request.app.state.bell
    return bell


def get_now(request: Request) -> datetime:
    """The service's clock: the only place where a request reads the time."""
    clock: Callable[[], datetime] = request.app.state.clock
    return clock()


def ring_after_commit(request: Request, analysis_id: uuid.UUID, attempt: int = 0) -> None:
    """Tell the workers of an analysis once the transaction that submits it has been committed."""
    _bells(request).append((analysis_id, attempt))


def _bells(request: Request) -> list[tuple[uuid.UUID, int]]:
    if not hasattr(request.state, "bells"):
        request.state.bells = []
    bells: list[tuple[uuid.UUID, int]] = request.state.bells
    return bells


async def unit_of_work(request: Request) -> AsyncIterator[AsyncSession]:
    """A session whose changes are committed when the handler has returned, before the response is sent.

    A commit that fails becomes the response. Only after a commit are the workers told, without the client waiting.
    """
    async with get_database(request).write() as session:
        request.state.session = session
        yield session
    if waiting := _bells(request):
        request.app.state.background.start(get_bell(request).ring_all(list(waiting)))


async def read_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session that never takes the write lock."""
    async with get_database(request).read() as session:
        yield session


SettingsDep = Annotated[Settings, Depends(get_settings)]
DatabaseDep = Annotated[Database, Depends(get_database)]
BellDep = Annotated[Bell, Depends(get_bell)]
Now = Annotated[datetime, Depends(get_now)]
UnitOfWork = Annotated[AsyncSession, Depends(unit_of_work, scope="function")]
ReadSession = Annotated[AsyncSession, Depends(read_session, scope="function")]
