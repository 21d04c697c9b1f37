"""The web application: `uvicorn --factory app.main:create_app`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from app import logs
from app.api import (
    analyses,
    api_keys,
    attributions,
    audit_events,
    baselines,
    batches,
    computation,
    connections,
    documentation,
    erasures,
    experiment_life,
    experiment_results,
    experiments,
    fact_sources,
    growth_reviews,
    holdouts,
    ingest,
    launch_results,
    launches,
    learned_priors,
    lineages,
    links,
    metrics,
    north_stars,
    operations,
    portfolio,
    problem_types,
    problems,
    programme,
    results,
    review_report,
    rollout_design,
    sample_size,
    series,
    store,
)
from app.api.background import Background
from app.api.housekeeping import keep_house
from app.api.observe import Metrics, Observe
from app.api.result_cache import ResultCache
from app.api.security import PrincipalCache
from app.api.uploads import Intake
from app.pages import router as pages_router
from app.pages.route import problem_page
from experiments.database import Database
from experiments.settings import Settings
from experiments.types import utc_now
from workers.queue import Bell

# The first two are asked most often and are found first.
ROUTERS = (
    results.router,
    experiment_results.hot,
    connections.router,
    connections.asking,
    fact_sources.router,
    metrics.router,
    learned_priors.router,
    north_stars.router,
    attributions.router,
    links.router,
    programme.router,
    programme.rows,
    holdouts.router,
    experiments.router,
    experiment_life.router,
    lineages.router,
    experiment_results.router,
    computation.router,
    computation.of_analyses,
    ingest.router,
    batches.router,
    ingest.summaries,
    analyses.router,
    launches.router,
    series.router,
    series.values,
    launch_results.router,
    launch_results.rows,
    growth_reviews.router,
    growth_reviews.rows,
    review_report.router,
    portfolio.router,
    baselines.router,
    sample_size.router,
    rollout_design.router,
    api_keys.router,
    api_keys.issuing,
    audit_events.router,
    store.router,
    erasures.router,
    erasures.of_experiment,
    operations.router,
    problem_types.router,
    pages_router,
)
# Included once per process: the first request makes of an included router what it matches and calls.
ROUTES = APIRouter()
for router in ROUTERS:
    ROUTES.include_router(router)


def create_app(settings: Settings | None = None, *, clock: Callable[[], datetime] = utc_now) -> FastAPI:
    """The API and the pages over one database. `clock` is replaced by tests that travel in time."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(json=settings.log_json)
        app.state.database = database = Database(settings.database_url, synchronous=settings.sqlite_synchronous)
        app.state.bell = Bell(settings.redis_url)
        app.state.background = Background()
        house = asyncio.create_task(keep_house(database, settings, clock))
        try:
            yield
        finally:
            house.cancel()
            await app.state.background.finish()
            await app.state.bell.close()
            await database.dispose()

    app = FastAPI(
        title="Northlift",
        version=version("northlift"),
        description=documentation.DESCRIPTION,
        lifespan=lifespan,
        # Theirs load from another host; app.pages.api_docs has the page.
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.clock = clock
    app.state.principals = PrincipalCache()
    app.state.results = ResultCache()
    app.state.metrics = Metrics()
    app.state.intake = Intake(settings)
    app.add_middleware(Observe, metrics=app.state.metrics, max_upload_bytes=settings.max_upload_bytes)
    problems.install(app, problem_page)
    documentation.install(app)
    app.router.routes.extend(ROUTES.routes)
    return app
