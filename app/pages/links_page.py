"""Learned links: what moves in inputs have been worth in a North Star."""

from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser, Submitted, actor
from app.pages.headers import SECURITY_HEADERS
from app.pages.links_view import stored_links_view
from app.pages.rendering import render
from app.pages.route import pages
from app.pages.submission import ring
from experiments import analysis_request, links_plan, metric, north_star, overview
from experiments.errors import DomainError, NotFound, NotReady

HISTORY = 10

router = pages()


@router.get("/links/{key}")
async def links_page(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        values = await _values(session, key)
    return render(request, "links.html", **values)


@router.get("/links/{key}/progress")
async def learning_fragment(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    """Whether they are still being learned; when they are not, the page is loaded again with what was."""
    async with database.read() as session:
        active = await overview.active_analysis(session, kind=links_plan.KIND, subject_key=key)
    headers = {} if active else {"HX-Refresh": "true"}
    return render(request, "_progress.html", headers=headers, address=f"/links/{key}", active=active)


@router.post("/links/{key}/analyses")
async def learn_links(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    try:
        async with database.write() as session:
            row, waiting = await analysis_request.of_links(
                session, north_star_key=key, actor=actor(browser), at=at, max_attempts=settings.max_attempts
            )
    except NotFound:
        raise
    except DomainError as error:
        async with database.read() as session:
            values = await _values(session, key)
        return render(request, "links.html", status=error.status, **values | {"problem": error})
    if waiting:
        ring(request, row)
    return _to(key)


@router.post("/links/{key}/cancel")
async def cancel_learning(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    async with database.write() as session:
        await north_star.get(session, key=key)
        active = await overview.active_analysis(session, kind=links_plan.KIND, subject_key=key)
        if active is not None:
            await analysis_request.cancel(session, analysis_id=active.id, actor=actor(browser), at=at)
    return _to(key)


async def _values(session: AsyncSession, key: str) -> dict[str, Any]:
    row = await north_star.get(session, key=key)
    spec = north_star.spec_of(row)
    names = {name: known.spec.name for name, known in (await metric.all_known(session, archived=True)).items()}
    result = await overview.latest_result(session, kind=links_plan.KIND, subject_key=key)
    history = await overview.analyses_of(session, kind=links_plan.KIND, subject_key=key, limit=HISTORY)
    return {
        "key": key,
        "north_star": spec,
        "version": row.version,
        "choices": [
            (star.key, north_star.spec_of(star).name) for star in reversed((await north_star.page(session)).items)
        ],
        "view": None if result is None else stored_links_view(result.body, frozenset(names.items())),
        "missing": None if result is not None else await _missing(session, key),
        "history": [analysis for analysis, _ in history],
        "active": next((analysis for analysis, _ in history if analysis.state in overview.ACTIVE), None),
        "path": "/programme/links",  # where the navigation stands
        "problem": None,
    }


async def _missing(session: AsyncSession, key: str) -> NotReady | None:
    """Why nothing can be learned yet; None where it can be."""
    try:
        await links_plan.learnable(session, north_star_key=key)
    except NotReady as error:
        return error
    return None


def _to(key: str) -> Response:
    return RedirectResponse(f"/links/{key}", status_code=303, headers=SECURITY_HEADERS)
