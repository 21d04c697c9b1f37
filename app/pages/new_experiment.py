"""Registering an experiment, with the sample it needs computed from what the metrics did so far."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now
from app.pages.access import Browser, Submitted, actor
from app.pages.experiment_form import ExperimentForm
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.route import pages
from app.pages.sizing_view import sizing
from experiments import decision, experiment, fact_source, metric, north_star
from experiments.definitions import ExperimentSpec
from experiments.errors import DomainError, NotFound
from experiments.follow_up import Relation, follow_up, with_unseen_options
from experiments.tables import Experiment
from experiments.validation import parse

router = pages()


@router.get("/experiments/new")
async def new_experiment_page(
    request: Request,
    browser: Browser,
    database: DatabaseDep,
    parent_key: Annotated[str, Query(alias="from", max_length=63)] = "",
    relation: Relation = "iterates",
) -> Response:
    """Blank, or filled from the experiment that the new one comes from."""
    browser.principal.require("write")
    async with database.read() as session:
        choices = await _choices(session)
        form = ExperimentForm.blank()
        if parent_key:
            parent = await experiment.get(session, key=parent_key)
            form = ExperimentForm.of(await follow_up(session, parent=parent, relation=relation))
            _leave_out_archived(form, {key for key, _ in choices["metric_choices"]})
        origin = await _origin(session, form)
    return render(request, "new_experiment.html", **choices, form=form, origin=origin, problem=None)


@router.post("/experiments/new")
async def create_experiment(
    request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    typed = ExperimentForm.read(form)
    if form.get("add"):
        typed.add(str(form["add"]))
        return await _again(request, database, typed, None)
    try:
        document = await _whole_document(database, typed)
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


@dataclass(frozen=True, slots=True)
class Origin:
    """The experiment that the new one comes from, and what was learned from it."""

    experiment: Experiment
    learned: str


async def _origin(session: AsyncSession, form: ExperimentForm) -> Origin | None:
    """What the form says that it comes from; none for a key that does not exist (registering refuses it)."""
    key = form.fields.get("parent_key")
    if not key:
        return None
    try:
        parent = await experiment.get(session, key=key)
    except NotFound:
        return None
    made = await decision.of(session, experiment=parent)
    return Origin(parent, next((item.learnings for item, _ in made if item.learnings), ""))


async def _whole_document(database: DatabaseDep, typed: ExperimentForm) -> dict[str, Any]:
    """What was typed, and of a follow-up also what the parent says beyond the form's fields."""
    document = typed.document()
    async with database.read() as session:
        origin = await _origin(session, typed)
    return document if origin is None else with_unseen_options(document, experiment.spec_of(origin.experiment))


def _leave_out_archived(form: ExperimentForm, known: set[str]) -> None:
    """Metrics that are archived since cannot be chosen: the form says which ones the parent had."""
    gone = [row["metric_key"] for row in form.metrics if row["metric_key"] and row["metric_key"] not in known]
    form.metrics = [row for row in form.metrics if row["metric_key"] not in gone]
    if gone:
        form.fault("/metrics", f"no longer defined, so left out: {', '.join(gone)}")


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
        origin = await _origin(session, typed)
    status = problem.status if problem else 422 if typed.faults else 200
    return render(
        request,
        "new_experiment.html",
        status=status,
        **choices,
        form=typed,
        origin=origin,
        problem=problem,
        **(more or {}),
    )
