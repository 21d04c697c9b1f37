"""Where facts come from, what is in the store, which rows it did not take, and whose rows are deleted on request."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.api.erasures import ErasureIn, ask
from app.pages.access import Browser, Submitted, actor
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.route import pages
from experiments import erasure, fact_source, ingest_batch
from experiments.database import Database
from experiments.definitions import FactSourceSpec
from experiments.errors import DomainError
from experiments.settings import Settings
from experiments.tables import IngestBatch
from experiments.validation import parse
from warehouse.inventory import inventory
from warehouse.report import REMEDIES, reasons_of

PLACE = "/catalogue/data"
ERASURES, REFUSED, SOURCES = 20, 10, 200
"""So many of the newest are shown."""
NO_FORM: Final[dict[str, str]] = {"unit_type": "user", "reason": "", "refuse_future": ""}

router = pages()


class Refused(NamedTuple):
    """A batch that was taken without some of its rows: how often each reason, and what to do about it."""

    batch: IngestBatch
    reasons: list[tuple[str, int, str]]


@router.get("/data")
async def data_page(
    request: Request, browser: Browser, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    return await _page(request, database, settings, at, NO_FORM, None)


@router.post("/data/erasures")
async def request_erasure(
    request: Request, browser: Browser, form: Submitted, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    """Ids that were typed are never shown again, not even beside a mistake."""
    browser.principal.require("admin")
    typed = {name: str(form.get(name, "")).strip() for name in NO_FORM}
    ids = [line.strip() for line in str(form.get("unit_ids", "")).splitlines() if line.strip()]
    document: dict[str, Any] = {**typed, "refuse_future": bool(typed["refuse_future"])}
    try:
        wanted = parse(ErasureIn, {**document, "unit_id": ids[0] if ids else "", "also_ids": ids[1:]})
        async with database.write() as session:
            await ask(session, settings, wanted, actor=actor(browser), at=at)
    except DomainError as error:
        return await _page(request, database, settings, at, typed, error)
    return RedirectResponse("/data#erasures", status_code=303, headers=SECURITY_HEADERS)


async def _page(
    request: Request,
    database: Database,
    settings: Settings,
    at: datetime,
    typed: dict[str, str],
    problem: DomainError | None,
) -> Response:
    found = await inventory(database, settings, at=at)
    async with database.read() as session:
        erasures = (await erasure.page(session, state=None, limit=ERASURES, after=None)).items
        refused = await ingest_batch.with_refused_rows(session, limit=REFUSED)
        sources = (await fact_source.page(session, limit=SOURCES)).items
    return render(
        request,
        "data.html",
        status=problem.status if problem else 200,
        sources=[(spec, _place(spec)) for spec in map(fact_source.spec_of, sources)],
        events=[one for one in found.subjects if one.stream == "events"],
        exposures=[one for one in found.subjects if one.stream == "exposures"],
        found=found,
        refused=[Refused(batch, _reasons(batch)) for batch in refused],
        dead_letter_days=settings.dead_letter_days,
        erasures=[(row, erasure.effects_of(row)) for row in erasures],
        typed=typed,
        problem=problem,
        path=PLACE,
    )


def _reasons(batch: IngestBatch) -> list[tuple[str, int, str]]:
    counted = sorted(reasons_of(batch.errors).items(), key=lambda item: -item[1])
    return [(reason.replace("_", " "), count, REMEDIES.get(reason, "")) for reason, count in counted]


def _place(spec: FactSourceSpec) -> tuple[str, str]:
    """Where rows are, and what they are called there."""
    match spec.kind:
        case "events":
            return "what is sent", spec.event
        case "file":
            return "a file", spec.path
        case "duckdb":
            return f"DuckDB, {spec.path}", spec.table
        case "table":
            return f"the connection {spec.connection}", spec.table
