"""/v1/series: definitions, and the values that are pushed to them."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Query, Request, Response
from pydantic import BaseModel, Field, TypeAdapter

from app.api import examples
from app.api.deps import DatabaseDep, Now, ReadSession, SettingsDep, UnitOfWork
from app.api.ingest import IngestReportOut, row_body
from app.api.paging import Listing, Paging
from app.api.parameters import Handle, with_server_fields
from app.api.preconditions import IfMatch, etag_of, not_modified
from app.api.problems import problems
from app.api.routing import PlainRoute, api_router
from app.api.security import Ingester, Reader, Writer
from app.api.uploads import BatchId
from experiments import series, series_values
from experiments.definitions import Moment, SeriesSpec
from experiments.errors import (
    BatchMismatch,
    BatchRejected,
    FieldError,
    InvalidDefinition,
    KeyTaken,
    NotFound,
    NotReady,
    PayloadTooLarge,
    PreconditionRequired,
    UnsupportedMediaType,
    VersionConflict,
)
from experiments.series_values import Cell, Known, Restatement
from experiments.tables import Series, SeriesVersion
from warehouse.series_rows import LONGEST_SEGMENT
from warehouse.series_values import ingest_values

router = api_router("series", "/series")
values = api_router("series", "/series/{key}/values", PlainRoute)
MOST_VALUES: Final = 10_000
_MOMENT: Final = TypeAdapter[datetime](Moment)
SpecIn = Annotated[
    SeriesSpec,
    Body(
        openapi_examples={
            "pushed": {"summary": "Sent by country and day", "value": examples.SERIES},
            "facts": {"summary": "Computed from the facts of a metric", "value": examples.FACT_SERIES},
            "regressor": {"summary": "An outside influence", "value": examples.REGRESSOR_SERIES},
        }
    ),
]
Segment = Annotated[str | None, Query(max_length=200, description="Only this segment")]


class SeriesOut(SeriesSpec):
    """A series at its current version."""

    version: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None

    @classmethod
    def of(cls, row: Series) -> "SeriesOut":
        return cls.model_validate(
            with_server_fields(
                row.spec,
                version=row.version,
                created_at=row.created_at,
                updated_at=row.updated_at,
                archived_at=row.archived_at,
            )
        )


class SeriesVersionOut(BaseModel):
    """One version of a series."""

    version: int
    definition: SeriesSpec
    created_at: datetime
    created_by: str

    @classmethod
    def of(cls, row: SeriesVersion) -> "SeriesVersionOut":
        return cls(
            version=row.version,
            definition=series.spec_of(row),
            created_at=row.created_at,
            created_by=row.created_by,
        )


class ValuesReportOut(IngestReportOut):
    """What became of a batch of values. `accepted` counts all rows; those neither unchanged nor restated are new."""

    unchanged: int = Field(description="Rows that say what was known already")
    restated: int = Field(description="Rows that say another number than before")
    early: int = Field(description="Rows about a period that had not ended: they count once they are sent again")
    known_at: datetime = Field(description="From when on the values are known")


class SaidOut(BaseModel):
    """What was said of a period of a segment, and when; null where it was withdrawn."""

    value: float | None
    n: int | None
    variance: float | None
    known_at: datetime
    complete: bool = Field(description="Whether it was said after the period had ended: analyses use only such values")

    @classmethod
    def said(cls, known: Known) -> "SaidOut":
        return cls(**known._asdict())


class SeriesValueOut(SaidOut):
    """A value as known at the time that was asked for."""

    segment: str
    at: datetime

    @classmethod
    def of(cls, cell: Cell, known: Known) -> "SeriesValueOut":
        return cls(**cell._asdict(), **known._asdict())


class RestatementOut(BaseModel):
    """A number that took the place of another one."""

    segment: str
    at: datetime
    now: SaidOut
    before: SaidOut

    @classmethod
    def of(cls, found: Restatement) -> "RestatementOut":
        return cls(**found.cell._asdict(), now=SaidOut.said(found.now), before=SaidOut.said(found.before))


@router.get("", summary="List series")
async def list_series(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    role: Literal["outcome", "regressor"] | None = None,
    source: Literal["pushed", "facts"] | None = None,
    metric_key: Annotated[str | None, Query(max_length=63)] = None,
    archived: Annotated[bool, Query(description="Also list archived series")] = False,
) -> Listing[SeriesOut]:
    page = await series.page(
        session,
        role=role,
        source=source,
        metric_key=metric_key,
        archived=archived,
        limit=paging.limit,
        after=paging.after,
    )
    return Listing[SeriesOut].of(page, SeriesOut.of)


@router.post("", status_code=201, summary="Register a series", responses=problems(KeyTaken, InvalidDefinition))
async def create_series(caller: Writer, session: UnitOfWork, now: Now, spec: SpecIn, response: Response) -> SeriesOut:
    row = await series.create(session, spec=spec, actor=caller.name, at=now)
    response.headers["Location"] = f"/v1/series/{row.key}"
    response.headers["ETag"] = etag_of(row.version)
    return SeriesOut.of(row)


@router.get("/{key}", summary="Read a series", response_model=SeriesOut, responses=problems(NotFound))
async def get_series(
    caller: Reader, session: ReadSession, key: Handle, request: Request, response: Response
) -> SeriesOut | Response:
    row = await series.get(session, key=key)
    response.headers["ETag"] = etag_of(row.version)
    return not_modified(request, row.version) or SeriesOut.of(row)


@router.put(
    "/{key}",
    summary="Make a new version of a series",
    responses=problems(NotFound, VersionConflict, PreconditionRequired, InvalidDefinition),
)
async def update_series(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: IfMatch,
    spec: SpecIn,
    response: Response,
) -> SeriesOut:
    """What its values mean (role, grain, dimension, aggregation, source) stays once there are any."""
    row = await series.get(session, key=key, lock=True)
    await series.update(session, series=row, spec=spec, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return SeriesOut.of(row)


@router.post(
    "/{key}/archive",
    summary="Take a series out of use",
    responses=problems(NotFound, VersionConflict, PreconditionRequired),
)
async def archive_series(
    caller: Writer, session: UnitOfWork, now: Now, key: Handle, expected: IfMatch, response: Response
) -> SeriesOut:
    row = await series.get(session, key=key, lock=True)
    await series.archive(session, series=row, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return SeriesOut.of(row)


@router.get("/{key}/versions", summary="All versions of a series", responses=problems(NotFound))
async def list_series_versions(caller: Reader, session: ReadSession, key: Handle) -> Listing[SeriesVersionOut]:
    row = await series.get(session, key=key)
    return Listing(items=[SeriesVersionOut.of(version) for version in await series.versions(session, series=row)])


@values.post(
    "",
    status_code=201,
    summary="Values by segment and period",
    responses=problems(NotFound, NotReady, BatchRejected, BatchMismatch, PayloadTooLarge, UnsupportedMediaType),
    openapi_extra=row_body(examples.SERIES_VALUE, **{"text/csv": "string"}),
)
async def push_values(
    caller: Ingester,
    database: DatabaseDep,
    settings: SettingsDep,
    now: Now,
    key: Handle,
    batch: BatchId,
    request: Request,
    response: Response,
) -> ValuesReportOut:
    """A JSON array or CSV of {segment, at, value, n, variance}; all rows or none.

    `at` is the start of a period in UTC (a date will do for days and weeks). Sending another number restates what was
    known, null withdraws it; what was known before stays on record. `n` and `variance` of the units within the period
    go with means, and with the dimension `arm`.
    """
    report = await ingest_values(
        database,
        settings,
        key=key,
        body=await request.body(),
        content_type=request.headers.get("content-type", ""),
        batch_id=batch,
        actor=caller.name,
        at=now,
    )
    return ValuesReportOut.of(report, response)


@values.get("", summary="The values of a series as known at a time", responses=problems(NotFound, NotReady))
async def list_values(
    caller: Reader,
    session: ReadSession,
    now: Now,
    key: Handle,
    known_at: Annotated[Moment | None, Query(description="As known then; default: all that is known")] = None,
    since: Annotated[Moment | None, Query(description="The first period")] = None,
    until: Annotated[Moment | None, Query(description="The end, not included")] = None,
    segment: Segment = None,
    limit: Annotated[int, Query(ge=1, le=MOST_VALUES, description="Values per page")] = 1000,
    cursor: Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the previous page")] = None,
) -> Listing[SeriesValueOut]:
    """The newest period first. All pages show what was known when the first one was read."""
    row = await _pushed(session, key)
    after = None
    if cursor is not None:
        known_at, after = _position(cursor)
    elif known_at is None:
        # Not the clock's time: what another server has just stored may be known a moment later than that.
        known_at = await series_values.last_known_at(session, series=row) or now
    found = await series_values.values_as_of(
        session,
        series=row,
        known_at=known_at,
        since=since,
        until=until,
        segment=segment,
        after=after,
        limit=limit + 1,
    )
    return Listing(
        items=[SeriesValueOut.of(cell, known) for cell, known in found[:limit]],
        next_cursor=_cursor(known_at, found[:limit]) if len(found) > limit else None,
    )


@router.get(
    "/{key}/restatements", summary="Values that took the place of others", responses=problems(NotFound, NotReady)
)
async def list_restatements(
    caller: Reader,
    session: ReadSession,
    key: Handle,
    segment: Segment = None,
    at: Annotated[Moment | None, Query(description="Only this period")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Restatements at most")] = 50,
) -> Listing[RestatementOut]:
    """The newest first; with `segment` and `at` the history of one value."""
    row = await _pushed(session, key)
    found = await series_values.restatements(session, series=row, segment=segment, at=at, limit=limit)
    return Listing(items=[RestatementOut.of(each) for each in found])


async def _pushed(session: ReadSession, key: str) -> Series:
    row = await series.get(session, key=key)
    if series.spec_of(row).source != "pushed":
        raise NotReady(
            f"The series `{key}` is computed from facts by every analysis: it keeps no values",
            remedy="Measure a launch on it; the result has its values.",
        )
    return row


def _cursor(known_at: datetime, page: Sequence[tuple[Cell, Known]]) -> str:
    cell = page[-1][0]
    position = [known_at.isoformat(), cell.at.isoformat(), cell.segment]
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _position(cursor: str) -> tuple[datetime, Cell]:
    """Behind which cell the page begins, and as of when."""
    try:
        position: Any = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        known_at, at, segment = position
        moments = [_MOMENT.validate_python(datetime.fromisoformat(text)) for text in (known_at, at)]
        if not isinstance(segment, str) or "\x00" in segment or len(segment.encode()) > LONGEST_SEGMENT:
            raise ValueError("not a segment")
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidDefinition(
            "The cursor is not one that a list has returned",
            remedy="Pass `next_cursor` of the previous page unchanged, or leave it out to start.",
            errors=[FieldError("/query/cursor", "not a cursor of this list")],
        ) from None
    return moments[0], Cell(segment, moments[1])
