"""Launches: what shipped, what it did, and how much to believe that."""

from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser, Submitted, actor
from app.pages.headers import SECURITY_HEADERS
from app.pages.launch_view import stored_launch_view
from app.pages.rendering import render
from app.pages.rollout_words import reach
from app.pages.route import pages
from app.pages.submission import ring
from experiments import analysis_request, launch, launch_overview, overview
from experiments.errors import DomainError, NotFound, NotReady
from experiments.launch_effects import KIND
from experiments.launch_plan import launch_plan
from experiments.tables import Launch

HISTORY = 10

router = pages()


@router.get("/launches")
async def launch_list(request: Request, browser: Browser, database: DatabaseDep, at: Now) -> Response:
    async with database.read() as session:
        found = await launch_overview.glances(session)
        names = await launch_overview.series_names(session)
    lines = [(glance, reach(glance.spec, at)) for glance in found]
    return render(request, "launches.html", launches=lines, series_names=names, now=at)


@router.get("/launches/{key}")
async def launch_page(
    key: str, request: Request, browser: Browser, database: DatabaseDep, at: Now, series: str = ""
) -> Response:
    async with database.read() as session:
        row = await launch.get(session, key=key)
        values = await _values(session, row, series)
    return render(request, "launch.html", **values, now=at, reach=reach(values["spec"], at))


@router.get("/launches/{key}/progress")
async def measuring_fragment(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    """Whether it is still being measured; when it is not, the page is loaded again with what was found."""
    async with database.read() as session:
        row = await launch.get(session, key=key)
        active = await overview.active_analysis(session, kind=KIND, subject_key=key)
    headers = {} if active else {"HX-Refresh": "true"}
    return render(request, "_progress.html", headers=headers, address=f"/launches/{row.key}", active=active)


@router.post("/launches/{key}/analyses")
async def measure_now(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    try:
        async with database.write() as session:
            row = await launch.get(session, key=key)
            if await overview.active_analysis(session, kind=KIND, subject_key=key) is not None:
                return _to(key)  # one is enough: this one has the newest values that matter
            submitted, waiting = await analysis_request.of_launch(
                session, launch=row, actor=actor(browser), at=at, max_attempts=settings.max_attempts
            )
    except NotFound:
        raise
    except DomainError as error:
        async with database.read() as session:
            row = await launch.get(session, key=key)
            values = await _values(session, row, "")
        shown = values | {"problem": error, "now": at, "reach": reach(values["spec"], at)}
        return render(request, "launch.html", status=error.status, **shown)
    if waiting:
        ring(request, submitted)
    return _to(key)


@router.post("/launches/{key}/cancel")
async def cancel_measuring(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    async with database.write() as session:
        await launch.get(session, key=key)
        active = await overview.active_analysis(session, kind=KIND, subject_key=key)
        if active is not None:
            await analysis_request.cancel(session, analysis_id=active.id, actor=actor(browser), at=at)
    return _to(key)


async def _values(session: AsyncSession, row: Launch, series_key: str) -> dict[str, Any]:
    spec = launch.spec_of(row)
    result = await overview.latest_result(session, kind=KIND, subject_key=row.key)
    measured_on = {item.series_key for item in spec.measurements}
    averages = await launch_overview.averages(session, series_keys=measured_on)
    chosen = series_key if series_key in measured_on else ""
    history = await overview.analyses_of(session, kind=KIND, subject_key=row.key, limit=HISTORY)
    return {
        "launch": row,
        "spec": spec,
        "view": stored_launch_view(str(result.id), result.body, spec.model_dump_json(), chosen, averages)
        if result
        else None,
        "history": history,
        "active": next((analysis for analysis, _ in history if analysis.state in overview.ACTIVE), None),
        "missing": await _missing(session, row),
        "usual": None if spec.measurements else await launch_overview.usual_effect(session),
        "problem": None,
    }


async def _missing(session: AsyncSession, row: Launch) -> NotReady | None:
    """Why it cannot be measured yet; None where it can be."""
    try:
        await launch_plan(session, row)
    except NotReady as error:
        return error
    return None


def _to(key: str) -> Response:
    return RedirectResponse(f"/launches/{key}", status_code=303, headers=SECURITY_HEADERS)
