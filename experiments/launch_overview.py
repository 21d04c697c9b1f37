"""Launches at a glance: what was measured of each, read in a few queries for any number of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import overview
from experiments.definitions import LaunchSpec
from experiments.launch import spec_of
from experiments.launch_effects import KIND
from experiments.tables import Analysis, Launch, LaunchEffect, Result, Series


@dataclass(frozen=True, slots=True)
class LaunchGlance:
    """A launch in a list: the leading effects of its newest result, the primary measurement first."""

    launch: Launch
    spec: LaunchSpec
    experiment_key: str | None
    leading: Sequence[LaunchEffect]
    measuring: bool


async def glances(session: AsyncSession) -> list[LaunchGlance]:
    """All launches, the newest first: three queries, however many they are."""
    effects = await _leading(session)
    active = await session.scalars(
        sa.select(col(Analysis.subject_key)).where(col(Analysis.kind) == KIND, col(Analysis.state).in_(overview.ACTIVE))
    )
    measuring = frozenset(active)
    found: list[LaunchGlance] = []
    for row, experiment_key in await overview.launches_in_order(session):
        spec = spec_of(row)
        order = {item.series_key: place for place, item in enumerate(spec.measurements)}
        own = [effect for effect in effects if effect.launch_key == row.key]
        own.sort(key=lambda effect: order.get(effect.series_key, len(order)))
        found.append(LaunchGlance(row, spec, experiment_key, own, row.key in measuring))
    return found


async def series_names(session: AsyncSession) -> dict[str, str]:
    """What series are called, archived ones too."""
    return {key: spec["name"] for key, spec in await session.execute(sa.select(col(Series.key), col(Series.spec)))}


async def _leading(session: AsyncSession) -> Sequence[LaunchEffect]:
    """The leading effects of the newest result of every launch."""
    newest_first = (col(Result.data_as_of).desc(), col(Result.id).desc())
    rank = sa.func.row_number().over(partition_by=col(Result.subject_key), order_by=newest_first).label("rank")
    ranked = sa.select(col(Result.id), rank).where(col(Result.kind) == KIND).subquery()
    statement = (
        sa.select(LaunchEffect)
        .join(ranked, ranked.c.id == col(LaunchEffect.result_id))
        .where(ranked.c.rank == 1, col(LaunchEffect.leads))
        .order_by(col(LaunchEffect.id))
    )
    return (await session.scalars(statement)).all()
