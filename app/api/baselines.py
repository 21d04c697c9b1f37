"""/v1/baselines: what units did so far, for planning."""

from typing import Annotated

from fastapi import Body, Path, Request, Response

from app.api.analyses import AnalysisOut
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork, ring_after_commit
from app.api.parameters import AnalysisIn
from app.api.problems import problems
from app.api.results import latest_bytes
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import analysis_request
from experiments.errors import NotFound
from experiments.result import BaselineResult

router = api_router("planning", "/baselines/{unit_type}")
UnitType = Annotated[str, Path(min_length=1, max_length=64, description="user, account, session, …")]


@router.get(
    "",
    summary="The latest history of all metrics per a unit",
    response_class=Response,
    responses={200: {"model": BaselineResult, "description": "The document as it was stored"}, **problems(NotFound)},
)
async def get_baseline(caller: Reader, session: ReadSession, unit_type: UnitType, request: Request) -> Response:
    return await latest_bytes(request, session, "baseline", unit_type)


@router.post("/analyses", status_code=202, summary="Compute the history now", responses=problems(NotFound))
async def analyse_baseline(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    unit_type: UnitType,
    request: Request,
    response: Response,
    wanted: Annotated[AnalysisIn | None, Body()] = None,
) -> AnalysisOut:
    row, waiting = await analysis_request.of_baseline(
        session,
        unit_type=unit_type,
        actor=caller.name,
        at=now,
        data_as_of=wanted.data_as_of if wanted else None,
        max_attempts=settings.max_attempts,
    )
    if waiting:
        ring_after_commit(request, row.id, row.attempt)
    response.headers["Location"] = f"/v1/analyses/{row.id}"
    return AnalysisOut.of(row)
