"""Holdouts: who is kept from launches, since when, and what everything that shipped really did."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.deps import DatabaseDep, Now
from app.pages.access import Browser, Submitted, actor
from app.pages.headers import SECURITY_HEADERS
from app.pages.holdout_form import HoldoutForm
from app.pages.programme_view import HoldoutLine, holdout_line
from app.pages.rendering import render
from app.pages.route import pages
from experiments import holdout, metric, overview, programme_plan
from experiments.definitions import HoldoutSpec
from experiments.errors import DomainError, NotFound
from experiments.result import ProgrammeResult
from experiments.tables import Holdout
from experiments.validation import parse

PLACE = "/programme/holdouts"
"""Where the navigation stands."""

router = pages()


@dataclass(frozen=True, slots=True)
class HoldoutInList:
    """A holdout and what the newest programme of its metric says of it, if that has it."""

    key: str
    spec: HoldoutSpec
    metric_name: str
    line: HoldoutLine | None


@router.get("/holdouts")
async def holdout_list(request: Request, browser: Browser, database: DatabaseDep, at: Now) -> Response:
    async with database.read() as session:
        rows = [row for row, _ in await holdout.all_on(session, metric_key=None)]
        specs = {row.key: holdout.spec_of(row) for row in reversed(rows)}
        said = await _said(session, {spec.metric_key for spec in specs.values()})
        known = await metric.all_known(session, archived=True)
    found = [
        HoldoutInList(
            key, spec, known[spec.metric_key].spec.name if spec.metric_key in known else spec.metric_key, said.get(key)
        )
        for key, spec in specs.items()
    ]
    return render(request, "holdouts.html", found=found, now=at, path=PLACE)


@router.get("/holdouts/new")
async def new_holdout_page(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    browser.principal.require("write")
    return await _form(request, database, HoldoutForm(), None, None)


@router.post("/holdouts/new")
async def register_holdout(
    request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    typed = HoldoutForm.read(form)
    document = typed.document()
    try:
        spec = parse(HoldoutSpec, document)
        if typed.faults:
            return await _form(request, database, typed, None, None)
        async with database.write() as session:
            row = await holdout.create(session, spec=spec, actor=actor(browser), at=at)
    except DomainError as error:
        return await _form(request, database, typed, None, error)
    return _to(row.key)


@router.get("/holdouts/{key}")
async def holdout_page(key: str, request: Request, browser: Browser, database: DatabaseDep, at: Now) -> Response:
    async with database.read() as session:
        values = await _values(session, await holdout.get(session, key=key))
    return render(request, "holdout.html", **values, now=at)


@router.get("/holdouts/{key}/edit")
async def edit_holdout_page(key: str, request: Request, browser: Browser, database: DatabaseDep) -> Response:
    browser.principal.require("write")
    async with database.read() as session:
        row = await holdout.get(session, key=key)
    return await _form(request, database, HoldoutForm.of(holdout.spec_of(row), row.version), key, None)


@router.post("/holdouts/{key}/edit")
async def correct_holdout(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    """The whole definition is written again, unless somebody else has written since the form was read."""
    typed = HoldoutForm.read(form)
    typed.fields["key"] = key
    document = typed.document()
    try:
        async with database.write() as session:
            row = await holdout.get(session, key=key, lock=True)
            typed.fields["experiment_key"] = document["experiment_key"] = holdout.spec_of(row).experiment_key
            spec = parse(HoldoutSpec, document)
            if typed.faults:
                return await _form(request, database, typed, key, None)
            await holdout.update(session, holdout=row, spec=spec, expected=typed.expected, actor=actor(browser), at=at)
    except NotFound:
        raise
    except DomainError as error:
        return await _form(request, database, typed, key, error)
    return _to(key)


@router.post("/holdouts/{key}/release")
async def release_holdout(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    """Its people get everything from now on; the holdout that somebody else has changed meanwhile stays."""
    expected = str(form.get("version", ""))
    try:
        async with database.write() as session:
            row = await holdout.get(session, key=key, lock=True)
            spec = parse(HoldoutSpec, holdout.spec_of(row).model_dump(mode="json") | {"released_at": at.isoformat()})
            await holdout.update(
                session,
                holdout=row,
                spec=spec,
                expected=int(expected) if expected.isascii() and expected.isdigit() else None,
                actor=actor(browser),
                at=at,
            )
    except NotFound:
        raise
    except DomainError as error:
        async with database.read() as session:
            values = await _values(session, await holdout.get(session, key=key))
        return render(request, "holdout.html", status=error.status, **values | {"problem": error}, now=at)
    return _to(key)


async def _values(session: AsyncSession, row: Holdout) -> dict[str, Any]:
    spec = holdout.spec_of(row)
    known = await metric.all_known(session, archived=True)
    result = await overview.latest_result(session, kind=programme_plan.KIND, subject_key=spec.metric_key)
    document = None if result is None else ProgrammeResult.model_validate_json(result.body)
    held = [] if document is None else [each for each in document.holdouts if each.holdout_key == row.key]
    return {
        "holdout": row,
        "spec": spec,
        "metric_name": known[spec.metric_key].spec.name if spec.metric_key in known else spec.metric_key,
        "document": document,
        "line": holdout_line(held[0]) if held else None,
        "path": PLACE,
        "problem": None,
    }


async def _said(session: AsyncSession, metric_keys: Collection[str]) -> dict[str, HoldoutLine]:
    """By holdout, what the newest programme of its metric says of it."""
    found: dict[str, HoldoutLine] = {}
    for key in sorted(metric_keys):
        result = await overview.latest_result(session, kind=programme_plan.KIND, subject_key=key)
        if result is not None:
            document = ProgrammeResult.model_validate_json(result.body)
            found |= {each.holdout_key: holdout_line(each) for each in document.holdouts}
    return found


async def _form(
    request: Request, database: DatabaseDep, typed: HoldoutForm, key: str | None, problem: DomainError | None
) -> Response:
    """The form as typed; faults stand beside their fields. `key`: the holdout that is being corrected."""
    if problem is not None:
        known = {fault.pointer for fault in typed.faults}
        typed.faults += [fault for fault in problem.errors if fault.pointer not in known]
    async with database.read() as session:
        experiments = await holdout.that_may_measure(session)
        metrics = sorted((name, each.spec.name) for name, each in (await metric.all_known(session)).items())
    status = problem.status if problem else 422 if typed.faults else 200
    return render(
        request,
        "holdout_form.html",
        status=status,
        form=typed,
        key=key,
        problem=problem,
        experiments=experiments,
        metrics=metrics,
        path=PLACE,
    )


def _to(key: str) -> Response:
    return RedirectResponse(f"/holdouts/{key}", status_code=303, headers=SECURITY_HEADERS)
