"""Registering an experiment, with the sample it needs computed from what the metrics did so far."""

from typing import Any, Literal

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now
from app.pages.access import Browser, Submitted, actor
from app.pages.experiment_form import ExperimentForm
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.route import pages
from experiments import experiment, metric, north_star, overview
from experiments.definitions import ExperimentSpec, PlanMetric, Variant
from experiments.errors import DomainError
from experiments.planning import SampleSize, sample_size
from experiments.result import BaselineResult
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
        stored = await overview.latest_result(session, kind="baseline", subject_key=typed.fields["unit_type"])
        names = {key: item.spec.name for key, item in (await metric.all_known(session)).items()}
    baselines = BaselineResult.model_validate_json(stored.body) if stored else None
    answer, missing = _answer(typed, document, baselines)
    sizing: dict[str, Any] = {
        "answer": answer,
        "missing": missing,
        "baselines": baselines,
        "unit_type": typed.fields["unit_type"],
        "metric_names": names,
    }
    if not request.headers.get("hx-request"):
        typed.faults.clear()
        return await _again(request, database, typed, None, sizing)
    return render(request, "_sample_size.html", **sizing)


def _answer(
    typed: ExperimentForm, document: dict[str, Any], baselines: BaselineResult | None
) -> tuple[SampleSize | None, str]:
    if baselines is None:
        return None, "no_history"
    try:
        variants = [Variant.model_validate(variant) for variant in document["variants"]]
        metrics = [PlanMetric.model_validate(item) for item in document["metrics"]]
    except ValidationError:
        return None, "form"
    if typed.faults or sum(variant.is_control for variant in variants) != 1 or len(variants) < 2:
        return None, "form"
    if not any(item.role == "primary" and item.mde for item in metrics):
        return None, "mde"
    coverage = document.get("coverage") or 1.0
    if not 0 < coverage <= 1:
        return None, "form"
    monitoring: Literal["always_valid"] = "always_valid"
    return sample_size(
        variants=variants, metrics=metrics, baselines=baselines, coverage=coverage, monitoring=monitoring
    ), ""


async def _choices(session: AsyncSession) -> dict[str, Any]:
    known = await metric.all_known(session)
    stars = await north_star.page(session, limit=100)
    return {
        "metric_choices": [(key, item.spec.name) for key, item in sorted(known.items())],
        "star_choices": [(star.key, north_star.spec_of(star).name) for star in stars.items],
    }


async def _again(
    request: Request,
    database: DatabaseDep,
    typed: ExperimentForm,
    problem: DomainError | None,
    sizing: dict[str, Any] | None = None,
) -> Response:
    async with database.read() as session:
        choices = await _choices(session)
    status = problem.status if problem else 422 if typed.faults else 200
    return render(
        request, "new_experiment.html", status=status, **choices, form=typed, problem=problem, **(sizing or {})
    )
