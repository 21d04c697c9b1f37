"""/v1/launches"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Body, Query, Request, Response

from app.api import examples
from app.api.deps import Now, ReadSession, UnitOfWork
from app.api.paging import Listing, Paging
from app.api.parameters import Handle, with_server_fields
from app.api.preconditions import IfMatch, etag_of, not_modified
from app.api.problems import problems
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import launch
from experiments.definitions import LaunchSpec
from experiments.errors import InvalidDefinition, KeyTaken, NotFound, PreconditionRequired, VersionConflict
from experiments.tables import Launch

router = api_router("launches", "/launches")
_EXAMPLES: dict[str, Any] = {
    "recorded": {"summary": "What shipped, to whom", "value": examples.LAUNCH},
    "measured": {"summary": "By country, with what it is measured on", "value": examples.MEASURED_LAUNCH},
}
SpecIn = Annotated[LaunchSpec, Body(openapi_examples=_EXAMPLES)]


class LaunchOut(LaunchSpec):
    """Something that shipped, with its coverage path, and what it is measured on since when."""

    version: int
    measured_since: datetime
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Launch) -> "LaunchOut":
        return cls.model_validate(
            with_server_fields(
                row.spec,
                version=row.version,
                measured_since=row.measured_since,
                created_at=row.created_at,
                updated_at=row.updated_at,
            )
        )


@router.get("", summary="List launches")
async def list_launches(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    experiment_key: Annotated[str | None, Query(max_length=63)] = None,
    measured: Annotated[bool | None, Query(description="true: only launches with a result; false: without")] = None,
) -> Listing[LaunchOut]:
    page = await launch.page(
        session, experiment_key=experiment_key, measured=measured, limit=paging.limit, after=paging.after
    )
    return Listing[LaunchOut].of(page, LaunchOut.of)


@router.post("", status_code=201, summary="Record a launch", responses=problems(KeyTaken, InvalidDefinition))
async def create_launch(caller: Writer, session: UnitOfWork, now: Now, spec: SpecIn, response: Response) -> LaunchOut:
    """With `measurements` it is measured as its series grow. What is planned before the first step may grade higher."""
    row = await launch.create(session, spec=spec, actor=caller.name, at=now)
    response.headers["Location"] = f"/v1/launches/{row.key}"
    response.headers["ETag"] = etag_of(row.version)
    return LaunchOut.of(row)


@router.get("/{key}", summary="Read a launch", response_model=LaunchOut, responses=problems(NotFound))
async def get_launch(
    caller: Reader, session: ReadSession, key: Handle, request: Request, response: Response
) -> LaunchOut | Response:
    row = await launch.get(session, key=key)
    response.headers["ETag"] = etag_of(row.version)
    return not_modified(request, row.version) or LaunchOut.of(row)


@router.put(
    "/{key}",
    summary="Write the whole launch, say with another rollout step or what it is measured on",
    responses=problems(NotFound, VersionConflict, PreconditionRequired, InvalidDefinition),
)
async def update_launch(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: IfMatch,
    spec: SpecIn,
    response: Response,
) -> LaunchOut:
    row = await launch.get(session, key=key, lock=True)
    await launch.update(session, launch=row, spec=spec, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return LaunchOut.of(row)
