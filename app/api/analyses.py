"""/v1/analyses: runs, their progress and their results."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from app.api.deps import DatabaseDep, Now, ReadSession, UnitOfWork
from app.api.paging import Listing, Paging
from app.api.problems import problems
from app.api.result_cache import cache_of
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import analysis, analysis_request, stored_result
from experiments.database import Database
from experiments.errors import NotFound, NotReady
from experiments.tables import Analysis

router = api_router("analyses", "/analyses")
POLL_SECONDS = 0.2
Kind = Literal["experiment", "north_star", "baseline", "prior", "launch", "programme", "links", "growth_review"]


class AnalysisOut(BaseModel):
    """A run. `stage` and `fraction` move while it is `running`; `result_id` is set when it has `succeeded`."""

    id: uuid.UUID
    kind: Kind | str
    subject_key: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    stage: str | None
    fraction: float
    attempt: int
    plan_hash: str
    data_as_of: datetime
    seed: int
    code_version: str
    error: dict[str, Any] | None
    result_id: uuid.UUID | None
    requested_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None

    @classmethod
    def of(cls, row: Analysis) -> "AnalysisOut":
        return cls.model_validate(row, from_attributes=True)


@router.get("", summary="List analyses")
async def list_analyses(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    kind: Kind | None = None,
    subject_key: Annotated[str | None, Query(max_length=100)] = None,
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"] | None = None,
) -> Listing[AnalysisOut]:
    page = await analysis_request.page(
        session, kind=kind, subject_key=subject_key, state=state, limit=paging.limit, after=paging.after
    )
    return Listing[AnalysisOut].of(page, AnalysisOut.of)


@router.get("/{analysis_id}", summary="Read an analysis", responses=problems(NotFound))
async def get_analysis(caller: Reader, session: ReadSession, analysis_id: uuid.UUID, request: Request) -> AnalysisOut:
    row = await analysis.get(session, analysis_id=analysis_id)
    if row.state == "succeeded":
        cache_of(request).forget_latest(row.kind, row.subject_key)
    return AnalysisOut.of(row)


@router.post("/{analysis_id}/cancel", summary="Cancel an analysis", responses=problems(NotFound, NotReady))
async def cancel_analysis(caller: Writer, session: UnitOfWork, now: Now, analysis_id: uuid.UUID) -> AnalysisOut:
    return AnalysisOut.of(await analysis_request.cancel(session, analysis_id=analysis_id, actor=caller.name, at=now))


@router.get(
    "/{analysis_id}/result",
    summary="The result of an analysis",
    response_class=Response,
    responses=problems(NotFound, NotReady),
)
async def get_result_of_analysis(
    caller: Reader, session: ReadSession, analysis_id: uuid.UUID, request: Request
) -> Response:
    row = await analysis.get(session, analysis_id=analysis_id)
    if row.result_id is None:
        remedy = (
            "Its `error` says why; correct that and ask for the analysis again."
            if row.state in analysis.FINAL
            else f"Follow GET /v1/analyses/{analysis_id}/events until it has succeeded."
        )
        raise NotReady(f"The analysis is {row.state}: it has no result", remedy=remedy, state=row.state)
    cache = cache_of(request)
    cache.forget_latest(row.kind, row.subject_key)
    stored = cache.get(str(row.result_id)) or cache.put(await stored_result.get(session, result_id=row.result_id))
    return stored.response(request, latest=False)


async def _read(database: Database, analysis_id: uuid.UUID) -> Analysis:
    async with database.read() as session:
        return await analysis.get(session, analysis_id=analysis_id)


async def _existing(session: ReadSession, analysis_id: uuid.UUID) -> uuid.UUID:
    """The id, once it is known to exist: a stream cannot become a 404 any more."""
    return (await analysis.get(session, analysis_id=analysis_id)).id


@router.get(
    "/{analysis_id}/events",
    summary="Follow an analysis (server-sent events)",
    response_class=EventSourceResponse,
    responses=problems(NotFound),
)
async def follow_analysis(
    caller: Reader, database: DatabaseDep, found: Annotated[uuid.UUID, Depends(_existing)], request: Request
) -> AsyncIterator[ServerSentEvent]:
    """`progress` events while it runs, then one `done` event with the whole analysis. The row is the truth: a client

    that reconnects misses nothing.
    """
    last: tuple[object, ...] | None = None
    while True:
        row = await _read(database, found)
        seen = (row.state, row.stage, row.fraction, row.attempt)
        document = AnalysisOut.of(row)
        if row.state in analysis.FINAL:
            cache_of(request).forget_latest(row.kind, row.subject_key)
            yield ServerSentEvent(event="done", data=document)
            return
        if seen != last:
            last = seen
            yield ServerSentEvent(event="progress", data=document)
        await asyncio.sleep(POLL_SECONDS)
