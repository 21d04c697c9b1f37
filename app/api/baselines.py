"""/v1/baselines and /v1/sample-size: history, and what it says about experiments to come."""

from typing import Annotated, Any, Final, Literal

from fastapi import Body, Path, Request, Response
from pydantic import Field

from app.api import examples
from app.api.analyses import AnalysisOut
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork, ring_after_commit
from app.api.parameters import AnalysisIn, Input
from app.api.problems import problems
from app.api.results import latest_bytes
from app.api.routing import PlainRoute, api_router
from app.api.security import Reader, Writer
from experiments import analysis_request, stored_result
from experiments.definitions import ExperimentSpec, PlanMetric, Variant
from experiments.errors import NotFound
from experiments.planning import SampleSize, sample_size
from experiments.result import BaselineResult
from experiments.validation import parse

router = api_router("planning", "/baselines/{unit_type}")
UnitType = Annotated[str, Path(min_length=1, max_length=64, description="user, account, session, …")]
_EXAMPLE: Final[dict[str, Any]] = {
    "unit_type": "user",
    "variants": examples.EXPERIMENT["variants"],
    "metrics": examples.EXPERIMENT["metrics"],
    "power": 0.8,
    "coverage": 1,
}


class SampleSizeIn(Input):
    """An experiment to come."""

    unit_type: str = Field(default="user", min_length=1, max_length=64)
    variants: list[Variant] = Field(min_length=2, max_length=20)
    metrics: list[PlanMetric] = Field(min_length=1, max_length=200)
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Two-sided, for the primary metrics together")
    power: float = Field(default=0.8, gt=0, lt=1)
    coverage: float = Field(default=1.0, gt=0, le=1)
    cuped: bool = True
    monitoring: Literal["fixed", "always_valid"] = "fixed"


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


planning = api_router("planning", "/sample-size", PlainRoute)


@planning.post("", summary="How many units and days an experiment needs", responses=problems(NotFound))
async def plan_sample_size(
    caller: Reader,
    session: ReadSession,
    wanted: Annotated[SampleSizeIn, Body(openapi_examples=examples.example(_EXAMPLE))],
) -> SampleSize:
    """From the latest baseline of the unit type; changes nothing."""
    document = wanted.model_dump(mode="json", include={"variants", "metrics", "coverage", "unit_type"})
    spec = parse(ExperimentSpec, {"key": "planned", "name": "planned", **document})
    result = await stored_result.latest(session, kind="baseline", subject_key=wanted.unit_type)
    return sample_size(
        variants=spec.variants,
        metrics=spec.metrics,
        baselines=BaselineResult.model_validate_json(result.body),
        alpha=wanted.alpha,
        power=wanted.power,
        coverage=wanted.coverage,
        cuped=wanted.cuped,
        monitoring=wanted.monitoring,
    )
