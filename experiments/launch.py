"""Launches: what shipped, when, and to what share of whom (the coverage path c(t), METHODS D6)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, launch_rules, versioned
from experiments.definitions import ExperimentSpec, LaunchSpec
from experiments.errors import FieldError, InvalidDefinition
from experiments.paging import Page, page_of
from experiments.tables import Experiment, Launch, NorthStar, Result, RolloutStepRow


def spec_of(row: Launch) -> LaunchSpec:
    """The definition of a stored launch."""
    return LaunchSpec.model_validate(row.spec)


async def create(session: AsyncSession, *, spec: LaunchSpec, actor: str, at: datetime) -> Launch:
    """Record a launch. Raises `KeyTaken`, and `InvalidDefinition` for what it names and does not exist or fit.

    A launch that is recorded or measured after its first step was planned in the knowledge of what happened:
    `measured_since` says so, and the grade of its evidence heeds it (METHODS D7).
    """
    experiment = await _experiment_of(session, spec)
    await _check_north_star(session, spec)
    await launch_rules.check_measurements(session, spec, before=None)
    row = Launch(
        key=spec.key,
        name=spec.name,
        experiment_id=experiment.id if experiment else None,
        spec=spec.model_dump(mode="json"),
        first_at=spec.rollout[0].at,
        measured_since=at,
        created_at=at,
        updated_at=at,
    )
    await versioned.insert(session, row, noun="launch")
    _add_steps(session, row, spec)
    _audit(session, row, "launch.created", actor, at, None)
    await session.flush()
    return row


async def get(session: AsyncSession, *, key: str, lock: bool = False) -> Launch:
    """The launch. Raises `NotFound`."""
    return await versioned.by_key(session, Launch, key, noun="launch", lock=lock)


async def update(
    session: AsyncSession, *, launch: Launch, spec: LaunchSpec, expected: int | None, actor: str, at: datetime
) -> Launch:
    """Write the whole definition: another rollout step, a correction of one in the past, another measurement.

    Raises `VersionConflict`, `InvalidDefinition`. An equal definition changes nothing.
    """
    if spec.key != launch.key:
        raise InvalidDefinition(
            "The key of a launch cannot change",
            remedy="Record another launch.",
            errors=[FieldError("/key", f"must stay `{launch.key}`")],
        )
    before = spec_of(launch)
    if spec == before and expected in (None, launch.version):
        return launch
    experiment = await _experiment_of(session, spec)
    await _check_north_star(session, spec)
    await launch_rules.check_measurements(session, spec, before=before)
    await versioned.update(
        session,
        launch,
        expected=expected,
        spec=spec.model_dump(mode="json"),
        name=spec.name,
        experiment_id=experiment.id if experiment else None,
        first_at=spec.rollout[0].at,
        measured_since=launch.measured_since if spec.measurements == before.measurements else at,
        updated_at=at,
    )
    await session.execute(sa.delete(RolloutStepRow).where(col(RolloutStepRow.launch_id) == launch.id))
    _add_steps(session, launch, spec)
    _audit(session, launch, "launch.updated", actor, at, before.model_dump(mode="json"))
    await session.flush()
    return launch


async def page(
    session: AsyncSession,
    *,
    experiment_key: str | None = None,
    measured: bool | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[Launch]:
    """Launches, newest entry first; `measured` keeps those with (False: without) a result."""
    statement = sa.select(Launch)
    if experiment_key is not None:
        statement = statement.join(Experiment, col(Experiment.id) == col(Launch.experiment_id)).where(
            col(Experiment.key) == experiment_key
        )
    if measured is not None:
        with_result = sa.exists().where(col(Result.kind) == "launch", col(Result.subject_key) == col(Launch.key))
        statement = statement.where(with_result if measured else ~with_result)
    return await page_of(session, statement, Launch, limit=limit, after=after)


async def free_key(session: AsyncSession, *, wanted: str) -> str:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, … that no launch has."""
    stem = wanted[:58]
    taken: Sequence[str] = (
        await session.scalars(sa.select(col(Launch.key)).where(col(Launch.key).startswith(stem, autoescape=True)))
    ).all()
    number = 1
    key = wanted
    while key in taken:
        number += 1
        key = f"{stem}-{number}"
    return key


async def _check_north_star(session: AsyncSession, spec: LaunchSpec) -> None:
    if spec.north_star_key is None:
        return
    if await session.scalar(sa.select(col(NorthStar.id)).where(col(NorthStar.key) == spec.north_star_key)) is None:
        fault = f"there is no North Star `{spec.north_star_key}`"
        raise InvalidDefinition(
            f"north_star_key: {fault}",
            remedy="Name a registered North Star, or leave it out.",
            errors=[FieldError("/north_star_key", fault)],
        )


async def _experiment_of(session: AsyncSession, spec: LaunchSpec) -> Experiment | None:
    if spec.experiment_key is None:
        if spec.shipped_variant is not None:
            fault = "is a variant of an experiment: name the experiment too"
            raise InvalidDefinition(
                f"shipped_variant {fault}",
                remedy="Set `experiment_key`, or leave `shipped_variant` out.",
                errors=[FieldError("/shipped_variant", fault)],
            )
        return None
    experiment = await session.scalar(sa.select(Experiment).where(col(Experiment.key) == spec.experiment_key))
    if experiment is None:
        fault = f"there is no experiment `{spec.experiment_key}`"
        raise InvalidDefinition(
            f"experiment_key: {fault}",
            remedy="Name a registered experiment, or leave it out.",
            errors=[FieldError("/experiment_key", fault)],
        )
    variants = [variant.key for variant in ExperimentSpec.model_validate(experiment.spec).variants]
    if spec.shipped_variant is not None and spec.shipped_variant not in variants:
        fault = f"`{spec.shipped_variant}` is not one of {', '.join(variants)}"
        raise InvalidDefinition(
            f"shipped_variant: {fault}",
            remedy="Name a variant of the experiment.",
            errors=[FieldError("/shipped_variant", fault)],
        )
    return experiment


def _add_steps(session: AsyncSession, launch: Launch, spec: LaunchSpec) -> None:
    for step in spec.rollout:
        session.add(
            RolloutStepRow(
                launch_id=launch.id,
                at=step.at,
                coverage=step.coverage,
                mechanism=step.mechanism,
                segments=step.segments,
            )
        )


def _audit(
    session: AsyncSession, row: Launch, action: str, actor: str, at: datetime, before: dict[str, Any] | None
) -> None:
    audit.record(
        session,
        actor=actor,
        action=action,
        subject_type="launch",
        subject_key=row.key,
        at=at,
        before=before,
        after=row.spec,
    )
