"""/v1/metrics/{key}/prior: what a metric's past experiments say about its next one."""

from fastapi import Request, Response

from app.api.analyses import AnalysisOut
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork, ring_after_commit
from app.api.paging import Listing, Paging
from app.api.parameters import Handle
from app.api.problems import problems
from app.api.results import ResultOut, latest_bytes
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import analysis_request, learned_prior, metric, stored_result
from experiments.errors import NotFound, NotReady
from experiments.result import LearnedPriorResult

router = api_router("metrics", "/metrics/{key}/prior")


@router.get(
    "",
    summary="The latest prior learned from a metric's past experiments",
    response_class=Response,
    responses={
        200: {"model": LearnedPriorResult, "description": "The document as it was stored"},
        **problems(NotFound),
    },
)
async def get_prior(caller: Reader, session: ReadSession, key: Handle, request: Request) -> Response:
    await metric.get(session, key=key)
    if await stored_result.latest_id(session, kind=learned_prior.KIND, subject_key=key) is None:
        raise await learned_prior.without(session, metric_key=key)
    return await latest_bytes(request, session, learned_prior.KIND, key)


@router.get("/versions", summary="All priors learned for a metric, newest first", responses=problems(NotFound))
async def list_prior_versions(caller: Reader, session: ReadSession, key: Handle, paging: Paging) -> Listing[ResultOut]:
    await metric.get(session, key=key)
    page = await stored_result.history(
        session, kind=learned_prior.KIND, subject_key=key, limit=paging.limit, after=paging.after
    )
    return Listing[ResultOut].of(page, ResultOut.of)


@router.post(
    "",
    status_code=202,
    summary="Learn the prior of a metric now",
    responses=problems(NotFound, NotReady),
)
async def learn_prior(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    key: Handle,
    request: Request,
    response: Response,
) -> AnalysisOut:
    """With the same past experiments as last time it is the same analysis. New plans take the newest prior."""
    row, waiting = await analysis_request.of_prior(
        session, metric_key=key, actor=caller.name, at=now, max_attempts=settings.max_attempts
    )
    if waiting:
        ring_after_commit(request, row.id, row.attempt)
    response.headers["Location"] = f"/v1/analyses/{row.id}"
    return AnalysisOut.of(row)
