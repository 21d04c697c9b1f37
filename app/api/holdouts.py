"""/v1/holdouts: people who are kept from what ships, so that everything that shipped can be measured at once."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Body, Query, Request, Response

from app.api.deps import Now, ReadSession, UnitOfWork
from app.api.paging import Listing, Paging
from app.api.parameters import Handle, with_server_fields
from app.api.preconditions import IfMatch, etag_of, not_modified
from app.api.problems import problems
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import holdout
from experiments.definitions import HoldoutSpec
from experiments.errors import InvalidDefinition, KeyTaken, NotFound, PreconditionRequired, VersionConflict
from experiments.tables import Holdout

router = api_router("holdouts", "/holdouts")
_EXAMPLE: Final[dict[str, Any]] = {
    "key": "autumn",
    "name": "Held back in autumn",
    "owner": "ada@example.com",
    "experiment_key": "autumn-holdout",
    "metric_key": "orders_per_user",
    "started_at": "2026-09-01T00:00:00Z",
}
SpecIn = Annotated[
    HoldoutSpec,
    Body(openapi_examples={"everything": {"summary": "Kept from every launch of a quarter", "value": _EXAMPLE}}),
]


class HoldoutOut(HoldoutSpec):
    """A holdout. What it realised against what its launches had claimed is in the programme of its metric."""

    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Holdout) -> "HoldoutOut":
        return cls.model_validate(
            with_server_fields(row.spec, version=row.version, created_at=row.created_at, updated_at=row.updated_at)
        )


@router.get("", summary="List holdouts")
async def list_holdouts(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    metric_key: Annotated[str | None, Query(max_length=63)] = None,
) -> Listing[HoldoutOut]:
    page = await holdout.page(session, metric_key=metric_key, limit=paging.limit, after=paging.after)
    return Listing[HoldoutOut].of(page, HoldoutOut.of)


@router.post("", status_code=201, summary="Register a holdout", responses=problems(KeyTaken, InvalidDefinition))
async def create_holdout(caller: Writer, session: UnitOfWork, now: Now, spec: SpecIn, response: Response) -> HoldoutOut:
    """Its experiment has the purpose `holdout`: the control is kept from the launches, the treatment has them."""
    row = await holdout.create(session, spec=spec, actor=caller.name, at=now)
    response.headers["Location"] = f"/v1/holdouts/{row.key}"
    response.headers["ETag"] = etag_of(row.version)
    return HoldoutOut.of(row)


@router.get("/{key}", summary="Read a holdout", response_model=HoldoutOut, responses=problems(NotFound))
async def get_holdout(
    caller: Reader, session: ReadSession, key: Handle, request: Request, response: Response
) -> HoldoutOut | Response:
    row = await holdout.get(session, key=key)
    response.headers["ETag"] = etag_of(row.version)
    return not_modified(request, row.version) or HoldoutOut.of(row)


@router.put(
    "/{key}",
    summary="Write the whole holdout, say with its release",
    responses=problems(NotFound, VersionConflict, PreconditionRequired, InvalidDefinition),
)
async def update_holdout(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: IfMatch,
    spec: SpecIn,
    response: Response,
) -> HoldoutOut:
    """Key and experiment stay: its people are the holdout."""
    row = await holdout.get(session, key=key, lock=True)
    await holdout.update(session, holdout=row, spec=spec, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return HoldoutOut.of(row)
