"""/v1/north-stars"""

from datetime import datetime
from typing import Annotated

from fastapi import Body, Request, Response
from pydantic import BaseModel

from app.api import examples
from app.api.analyses import AnalysisOut
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork, ring_after_commit
from app.api.paging import Listing, Paging
from app.api.parameters import AnalysisIn, Handle, with_server_fields
from app.api.preconditions import IfMatch, etag_of, not_modified
from app.api.problems import problems
from app.api.results import latest_bytes
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import analysis_request, north_star
from experiments.definitions import NorthStarSpec
from experiments.errors import (
    InvalidDefinition,
    InvalidFormula,
    KeyTaken,
    NotFound,
    NotReady,
    PreconditionRequired,
    VersionConflict,
)
from experiments.formula_defects import formula_defects
from experiments.result import FormulaDefect, FormulaDefects, NorthStarSeries
from experiments.tables import NorthStar, NorthStarVersion

router = api_router("north stars", "/north-stars")
SpecIn = Annotated[NorthStarSpec, Body(openapi_examples=examples.example(examples.NORTH_STAR))]


class NorthStarOut(NorthStarSpec):
    """A North Star and its tree at the current version."""

    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: NorthStar) -> "NorthStarOut":
        return cls.model_validate(
            with_server_fields(row.spec, version=row.version, created_at=row.created_at, updated_at=row.updated_at)
        )


class NorthStarWritten(NorthStarOut):
    """What was written, and what is wrong with its formula as far as can be told now: warnings, nothing is refused."""

    defects: list[FormulaDefect]

    @classmethod
    def with_defects(cls, row: NorthStar, found: FormulaDefects) -> "NorthStarWritten":
        return cls.model_validate(NorthStarOut.of(row).model_dump() | {"defects": found.model_dump()["defects"]})


class NorthStarVersionOut(BaseModel):
    """One version of a North Star."""

    version: int
    definition: NorthStarSpec
    created_at: datetime
    created_by: str

    @classmethod
    def of(cls, row: NorthStarVersion) -> "NorthStarVersionOut":
        return cls(
            version=row.version,
            definition=north_star.spec_of(row),
            created_at=row.created_at,
            created_by=row.created_by,
        )


@router.get("", summary="List North Stars")
async def list_north_stars(caller: Reader, session: ReadSession, paging: Paging) -> Listing[NorthStarOut]:
    page = await north_star.page(session, limit=paging.limit, after=paging.after)
    return Listing[NorthStarOut].of(page, NorthStarOut.of)


@router.post(
    "",
    status_code=201,
    summary="Register a North Star with its metric tree",
    responses=problems(KeyTaken, InvalidDefinition, InvalidFormula),
)
async def create_north_star(
    caller: Writer, session: UnitOfWork, now: Now, spec: SpecIn, response: Response
) -> NorthStarWritten:
    row = await north_star.create(session, spec=spec, actor=caller.name, at=now)
    response.headers["Location"] = f"/v1/north-stars/{row.key}"
    response.headers["ETag"] = etag_of(row.version)
    return NorthStarWritten.with_defects(row, await formula_defects(session, row, at=now))


@router.get("/{key}", summary="Read a North Star", response_model=NorthStarOut, responses=problems(NotFound))
async def get_north_star(
    caller: Reader, session: ReadSession, key: Handle, request: Request, response: Response
) -> NorthStarOut | Response:
    row = await north_star.get(session, key=key)
    response.headers["ETag"] = etag_of(row.version)
    return not_modified(request, row.version) or NorthStarOut.of(row)


@router.put(
    "/{key}",
    summary="Make a new version of a North Star",
    responses=problems(NotFound, VersionConflict, PreconditionRequired, InvalidDefinition, InvalidFormula),
)
async def update_north_star(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: IfMatch,
    spec: SpecIn,
    response: Response,
) -> NorthStarWritten:
    row = await north_star.get(session, key=key, lock=True)
    await north_star.update(session, north_star=row, spec=spec, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return NorthStarWritten.with_defects(row, await formula_defects(session, row, at=now))


@router.get("/{key}/defects", summary="What is wrong with the formula of a North Star", responses=problems(NotFound))
async def get_defects(caller: Reader, session: ReadSession, now: Now, key: Handle) -> FormulaDefects:
    """Judged at the weeks of its inputs that are on record, or by its definition alone (METHODS G8)."""
    return await formula_defects(session, await north_star.get(session, key=key), at=now)


@router.get("/{key}/versions", summary="All versions of a North Star", responses=problems(NotFound))
async def list_north_star_versions(caller: Reader, session: ReadSession, key: Handle) -> Listing[NorthStarVersionOut]:
    row = await north_star.get(session, key=key)
    found = await north_star.versions(session, north_star=row)
    return Listing(items=[NorthStarVersionOut.of(version) for version in found])


@router.get(
    "/{key}/series",
    summary="The latest weekly series of the North Star and its inputs",
    response_class=Response,
    responses={200: {"model": NorthStarSeries, "description": "The document as it was stored"}, **problems(NotFound)},
)
async def get_series(caller: Reader, session: ReadSession, key: Handle, request: Request) -> Response:
    await north_star.get(session, key=key)
    return await latest_bytes(request, session, "north_star", key)


@router.post(
    "/{key}/analyses", status_code=202, summary="Compute the weekly series now", responses=problems(NotFound, NotReady)
)
async def analyse_north_star(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    key: Handle,
    request: Request,
    response: Response,
    wanted: Annotated[AnalysisIn | None, Body()] = None,
) -> AnalysisOut:
    row, waiting = await analysis_request.of_north_star(
        session,
        key=key,
        actor=caller.name,
        at=now,
        data_as_of=wanted.data_as_of if wanted else None,
        max_attempts=settings.max_attempts,
    )
    if waiting:
        ring_after_commit(request, row.id, row.attempt)
    response.headers["Location"] = f"/v1/analyses/{row.id}"
    return AnalysisOut.of(row)
