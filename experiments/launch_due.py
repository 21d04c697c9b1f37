"""Which launches are due to be measured again: only where data can have changed since they last were (METHODS D)."""

from collections.abc import Collection, Mapping, Sequence
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
from experiments.tables import IngestBatch, Launch, Series, SeriesValue

_LONGEST_PERIOD: Final = max(PERIOD.values())


@dataclass(frozen=True, slots=True)
class _Arrival:
    """Values that came in one batch: when they were recorded, and the first and last period they are about."""

    recorded_at: datetime
    first: datetime
    last: datetime


async def due(session: AsyncSession, *, as_of: datetime, newest: Mapping[str, datetime]) -> list[Launch]:
    """The launches to measure with the data of `as_of`; `newest` has the time of the data of each one's last analysis.

    A launch is due from its first step on: at once, after it was changed, when values of its series arrived or a period
    of them was completed, every day where facts are its series, and once when its last period is over. Reads only.
    """
    statement = sa.select(Launch).where(col(Launch.first_at) < as_of).order_by(col(Launch.id))
    launches = [row for row in await session.scalars(statement) if row.spec.get("measurements")]
    waiting = [row for row in launches if row.key not in newest or newest[row.key] < as_of]
    specs = {row.key: spec_of(row) for row in waiting}
    series = await _series(session, {key for spec in specs.values() for key in series_named(spec)})
    seen = [newest[row.key] for row in waiting if row.key in newest]
    arrivals = await _arrivals(session, since=min(seen) - _LONGEST_PERIOD, until=as_of) if seen else {}
    return [
        row
        for row in waiting
        if row.key not in newest
        or row.updated_at > newest[row.key]
        or _has_news(specs[row.key], series, arrivals, last=newest[row.key], as_of=as_of)
    ]


def _has_news(
    spec: LaunchSpec,
    series: Mapping[str, SeriesSpec],
    arrivals: Mapping[str, Sequence[_Arrival]],
    *,
    last: datetime,
    as_of: datetime,
) -> bool:
    for item in spec.measurements:
        keys = (item.series_key, *item.regressors, *item.controls)
        named = [series[key] for key in keys if key in series]
        end = spec.rollout[-1].at + timedelta(days=item.measure_for_days)
        for each in named:
            period = PERIOD[each.grain]
            over = end + period  # when the period is complete in which measuring ends
            if last < over <= as_of:
                return True
            if each.source == "facts" and last < over and last.date() < as_of.date():
                return True
            if any(_counts(arrival, period, end, last, as_of) for arrival in arrivals.get(each.key, ())):
                return True
    return False


def _counts(arrival: _Arrival, period: timedelta, end: datetime, last: datetime, as_of: datetime) -> bool:
    """Whether an analysis of `as_of` sees values of a batch that the one of `last` did not."""
    if arrival.first >= end:
        return False
    return arrival.recorded_at > last or last < arrival.last + period <= as_of


async def _series(session: AsyncSession, keys: Collection[str]) -> dict[str, SeriesSpec]:
    statement = sa.select(col(Series.key), col(Series.spec)).where(col(Series.key).in_(sorted(keys)))
    return {key: SeriesSpec.model_validate(spec) for key, spec in await session.execute(statement)}


async def _arrivals(session: AsyncSession, *, since: datetime, until: datetime) -> dict[str, list[_Arrival]]:
    """By series, the batches with values of it that were recorded in (since, until]."""
    statement = (
        sa.select(
            col(Series.key),
            col(IngestBatch.created_at),
            sa.func.min(col(SeriesValue.at)),
            sa.func.max(col(SeriesValue.at)),
        )
        .select_from(IngestBatch)
        .join(SeriesValue, col(SeriesValue.batch_id) == col(IngestBatch.id))
        .join(Series, col(Series.id) == col(SeriesValue.series_id))
        .where(col(IngestBatch.created_at) > since, col(IngestBatch.created_at) <= until)
        .group_by(col(Series.key), col(IngestBatch.id), col(IngestBatch.created_at))
    )
    found: dict[str, list[_Arrival]] = {}
    for key, recorded_at, first, last in await session.execute(statement):
        found.setdefault(key, []).append(_Arrival(recorded_at, first, last))
    return found
