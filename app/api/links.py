"""/v1/north-stars/{key}/links: what moves in inputs have been worth in a North Star, across experiments."""

from fastapi import Request, Response

from app.api.analyses import AnalysisOut
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork, ring_after_commit
from app.api.parameters import Handle
from app.api.problems import problems
from app.api.results import latest_bytes
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import analysis_request, links_plan, north_star, stored_result
from experiments.errors import NotFound, NotReady
from experiments.result import LinksResult

router = api_router("north stars", "/north-stars/{key}/links")


@router.get(
    "",
    summary="The latest links learned between a North Star and its inputs",
    response_class=Response,
    responses={
        200: {"model": LinksResult, "description": "The document as it was stored"},
        **problems(NotFound),
    },
)
async def get_links(caller: Reader, session: ReadSession, key: Handle, request: Request) -> Response:
    await north_star.get(session, key=key)
    if await stored_result.latest_id(session, kind=links_plan.KIND, subject_key=key) is None:
        raise await links_plan.without(session, north_star_key=key)
    return await latest_bytes(request, session, links_plan.KIND, key)


@router.post(
    "/analyses",
    status_code=202,
    summary="Learn the links of a North Star now",
    responses=problems(NotFound, NotReady),
)
async def learn_links(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    key: Handle,
    request: Request,
    response: Response,
) -> AnalysisOut:
    """From all experiments that have ended, whatever was decided. With the same ones it is the same analysis."""
    row, waiting = await analysis_request.of_links(
        session, north_star_key=key, actor=caller.name, at=now, max_attempts=settings.max_attempts
    )
    if waiting:
        ring_after_commit(request, row.id, row.attempt)
    response.headers["Location"] = f"/v1/analyses/{row.id}"
    return AnalysisOut.of(row)
