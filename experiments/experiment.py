"""Experiments: registering, reading and editing their definition. Their life is in `lifecycle`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, freezing, lineage, versioned
from experiments.definitions import ExperimentSpec
from experiments.errors import FieldError, InvalidDefinition, NotReady, PlanFrozen
from experiments.json_query import json_list_has, json_text
from experiments.paging import Page, page_of
from experiments.tables import Experiment, Result
from experiments.validation import parse

ADMINISTRATIVE: Final = frozenset({"name", "owner", "team", "tags", "parent_key", "relation"})
"""Fields that are no part of what was registered before the data came (METHODS H1): editable at any time."""


def spec_of(experiment: Experiment) -> ExperimentSpec:
    """The definition of a stored experiment."""
    return ExperimentSpec.model_validate(experiment.spec)


async def create(session: AsyncSession, *, spec: ExperimentSpec, actor: str, at: datetime) -> Experiment:
    """Register a draft. Raises `KeyTaken`, and `InvalidDefinition` for metrics, North Star or parent that do not exist.

    A draft may lack metrics; it cannot start without a primary one.
    """
    await freezing.check(session, spec=spec)
    parent = await lineage.parent_of(session, key=spec.key, parent_key=spec.parent_key)
    row = Experiment(
        key=spec.key,
        name=spec.name,
        owner=spec.owner,
        team=spec.team,
        spec=spec.model_dump(mode="json"),
        parent_id=parent.id if parent else None,
        relation=spec.relation,
        created_at=at,
        updated_at=at,
    )
    await versioned.insert(session, row, noun="experiment")
    audit.record(
        session,
        actor=actor,
        action="experiment.created",
        subject_type="experiment",
        subject_key=row.key,
        at=at,
        after=row.spec,
    )
    await session.flush()
    return row


async def get(session: AsyncSession, *, key: str, lock: bool = False) -> Experiment:
    """The experiment. Raises `NotFound`."""
    return await versioned.by_key(session, Experiment, key, noun="experiment", lock=lock)


async def replace(
    session: AsyncSession,
    *,
    experiment: Experiment,
    spec: ExperimentSpec,
    expected: int | None,
    actor: str,
    at: datetime,
) -> Experiment:
    """Write the whole definition. Raises `VersionConflict`, `InvalidDefinition`, and `PlanFrozen` (naming the fields)

    when the experiment has started and more than its administrative fields would change.
    """
    document, before = spec.model_dump(mode="json"), experiment.spec
    versioned.require(experiment, expected=expected)
    changed = sorted(field for field in document if document[field] != before.get(field))
    if not changed:
        return experiment
    _refuse_key_change(experiment, spec)
    _refuse_frozen(experiment, changed)
    if experiment.plan_hash is None:
        await freezing.check(session, spec=spec)
    await write_spec(session, experiment=experiment, spec=spec, expected=expected, at=at)
    audit.record(
        session,
        actor=actor,
        action="experiment.edited",
        subject_type="experiment",
        subject_key=experiment.key,
        at=at,
        before={field: before.get(field) for field in changed},
        after={field: document[field] for field in changed},
    )
    await session.flush()
    return experiment


async def patch(
    session: AsyncSession,
    *,
    experiment: Experiment,
    changes: Mapping[str, Any],
    expected: int | None,
    actor: str,
    at: datetime,
) -> Experiment:
    """Write the top-level fields in `changes` and keep the others. Raises as `replace`."""
    spec = parse(ExperimentSpec, {**experiment.spec, **changes})
    return await replace(session, experiment=experiment, spec=spec, expected=expected, actor=actor, at=at)


async def write_spec(
    session: AsyncSession,
    *,
    experiment: Experiment,
    spec: ExperimentSpec,
    expected: int | None,
    at: datetime,
    **values: Any,
) -> None:
    """Store a definition and the columns that repeat parts of it. Whether it may change is the caller's question."""
    parent = await lineage.parent_of(session, key=spec.key, parent_key=spec.parent_key)
    await versioned.update(
        session,
        experiment,
        expected=expected,
        spec=spec.model_dump(mode="json"),
        name=spec.name,
        owner=spec.owner,
        team=spec.team,
        parent_id=parent.id if parent else None,
        relation=spec.relation,
        updated_at=at,
        **values,
    )


async def page(
    session: AsyncSession,
    *,
    status: str | None = None,
    owner: str | None = None,
    team: str | None = None,
    unit_type: str | None = None,
    tag: str | None = None,
    verdict: str | None = None,
    q: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[Experiment]:
    """Experiments, newest first. `verdict` is that of the latest result; `q` is looked for in key, name, hypothesis."""
    statement = sa.select(Experiment)
    for column, value in ((Experiment.status, status), (Experiment.owner, owner), (Experiment.team, team)):
        if value is not None:
            statement = statement.where(col(column) == value)
    if unit_type is not None:
        statement = statement.where(json_text(session, Experiment.spec, "unit_type") == unit_type)
    if tag is not None:
        statement = statement.where(json_list_has(session, Experiment.spec, "tags", tag))
    if verdict is not None:
        statement = statement.where(latest_verdict() == verdict)
    if q:
        hypothesis = json_text(session, Experiment.spec, "hypothesis")
        statement = statement.where(
            sa.or_(
                *(
                    sa.func.lower(text).contains(q.lower(), autoescape=True)
                    for text in (col(Experiment.key), col(Experiment.name), hypothesis)
                )
            )
        )
    return await page_of(session, statement, Experiment, limit=limit, after=after)


def latest_verdict() -> sa.ScalarSelect[str | None]:
    """The verdict of an experiment's latest result, as a column beside `Experiment`."""
    return (
        sa.select(col(Result.verdict))
        .where(col(Result.subject_key) == col(Experiment.key), col(Result.kind) == "experiment")
        .order_by(col(Result.data_as_of).desc(), col(Result.id).desc())
        .limit(1)
        .correlate(Experiment)
        .scalar_subquery()
    )


async def verdicts_of(session: AsyncSession, *, experiments: list[Experiment]) -> dict[str, str | None]:
    """The verdicts of the latest results, by key."""
    statement = sa.select(col(Experiment.key), latest_verdict()).where(
        col(Experiment.id).in_([experiment.id for experiment in experiments])
    )
    return {row[0]: row[1] for row in await session.execute(statement)}


def require_plan(experiment: Experiment) -> dict[str, Any]:
    """The frozen plan. Raises `NotReady` for a draft."""
    if experiment.plan is None:
        raise NotReady(
            f"`{experiment.key}` has no frozen plan: it has never been started",
            remedy=f"Start it with POST /v1/experiments/{experiment.key}/start.",
        )
    return experiment.plan


def _refuse_key_change(experiment: Experiment, spec: ExperimentSpec) -> None:
    if spec.key != experiment.key:
        raise InvalidDefinition(
            "The key of an experiment cannot change",
            remedy="Register another experiment.",
            errors=[FieldError("/key", f"must stay `{experiment.key}`")],
        )


def _refuse_frozen(experiment: Experiment, changed: list[str]) -> None:
    frozen = [field for field in changed if field not in ADMINISTRATIVE]
    if experiment.plan_hash is not None and frozen:
        raise PlanFrozen(
            f"`{experiment.key}` has started: {', '.join(f'`{field}`' for field in frozen)} can only be amended",
            remedy=f"POST /v1/experiments/{experiment.key}/amendments with a reason; every later result will show it.",
            errors=[FieldError(f"/{field}", "is part of the frozen plan") for field in frozen],
            plan_hash=experiment.plan_hash,
        )
