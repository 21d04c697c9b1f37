"""Registering an experiment, with the sample it needs computed from what the metrics did so far."""

from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now
from app.pages.access import Browser, Submitted, actor
from app.pages.experiment_form import ExperimentForm
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.route import pages
from app.pages.sizing_view import sizing
from experiments import experiment, fact_source, metric, north_star
from experiments.definitions import ExperimentSpec
from experiments.errors import DomainError
from experiments.validation import parse

router = pages()


@router.get("/experiments/new")
async def new_experiment_page(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    browser.principal.require("write")
    async with database.read() as session:
        return render(
            request, "new_experiment.html", **await _choices(session), form=ExperimentForm.blank(), problem=None
        )


@router.post("/experiments/new")
async def create_experiment(
    request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    typed = ExperimentForm.read(form)
    if form.get("add"):
        typed.add(str(form["add"]))
        return await _again(request, database, typed, None)
    document = typed.document()
    try:
        spec = parse(ExperimentSpec, document)
        if typed.faults:
            return await _again(request, database, typed, None)
        async with database.write() as session:
            row = await experiment.create(session, spec=spec, actor=actor(browser), at=at)
    except DomainError as error:
        known = {fault.pointer for fault in typed.faults}
        typed.faults += [fault for fault in error.errors if fault.pointer not in known]
        return await _again(request, database, typed, error)
    return RedirectResponse(f"/experiments/{row.key}", status_code=303, headers=SECURITY_HEADERS)


@router.post("/experiments/new/sample-size")
async def sample_size_fragment(request: Request, browser: Browser, form: Submitted, database: DatabaseDep) -> Response:
    """How many units and days the typed experiment needs; what is missing for an answer when it cannot be given."""
    typed = ExperimentForm.read(form)
    document = typed.document()
    async with database.read() as session:
        answer = await sizing(session, typed, document)
    if not request.headers.get("hx-request"):
        typed.faults.clear()
        return await _again(request, database, typed, None, {"sizing": answer})
    return render(request, "_sample_size.html", sizing=answer)


async def _choices(session: AsyncSession) -> dict[str, Any]:
    known = await metric.all_known(session)
    stars = await north_star.page(session, limit=100)
    sources = await fact_source.page(session, limit=200)
    return {
        "metric_choices": [(key, item.spec.name) for key, item in sorted(known.items())],
        "star_choices": [(star.key, north_star.spec_of(star).name) for star in stars.items],
        "source_choices": [(source.key, source.key) for source in sources.items],
    }


async def _again(
    request: Request,
    database: DatabaseDep,
    typed: ExperimentForm,
    problem: DomainError | None,
    more: dict[str, Any] | None = None,
) -> Response:
    async with database.read() as session:
        choices = await _choices(session)
    status = problem.status if problem else 422 if typed.faults else 200
    return render(request, "new_experiment.html", status=status, **choices, form=typed, problem=problem, **(more or {}))
