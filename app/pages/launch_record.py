"""Recording a launch, and correcting the record."""

from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now
from app.pages.access import Browser, Submitted, actor
from app.pages.headers import SECURITY_HEADERS
from app.pages.launch_form import LaunchForm
from app.pages.rendering import render
from app.pages.route import pages
from experiments import launch, series
from experiments.definitions import LaunchSpec
from experiments.errors import DomainError, NotFound
from experiments.validation import parse

MOST_CHOICES = 200

router = pages()


@router.get("/launches/new")
async def new_launch_page(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    browser.principal.require("write")
    return await _form(request, database, LaunchForm.blank(), None, None)


@router.post("/launches/new")
async def record_launch(
    request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    typed = LaunchForm.read(form)
    if typed.rearrange(form):
        return await _form(request, database, typed, None, None)
    document = typed.document()
    try:
        spec = parse(LaunchSpec, document)
        if typed.faults:
            return await _form(request, database, typed, None, None)
        async with database.write() as session:
            row = await launch.create(session, spec=spec, actor=actor(browser), at=at)
    except DomainError as error:
        return await _form(request, database, typed, None, error)
    return RedirectResponse(f"/launches/{row.key}", status_code=303, headers=SECURITY_HEADERS)


@router.get("/launches/{key}/edit")
async def edit_launch_page(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    browser.principal.require("write")
    async with database.read() as session:
        row = await launch.get(session, key=key)
    return await _form(request, database, LaunchForm.of(launch.spec_of(row), row.version), key, None)


@router.post("/launches/{key}/edit")
async def correct_launch(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    """The whole definition is written again, unless somebody else has written since the form was read."""
    typed = LaunchForm.read(form)
    typed.fields["key"] = key
    if typed.rearrange(form):
        return await _form(request, database, typed, key, None)
    document = typed.document()
    try:
        spec = parse(LaunchSpec, document)
        if typed.faults:
            return await _form(request, database, typed, key, None)
        async with database.write() as session:
            row = await launch.get(session, key=key, lock=True)
            await launch.update(session, launch=row, spec=spec, expected=typed.expected, actor=actor(browser), at=at)
    except NotFound:
        raise
    except DomainError as error:
        return await _form(request, database, typed, key, error)
    return RedirectResponse(f"/launches/{key}", status_code=303, headers=SECURITY_HEADERS)


async def _form(
    request: Request, database: DatabaseDep, typed: LaunchForm, key: str | None, problem: DomainError | None
) -> Response:
    """The form as typed; faults stand beside their fields. `key`: the launch that is being corrected."""
    if problem is not None:
        known = {fault.pointer for fault in typed.faults}
        typed.faults += [fault for fault in problem.errors if fault.pointer not in known]
    async with database.read() as session:
        choices = await _choices(session)
    status = problem.status if problem else 422 if typed.faults else 200
    return render(request, "launch_form.html", status=status, form=typed, key=key, problem=problem, **choices)


async def _choices(session: AsyncSession) -> dict[str, Any]:
    found = [series.spec_of(row) for row in (await series.page(session, limit=MOST_CHOICES)).items]
    found.sort(key=lambda spec: spec.name.lower())
    return {
        "outcomes": [(spec.key, spec.name) for spec in found if spec.role == "outcome"],
        "regressors": [spec.key for spec in found if spec.role == "regressor"],
    }
