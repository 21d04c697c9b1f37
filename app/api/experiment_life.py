"""/v1/experiments/{key}/…: moves, plan, amendments, decisions."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Body, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api import examples
from app.api.deps import Now, ReadSession, UnitOfWork
from app.api.experiments import ExperimentDetail, detail
from app.api.paging import Listing
from app.api.parameters import Handle, Input, MoveIn
from app.api.preconditions import OptionalIfMatch
from app.api.problems import problems
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import amendment, decision, experiment, lifecycle, versioned
from experiments.definitions import DecisionSpec, Key, Moment
from experiments.errors import (
    IllegalTransition,
    InvalidDefinition,
    KeyTaken,
    NotFound,
    NotReady,
    PlanIncomplete,
    VersionConflict,
)
from experiments.plan import AnalysisPlan
from experiments.tables import Experiment

router = api_router("experiment lifecycle", "/experiments/{key}")
_MOVE_PROBLEMS = problems(NotFound, IllegalTransition, VersionConflict, InvalidDefinition)
MoveBody = Annotated[MoveIn | None, Body()]


class StopIn(MoveIn):
    """Ending exposure; the conclusion may also come with the decision."""

    conclusion: Literal["won", "lost", "inconclusive", "stopped_early", "invalid"] | None = None


class AmendmentIn(Input):
    """A change to a frozen plan."""

    reason: str = Field(min_length=1, max_length=4000)
    changes: dict[str, Any] = Field(default_factory=dict, description="Top-level fields with their new values")
    refresh_definitions: bool = Field(
        default=False, description="Also move to the current versions of metrics, fact sources and North Star"
    )


class Change(BaseModel):
    """One place where the plan differs."""

    path: str
    before: Any
    after: Any


class AmendmentOut(BaseModel):
    """An amendment, as every later result shows it."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    at: datetime
    actor: str
    reason: str
    changes: list[Change]
    plan_hash_before: str
    plan_hash_after: str


class DecisionIn(DecisionSpec):
    """A decision; for `ship` with the launch that it makes."""

    coverage: float = Field(default=1.0, gt=0, le=1, description="Share that gets the change at once")
    launch_key: Key | None = Field(default=None, description="Default: the experiment's key")
    decided_at: Moment | None = Field(default=None, description="A time in the past; default: now")


class DecisionOut(BaseModel):
    """A decision with what it was made on and the launch it led to.

    `recommendation` is what the newest result recommended (METHODS H2), null where there was none.
    """

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    outcome: str
    shipped_variant: str | None
    reason: str
    learnings: str
    verdict: str | None
    recommendation: str | None
    against_recommendation: bool | None
    override_reason: str | None
    analysis_id: uuid.UUID | None
    launch_key: str | None = None
    decided_by: str
    decided_at: datetime


class PlanOut(BaseModel):
    """The frozen plan and its hash."""

    plan_hash: str
    plan: AnalysisPlan


async def _movable(session: UnitOfWork, key: str, expected: int | None) -> Experiment:
    row = await experiment.get(session, key=key, lock=True)
    versioned.require(row, expected=expected)
    return row


@router.post(
    "/start",
    summary="Freeze the plan and begin exposure",
    responses=problems(NotFound, IllegalTransition, VersionConflict, InvalidDefinition, PlanIncomplete),
)
async def start_experiment(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: OptionalIfMatch,
    response: Response,
    move: MoveBody = None,
) -> ExperimentDetail:
    row = await _movable(session, key, expected)
    await lifecycle.start(session, experiment=row, actor=caller.name, at=now, effective_at=move.at if move else None)
    return await detail(session, row, response)


@router.post("/pause", summary="Pause exposure", responses=_MOVE_PROBLEMS)
async def pause_experiment(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: OptionalIfMatch,
    response: Response,
    move: MoveBody = None,
) -> ExperimentDetail:
    row = await _movable(session, key, expected)
    await lifecycle.pause(session, experiment=row, actor=caller.name, at=now, effective_at=move.at if move else None)
    return await detail(session, row, response)


@router.post("/resume", summary="Resume exposure", responses=_MOVE_PROBLEMS)
async def resume_experiment(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: OptionalIfMatch,
    response: Response,
    move: MoveBody = None,
) -> ExperimentDetail:
    row = await _movable(session, key, expected)
    await lifecycle.resume(session, experiment=row, actor=caller.name, at=now, effective_at=move.at if move else None)
    return await detail(session, row, response)


@router.post("/stop", summary="End exposure", responses=_MOVE_PROBLEMS)
async def stop_experiment(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: OptionalIfMatch,
    response: Response,
    move: Annotated[StopIn | None, Body()] = None,
) -> ExperimentDetail:
    row = await _movable(session, key, expected)
    await lifecycle.stop(
        session,
        experiment=row,
        actor=caller.name,
        at=now,
        effective_at=move.at if move else None,
        conclusion=move.conclusion if move else None,
    )
    return await detail(session, row, response)


@router.post("/archive", summary="Put the experiment away", responses=_MOVE_PROBLEMS)
async def archive_experiment(
    caller: Writer, session: UnitOfWork, now: Now, key: Handle, expected: OptionalIfMatch, response: Response
) -> ExperimentDetail:
    row = await _movable(session, key, expected)
    await lifecycle.archive(session, experiment=row, actor=caller.name, at=now)
    return await detail(session, row, response)


@router.get("/plan", summary="The frozen analysis plan", responses=problems(NotFound, NotReady))
async def get_plan(caller: Reader, session: ReadSession, key: Handle) -> PlanOut:
    row = await experiment.get(session, key=key)
    return PlanOut.model_validate({"plan": experiment.require_plan(row), "plan_hash": row.plan_hash})


@router.get("/amendments", summary="All amendments, oldest first", responses=problems(NotFound))
async def list_amendments(caller: Reader, session: ReadSession, key: Handle) -> Listing[AmendmentOut]:
    row = await experiment.get(session, key=key)
    found = await amendment.of(session, experiment=row)
    return Listing(items=[AmendmentOut.model_validate(item) for item in found])


@router.post(
    "/amendments",
    status_code=201,
    summary="Amend the frozen plan",
    responses=problems(NotFound, NotReady, VersionConflict, PlanIncomplete, InvalidDefinition),
)
async def amend_plan(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: OptionalIfMatch,
    wanted: Annotated[AmendmentIn, Body(openapi_examples=examples.example(examples.AMENDMENT))],
) -> AmendmentOut:
    row = await _movable(session, key, expected)
    made = await amendment.amend(
        session,
        experiment=row,
        reason=wanted.reason,
        changes=wanted.changes,
        refresh_definitions=wanted.refresh_definitions,
        actor=caller.name,
        at=now,
    )
    return AmendmentOut.model_validate(made)


@router.get("/decisions", summary="All decisions; the first one counts", responses=problems(NotFound))
async def list_decisions(caller: Reader, session: ReadSession, key: Handle) -> Listing[DecisionOut]:
    row = await experiment.get(session, key=key)
    found = await decision.of(session, experiment=row)
    return Listing(
        items=[DecisionOut.model_validate(item).model_copy(update={"launch_key": launch}) for item, launch in found]
    )


@router.post(
    "/decisions",
    status_code=201,
    summary="Decide; shipping makes a launch",
    responses=problems(NotFound, NotReady, KeyTaken, InvalidDefinition, VersionConflict),
)
async def decide_experiment(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: OptionalIfMatch,
    wanted: Annotated[DecisionIn, Body(openapi_examples=examples.example(examples.DECISION))],
) -> DecisionOut:
    row = await _movable(session, key, expected)
    spec = DecisionSpec.model_validate(wanted.model_dump(include=set(DecisionSpec.model_fields)))
    made, shipped = await decision.decide(
        session,
        experiment=row,
        spec=spec,
        actor=caller.name,
        at=now,
        decided_at=wanted.decided_at,
        coverage=wanted.coverage,
        launch_key=wanted.launch_key,
    )
    return DecisionOut.model_validate(made).model_copy(update={"launch_key": shipped.key if shipped else None})
