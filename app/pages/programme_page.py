"""The programme of a metric: what all experiments on it did together, claimed and believed."""

from datetime import datetime
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser, Submitted, actor
from app.pages.headers import SECURITY_HEADERS
from app.pages.programme_view import stored_programme_view
from app.pages.rendering import render
from app.pages.route import pages
from app.pages.submission import ring
from experiments import analysis_request, metric, north_star, overview, programme_plan
from experiments.errors import DomainError, NotFound, NotReady
from experiments.tables import NorthStar

HISTORY = 10

router = pages()


@router.get("/programme")
async def default_programme_page(request: Request, browser: Browser, database: DatabaseDep, at: Now) -> Response:
    """The programme of the first North Star's metric; of any metric that has one where there is no North Star."""
    async with database.read() as session:
        chosen = next(iter(await _choices(session)), None)
        values = await _values(session, chosen, at) if chosen is not None else None
    if values is None:
        return render(request, "programme_empty.html")
    return render(request, "programme.html", **values)


@router.get("/programme/{key}")
async def programme_page(key: str, request: Request, browser: Browser, database: DatabaseDep, at: Now) -> Response:
    async with database.read() as session:
        values = await _values(session, key, at)
    return render(request, "programme.html", **values)


@router.get("/programme/{key}/progress")
async def computing_fragment(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    """Whether it is still being computed; when it is not, the page is loaded again with what was."""
    async with database.read() as session:
        active = await overview.active_analysis(session, kind=programme_plan.KIND, subject_key=key)
    headers = {} if active else {"HX-Refresh": "true"}
    return render(request, "_progress.html", headers=headers, address=f"/programme/{key}", active=active)


@router.post("/programme/{key}/analyses")
async def compute_programme(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    """`winners_only` says that a history was imported without its losers."""
    try:
        async with database.write() as session:
            row, waiting = await analysis_request.of_programme(
                session,
                metric_key=key,
                winners_only=form.get("winners_only") == "on",
                actor=actor(browser),
                at=at,
                max_attempts=settings.max_attempts,
            )
    except NotFound:
        raise
    except DomainError as error:
        async with database.read() as session:
            values = await _values(session, key, at)
        return render(request, "programme.html", status=error.status, **values | {"problem": error})
    if waiting:
        ring(request, row)
    return _to(key)


@router.post("/programme/{key}/cancel")
async def cancel_computing(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    async with database.write() as session:
        await metric.get(session, key=key)
        active = await overview.active_analysis(session, kind=programme_plan.KIND, subject_key=key)
        if active is not None:
            await analysis_request.cancel(session, analysis_id=active.id, actor=actor(browser), at=at)
    return _to(key)


async def _values(session: AsyncSession, key: str, at: datetime) -> dict[str, Any]:
    known = await metric.all_known(session, archived=True)
    if key not in known:
        raise NotFound(f"There is no metric `{key}`", remedy="The list of metrics has all of them.")
    result = await overview.latest_result(session, kind=programme_plan.KIND, subject_key=key)
    history = await overview.analyses_of(session, kind=programme_plan.KIND, subject_key=key, limit=HISTORY)
    choices = await _choices(session)
    return {
        "key": key,
        "metric": known[key].spec,
        "choices": [(each, known[each].spec.name) for each in dict.fromkeys([*choices, key]) if each in known],
        "view": None if result is None else stored_programme_view(result.body),
        "missing": None if result is not None else await _missing(session, key, at),
        "history": [analysis for analysis, _ in history],
        "active": next((analysis for analysis, _ in history if analysis.state in overview.ACTIVE), None),
        "stars": [(star.key, north_star.spec_of(star).name) for star in await _stars(session)],
        "problem": None,
    }


async def _missing(session: AsyncSession, key: str, at: datetime) -> NotReady | None:
    """Why it cannot be computed yet; None where it can be."""
    try:
        await programme_plan.computable(session, metric_key=key, at=at)
    except NotReady as error:
        return error
    return None


async def _stars(session: AsyncSession) -> list[NorthStar]:
    """In the order in which they were registered."""
    return list(reversed((await north_star.page(session)).items))


async def _choices(session: AsyncSession) -> list[str]:
    """Metrics of North Stars first, then all others that have a programme."""
    steered = [north_star.spec_of(star).metric_key for star in await _stars(session)]
    others = await overview.subjects_with_results(session, kind=programme_plan.KIND)
    return list(dict.fromkeys([*steered, *sorted(others)]))


def _to(key: str) -> Response:
    return RedirectResponse(f"/programme/{key}", status_code=303, headers=SECURITY_HEADERS)
