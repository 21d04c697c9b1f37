"""What the inputs of a North Star account for in a change of its weekly values, without an experiment (METHODS E3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from experiments import metric, north_star
from experiments.definitions import NorthStarSpec
from experiments.errors import FieldError, InvalidDefinition, NotReady
from experiments.evidence.attribution import WeeksOfTree, attribution
from experiments.result import Attribution
from experiments.segment_rates import segment_rates
from experiments.weekly_values import WEEK, company_weeks

type ComparedWith = Literal["previous_period", "year_earlier"]

_WEEKS_OF_A_YEAR: Final = 52
_USUAL_WEEKS: Final = 4
_SEED: Final = 1
"""Of the orders that trees of more than ten inputs are taken apart in: always the same ones."""


async def observed_change(
    session: AsyncSession,
    *,
    north_star_key: str,
    begins_on: date | None = None,
    ends_on: date | None = None,
    compare_with: ComparedWith = "previous_period",
    at: datetime,
) -> Attribution:
    """The change between the weeks of a period and as many before it, or those a year earlier, by input.

    The period is that of the last four known weeks unless it is given: from one Monday up to, not including, another.
    Raises `NotFound`, `InvalidDefinition` for days that are no Mondays, `NotReady` where too few weeks are known.
    """
    company = await _company(session, north_star_key, at)
    first, last = _period(company.known.weeks, begins_on, ends_on)
    lag = _WEEKS_OF_A_YEAR if compare_with == "year_earlier" else (last - first) // WEEK
    return await _change(session, company, first, last, lag=lag, at=at)


@dataclass(frozen=True, slots=True)
class RecentChange:
    """The change of the last `weeks` known weeks against as many before them; none where fewer are known."""

    weeks: int
    attribution: Attribution | None


async def recent_changes(
    session: AsyncSession, *, north_star_key: str, spans: Sequence[int] = (4, 13), at: datetime
) -> list[RecentChange]:
    """The changes up to the last known week, one per span of weeks. Raises `NotFound`, `NotReady` without any week."""
    company = await _company(session, north_star_key, at)
    last = company.known.weeks[-1] + WEEK
    found = []
    for span in spans:
        try:
            change = await _change(session, company, last - span * WEEK, last, lag=span, at=at)
        except NotReady:
            change = None
        found.append(RecentChange(span, change))
    return found


@dataclass(frozen=True, slots=True)
class _Company:
    spec: NorthStarSpec
    names: Mapping[str, str]
    known: WeeksOfTree


async def _company(session: AsyncSession, north_star_key: str, at: datetime) -> _Company:
    spec = north_star.spec_of(await north_star.get(session, key=north_star_key))
    weekly = await company_weeks(session, spec=spec, known_at=at, until=at)
    metrics = await metric.all_known(session, archived=True)
    names = {item.metric_key: metrics[item.metric_key].spec.name for item in spec.input_metrics}
    return _Company(spec, names, WeeksOfTree(weekly.weeks, weekly.values, weekly.inputs, weekly.without))


async def _change(
    session: AsyncSession, company: _Company, first: datetime, last: datetime, *, lag: int, at: datetime
) -> Attribution:
    """The weeks from `first` up to, not including, `last`, against those `lag` weeks earlier."""
    known = company.known
    after = [i for i, week in enumerate(known.weeks) if first <= week < last]
    if len(after) < (last - first) // WEEK or not after or after[0] < lag:
        raise NotReady(
            f"Of `{company.spec.key}` the weeks from {known.weeks[0].date()} to {known.weeks[-1].date()} are known: "
            "the period, or the one that it is held against, lies outside",
            remedy="Choose weeks within, or hold them against those just before (compare_with=previous_period).",
        )
    segments = await segment_rates(session, spec=company.spec, begin=first, end=last, lag=lag * WEEK, known_at=at)
    before = [i - lag for i in after]
    return attribution(company.spec, company.names, known, after=after, before=before, seed=_SEED, segments=segments)


def _period(weeks: Sequence[datetime], begins_on: date | None, ends_on: date | None) -> tuple[datetime, datetime]:
    errors = [
        FieldError(f"/{name}", f"{day} is a {day:%A}; weeks begin on Mondays")
        for name, day in (("begins_on", begins_on), ("ends_on", ends_on))
        if day is not None and day.weekday()
    ]
    end = _midnight(ends_on) if ends_on is not None else weeks[-1] + WEEK
    begin = _midnight(begins_on) if begins_on is not None else end - _USUAL_WEEKS * WEEK
    if not errors and not timedelta(0) < end - begin <= 53 * WEEK:
        errors = [FieldError("/ends_on", f"the period from {begin.date()} to {end.date()} is not of 1 to 53 weeks")]
    if errors:
        raise InvalidDefinition(
            f"The period cannot be used: {errors[0].detail}",
            remedy="Give two Mondays, the first day of the period and the first day after it.",
            errors=errors,
        )
    return begin, end


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
