"""Series: what launches are measured on. A list, a page for each, and a form that registers one."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import UploadFile

from app.api.deps import DatabaseDep, Now, SettingsDep
from app.pages.access import Browser, OwnForm, Submitted, actor
from app.pages.headers import SECURITY_HEADERS
from app.pages.rendering import render
from app.pages.route import pages
from app.pages.series_view import series_view
from experiments import launch_overview, metric, series, series_values
from experiments.definitions import SeriesSpec
from experiments.errors import DomainError, FieldError, InvalidDefinition, NotFound
from experiments.tables import Series
from experiments.validation import parse
from warehouse.series_values import ValuesReport, ingest_values

RESTATEMENTS: Final = 20
FIELDS: Final = {
    "key": "",
    "name": "",
    "description": "",
    "owner": "",
    "role": "outcome",
    "grain": "day",
    "dimension": "",
    "aggregation": "total",
    "unit": "",
    "direction": "increase",
    "metric_key": "",
    "source": "pushed",
}
_JSON: Final = (".json", "application/json")
_TYPES: Final = {"csv": "text/csv", "json": "application/json"}

router = pages()


@dataclass(slots=True)
class SeriesForm:
    """What was typed, and what is wrong with it."""

    fields: dict[str, str] = field(default_factory=lambda: dict(FIELDS))
    faults: list[FieldError] = field(default_factory=list)

    def error_at(self, pointer: str) -> str:
        return "; ".join(dict.fromkeys(fault.detail for fault in self.faults if fault.pointer == pointer))


@router.get("/series")
async def series_list(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    async with database.read() as session:
        found = await launch_overview.series_in_use(session)
    return render(request, "series_list.html", found=found)


@router.get("/series/new")
async def new_series_page(request: Request, browser: Browser, database: DatabaseDep) -> Response:
    browser.principal.require("write")
    return await _form(request, database, SeriesForm(), None)


@router.post("/series/new")
async def create_series(
    request: Request, browser: Browser, form: Submitted, database: DatabaseDep, at: Now
) -> Response:
    typed = SeriesForm({name: str(form.get(name, default)).strip() for name, default in FIELDS.items()})
    try:
        spec = parse(SeriesSpec, typed.fields | {"metric_key": typed.fields["metric_key"] or None})
        async with database.write() as session:
            row = await series.create(session, spec=spec, actor=actor(browser), at=at)
    except DomainError as error:
        typed.faults = list(error.errors)
        return await _form(request, database, typed, error)
    return RedirectResponse(f"/series/{row.key}", status_code=303, headers=SECURITY_HEADERS)


@router.get("/series/{key}")
async def series_page(
    key: str, request: Request, browser: Browser, database: DatabaseDep, at: Now, known_at: str = ""
) -> Response:
    async with database.read() as session:
        values = await _values(session, await series.get(session, key=key), known_at, at)
    return render(request, "series.html", **values)


@router.post("/series/{key}/values")
async def upload_values(
    key: str, request: Request, browser: Browser, form: OwnForm, database: DatabaseDep, settings: SettingsDep, at: Now
) -> Response:
    """Values from a file, as `POST /v1/series/{key}/values` takes them and with the same scope."""
    browser.principal.require("ingest")
    report: ValuesReport | None = None
    problem: DomainError | None = None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            raise InvalidDefinition("No file was chosen", remedy="Choose a CSV file with segment, at and value.")
        named = file.filename.lower().endswith(_JSON) or file.content_type in _JSON
        report = await ingest_values(
            database,
            settings,
            key=key,
            body=await file.read(),
            content_type=_TYPES["json" if named else "csv"],
            batch_id=f"browser-{form.get('batch') or uuid.uuid4().hex}"[:200],
            actor=actor(browser),
            at=at,
        )
    except NotFound:
        raise
    except DomainError as error:
        problem = error
    async with database.read() as session:
        values = await _values(session, await series.get(session, key=key), "", at)
    status = problem.status if problem else 200
    return render(request, "series.html", status=status, **values | {"report": report, "problem": problem})


async def _values(session: AsyncSession, row: Series, known_at: str, at: datetime) -> dict[str, Any]:
    spec = series.spec_of(row)
    asked = _end_of(known_at)
    moment = min(asked, at) if asked else at
    pushed = spec.source == "pushed"
    return {
        "series": row,
        "spec": spec,
        "view": series_view(spec, await series_values.table_of(session, series=row, known_at=moment))
        if pushed
        else None,
        "last_known_at": await series_values.last_known_at(session, series=row) if pushed else None,
        "restatements": await series_values.restatements(session, series=row, limit=RESTATEMENTS) if pushed else [],
        "launches": await launch_overview.measured_on(session, series_key=row.key),
        "known_at": known_at,
        "batch": uuid.uuid4().hex,
        "report": None,
        "problem": None,
    }


def _end_of(day: str) -> datetime | None:
    """The last moment of a day in UTC; None for no day. Raises `InvalidDefinition`."""
    if not day:
        return None
    try:
        return datetime.combine(date.fromisoformat(day) + timedelta(days=1), time(), UTC) - timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise InvalidDefinition(
            f"“{day}” is not a day", remedy="Write it as 2026-12-31.", errors=[FieldError("/query/known_at", "no day")]
        ) from None


async def _form(request: Request, database: DatabaseDep, typed: SeriesForm, problem: DomainError | None) -> Response:
    async with database.read() as session:
        known = await metric.all_known(session)
    choices = [(key, item.spec.name) for key, item in sorted(known.items())]
    status = problem.status if problem else 200
    return render(request, "series_form.html", status=status, form=typed, problem=problem, metric_choices=choices)
