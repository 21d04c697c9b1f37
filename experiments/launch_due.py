"""Which launches are due to be measured again: only where data can have changed since they last were (METHODS D)."""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.definitions import LaunchSpec, SeriesSpec
from experiments.launch import spec_of
from experiments.launch_rules import series_named
from experiments.series_table import PERIOD
from experiments.tables import Experiment, IngestBatch, Launch, Result, Series, SeriesValue

_STREAM: Final = "series"


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A batch of values: when it was recorded, and the first period that it is about."""

    batch_id: uuid.UUID
    recorded_at: datetime
    first: datetime


@dataclass(frozen=True, slots=True)
class _Followed:
    """A series of a launch: values before `end` are about the launch, the last of them in a period that ends `over`."""

    spec: SeriesSpec
    end: datetime
    over: datetime


async def due(session: AsyncSession, *, as_of: datetime, newest: Mapping[str, datetime]) -> list[Launch]:
    """The launches to measure with the data of `as_of`; `newest` has the time of the data of each one's last analysis.

    A launch is due from its first step on: at once, after it was changed, when its series or its experiment say
    something new about it, every day where facts are its series, and once when its last period is over. Reads only.
    """
    statement = sa.select(Launch).where(col(Launch.first_at) < as_of).order_by(col(Launch.id))
    launches = [row for row in await session.scalars(statement) if row.spec.get("measurements")]
    waiting = [row for row in launches if row.key not in newest or newest[row.key] < as_of]
    measured = [row for row in waiting if row.key in newest]
    found = {row.key for row in waiting if row.key not in newest or row.updated_at > newest[row.key]}
    found |= await _tested_again(session, measured, newest, as_of)
    followed = await _followed(session, {row.key: spec_of(row) for row in measured if row.key not in found})
    last = {key: newest[key] for key in followed}
    found |= {key for key, series in followed.items() if any(_time_has_come(each, last[key], as_of) for each in series)}
    found |= await _told(session, {key: series for key, series in followed.items() if key not in found}, last, as_of)
    return [row for row in waiting if row.key in found]


async def _tested_again(
    session: AsyncSession, launches: Sequence[Launch], last: Mapping[str, datetime], as_of: datetime
) -> set[str]:
    """The launches whose experiment has a result that their last analysis did not have."""
    statement = (
        sa.select(col(Experiment.id), sa.func.max(col(Result.created_at)))
        .join(Result, sa.and_(col(Result.subject_key) == col(Experiment.key), col(Result.kind) == "experiment"))
        .where(
            col(Experiment.id).in_([row.experiment_id for row in launches if row.experiment_id is not None]),
            col(Result.created_at) <= as_of,
        )
        .group_by(col(Experiment.id))
    )
    reported = {row[0]: row[1] for row in await session.execute(statement)}
    return {
        row.key for row in launches if row.experiment_id in reported and reported[row.experiment_id] > last[row.key]
    }


def _time_has_come(series: _Followed, last: datetime, as_of: datetime) -> bool:
    """Whether the last period is over since the last analysis, or a day of facts is."""
    if last < series.over <= as_of:
        return True
    return series.spec.source == "facts" and last < series.over and last.date() < as_of.date()


async def _followed(session: AsyncSession, specs: Mapping[str, LaunchSpec]) -> dict[str, list[_Followed]]:
    keys = sorted({key for spec in specs.values() for key in series_named(spec)})
    statement = sa.select(col(Series.key), col(Series.spec)).where(col(Series.key).in_(keys))
    known = {key: SeriesSpec.model_validate(spec) for key, spec in await session.execute(statement)}
    return {key: list(_series_of(spec, known)) for key, spec in specs.items()}


def _series_of(spec: LaunchSpec, known: Mapping[str, SeriesSpec]) -> Iterator[_Followed]:
    for item in spec.measurements:
        end = spec.rollout[-1].at + timedelta(days=item.measure_for_days)
        for key in (item.series_key, *item.regressors, *item.controls):
            yield _Followed(known[key], end, end + PERIOD[known[key].grain])


async def _told(
    session: AsyncSession,
    followed: Mapping[str, Sequence[_Followed]],
    last: Mapping[str, datetime],
    as_of: datetime,
) -> set[str]:
    """The launches whose series were told something new about a time that counts, since the last analysis of each."""
    if not followed:
        return set()
    arrivals = await _arrivals(session, since=min(last[key] for key in followed), until=as_of)
    possible = [
        (key, each, arrival)
        for key, series in followed.items()
        for each in series
        for arrival in arrivals.get(each.spec.key, ())
        if arrival.recorded_at > last[key] and arrival.first < each.end
    ]
    changed = await _first_changes(session, {arrival.batch_id for _, _, arrival in possible})
    return {
        key
        for key, each, arrival in possible
        if arrival.batch_id in changed
        and changed[arrival.batch_id] < each.end
        and changed[arrival.batch_id] + PERIOD[each.spec.grain] <= arrival.recorded_at
    }


async def _arrivals(session: AsyncSession, *, since: datetime, until: datetime) -> dict[str, list[_Arrival]]:
    """By series, the batches that were recorded in (since, until]."""
    statement = sa.select(
        col(IngestBatch.id), col(IngestBatch.created_at), col(IngestBatch.first_at), col(IngestBatch.subjects)
    ).where(
        col(IngestBatch.stream) == _STREAM,
        col(IngestBatch.created_at) > since,
        col(IngestBatch.created_at) <= until,
    )
    found: dict[str, list[_Arrival]] = {}
    for batch_id, recorded_at, first, subjects in await session.execute(statement):
        if first is not None:
            for key in subjects:
                found.setdefault(key, []).append(_Arrival(batch_id, recorded_at, first))
    return found


async def _first_changes(session: AsyncSession, batches: Collection[uuid.UUID]) -> dict[uuid.UUID, datetime]:
    """By batch, the first period whose value it changed: what was sent again unchanged is not stored again."""
    statement = (
        sa.select(col(SeriesValue.batch_id), sa.func.min(col(SeriesValue.at)))
        .where(col(SeriesValue.batch_id).in_(batches))
        .group_by(col(SeriesValue.batch_id))
    )
    return {row[0]: row[1] for row in await session.execute(statement)}
