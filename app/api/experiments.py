"""/v1/experiments: definitions."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from app.api import examples
from app.api.deps import Now, ReadSession, UnitOfWork
from app.api.paging import Listing, Paging
from app.api.parameters import Handle, with_server_fields
from app.api.preconditions import IfMatch, etag_of, not_modified
from app.api.problems import problems, with_example
from app.api.routing import api_router
from app.api.security import Reader, Writer
from experiments import experiment, lifecycle
from experiments.definitions import ExperimentSpec
from experiments.errors import InvalidDefinition, KeyTaken, NotFound, PlanFrozen, PreconditionRequired, VersionConflict
from experiments.tables import Experiment, Phase

router = api_router("experiments", "/experiments")
_EXAMPLES: dict[str, Any] = {
    **examples.example(examples.EXPERIMENT),
    "beliefs": {"summary": "The Bayesian engine leads, with a learned prior", "value": examples.BELIEFS_LEAD},
    "exposures": {"summary": "Exposures are rows of a fact source", "value": examples.READS_EXPOSURES},
}
_CREATE_PROBLEMS = with_example(
    problems(KeyTaken, InvalidDefinition), 422, "a flat prior that is watched", examples.FLAT_PRIOR_REFUSED
)
SpecIn = Annotated[ExperimentSpec, Body(openapi_examples=_EXAMPLES)]
type Verdict = Literal["better", "worse", "equivalent", "inconclusive", "unreliable"]
type Status = Literal["draft", "running", "paused", "stopped", "archived"]


class PhaseOut(BaseModel):
    """A period of constant coverage and weights."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    started_at: datetime
    ended_at: datetime | None
    coverage: float
    weights: dict[str, float]


class ExperimentOut(ExperimentSpec):
    """An experiment: its definition, where it is in its life, and the verdict of its latest result."""

    version: int
    status: Status
    conclusion: str | None
    verdict: Verdict | None
    plan_hash: str | None
    started_at: datetime | None
    stopped_at: datetime | None
    created_at: datetime
    updated_at: datetime
    legal_moves: list[str]

    @classmethod
    def of(cls, row: Experiment, verdict: str | None) -> "ExperimentOut":
        return cls.model_validate(_document(row, verdict))


class ExperimentDetail(ExperimentOut):
    """An experiment with its phases."""

    phases: list[PhaseOut]

    @classmethod
    def with_phases(cls, row: Experiment, verdict: str | None, phases: list[Phase]) -> "ExperimentDetail":
        return cls.model_validate(_document(row, verdict) | {"phases": [PhaseOut.model_validate(p) for p in phases]})


def _document(row: Experiment, verdict: str | None) -> dict[str, Any]:
    return with_server_fields(
        row.spec,
        version=row.version,
        status=row.status,
        conclusion=row.conclusion,
        verdict=verdict,
        plan_hash=row.plan_hash,
        started_at=row.started_at,
        stopped_at=row.stopped_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        legal_moves=lifecycle.legal_moves(row),
    )


async def detail(session: ReadSession, row: Experiment, response: Response) -> ExperimentDetail:
    """The experiment as it is answered, with its ETag."""
    response.headers["ETag"] = etag_of(row.version)
    verdicts = await experiment.verdicts_of(session, experiments=[row])
    return ExperimentDetail.with_phases(row, verdicts[row.key], await lifecycle.phases_of(session, experiment=row))


@router.get("", summary="List experiments")
async def list_experiments(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    status: Status | None = None,
    verdict: Annotated[Verdict | None, Query(description="Of the latest result")] = None,
    owner: Annotated[str | None, Query(max_length=200)] = None,
    team: Annotated[str | None, Query(max_length=200)] = None,
    tag: Annotated[str | None, Query(max_length=64)] = None,
    unit_type: Annotated[str | None, Query(max_length=64)] = None,
    q: Annotated[str | None, Query(max_length=200, description="Text in key, name or hypothesis")] = None,
) -> Listing[ExperimentOut]:
    page = await experiment.page(
        session,
        status=status,
        verdict=verdict,
        owner=owner,
        team=team,
        tag=tag,
        unit_type=unit_type,
        q=q,
        limit=paging.limit,
        after=paging.after,
    )
    verdicts = await experiment.verdicts_of(session, experiments=list(page.items))

    def shown(row: Experiment) -> ExperimentOut:
        return ExperimentOut.of(row, verdicts[row.key])

    return Listing[ExperimentOut].of(page, shown)


@router.post("", status_code=201, summary="Register an experiment (a draft)", responses=_CREATE_PROBLEMS)
async def create_experiment(
    caller: Writer, session: UnitOfWork, now: Now, spec: SpecIn, response: Response
) -> ExperimentDetail:
    row = await experiment.create(session, spec=spec, actor=caller.name, at=now)
    response.headers["Location"] = f"/v1/experiments/{row.key}"
    return await detail(session, row, response)


@router.get("/{key}", summary="Read an experiment", response_model=ExperimentDetail, responses=problems(NotFound))
async def get_experiment(
    caller: Reader, session: ReadSession, key: Handle, request: Request, response: Response
) -> ExperimentDetail | Response:
    row = await experiment.get(session, key=key)
    return not_modified(request, row.version) or await detail(session, row, response)


_EDIT_PROBLEMS = problems(NotFound, PlanFrozen, VersionConflict, PreconditionRequired, InvalidDefinition)


@router.put("/{key}", summary="Write the whole definition", responses=_EDIT_PROBLEMS)
async def replace_experiment(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: IfMatch,
    spec: SpecIn,
    response: Response,
) -> ExperimentDetail:
    row = await experiment.get(session, key=key, lock=True)
    await experiment.replace(session, experiment=row, spec=spec, expected=expected, actor=caller.name, at=now)
    return await detail(session, row, response)


@router.patch("/{key}", summary="Write some fields of the definition", responses=_EDIT_PROBLEMS)
async def patch_experiment(
    caller: Writer,
    session: UnitOfWork,
    now: Now,
    key: Handle,
    expected: IfMatch,
    changes: Annotated[
        dict[str, Any],
        Body(
            description="Top-level fields with their new values. Once the experiment has started only name, owner, "
            "team, tags, parent_key and relation; the rest takes an amendment.",
            openapi_examples=examples.example({"name": "One page", "tags": ["web", "ios"]}),
        ),
    ],
    response: Response,
) -> ExperimentDetail:
    row = await experiment.get(session, key=key, lock=True)
    await experiment.patch(session, experiment=row, changes=changes, expected=expected, actor=caller.name, at=now)
    return await detail(session, row, response)
