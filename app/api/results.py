"""/v1/results: finished results by id. Immutable, so every cache on the way may keep them."""

import uuid
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.api.deps import ReadSession
from app.api.problems import problems
from app.api.result_cache import StoredBytes, cache_of, may_read_from_memory
from app.api.routing import api_router
from app.api.security import Reader
from experiments import stored_result
from experiments.errors import NotFound
from experiments.result import (
    BaselineResult,
    ExperimentResult,
    GrowthReviewResult,
    LaunchResult,
    LearnedPriorResult,
    LinksResult,
    NorthStarSeries,
    ProgrammeResult,
)
from experiments.tables import Result


class ResultOut(BaseModel):
    """A result in a list, without its document."""

    id: uuid.UUID
    kind: str
    subject_key: str
    verdict: str | None
    data_as_of: datetime
    etag: str
    created_at: datetime

    @classmethod
    def of(cls, row: Result) -> "ResultOut":
        return cls.model_validate(row, from_attributes=True)


def answered_from_memory(find: Callable[[Request], StoredBytes | None], *, latest: bool) -> type[APIRoute]:
    """A route class that serves bytes in memory to callers in memory before FastAPI prepares anything."""

    class MemoryFirst(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                stored = find(request)
                if stored is not None and may_read_from_memory(request):
                    return stored.response(request, latest=latest)
                return await handler(request)

            return handle

    return MemoryFirst


async def latest_bytes(request: Request, session: ReadSession, kind: str, subject_key: str) -> Response:
    """The latest result of a subject, looked up now (memory was asked before, where it may be). Raises `NotFound`."""
    cache = cache_of(request)
    result_id = await stored_result.latest_id(session, kind=kind, subject_key=subject_key)
    stored = cache.get(str(result_id)) or cache.put(
        await stored_result.latest(session, kind=kind, subject_key=subject_key)
    )
    cache.remember_latest(kind, subject_key, stored.result_id)
    return stored.response(request, latest=True)


async def get_result(caller: Reader, session: ReadSession, result_id: uuid.UUID, request: Request) -> Response:
    """The stored bytes of a result, with a strong ETag."""
    cache = cache_of(request)
    stored = cache.get(str(result_id)) or cache.put(await stored_result.get(session, result_id=result_id))
    return stored.response(request, latest=False)


router = api_router("results", "/results")
router.route_class = answered_from_memory(
    lambda request: cache_of(request).get(request.path_params["result_id"]), latest=False
)
router.add_api_route(
    "/{result_id}",
    get_result,
    methods=["GET"],
    summary="Read a result",
    response_class=Response,
    responses={
        200: {
            "description": "The document as it was stored",
            "content": {"application/json": {}},
            "model": ExperimentResult
            | NorthStarSeries
            | BaselineResult
            | LearnedPriorResult
            | LaunchResult
            | ProgrammeResult
            | LinksResult
            | GrowthReviewResult,
        },
        **problems(NotFound),
    },
)
