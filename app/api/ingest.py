"""/v1/ingest: exposures and events; and summaries of experiments that have no unit-level data."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from app.api.deps import DatabaseDep, Now, SettingsDep, UnitOfWork
from app.api.parameters import Handle
from app.api.problems import problems
from app.api.routing import PlainRoute, UploadRoute, api_router
from app.api.security import Ingester
from app.api.uploads import BatchId, IntakeDep
from experiments import experiment
from experiments.errors import (
    BatchMismatch,
    BatchRejected,
    NotFound,
    NotReady,
    PayloadTooLarge,
    StorageFull,
    TooBusy,
    UnsupportedMediaType,
)
from warehouse.ingest import ingest
from warehouse.report import IngestReport
from warehouse.row_lists import parse_rows
from warehouse.summaries import ingest_summaries

router = api_router("ingest", "/ingest", UploadRoute)
summaries = api_router("ingest", "/experiments/{key}/summaries", PlainRoute)
OnError = Annotated[
    Literal["reject_batch", "keep_good"],
    Query(description="What one bad row does: refuse the whole batch, or be reported while the good rows are kept"),
]
_PROBLEMS: Final = problems(BatchRejected, BatchMismatch, PayloadTooLarge, UnsupportedMediaType, TooBusy, StorageFull)
_EXPOSURE: Final[dict[str, Any]] = {
    "experiment_key": "one-page-checkout",
    "unit_id": "u-1",
    "variant_key": "one_page",
    "exposed_at": "2026-10-01T12:00:00Z",
    "segments": {"country": "NO"},
}
_EVENT: Final[dict[str, Any]] = {
    "event": "order",
    "unit_id": "u-1",
    "occurred_at": "2026-10-02T08:30:00Z",
    "value": 49.9,
    "properties": {"plan": "free"},
}
_SUMMARY: Final[dict[str, Any]] = {
    "metric_key": "orders_per_user",
    "variant_key": "control",
    "as_of": "2026-10-08T00:00:00Z",
    "n": 10250,
    "mean": 0.412,
    "variance": 0.97,
}


def row_body(example: Mapping[str, Any], **more: str) -> dict[str, Any]:
    """The request body in the OpenAPI document: it is streamed, so FastAPI does not know of it."""
    rows: dict[str, Any] = {"schema": {"type": "array", "items": {"type": "object"}}, "example": [dict(example)]}
    content = {"application/json": rows} | {kind: {"schema": {"type": text}} for kind, text in more.items()}
    return {"requestBody": {"required": True, "content": content}}


def _upload(example: Mapping[str, Any]) -> dict[str, Any]:
    kinds = ("x-ndjson", "vnd.apache.parquet", "vnd.apache.arrow.stream", "vnd.apache.arrow.file")
    return row_body(example, **dict.fromkeys(["text/csv", *(f"application/{kind}" for kind in kinds)], "string"))


class RowFault(BaseModel):
    """A refused row, by its position in the batch (from 1)."""

    row: int
    field: str
    reason: str
    detail: str
    remedy: str


class IngestReportOut(BaseModel):
    """What became of a batch. `replayed`: it was in the store already, and nothing has changed."""

    stream: str
    batch_id: str
    accepted: int
    rejected: int
    errors: list[RowFault] = Field(description="The first refused rows")
    reasons: dict[str, int] = Field(description="Refused rows by reason")
    replayed: bool

    @classmethod
    def of(cls, report: IngestReport, response: Response) -> Self:
        """The report; 200 instead of 201 when the batch was in the store already."""
        if report.replayed:
            response.status_code = 200
        return cls.model_validate(report.document())


@router.post(
    "/exposures",
    status_code=201,
    summary="Which unit saw which variant",
    responses=_PROBLEMS,
    openapi_extra=_upload(_EXPOSURE),
)
async def ingest_exposures(
    caller: Ingester,
    database: DatabaseDep,
    settings: SettingsDep,
    intake: IntakeDep,
    now: Now,
    batch: BatchId,
    request: Request,
    response: Response,
    on_error: OnError = "reject_batch",
) -> IngestReportOut:
    """JSON array, NDJSON, CSV, Parquet or Arrow, also with Content-Encoding gzip or zstd. Segments also as columns

    `segment_<name>`.
    """
    async with intake.spooled(request) as upload:
        report = await ingest(
            database,
            settings,
            stream="exposures",
            batch_id=batch,
            body=upload.path,
            body_digest=upload.digest,
            content_type=request.headers.get("content-type", ""),
            on_error=on_error,
            actor=caller.name,
            at=now,
        )
    return IngestReportOut.of(report, response)


@router.post("/events", status_code=201, summary="What units did", responses=_PROBLEMS, openapi_extra=_upload(_EVENT))
async def ingest_events(
    caller: Ingester,
    database: DatabaseDep,
    settings: SettingsDep,
    intake: IntakeDep,
    now: Now,
    batch: BatchId,
    request: Request,
    response: Response,
    on_error: OnError = "reject_batch",
) -> IngestReportOut:
    """JSON array, NDJSON, CSV, Parquet or Arrow, also with Content-Encoding gzip or zstd. Properties also as columns

    `p_<name>`.
    """
    async with intake.spooled(request) as upload:
        report = await ingest(
            database,
            settings,
            stream="events",
            batch_id=batch,
            body=upload.path,
            body_digest=upload.digest,
            content_type=request.headers.get("content-type", ""),
            on_error=on_error,
            actor=caller.name,
            at=now,
        )
    return IngestReportOut.of(report, response)


@summaries.post(
    "",
    status_code=201,
    summary="Cumulative n, mean, variance and covariances per metric, variant and time",
    responses=problems(NotFound, NotReady, BatchRejected, BatchMismatch, PayloadTooLarge, UnsupportedMediaType),
    openapi_extra=row_body(_SUMMARY, **{"text/csv": "string"}),
)
async def ingest_experiment_summaries(
    caller: Ingester,
    session: UnitOfWork,
    settings: SettingsDep,
    now: Now,
    key: Handle,
    batch: BatchId,
    request: Request,
    response: Response,
) -> IngestReportOut:
    """A JSON array or CSV; all rows or none.

    `variance` is the unbiased sample variance of the units' values. Of a ratio metric, send the ratio as `mean`, and
    as `variance` that of its influence values (numerator - ratio * denominator) / mean denominator.

    `covariances` is optional: `{metric key: unbiased sample covariance of the units' values with that metric}`, in the
    same variant and as of the same time, over the same units. Each pair is needed once; in a CSV the object is JSON
    text. Where every variant has all pairs, the North Star's tree works as it does with events.
    """
    rows = parse_rows(await request.body(), request.headers.get("content-type", ""), noun="summaries")
    report = await ingest_summaries(
        session,
        settings,
        experiment=await experiment.get(session, key=key),
        rows=rows,
        batch_id=batch,
        actor=caller.name,
        at=now,
    )
    return IngestReportOut.of(report, response)
