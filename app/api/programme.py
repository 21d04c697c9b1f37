"""/v1/metrics/{key}/programme and /v1/programme-effects: what all experiments on a metric did together."""

import uuid
from typing import Annotated

from fastapi import Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.analyses import AnalysisOut
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork, ring_after_commit
from app.api.paging import Listing, Paging
from app.api.parameters import Handle
from app.api.problems import problems
from app.api.results import ResultOut, latest_bytes
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import analysis_request, metric, programme_effects, stored_result
from experiments.definitions import Definition
from experiments.errors import NotFound, NotReady
from experiments.programme_plan import KIND
from experiments.result import ProgrammeResult
from experiments.tables import ProgrammeRow

router = api_router("programmes", "/metrics/{key}/programme")
rows = api_router("programmes", "/programme-effects")


class ProgrammeIn(Definition):
    """How the history came to be."""

    winners_only: bool = Field(
        default=False,
        description="The history was imported without its losers: every effect is corrected for having won, by "
        "assumption, because what the losers would say is not known",
    )


class ProgrammeEffectOut(BaseModel):
    """What one experiment measured and what is believed of it among all others, as log lifts.

    On the company where the experiment's share of the metric is known (`topline_source`). `chance_positive` is that the
    effect is good; `share_of_total` the part of the programme's total that is gone without it, null unless shipped.
    """

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    result_id: uuid.UUID
    metric_key: str
    experiment_key: str
    variant_key: str
    team: str | None
    shipped: bool
    evidence_grade: str
    topline_source: str
    claimed: float
    claimed_standard_error: float
    shrunk: float
    shrunk_sd: float
    shrunk_lower_80: float
    shrunk_upper_80: float
    shrunk_lower_95: float
    shrunk_upper_95: float
    chance_positive: float
    share_of_total: float | None

    @classmethod
    def of(cls, row: ProgrammeRow) -> "ProgrammeEffectOut":
        return cls.model_validate(row)


@router.get(
    "",
    summary="The latest programme of a metric",
    response_class=Response,
    responses={200: {"model": ProgrammeResult, "description": "The document as it was stored"}, **problems(NotFound)},
)
async def get_programme(caller: Reader, session: ReadSession, key: Handle, request: Request) -> Response:
    """Totals of what shipped, every experiment claimed and believed, and holdouts. The stored bytes, with an ETag."""
    await metric.get(session, key=key)
    if await stored_result.latest_id(session, kind=KIND, subject_key=key) is None:
        raise NotFound(
            f"The programme of `{key}` was not computed yet",
            remedy=f"Ask for it with POST /v1/metrics/{key}/programme.",
        )
    return await latest_bytes(request, session, KIND, key)


@router.get("/versions", summary="All programmes of a metric, newest first", responses=problems(NotFound))
async def list_programmes(caller: Reader, session: ReadSession, key: Handle, paging: Paging) -> Listing[ResultOut]:
    await metric.get(session, key=key)
    page = await stored_result.history(session, kind=KIND, subject_key=key, limit=paging.limit, after=paging.after)
    return Listing[ResultOut].of(page, ResultOut.of)


@router.post(
    "",
    status_code=202,
    summary="Compute the programme of a metric now",
    responses=problems(NotFound, NotReady),
)
async def compute_programme(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    key: Handle,
    request: Request,
    response: Response,
    wanted: Annotated[ProgrammeIn | None, Body()] = None,
) -> AnalysisOut:
    """From every experiment on it that has ended. With the same effects and decisions it is the same analysis."""
    row, waiting = await analysis_request.of_programme(
        session,
        metric_key=key,
        winners_only=wanted is not None and wanted.winners_only,
        actor=caller.name,
        at=now,
        max_attempts=settings.max_attempts,
    )
    if waiting:
        ring_after_commit(request, row.id, row.attempt)
    response.headers["Location"] = f"/v1/analyses/{row.id}"
    return AnalysisOut.of(row)


@rows.get("", summary="Flat rows of all programmes")
async def list_programme_effects(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    metric_key: Annotated[str | None, Query(max_length=63)] = None,
    experiment_key: Annotated[str | None, Query(max_length=63)] = None,
    team: Annotated[str | None, Query(max_length=200)] = None,
    shipped: Annotated[bool | None, Query(description="true: only what shipped; false: only what did not")] = None,
    result_id: Annotated[uuid.UUID | None, Query(description="Default: the newest programme of each metric")] = None,
    newest: Annotated[bool, Query(description="false: also programmes that a newer one has taken the place of")] = True,
) -> Listing[ProgrammeEffectOut]:
    """Claimed and believed, for reports of your own: one row per metric and experiment."""
    page = await programme_effects.page(
        session,
        metric_key=metric_key,
        experiment_key=experiment_key,
        team=team,
        shipped=shipped,
        result_id=result_id,
        newest=newest,
        limit=paging.limit,
        after=paging.after,
    )
    return Listing[ProgrammeEffectOut].of(page, ProgrammeEffectOut.of)
