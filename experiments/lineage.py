"""Lineage: which experiment came from which, and what was launched because of it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.errors import FieldError, InvalidDefinition
from experiments.tables import Experiment, Launch


@dataclass(frozen=True, slots=True)
class Lineage:
    """Ancestors from the parent upwards; direct children and launches, oldest first."""

    ancestors: Sequence[Experiment]
    children: Sequence[Experiment]
    launches: Sequence[Launch]


async def of(session: AsyncSession, *, experiment: Experiment) -> Lineage:
    """Where the experiment comes from and what became of it."""
    children = await session.scalars(
        sa.select(Experiment).where(col(Experiment.parent_id) == experiment.id).order_by(col(Experiment.id))
    )
    launches = await session.scalars(
        sa.select(Launch).where(col(Launch.experiment_id) == experiment.id).order_by(col(Launch.first_at))
    )
    return Lineage(await _ancestors(session, experiment.parent_id), children.all(), launches.all())


async def parent_of(session: AsyncSession, *, key: str, parent_key: str | None) -> Experiment | None:
    """The parent that `key` names. Raises `InvalidDefinition` if it does not exist or descends from `key`."""
    if parent_key is None:
        return None
    parent = await session.scalar(sa.select(Experiment).where(col(Experiment.key) == parent_key))
    if parent is None:
        raise _invalid(f"there is no experiment `{parent_key}`", "Register the parent first.")
    if key in [parent.key, *(ancestor.key for ancestor in await _ancestors(session, parent.parent_id))]:
        raise _invalid(f"`{parent_key}` descends from `{key}`", "An experiment cannot come from itself.")
    return parent


async def _ancestors(session: AsyncSession, parent_id: uuid.UUID | None) -> list[Experiment]:
    found: list[Experiment] = []
    while parent_id is not None:
        parent = await session.get_one(Experiment, parent_id)
        found.append(parent)
        parent_id = parent.parent_id
    return found


def _invalid(fault: str, remedy: str) -> InvalidDefinition:
    return InvalidDefinition(f"parent_key: {fault}", remedy=remedy, errors=[FieldError("/parent_key", fault)])
