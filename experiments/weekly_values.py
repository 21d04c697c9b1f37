"""Weekly values of a company: of North Stars, their inputs and outside influences, as known at a time (METHODS F6).

Pushed values of days are summed to ISO weeks; means are averaged, by size where that is known. A week with a day
missing is not known. Where nothing is pushed, the newest series of the North Star says what its facts came to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import north_star, series, series_values, stored_result
from experiments.definitions import NorthStarSpec, OutsideInfluence, SeriesSpec
from experiments.errors import FieldError, NotReady
from experiments.plan import InfluenceWeeks, Source, WeeksWithout
from experiments.result import NorthStarSeries, SeriesPoint
from experiments.series_table import PERIOD, SeriesTable, start_of_period
from experiments.tables import NorthStar, Result

WEEK: Final = timedelta(weeks=1)
LONGEST: Final = 156
"""Weeks of the past that a ledger looks at (METHODS F6)."""

type Weekly = Mapping[datetime, float]
"""Values by the Monday that the week begins at; a week of which nothing is known is not in it."""


@dataclass(frozen=True, slots=True)
class CompanyWeeks:
    """The weeks of a North Star up to a time, without gaps: `values`, `inputs`, `influences` have one place for each.

    Null where nothing is known. `without` is not empty where facts alone are counted. `unit` is that of the pushed
    series, empty for facts.
    """

    weeks: list[datetime]
    values: list[float | None]
    inputs: dict[str, list[float | None]]
    without: list[WeeksWithout]
    influences: list[InfluenceWeeks]
    unit: str
    sources: list[Source]


async def company_weeks(
    session: AsyncSession, *, spec: NorthStarSpec, known_at: datetime, until: datetime
) -> CompanyWeeks:
    """The last 156 whole weeks before `until`, as known at `known_at`, beginning with the first that has a value.

    Raises `NotReady` where there is none.
    """
    star = None if spec.series_key is None else await _pushed(session, spec.series_key, known_at)
    counted = star is None or any(item.series_key is None for item in spec.input_metrics)
    facts = await _from_facts(session, spec.key, known_at) if counted else None
    sources: list[Source] = []
    if facts is not None:
        sources.append(Source(name="facts by week", analysis_id=facts.analysis_id, known_at=facts.data_as_of))
    values = star if star is not None else _points(facts)
    known = [week for week in values if week + WEEK <= until]
    if not known:
        raise NotReady(
            f"Of no week before {until.date()} is the value of `{spec.key}` known",
            remedy=(
                f"Name a pushed series of it as `series_key`, or POST /v1/north-stars/{spec.key}/analyses to count its "
                "facts."
            ),
            errors=[FieldError("/north_star_key", "has no weekly values")],
        )
    weeks = weeks_between(max(min(known), max(known) - (LONGEST - 1) * WEEK), max(known))
    inputs = {}
    for item in spec.input_metrics:
        own = None if item.series_key is None else await _pushed(session, item.series_key, known_at)
        weekly = own if own is not None else _points(facts, item.metric_key)
        inputs[item.metric_key] = aligned(weekly, weeks)
        if own is not None:
            sources.append(Source(name=f"series {item.series_key}", analysis_id=None, known_at=known_at))
    unit = ""
    if star is not None and spec.series_key is not None:
        unit = series.spec_of(await series.get(session, key=spec.series_key)).unit
        sources.insert(0, Source(name=f"series {spec.series_key}", analysis_id=None, known_at=known_at))
    influences = [await _influence(session, item, weeks, known_at) for item in spec.influences]
    sources += [Source(name=f"series {item.series_key}", analysis_id=None, known_at=known_at) for item in influences]
    only_facts = star is None and all(item.series_key is None for item in spec.input_metrics)
    without = _parts(facts, weeks) if only_facts and facts is not None else []
    return CompanyWeeks(weeks, aligned(values, weeks), inputs, without, influences, unit, sources)


async def pushed_weeks(session: AsyncSession, row: NorthStar, *, at: datetime) -> NorthStarSeries | None:
    """The weeks of a North Star whose totals are pushed, as a counted one has them; None where facts are counted.

    None too where nothing was pushed yet.
    """
    spec = north_star.spec_of(row)
    if spec.series_key is None:
        return None
    try:
        company = await company_weeks(session, spec=spec, known_at=at, until=at)
    except NotReady:
        return None
    return NorthStarSeries(
        analysis_id="",
        north_star_key=row.key,
        north_star_version=row.version,
        data_as_of=at,
        points=[
            SeriesPoint(
                week=week,
                value=company.values[i],
                inputs={key: values[i] for key, values in company.inputs.items()},
                complete=True,
            )
            for i, week in enumerate(company.weeks)
        ],
        code_version="",
    )


def by_week(table: SeriesTable, spec: SeriesSpec) -> Weekly:
    """The values of a series by ISO week, its segments together: only weeks of which every period is known.

    A segment counts for nothing before its first value. Totals are summed. Means are averaged, weighted by how many
    units they are of where every one of them says so, else all alike.
    """
    if not table.periods:
        return {}
    begun = np.logical_or.accumulate(np.isfinite(table.values), axis=1)
    if spec.aggregation == "total":
        sums, sizes = np.where(begun, table.values, 0.0).sum(axis=0), np.ones(len(table.periods))
    else:
        said = bool(np.isfinite(table.n[np.isfinite(table.values)]).all())
        weight = np.where(begun, table.n if said else 1.0, 0.0)
        sums, sizes = np.where(begun, weight * table.values, 0.0).sum(axis=0), weight.sum(axis=0)
    whole = round(WEEK / PERIOD[spec.grain])
    first = -(table.periods[0] - start_of_period(table.periods[0], "week")) % WEEK // PERIOD[spec.grain]
    count = (len(table.periods) - first) // whole
    if count <= 0:
        return {}
    values, over = (part[first : first + count * whole].reshape(count, whole).sum(axis=1) for part in (sums, sizes))
    if spec.aggregation == "mean":
        values = np.where(over > 0, values, np.nan) / np.where(over > 0, over, 1.0)
    mondays = [table.periods[first + i * whole] for i in range(count)]
    return {at: float(value) for at, value in zip(mondays, values, strict=True) if np.isfinite(value)}


def weeks_between(first: datetime, last: datetime) -> list[datetime]:
    """The Mondays from one to another, both included."""
    return [first + i * WEEK for i in range((last - first) // WEEK + 1)]


def aligned(weekly: Weekly, weeks: Sequence[datetime]) -> list[float | None]:
    """One value for each week, null where none is known."""
    return [weekly.get(week) for week in weeks]


async def _pushed(session: AsyncSession, key: str, known_at: datetime) -> Weekly:
    row = await series.get(session, key=key)
    table = await series_values.table_of(session, series=row, known_at=known_at)
    return by_week(table, series.spec_of(row))


async def _influence(
    session: AsyncSession, item: OutsideInfluence, weeks: Sequence[datetime], known_at: datetime
) -> InfluenceWeeks:
    row = await series.get(session, key=item.series_key)
    return InfluenceWeeks(
        series_key=item.series_key,
        name=series.spec_of(row).name,
        rationale=item.rationale,
        values=aligned(await _pushed(session, item.series_key, known_at), weeks),
    )


async def _from_facts(session: AsyncSession, key: str, known_at: datetime) -> NorthStarSeries | None:
    """The newest series of the North Star with data of no later time."""
    statement = (
        sa.select(col(Result.id))
        .where(col(Result.kind) == "north_star", col(Result.subject_key) == key, col(Result.data_as_of) <= known_at)
        .order_by(col(Result.data_as_of).desc(), col(Result.id).desc())
        .limit(1)
    )
    result_id = await session.scalar(statement)
    if result_id is None:
        return None
    return NorthStarSeries.model_validate_json((await stored_result.get(session, result_id=result_id)).body)


def _points(facts: NorthStarSeries | None, input_key: str | None = None) -> Weekly:
    if facts is None:
        return {}
    points = [point for point in facts.points if point.complete]
    numbers = [(p.week, p.value if input_key is None else p.inputs.get(input_key)) for p in points]
    return {week: value for week, value in numbers if value is not None}


def _parts(facts: NorthStarSeries, weeks: Sequence[datetime]) -> list[WeeksWithout]:
    """The parts of the units that take turns to be left out, at these weeks."""
    place = {point.week: i for i, point in enumerate(facts.points)}
    places = [place.get(week) for week in weeks]

    def at(values: Sequence[float | None]) -> list[float | None]:
        return [None if i is None else values[i] for i in places]

    return [
        WeeksWithout(value=at(part.value), inputs={key: at(values) for key, values in part.inputs.items()})
        for part in facts.without
    ]
