"""Holdouts: people who are kept from launches, and the experiment that measures them (METHODS F3)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, north_star, versioned
from experiments.definitions import ExperimentSpec, HoldoutSpec
from experiments.errors import FieldError, InvalidDefinition
from experiments.json_query import json_text
from experiments.paging import Page, page_of
from experiments.tables import Experiment, Holdout, Launch, Metric, NorthStar


def spec_of(row: Holdout) -> HoldoutSpec:
    """The definition of a stored holdout."""
    return HoldoutSpec.model_validate(row.spec)


async def create(session: AsyncSession, *, spec: HoldoutSpec, actor: str, at: datetime) -> Holdout:
    """Register a holdout. Raises `KeyTaken`, and `InvalidDefinition` for what it names and does not exist or fit."""
    measuring = await _check(session, spec)
    row = Holdout(
        key=spec.key,
        experiment_id=measuring.id,
        spec=spec.model_dump(mode="json"),
        created_at=at,
        updated_at=at,
    )
    await versioned.insert(session, row, noun="holdout")
    _audit(session, row, "holdout.created", actor, at, None)
    await session.flush()
    return row


async def get(session: AsyncSession, *, key: str, lock: bool = False) -> Holdout:
    """The holdout. Raises `NotFound`."""
    return await versioned.by_key(session, Holdout, key, noun="holdout", lock=lock)


async def update(
    session: AsyncSession, *, holdout: Holdout, spec: HoldoutSpec, expected: int | None, actor: str, at: datetime
) -> Holdout:
    """Write the whole definition, say with its release. Raises `VersionConflict`, `InvalidDefinition`.

    The experiment stays: its people are the holdout. An equal definition changes nothing.
    """
    before = spec_of(holdout)
    if spec == before and expected in (None, holdout.version):
        return holdout
    versioned.require(holdout, expected=expected)
    for field in ("key", "experiment_key"):
        if getattr(spec, field) != getattr(before, field):
            _refuse(f"/{field}", f"must stay `{getattr(before, field)}`", "Register another holdout.")
    await _check(session, spec)
    await versioned.update(session, holdout, expected=expected, spec=spec.model_dump(mode="json"), updated_at=at)
    _audit(session, holdout, "holdout.updated", actor, at, before.model_dump(mode="json"))
    await session.flush()
    return holdout


async def page(
    session: AsyncSession, *, metric_key: str | None = None, limit: int = 50, after: str | None = None
) -> Page[Holdout]:
    """Holdouts, newest first."""
    statement = sa.select(Holdout)
    if metric_key is not None:
        statement = statement.where(json_text(session, Holdout.spec, "metric_key") == metric_key)
    return await page_of(session, statement, Holdout, limit=limit, after=after)


async def all_on(session: AsyncSession, *, metric_key: str | None) -> Sequence[tuple[Holdout, Experiment]]:
    """The holdouts on a metric (all with None) with their experiments, in the order in which they were registered."""
    statement = sa.select(Holdout, Experiment).join(Experiment, col(Experiment.id) == col(Holdout.experiment_id))
    if metric_key is not None:
        statement = statement.where(json_text(session, Holdout.spec, "metric_key") == metric_key)
    rows = await session.execute(statement.order_by(col(Holdout.created_at), col(Holdout.id)))
    return [(held, experiment) for held, experiment in rows.all()]


async def that_may_measure(session: AsyncSession) -> list[tuple[str, str]]:
    """Keys and names of the experiments of the purpose `holdout`, newest first."""
    statement = (
        sa.select(col(Experiment.key), col(Experiment.name))
        .where(json_text(session, Experiment.spec, "purpose") == "holdout")
        .order_by(col(Experiment.created_at).desc(), col(Experiment.id).desc())
    )
    return [(key, name) for key, name in (await session.execute(statement)).all()]


async def _check(session: AsyncSession, spec: HoldoutSpec) -> Experiment:
    """Returns the experiment that measures the holdout."""
    experiment = await session.scalar(sa.select(Experiment).where(col(Experiment.key) == spec.experiment_key))
    if experiment is None:
        _refuse(
            "/experiment_key",
            f"there is no experiment `{spec.experiment_key}`",
            "Register the experiment first: its control is the group that is kept back.",
        )
    definition = ExperimentSpec.model_validate(experiment.spec)
    if definition.purpose != "holdout":
        _refuse(
            "/experiment_key",
            f"`{spec.experiment_key}` has the purpose `{definition.purpose}`",
            "Name an experiment of the purpose `holdout`: its control is kept from everything that ships.",
        )
    if await session.scalar(sa.select(col(Metric.id)).where(col(Metric.key) == spec.metric_key)) is None:
        _refuse("/metric_key", f"there is no metric `{spec.metric_key}`", "Register the metric first.")
    measured = await _measured_by(session, experiment, definition)
    if spec.metric_key not in measured:
        _refuse(
            "/metric_key",
            f"the experiment `{spec.experiment_key}` does not measure `{spec.metric_key}`",
            f"Measure it there, or name one of {', '.join(f'`{key}`' for key in sorted(measured)) or 'its metrics'}.",
        )
    await _require_launches(session, spec)
    return experiment


async def _measured_by(session: AsyncSession, experiment: Experiment, definition: ExperimentSpec) -> set[str]:
    """The metrics of its plan, or of the plan that it would be frozen with."""
    if experiment.plan is not None:
        return {each["metric_key"] for each in experiment.plan["metrics"]}
    found = {each.metric_key for each in definition.metrics}
    if definition.north_star_key is not None:
        tree = await session.scalar(sa.select(NorthStar).where(col(NorthStar.key) == definition.north_star_key))
        if tree is not None:
            found.update(north_star.metric_keys_of(north_star.spec_of(tree)))
    return found


async def _require_launches(session: AsyncSession, spec: HoldoutSpec) -> None:
    known = set(await session.scalars(sa.select(col(Launch.key)).where(col(Launch.key).in_(spec.launch_keys))))
    errors = [
        FieldError(f"/launch_keys/{position}", f"there is no launch `{key}`")
        for position, key in enumerate(spec.launch_keys)
        if key not in known
    ]
    if errors:
        raise InvalidDefinition(
            f"launch_keys: {errors[0].detail}",
            remedy="Name launches on record; an empty list means every launch while people were held out.",
            errors=errors,
        )


def _refuse(pointer: str, fault: str, remedy: str) -> NoReturn:
    raise InvalidDefinition(f"{pointer[1:]}: {fault}", remedy=remedy, errors=[FieldError(pointer, fault)])


def _audit(
    session: AsyncSession, row: Holdout, action: str, actor: str, at: datetime, before: dict[str, Any] | None
) -> None:
    audit.record(
        session,
        actor=actor,
        action=action,
        subject_type="holdout",
        subject_key=row.key,
        at=at,
        before=before,
        after=row.spec,
    )
