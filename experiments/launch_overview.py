"""Launches at a glance: what was measured of each, read in a few queries for any number of them."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import learned_prior, metric, north_star, overview
from experiments.definitions import LaunchSpec, SeriesSpec
from experiments.launch import spec_of
from experiments.launch_effects import KIND, newest_results
from experiments.series import spec_of as series_spec
from experiments.tables import Analysis, Launch, LaunchEffect, NorthStar, Series, SeriesValue, metadata

_MOMENT: Final = metadata.tables["series_values"].c.known_at.type


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
    effects = await _leading(session, None)
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


@dataclass(frozen=True, slots=True)
class SeriesInUse:
    """A series in a list: when its newest value became known, and how many launches are measured on it."""

    series: Series
    spec: SeriesSpec
    last_known_at: datetime | None
    launches: int


async def series_in_use(session: AsyncSession) -> list[SeriesInUse]:
    """All series that are not archived, by name."""
    rows = await session.scalars(sa.select(Series).where(col(Series.archived_at).is_(None)))
    newest = sa.select(col(SeriesValue.series_id), sa.func.max(col(SeriesValue.known_at), type_=_MOMENT))
    known = {row[0]: row[1] for row in await session.execute(newest.group_by(col(SeriesValue.series_id)))}
    used = Counter(
        item.series_key for row in await session.scalars(sa.select(Launch)) for item in spec_of(row).measurements
    )
    found = [SeriesInUse(row, series_spec(row), known.get(row.id), used[row.key]) for row in rows]
    return sorted(found, key=lambda item: item.spec.name.lower())


async def measured_on(session: AsyncSession, *, series_key: str) -> list[Launch]:
    """The launches that name a series to be measured on, the newest first."""
    return [
        row
        for row, _ in await overview.launches_in_order(session)
        if any(item.series_key == series_key for item in spec_of(row).measurements)
    ]


async def averages(session: AsyncSession, *, series_keys: Collection[str]) -> frozenset[str]:
    """Those of these series whose values are averages, which do not add up over time."""
    rows = await session.scalars(sa.select(Series).where(col(Series.key).in_(series_keys)))
    return frozenset(row.key for row in rows if series_spec(row).aggregation == "mean")


async def series_names(session: AsyncSession) -> dict[str, str]:
    """What series are called, archived ones too."""
    return {key: spec["name"] for key, spec in await session.execute(sa.select(col(Series.key), col(Series.spec)))}


async def grades(session: AsyncSession, *, launch_keys: Collection[str]) -> dict[str, str]:
    """The evidence grade of launches that were measured, by key: that of the first series of the newest result."""
    effects = await primary_effects(session, launch_keys=launch_keys)
    return {key: effect.evidence_grade for key, effect in effects.items()}


async def primary_effects(session: AsyncSession, *, launch_keys: Collection[str]) -> dict[str, LaunchEffect]:
    """The leading effect on the first series of the newest result, by launch; those never measured are left out."""
    effects = await _leading(session, launch_keys) if launch_keys else ()
    return {effect.launch_key: effect for effect in reversed(effects)}


@dataclass(frozen=True, slots=True)
class UsualEffect:
    """Where the middle `share` of effects on a metric lie, by the prior learned from its past experiments."""

    metric_key: str
    metric_name: str
    share: float
    lower: float
    upper: float


async def usual_effect(session: AsyncSession, *, share: float = 0.95) -> UsualEffect | None:
    """What is usual for the North Star's metric, or else for the first of its inputs that has a learned prior."""
    star = await session.scalar(sa.select(NorthStar).order_by(col(NorthStar.id)).limit(1))
    if star is None:
        return None
    spec = north_star.spec_of(star)
    keys = [spec.metric_key, *(item.metric_key for item in spec.input_metrics)]
    learned = await learned_prior.pinned(session, metric_keys=keys, experiment_key="", team="")
    key = next((key for key in keys if key in learned), None)
    if key is None:
        return None
    known = await metric.all_known(session, archived=True)
    reach = NormalDist().inv_cdf(0.5 + share / 2) * learned[key].scale
    lower, upper = (math.expm1(learned[key].mean + side * reach) for side in (-1, 1))
    return UsualEffect(key, known[key].spec.name, share, lower, upper)


async def _leading(session: AsyncSession, launch_keys: Collection[str] | None) -> Sequence[LaunchEffect]:
    """The leading effects of the newest result of these launches, of all launches without keys."""
    statement = (
        sa.select(LaunchEffect)
        .where(col(LaunchEffect.result_id).in_(newest_results()), col(LaunchEffect.leads))
        .order_by(col(LaunchEffect.id))
    )
    if launch_keys is not None:
        statement = statement.where(col(LaunchEffect.launch_key).in_(launch_keys))
    return (await session.scalars(statement)).all()
