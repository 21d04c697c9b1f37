"""/v1/experiments/{key}/…: analyses, results, rows."""

import uuid
from typing import Annotated

from fastapi import Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from app.api.analyses import AnalysisOut
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork, ring_after_commit
from app.api.paging import Listing, Paging
from app.api.parameters import AnalysisIn, Handle
from app.api.problems import problems
from app.api.result_cache import cache_of
from app.api.results import ResultOut, answered_from_memory, latest_bytes
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import analysis_request, experiment, stored_result
from experiments.definitions import Role
from experiments.errors import NotFound, NotReady
from experiments.result import ExperimentResult
from experiments.tables import ResultRow

router = api_router("experiment results", "/experiments/{key}")


class ResultRowOut(BaseModel):
    """One number with its uncertainty: metric x variant x segment x method. Null numbers carry a reason.

    `p_value`, `ci_*` and `always_valid_*` are uncorrected; `*_adjusted` are corrected within the `family`, and the
    `decision_*` numbers are those that the verdict obeys. `chance_to_win` comes with the `posterior_lift`, its HDI,
    what shipping (`expected_loss`) and not shipping would lose in log lift, and the prior that all of these rest on.
    Rows stored before these columns existed have nulls there.
    """

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    result_id: uuid.UUID
    experiment_key: str
    metric_key: str
    metric_version: int
    variant_key: str
    segment_dimension: str | None
    segment: str | None
    role: str
    method: str
    interval_kind: str
    n_control: int
    n_treatment: int
    mean_control: float | None
    mean_treatment: float | None
    difference: float | None
    difference_standard_error: float | None
    lift: float | None
    standard_error: float | None
    ci_lower: float | None
    ci_upper: float | None
    ci_level: float
    p_value: float | None
    chance_to_win: float | None
    expected_loss: float | None
    estimable: bool
    reason: str | None
    non_inferior: bool | None
    equivalent: bool | None
    family: str | None
    correction: str | None
    p_value_adjusted: float | None
    ci_lower_adjusted: float | None
    ci_upper_adjusted: float | None
    difference_ci_lower_adjusted: float | None
    difference_ci_upper_adjusted: float | None
    always_valid_lower: float | None
    always_valid_upper: float | None
    always_valid_p_value: float | None
    log_e_value: float | None
    non_inferiority_p_value: float | None
    harm_p_value: float | None
    decision_lower: float | None
    decision_upper: float | None
    decision_p_value: float | None
    significant: bool | None
    posterior_lift: float | None
    hdi_lower: float | None
    hdi_upper: float | None
    expected_loss_of_not_shipping: float | None
    rope_probability: float | None
    prior_source: str | None

    @classmethod
    def of(cls, row: ResultRow) -> "ResultRowOut":
        return cls.model_validate(row)


@router.get("/analyses", summary="Analyses of an experiment", responses=problems(NotFound))
async def list_analyses_of_experiment(
    caller: Reader, session: ReadSession, paging: Paging, key: Handle
) -> Listing[AnalysisOut]:
    await experiment.get(session, key=key)
    page = await analysis_request.page(
        session, kind="experiment", subject_key=key, limit=paging.limit, after=paging.after
    )
    return Listing[AnalysisOut].of(page, AnalysisOut.of)


@router.post(
    "/analyses",
    status_code=202,
    summary="Analyse an experiment now",
    responses=problems(NotFound, NotReady),
)
async def analyse_experiment(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    key: Handle,
    request: Request,
    response: Response,
    wanted: Annotated[AnalysisIn | None, Body()] = None,
) -> AnalysisOut:
    """By the frozen plan. Asking twice for the same plan and time returns the same analysis."""
    row, waiting = await analysis_request.of_experiment(
        session,
        experiment=await experiment.get(session, key=key),
        actor=caller.name,
        at=now,
        data_as_of=wanted.data_as_of if wanted else None,
        max_attempts=settings.max_attempts,
    )
    if waiting:
        ring_after_commit(request, row.id, row.attempt)
    response.headers["Location"] = f"/v1/analyses/{row.id}"
    return AnalysisOut.of(row)


@router.get("/results", summary="All results of an experiment", responses=problems(NotFound))
async def list_results(caller: Reader, session: ReadSession, paging: Paging, key: Handle) -> Listing[ResultOut]:
    await experiment.get(session, key=key)
    page = await stored_result.history(
        session, kind="experiment", subject_key=key, limit=paging.limit, after=paging.after
    )
    return Listing[ResultOut].of(page, ResultOut.of)


@router.get("/rows", summary="Flat rows of a result", responses=problems(NotFound))
async def list_rows(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    key: Handle,
    result_id: Annotated[uuid.UUID | None, Query(description="Default: the latest result")] = None,
    metric_key: Annotated[str | None, Query(max_length=63)] = None,
    variant_key: Annotated[str | None, Query(max_length=63)] = None,
    role: Role | None = None,
    segment_dimension: Annotated[str | None, Query(max_length=64)] = None,
    overall: Annotated[bool | None, Query(description="true: only rows over everybody; false: only segments")] = None,
) -> Listing[ResultRowOut]:
    await experiment.get(session, key=key)
    if result_id is None:
        result_id = (await stored_result.latest(session, kind="experiment", subject_key=key)).id
    page = await stored_result.rows(
        session,
        result_id=result_id,
        experiment_key=key,
        metric_key=metric_key,
        variant_key=variant_key,
        role=role.value if role else None,
        segment_dimension=segment_dimension,
        overall=overall,
        limit=paging.limit,
        after=paging.after,
    )
    return Listing[ResultRowOut].of(page, ResultRowOut.of)


async def get_latest_result(caller: Reader, session: ReadSession, key: Handle, request: Request) -> Response:
    """The stored bytes of the newest result, with a strong ETag; poll it with If-None-Match."""
    await experiment.get(session, key=key)
    return await latest_bytes(request, session, "experiment", key)


hot = api_router("experiment results", "/experiments/{key}")
hot.route_class = answered_from_memory(
    lambda request: cache_of(request).latest("experiment", request.path_params["key"]), latest=True
)
hot.add_api_route(
    "/result",
    get_latest_result,
    methods=["GET"],
    summary="The latest result of an experiment",
    response_class=Response,
    responses={200: {"model": ExperimentResult, "description": "The document as it was stored"}, **problems(NotFound)},
)
