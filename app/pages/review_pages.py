"""Growth reviews: what moved a North Star in a period, and what to do next."""

from contextlib import suppress
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser, Submitted, actor
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.reports import stored
from app.pages.review_form import ReviewForm
from app.pages.review_view import stored_review_view
from app.pages.route import pages
from app.pages.submission import ring
from experiments import (
    analysis_request,
    growth_review,
    north_star,
    overview,
    review_overview,
    review_plan,
)
from experiments.definitions import ReviewSpec
from experiments.errors import DomainError, NotFound, NotReady
from experiments.ledger_lines import KIND
from experiments.tables import GrowthReview
from experiments.validation import parse

HISTORY = 10
MOST_REVIEWS = 60
MOST_STARS = 200

router = pages()


@router.get("/reviews")
async def review_list(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        found = await review_overview.glances(session, limit=MOST_REVIEWS)
        stars = await _stars(session)
    return render(request, "reviews.html", reviews=found, stars=stars)


@router.get("/reviews/new")
async def new_review_page(
    request: Request, browser: Browser, database: DatabaseDep, at: Now, north_star: str = ""
) -> Response:
    browser.principal.require("write")
    async with database.read() as session:
        stars = await _stars(session)
        taken = [each.review.key for each in await review_overview.glances(session, limit=MOST_REVIEWS)]
    chosen = north_star if north_star in stars else next(iter(stars), "")
    typed = ReviewForm.proposed(at.date(), north_star_key=chosen, taken=taken)
    return render(request, "review_form.html", form=typed, key=None, problem=None, stars=stars)


@router.post("/reviews/new")
async def create_review(
    request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    """Registered, and asked for at once where there are weeks to make it of."""
    typed = ReviewForm.read(form)
    try:
        spec = parse(ReviewSpec, dict(typed.fields))
        async with database.write() as session:
            await growth_review.create(session, spec=spec, actor=actor(browser), at=at)
    except DomainError as error:
        return await _form(request, database, typed, None, error)
    with suppress(NotReady):  # its page says what is missing
        await _ask(request, browser, database, settings, spec.key, at)
    return _to(spec.key)


@router.get("/reviews/{key}")
async def review_page(key: str, request: Request, browser: Browser, database: DatabaseDep, at: Now) -> Response:
    async with database.read() as session:
        values = await _values(session, key, at)
    return render(request, "review.html", **values)


@router.get("/reviews/{key}/report")
async def review_report(
    key: str, request: Request, browser: Browser, database: DatabaseDep, format: stored.Format = "html"
) -> Response:
    """The file to mail."""
    async with database.read() as session:
        report = await stored.report_of(session, key=key)
    return await stored.answer(report, key=key, format=format)


@router.get("/reviews/{key}/progress")
async def making_fragment(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    """Whether it is still being made; when it is not, the page is loaded again with what was found."""
    async with database.read() as session:
        await growth_review.get(session, key=key)
        active = await overview.active_analysis(session, kind=KIND, subject_key=key)
    headers = {} if active else {"HX-Refresh": "true"}
    return render(request, "_progress.html", headers=headers, address=f"/reviews/{key}", active=active)


@router.post("/reviews/{key}/analyses")
async def make_review(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    try:
        await _ask(request, browser, database, settings, key, at)
    except NotFound:
        raise
    except DomainError as error:
        async with database.read() as session:
            values = await _values(session, key, at)
        return render(request, "review.html", status=error.status, **values | {"problem": error})
    return _to(key)


@router.post("/reviews/{key}/cancel")
async def cancel_review(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    async with database.write() as session:
        await growth_review.get(session, key=key)
        active = await overview.active_analysis(session, kind=KIND, subject_key=key)
        if active is not None:
            await analysis_request.cancel(session, analysis_id=active.id, actor=actor(browser), at=at)
    return _to(key)


@router.get("/reviews/{key}/edit")
async def edit_review_page(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    browser.principal.require("write")
    async with database.read() as session:
        row = await growth_review.get(session, key=key)
    return await _form(request, database, ReviewForm.of(growth_review.spec_of(row), row.version), key, None)


@router.post("/reviews/{key}/edit")
async def update_review(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    """The whole definition is written again, unless somebody else has written since the form was read."""
    typed = ReviewForm.read(form)
    try:
        async with database.write() as session:
            row = await growth_review.get(session, key=key, lock=True)
            stays = {name: row.spec[name] for name in growth_review.FIXED}
            typed.fields |= stays
            spec = parse(ReviewSpec, dict(typed.fields))
            await growth_review.update(
                session, review=row, spec=spec, expected=typed.expected, actor=actor(browser), at=at
            )
    except NotFound:
        raise
    except DomainError as error:
        return await _form(request, database, typed, key, error)
    return _to(key)


async def _ask(
    request: Request, browser: Browser, database: DatabaseDep, settings: SettingsDep, key: str, at: Now
) -> None:
    """Submit an analysis, unless one is under way: that one has everything that matters. Raises `NotReady`."""
    async with database.write() as session:
        row = await growth_review.get(session, key=key)
        if await overview.active_analysis(session, kind=KIND, subject_key=key) is not None:
            return
        submitted, waiting = await analysis_request.of_growth_review(
            session, review=row, actor=actor(browser), at=at, max_attempts=settings.max_attempts
        )
    if waiting:
        ring(request, submitted)


async def _form(
    request: Request, database: DatabaseDep, typed: ReviewForm, key: str | None, problem: DomainError | None
) -> Response:
    """The form as typed; faults stand beside their fields. `key`: the review that is being edited."""
    if problem is not None:
        typed.faults = list(problem.errors)
    async with database.read() as session:
        stars = await _stars(session)
    status = problem.status if problem else 200
    return render(request, "review_form.html", status=status, form=typed, key=key, problem=problem, stars=stars)


async def _values(session: AsyncSession, key: str, at: Now) -> dict[str, Any]:
    row = await growth_review.get(session, key=key)
    spec = growth_review.spec_of(row)
    result = await overview.latest_result(session, kind=KIND, subject_key=key)
    history = await overview.analyses_of(session, kind=KIND, subject_key=key, limit=HISTORY)
    stars = await _stars(session)
    names = await review_overview.names(session)
    name = stars.get(spec.north_star_key, spec.north_star_key)
    return {
        "review": row,
        "spec": spec,
        "star_name": name,
        "names": names,
        "view": stored_review_view(str(result.id), result.body, name, tuple(sorted(names.items()))) if result else None,
        "history": history,
        "active": next((analysis for analysis, _ in history if analysis.state in overview.ACTIVE), None),
        "missing": await _missing(session, row, at) if result is None else None,
        "problem": None,
    }


async def _stars(session: AsyncSession) -> dict[str, str]:
    """What North Stars are called, in the order in which they were registered."""
    rows = (await north_star.page(session, limit=MOST_STARS)).items
    return {row.key: north_star.spec_of(row).name for row in reversed(rows)}


async def _missing(session: AsyncSession, row: GrowthReview, at: Now) -> NotReady | None:
    """Why it cannot be made yet; None where it can be."""
    try:
        await review_plan.review_plan(session, row, at=at)
    except NotReady as error:
        return error
    return None


def _to(key: str) -> Response:
    return RedirectResponse(f"/reviews/{key}", status_code=303, headers=SECURITY_HEADERS)
