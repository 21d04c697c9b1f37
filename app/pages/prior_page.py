"""The prior learned for a metric: the population of its past effects, and what the next experiment starts from."""

from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser, Submitted, actor
from app.pages.headers import SECURITY_HEADERS
from app.pages.prior_view import prior_view
from app.pages.rendering import render
from app.pages.route import pages
from app.pages.submission import ring
from experiments import analysis_request, learned_prior, metric, overview
from experiments.errors import DomainError, NotFound, NotReady
from experiments.result import LearnedPriorResult

router = pages()


@router.get("/metrics/{key}/prior")
async def prior_page(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        values = await _values(session, key)
    return render(request, "prior.html", **values)


@router.get("/metrics/{key}/prior/progress")
async def learning_fragment(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    """Whether it is still being learned; when it is not, the page is loaded again with what was."""
    async with database.read() as session:
        active = await overview.active_analysis(session, kind=learned_prior.KIND, subject_key=key)
    headers = {} if active else {"HX-Refresh": "true"}
    return render(request, "_learning.html", headers=headers, key=key, active=active)


@router.post("/metrics/{key}/prior/analyses")
async def learn_now(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    try:
        async with database.write() as session:
            submitted, waiting = await analysis_request.of_prior(
                session, metric_key=key, actor=actor(browser), at=at, max_attempts=settings.max_attempts
            )
    except NotFound:
        raise
    except DomainError as error:
        async with database.read() as session:
            values = await _values(session, key)
        return render(request, "prior.html", status=error.status, **values | {"problem": error})
    if waiting:
        ring(request, submitted)
    return RedirectResponse(f"/metrics/{key}/prior", status_code=303, headers=SECURITY_HEADERS)


async def _values(session: AsyncSession, key: str) -> dict[str, Any]:
    known = await metric.all_known(session, archived=True)
    if key not in known:
        raise NotFound(f"There is no metric `{key}`", remedy="The list of metrics has all of them.")
    result = await overview.latest_result(session, kind=learned_prior.KIND, subject_key=key)
    spec = known[key].spec
    document = None if result is None else LearnedPriorResult.model_validate_json(result.body)
    return {
        "metric": spec,
        "view": None if document is None else prior_view(document, metric_name=spec.name),
        "too_few": await _too_few(session, key) if document is None else None,
        "active": await overview.active_analysis(session, kind=learned_prior.KIND, subject_key=key),
        "key": key,
        "path": "/catalogue/prior",  # where the navigation stands
        "problem": None,
    }


async def _too_few(session: AsyncSession, key: str) -> NotReady | None:
    """Why nothing can be learned yet; None where it can be."""
    try:
        await learned_prior.prior_plan(session, metric_key=key)
    except NotReady as error:
        return error
    return None
