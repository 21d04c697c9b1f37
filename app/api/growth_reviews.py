"""/v1/growth-reviews and /v1/ledger-lines: what moved a North Star in a period."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from app.api import examples
from app.api.analyses import AnalysisOut
from app.api.deps import Now, ReadSession, SettingsDep, UnitOfWork, ring_after_commit
from app.api.paging import Listing, Paging
from app.api.parameters import AnalysisIn, Handle, with_server_fields
from app.api.preconditions import IfMatch, etag_of, not_modified
from app.api.problems import problems
from app.api.results import ResultOut, latest_bytes
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import analysis_request, growth_review, ledger_lines, stored_result
from experiments.definitions import Moment, ReviewSpec
from experiments.errors import InvalidDefinition, KeyTaken, NotFound, NotReady, PreconditionRequired, VersionConflict
from experiments.ledger_lines import KIND
from experiments.result import GrowthReviewResult, LedgerComponent
from experiments.tables import GrowthReview, LedgerRow

router = api_router("growth reviews", "/growth-reviews")
rows = api_router("growth reviews", "/ledger-lines")
_EXAMPLES: dict[str, Any] = {
    "quarter": {"summary": "A quarter, held against the same weeks a year earlier", "value": examples.GROWTH_REVIEW}
}
SpecIn = Annotated[ReviewSpec, Body(openapi_examples=_EXAMPLES)]
KeyQuery = Annotated[str | None, Query(max_length=63)]


class ReviewOut(ReviewSpec):
    """A review of a period of a North Star."""

    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: GrowthReview) -> "ReviewOut":
        return cls.model_validate(
            with_server_fields(row.spec, version=row.version, created_at=row.created_at, updated_at=row.updated_at)
        )


class LedgerLineOut(BaseModel):
    """What one part contributed to the change of a North Star, in its units, with 80 % and 95 % intervals.

    `key` is null for a whole component; of launches there are also `grade:A` … and `launch:<key>`, of outside
    influences the series. Whole components add up to `observed`. `base` is what nothing on record explains.
    """

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    result_id: uuid.UUID
    review_key: str
    north_star_key: str
    begins_at: datetime
    ends_at: datetime
    component: LedgerComponent
    key: str | None
    name: str
    evidence_grade: str | None
    unit: str
    units: float
    lower_80: float
    upper_80: float
    lower_95: float
    upper_95: float
    log_mean: float
    log_lower_80: float
    log_upper_80: float
    chance_positive: float
    claimed_units: float | None

    @classmethod
    def of(cls, row: LedgerRow) -> "LedgerLineOut":
        return cls.model_validate(row)


@router.get("", summary="List growth reviews")
async def list_growth_reviews(
    caller: Reader, session: ReadSession, paging: Paging, north_star_key: KeyQuery = None
) -> Listing[ReviewOut]:
    page = await growth_review.page(session, north_star_key=north_star_key, limit=paging.limit, after=paging.after)
    return Listing[ReviewOut].of(page, ReviewOut.of)


@router.post("", status_code=201, summary="Register a growth review", responses=problems(KeyTaken, InvalidDefinition))
async def create_growth_review(
    caller: Writer, session: UnitOfWork, now: Now, spec: SpecIn, response: Response
) -> ReviewOut:
    """It is made when its period has ended, and made again while its launches and decisions change for a quarter."""
    row = await growth_review.create(session, spec=spec, actor=caller.name, at=now)
    response.headers["Location"] = f"/v1/growth-reviews/{row.key}"
    response.headers["ETag"] = etag_of(row.version)
    return ReviewOut.of(row)


@router.get("/{key}", summary="Read a growth review", response_model=ReviewOut, responses=problems(NotFound))
async def get_growth_review(
    caller: Reader, session: ReadSession, key: Handle, request: Request, response: Response
) -> ReviewOut | Response:
    row = await growth_review.get(session, key=key)
    response.headers["ETag"] = etag_of(row.version)
    return not_modified(request, row.version) or ReviewOut.of(row)


@router.put(
    "/{key}",
    summary="Write the whole growth review, say with notes and next bets",
    responses=problems(NotFound, VersionConflict, PreconditionRequired, InvalidDefinition),
)
async def update_growth_review(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: IfMatch,
    spec: SpecIn,
    response: Response,
) -> ReviewOut:
    row = await growth_review.get(session, key=key, lock=True)
    await growth_review.update(session, review=row, spec=spec, expected=expected, actor=caller.name, at=now)
    response.headers["ETag"] = etag_of(row.version)
    return ReviewOut.of(row)


@router.post(
    "/{key}/analyses",
    status_code=202,
    summary="Make a growth review now",
    responses=problems(NotFound, NotReady),
)
async def analyse_growth_review(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    settings: SettingsDep,
    key: Handle,
    request: Request,
    response: Response,
    wanted: Annotated[AnalysisIn | None, Body()] = None,
) -> AnalysisOut:
    """With everything on record now, and values of series as they were known at `data_as_of` (default: now)."""
    row, waiting = await analysis_request.of_growth_review(
        session,
        review=await growth_review.get(session, key=key),
        actor=caller.name,
        at=now,
        data_as_of=wanted.data_as_of if wanted else None,
        max_attempts=settings.max_attempts,
    )
    if waiting:
        ring_after_commit(request, row.id, row.attempt)
    response.headers["Location"] = f"/v1/analyses/{row.id}"
    return AnalysisOut.of(row)


@router.get("/{key}/analyses", summary="Analyses of a growth review", responses=problems(NotFound))
async def list_analyses_of_growth_review(
    caller: Reader, session: ReadSession, paging: Paging, key: Handle
) -> Listing[AnalysisOut]:
    await growth_review.get(session, key=key)
    page = await analysis_request.page(session, kind=KIND, subject_key=key, limit=paging.limit, after=paging.after)
    return Listing[AnalysisOut].of(page, AnalysisOut.of)


@router.get("/{key}/results", summary="All results of a growth review", responses=problems(NotFound))
async def list_results_of_growth_review(
    caller: Reader, session: ReadSession, paging: Paging, key: Handle
) -> Listing[ResultOut]:
    await growth_review.get(session, key=key)
    page = await stored_result.history(session, kind=KIND, subject_key=key, limit=paging.limit, after=paging.after)
    return Listing[ResultOut].of(page, ResultOut.of)


@router.get(
    "/{key}/result",
    summary="The latest result of a growth review",
    response_class=Response,
    responses={
        200: {"model": GrowthReviewResult, "description": "The document as it was stored"},
        **problems(NotFound),
    },
)
async def get_result_of_growth_review(caller: Reader, session: ReadSession, key: Handle, request: Request) -> Response:
    """The stored bytes, with a strong ETag; poll it with If-None-Match."""
    await growth_review.get(session, key=key)
    return await latest_bytes(request, session, KIND, key)


@rows.get("", summary="Lines of the ledgers of all growth reviews")
async def list_ledger_lines(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    review_key: KeyQuery = None,
    north_star_key: KeyQuery = None,
    component: LedgerComponent | None = None,
    result_id: Annotated[uuid.UUID | None, Query(description="Default: the latest result of each review")] = None,
    since: Annotated[Moment | None, Query(description="Only results stored since then")] = None,
    newest: Annotated[bool, Query(description="false: also results that a newer one has taken the place of")] = True,
) -> Listing[LedgerLineOut]:
    """What moved each North Star, for reports of your own: one row per part and review."""
    page = await ledger_lines.page(
        session,
        review_key=review_key,
        north_star_key=north_star_key,
        component=component,
        result_id=result_id,
        since=since,
        newest=newest,
        limit=paging.limit,
        after=paging.after,
    )
    return Listing[LedgerLineOut].of(page, LedgerLineOut.of)
