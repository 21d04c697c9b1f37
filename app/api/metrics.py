"""/v1/metrics"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Body, Query, Request, Response
from pydantic import BaseModel

from app.api import examples
from app.api.deps import Now, ReadSession, UnitOfWork
from app.api.paging import Listing, Paging
from app.api.parameters import Handle, with_server_fields
from app.api.preconditions import IfMatch, etag_of, not_modified
from app.api.problems import problems
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import metric
from experiments.definitions import MetricKind, MetricSpec
from experiments.errors import (
    InvalidDefinition,
    InvalidFormula,
    KeyTaken,
    NotFound,
    PreconditionRequired,
    VersionConflict,
)
from experiments.tables import Metric, MetricVersion

router = api_router("metrics", "/metrics")
_EXAMPLES: dict[str, Any] = {
    "mean": {"summary": "A count per user", "value": examples.METRIC},
    "formula": {"summary": "A formula over other metrics", "value": examples.FORMULA_METRIC},
    "likelihood": {"summary": "Revenue with a model of its units", "value": examples.LIKELIHOOD_METRIC},
    "retention": {"summary": "Who orders again in the second week after the first order", "value": examples.RETENTION},
    "funnel": {"summary": "Who gets from the basket to the order within a day", "value": examples.FUNNEL},
    "participation": {"summary": "On which share of days there is a visit", "value": examples.PARTICIPATION},
    "last": {"summary": "A balance as of the last change, with further covariates", "value": examples.LAST_VALUE},
}
SpecIn = Annotated[MetricSpec, Body(openapi_examples=_EXAMPLES)]


class MetricOut(MetricSpec):
    """A metric at its current version."""

    version: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None

    @classmethod
    def of(cls, row: Metric) -> "MetricOut":
        return cls.model_validate(
            with_server_fields(
                row.spec,
                version=row.version,
                created_at=row.created_at,
                updated_at=row.updated_at,
                archived_at=row.archived_at,
            )
        )


class MetricVersionOut(BaseModel):
    """One version of a metric."""

    version: int
    definition: MetricSpec
    created_at: datetime
    created_by: str

    @classmethod
    def of(cls, row: MetricVersion) -> "MetricVersionOut":
        return cls(
            version=row.version,
            definition=metric.spec_of(row),
            created_at=row.created_at,
            created_by=row.created_by,
        )


@router.get("", summary="List metrics")
async def list_metrics(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    owner: Annotated[str | None, Query(max_length=200)] = None,
    kind: MetricKind | None = None,
    archived: Annotated[bool, Query(description="Also list archived metrics")] = False,
) -> Listing[MetricOut]:
    page = await metric.page(session, owner=owner, kind=kind, archived=archived, limit=paging.limit, after=paging.after)
    return Listing[MetricOut].of(page, MetricOut.of)


@router.post(
    "",
    status_code=201,
    summary="Register a metric",
    responses=problems(KeyTaken, InvalidDefinition, InvalidFormula),
)
async def create_metric(caller: Writer, session: UnitOfWork, now: Now, spec: SpecIn, response: Response) -> MetricOut:
    row = await metric.create(session, spec=spec, actor=caller.name, at=now)
    response.headers["Location"] = f"/v1/metrics/{row.key}"
    response.headers["ETag"] = etag_of(row.version)
    return MetricOut.of(row)


@router.get("/{key}", summary="Read a metric", response_model=MetricOut, responses=problems(NotFound))
async def get_metric(
    caller: Reader, session: ReadSession, key: Handle, request: Request, response: Response
) -> MetricOut | Response:
    row = await metric.get(session, key=key)
    response.headers["ETag"] = etag_of(row.version)
    return not_modified(request, row.version) or MetricOut.of(row)


@router.put(
    "/{key}",
    summary="Make a new version of a metric",
    responses=problems(NotFound, VersionConflict, PreconditionRequired, InvalidDefinition, InvalidFormula),
)
async def update_metric(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: IfMatch,
    spec: SpecIn,
    response: Response,
) -> MetricOut:
    row = await metric.get(session, key=key, lock=True)
    await metric.update(session, metric=row, spec=spec, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return MetricOut.of(row)


@router.post(
    "/{key}/archive",
    summary="Take a metric out of use",
    responses=problems(NotFound, VersionConflict, PreconditionRequired),
)
async def archive_metric(
    caller: Writer, session: UnitOfWork, now: Now, key: Handle, expected: IfMatch, response: Response
) -> MetricOut:
    row = await metric.get(session, key=key, lock=True)
    await metric.archive(session, metric=row, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return MetricOut.of(row)


@router.get("/{key}/versions", summary="All versions of a metric", responses=problems(NotFound))
async def list_metric_versions(caller: Reader, session: ReadSession, key: Handle) -> Listing[MetricVersionOut]:
    row = await metric.get(session, key=key)
    return Listing(items=[MetricVersionOut.of(version) for version in await metric.versions(session, metric=row)])
