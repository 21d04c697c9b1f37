"""/v1/launches/{key}/… and /v1/launch-effects: measuring launches, and what came out."""

import uuid
from typing import Annotated

from fastapi import Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from app.api.analyses import AnalysisOut
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork, ring_after_commit
from app.api.paging import Listing, Paging
from app.api.parameters import AnalysisIn, Handle
from app.api.problems import problems
from app.api.results import ResultOut, latest_bytes
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import analysis_request, launch, launch_effects, stored_result
from experiments.definitions import Moment
from experiments.errors import NotFound, NotReady
from experiments.launch_effects import KIND
from experiments.result import LaunchResult
from experiments.tables import LaunchEffect

router = api_router("launch results", "/launches/{key}")
rows = api_router("launch results", "/launch-effects")

Leads = Annotated[bool | None, Query(description="true: only the method chosen before the data were seen")]
MetricKeyQuery = Annotated[str | None, Query(max_length=63)]
SeriesKeyQuery = Annotated[str | None, Query(max_length=63)]


class LaunchEffectOut(BaseModel):
    """What one method said of a launch on one series. Null numbers carry a reason.

    `log_effect`, `standard_error` and `bias_sd` are on the log scale; `lift` and `ci_*` are fractions and hold sampling
    error and bias. `evidence_grade` says how much to believe the leading estimate; U: nothing was measured.
    """

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    result_id: uuid.UUID
    launch_key: str
    series_key: str
    metric_key: str | None
    method: str
    leads: bool
    evidence_grade: str
    estimable: bool
    reason: str | None
    log_effect: float | None
    standard_error: float | None
    bias_sd: float | None
    lift: float | None
    ci_lower: float | None
    ci_upper: float | None
    ci_level: float
    interval_kind: str
    p_value: float | None
    difference: float | None
    cumulative: float | None
    cumulative_lower: float | None
    cumulative_upper: float | None
    periods_before: int
    periods_after: int

    @classmethod
    def of(cls, row: LaunchEffect) -> "LaunchEffectOut":
        return cls.model_validate(row)


@router.post(
    "/analyses",
    status_code=202,
    summary="Measure a launch now",
    responses=problems(NotFound, NotReady),
)
async def analyse_launch(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    key: Handle,
    request: Request,
    response: Response,
    wanted: Annotated[AnalysisIn | None, Body()] = None,
) -> AnalysisOut:
    """As it is recorded now, on its series as they were known at the time. Asking twice returns the same analysis."""
    row, waiting = await analysis_request.of_launch(
        session,
        launch=await launch.get(session, key=key),
        actor=caller.name,
        at=now,
        data_as_of=wanted.data_as_of if wanted else None,
        max_attempts=settings.max_attempts,
    )
    if waiting:
        ring_after_commit(request, row.id, row.attempt)
    response.headers["Location"] = f"/v1/analyses/{row.id}"
    return AnalysisOut.of(row)


@router.get("/analyses", summary="Analyses of a launch", responses=problems(NotFound))
async def list_analyses_of_launch(
    caller: Reader, session: ReadSession, paging: Paging, key: Handle
) -> Listing[AnalysisOut]:
    await launch.get(session, key=key)
    page = await analysis_request.page(session, kind=KIND, subject_key=key, limit=paging.limit, after=paging.after)
    return Listing[AnalysisOut].of(page, AnalysisOut.of)


@router.get("/results", summary="All results of a launch", responses=problems(NotFound))
async def list_results_of_launch(
    caller: Reader, session: ReadSession, paging: Paging, key: Handle
) -> Listing[ResultOut]:
    await launch.get(session, key=key)
    page = await stored_result.history(session, kind=KIND, subject_key=key, limit=paging.limit, after=paging.after)
    return Listing[ResultOut].of(page, ResultOut.of)


@router.get(
    "/results/latest",
    summary="The latest result of a launch",
    response_class=Response,
    responses={200: {"model": LaunchResult, "description": "The document as it was stored"}, **problems(NotFound)},
)
async def get_latest_result_of_launch(caller: Reader, session: ReadSession, key: Handle, request: Request) -> Response:
    """The stored bytes, with a strong ETag; poll it with If-None-Match."""
    await launch.get(session, key=key)
    return await latest_bytes(request, session, KIND, key)


@router.get("/effects", summary="Flat rows of a launch's results", responses=problems(NotFound))
async def list_effects_of_launch(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    key: Handle,
    result_id: Annotated[uuid.UUID | None, Query(description="Default: the latest result")] = None,
    series_key: SeriesKeyQuery = None,
    leads: Leads = None,
) -> Listing[LaunchEffectOut]:
    await launch.get(session, key=key)
    page = await launch_effects.page(
        session,
        launch_key=key,
        series_key=series_key,
        leads=leads,
        result_id=result_id,
        limit=paging.limit,
        after=paging.after,
    )
    return Listing[LaunchEffectOut].of(page, LaunchEffectOut.of)


@rows.get("", summary="Flat rows of all launches")
async def list_launch_effects(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    metric_key: MetricKeyQuery = None,
    series_key: SeriesKeyQuery = None,
    leads: Leads = None,
    since: Annotated[Moment | None, Query(description="Only results stored since then")] = None,
    newest: Annotated[bool, Query(description="false: also results that a newer one has taken the place of")] = True,
) -> Listing[LaunchEffectOut]:
    """What was launched and what it did, for reports of your own: one row per launch, series and method."""
    page = await launch_effects.page(
        session,
        metric_key=metric_key,
        series_key=series_key,
        leads=leads,
        since=since,
        newest=newest,
        limit=paging.limit,
        after=paging.after,
    )
    return Listing[LaunchEffectOut].of(page, LaunchEffectOut.of)
