"""The web application: `uvicorn --factory app.main:create_app`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi import FastAPI

from app.api import problem_types, problems
from app.api.background import Background
from app.api.security import PrincipalCache
from app.pages import router as pages_router
from experiments.database import Database
from experiments.settings import Settings
from experiments.types import utc_now
from workers.queue import Bell


def create_app(settings: Settings | None = None, *, clock: Callable[[], datetime] = utc_now) -> FastAPI:
    """The API and the pages over one database. `clock` is replaced by tests that travel in time."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.database = Database(settings.database_url, synchronous=settings.sqlite_synchronous)
        app.state.bell = Bell(settings.redis_url)
        app.state.background = Background()
        try:
            yield
        finally:
            await app.state.background.finish()
            await app.state.bell.close()
            await app.state.database.dispose()

    app = FastAPI(title="Northlift", version="0.1.0", lifespan=lifespan)
    app.state.settings = settings
    app.state.clock = clock
    app.state.principals = PrincipalCache()
    problems.install(app)
    app.include_router(problem_types.router)
    app.include_router(pages_router)
    return app
