"""/v1/fact-sources"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Body, Request, Response
from pydantic import BaseModel

from app.api import examples
from app.api.deps import Now, ReadSession, UnitOfWork
from app.api.paging import Listing, Paging
from app.api.parameters import Handle
from app.api.preconditions import IfMatch, etag_of, not_modified
from app.api.problems import problems
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import fact_source
from experiments.definitions import FactSourceSpec
from experiments.errors import InvalidDefinition, KeyTaken, NotFound, PreconditionRequired, VersionConflict
from experiments.tables import FactSource

router = api_router("fact sources", "/fact-sources")
_EXAMPLES: dict[str, Any] = {
    **examples.example(examples.FACT_SOURCE),
    "filtered": {"summary": "Only some rows of a file", "value": examples.FILTERED_FACT_SOURCE},
    "mapped": {"summary": "Events by device, which a login says the user of", "value": examples.MAPPED_FACT_SOURCE},
}
SpecIn = Annotated[FactSourceSpec, Body(openapi_examples=_EXAMPLES)]


class FactSourceOut(BaseModel):
    """Where facts are read, and its version."""

    key: str
    version: int
    definition: FactSourceSpec
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: FactSource) -> "FactSourceOut":
        return cls(
            key=row.key,
            version=row.version,
            definition=fact_source.spec_of(row),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@router.get("", summary="List fact sources")
async def list_fact_sources(caller: Reader, session: ReadSession, paging: Paging) -> Listing[FactSourceOut]:
    page = await fact_source.page(session, limit=paging.limit, after=paging.after)
    return Listing[FactSourceOut].of(page, FactSourceOut.of)


@router.post("", status_code=201, summary="Register a fact source", responses=problems(KeyTaken, InvalidDefinition))
async def create_fact_source(
    caller: Writer, session: UnitOfWork, now: Now, spec: SpecIn, response: Response
) -> FactSourceOut:
    row = await fact_source.create(session, spec=spec, actor=caller.name, at=now)
    response.headers["Location"] = f"/v1/fact-sources/{row.key}"
    response.headers["ETag"] = etag_of(row.version)
    return FactSourceOut.of(row)


@router.get("/{key}", summary="Read a fact source", response_model=FactSourceOut, responses=problems(NotFound))
async def get_fact_source(
    caller: Reader, session: ReadSession, key: Handle, request: Request, response: Response
) -> FactSourceOut | Response:
    row = await fact_source.get(session, key=key)
    response.headers["ETag"] = etag_of(row.version)
    return not_modified(request, row.version) or FactSourceOut.of(row)


@router.put(
    "/{key}",
    summary="Change a fact source",
    responses=problems(NotFound, VersionConflict, PreconditionRequired, InvalidDefinition),
)
async def update_fact_source(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: IfMatch,
    spec: SpecIn,
    response: Response,
) -> FactSourceOut:
    row = await fact_source.get(session, key=key, lock=True)
    await fact_source.update(session, source=row, spec=spec, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return FactSourceOut.of(row)
