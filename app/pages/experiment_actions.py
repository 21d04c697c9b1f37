"""What people do on an experiment's page: move it through its life, analyse it, cancel, decide."""

from typing import Any, Final

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser, Submitted, actor
from app.pages.experiment_page import page_values
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.route import pages
from app.pages.submission import ring
from experiments import analysis_request, decision, experiment, lifecycle, overview
from experiments.definitions import DecisionSpec
from experiments.errors import DomainError, FieldError, InvalidDefinition, NotFound
from experiments.validation import parse

router = pages()

_MOVES: Final[dict[str, Any]] = {
    "start": lifecycle.start,
    "pause": lifecycle.pause,
    "resume": lifecycle.resume,
    "stop": lifecycle.stop,
    "archive": lifecycle.archive,
}


@router.post("/experiments/{key}/moves/{move}")
async def move_experiment(
    key: str, move: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    if move not in _MOVES:
        raise NotFound(f"There is no move `{move}`", remedy=f"Moves are {', '.join(_MOVES)}.")
    try:
        async with database.write() as session:
            row = await experiment.get(session, key=key)
            await _MOVES[move](session, experiment=row, actor=actor(browser), at=at)
    except NotFound:
        raise
    except DomainError as error:
        return await _again(request, database, key, at, error)
    return _to(key)


@router.post("/experiments/{key}/analyses")
async def analyse_now(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    try:
        async with database.write() as session:
            row = await experiment.get(session, key=key)
            active = await overview.active_analysis(session, kind="experiment", subject_key=key)
            if active is not None:  # one is enough: this one will have the newest data that matters
                return _to(key)
            submitted, waiting = await analysis_request.of_experiment(
                session, experiment=row, actor=actor(browser), at=at, max_attempts=settings.max_attempts
            )
    except NotFound:
        raise
    except DomainError as error:
        return await _again(request, database, key, at, error)
    if waiting:
        ring(request, submitted)
    return _to(key)


@router.post("/experiments/{key}/cancel")
async def cancel_analysis(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    """Cancel whatever is under way; nothing under way is what the reader wanted too."""
    async with database.write() as session:
        row = await experiment.get(session, key=key)
        active = await overview.active_analysis(session, kind="experiment", subject_key=row.key)
        if active is not None:
            await analysis_request.cancel(session, analysis_id=active.id, actor=actor(browser), at=at)
    return _to(key)


@router.post("/experiments/{key}/decisions")
async def decide(
    key: str, request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    given = {name: str(value) for name, value in form.items()}
    document = {
        "outcome": given.get("outcome", ""),
        "reason": given.get("reason", "").strip(),
        "learnings": given.get("learnings", "").strip(),
        "override_reason": given.get("override_reason", "").strip() or None,
        "shipped_variant": given.get("shipped_variant") or None if given.get("outcome") == "ship" else None,
    }
    try:
        coverage = _coverage(given.get("coverage", "100"))
        spec = parse(DecisionSpec, document)
        async with database.write() as session:
            row = await experiment.get(session, key=key)
            await decision.decide(session, experiment=row, spec=spec, actor=actor(browser), at=at, coverage=coverage)
    except NotFound:
        raise
    except DomainError as error:
        return await _again(request, database, key, at, error, given)
    return _to(key, "#decisions")


def _coverage(text: str) -> float:
    """A percentage above 0 and at most 100, as a share."""
    try:
        value = float(text.replace("%", "").replace(",", ".").strip() or 100) / 100
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise InvalidDefinition(
            "Coverage is a percentage above 0 and at most 100",
            remedy="Give the share of all units that get the change first.",
            errors=[FieldError("/coverage", "is a percentage above 0 and at most 100")],
        )
    return value


async def _again(
    request: Request,
    database: DatabaseDep,
    key: str,
    at: Now,
    problem: DomainError,
    given: dict[str, str] | None = None,
) -> Response:
    """The page once more, with what went wrong and what was typed."""
    async with database.read() as session:
        row = await experiment.get(session, key=key)
        values = await page_values(session, row)
    values |= {"problem": problem, "given": given or {}}
    return render(request, "experiment.html", status=problem.status, **values, now=at)


def _to(key: str, fragment: str = "") -> Response:
    return RedirectResponse(f"/experiments/{key}{fragment}", status_code=303, headers=SECURITY_HEADERS)
