"""Which analyses are due: the schedule is a pure question to the database, so any number of workers may ask it.

Time is cut into periods. `data_as_of` is the start of the current period, hence two workers that find the same analysis
due submit the same identity, and the second gets the row of the first.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import (
    freezing,
    launch_due,
    launch_effects,
    learned_prior,
    ledger_lines,
    links_plan,
    programme_plan,
    review_due,
)
from experiments.analysis import seed_of, submit
from experiments.columns import layout
from experiments.definitions import place_of
from experiments.errors import DomainError
from experiments.launch_plan import launch_plan
from experiments.plan import AnalysisPlan, BaselinePlan, NorthStarPlan, document, load, plan_hash
from experiments.review_plan import review_plan
from experiments.tables import Analysis, Experiment, FactSource, NorthStar

REQUESTED_BY: Final = "schedule"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """An analysis that should be submitted now."""

    kind: str
    subject_key: str
    experiment_id: uuid.UUID | None
    plan_document: dict[str, Any]
    data_as_of: datetime


def period_start(at: datetime, every: timedelta) -> datetime:
    """The start of the period that `at` lies in; periods are counted from 1970-01-01T00:00Z."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return at - (at - epoch) % every


async def due(session: AsyncSession, *, at: datetime, every: timedelta) -> list[Due]:
    """What has no analysis of this period yet: running experiments, North Stars, baselines of every unit type.

    Priors of metrics, links of North Stars and programmes are due when an experiment more has ended, or was analysed
    again since it ended, programmes also when something was decided, launches when their series have news, growth
    reviews for a quarter after their period. A stopped experiment is due once more when the last unit's longest window
    has closed; North Stars and baselines of facts in a warehouse once a day. Reads only. A subject whose plan cannot be
    made (a metric without a source) is left out and logged.
    """
    as_of = period_start(at, every)
    newest = await _newest(session)
    return [
        *await _experiments(session, as_of=as_of, newest=newest),
        *await _north_stars(session, as_of=as_of, newest=newest),
        *await _baselines(session, as_of=as_of, newest=newest),
        *await _launches(session, as_of=as_of, newest=newest),
        *await _growth_reviews(session, as_of=as_of, newest=newest),
        *await _priors(session),
        *await _links(session),
        *await _programmes(session, at=at),
    ]


async def submit_due(session: AsyncSession, wanted: Due, *, at: datetime, max_attempts: int) -> tuple[Analysis, bool]:
    """Submit one of them; (row, created)."""
    return await submit(
        session,
        kind=wanted.kind,
        subject_key=wanted.subject_key,
        experiment_id=wanted.experiment_id,
        plan_document=wanted.plan_document,
        data_as_of=wanted.data_as_of,
        seed=seed_of(plan_hash(wanted.plan_document)),
        requested_by=REQUESTED_BY,
        at=at,
        max_attempts=max_attempts,
    )


async def _newest(session: AsyncSession) -> dict[tuple[str, str], datetime]:
    """(kind, subject) -> `data_as_of` of its newest analysis, whatever became of it."""
    statement = sa.select(
        col(Analysis.kind), col(Analysis.subject_key), sa.func.max(col(Analysis.data_as_of))
    ).group_by(col(Analysis.kind), col(Analysis.subject_key))
    return {(kind, key): as_of for kind, key, as_of in (await session.execute(statement)).all()}


async def _experiments(session: AsyncSession, *, as_of: datetime, newest: dict[tuple[str, str], datetime]) -> list[Due]:
    statement = sa.select(Experiment).where(
        col(Experiment.status).in_(("running", "stopped")), col(Experiment.plan).is_not(None)
    )
    found: list[Due] = []
    for row in (await session.execute(statement)).scalars():
        assert row.plan is not None
        last = newest.get(("experiment", row.key))
        if row.started_at is None or as_of <= row.started_at or (last is not None and last >= as_of):
            continue
        if row.status == "stopped":
            final = _all_windows_closed(row)
            if as_of < final or (last is not None and last >= final):
                continue
        found.append(Due("experiment", row.key, row.id, row.plan, as_of))
    return found


def _all_windows_closed(row: Experiment) -> datetime:
    """When the last unit's longest window has closed. Summaries are whole as they are sent: they have no columns."""
    assert row.plan is not None and row.stopped_at is not None
    plan = load(row.plan)
    assert isinstance(plan, AnalysisPlan)
    if plan.data == "summary":
        return row.stopped_at
    days = layout([metric.spec for metric in plan.metrics]).longest_window_days
    return row.stopped_at + timedelta(days=days or 0.0)


async def _north_stars(session: AsyncSession, *, as_of: datetime, newest: dict[tuple[str, str], datetime]) -> list[Due]:
    found: list[Due] = []
    for key in (await session.execute(sa.select(col(NorthStar.key)))).scalars():
        last = newest.get(("north_star", key))
        if last is None or last < as_of:
            try:
                plan = await freezing.north_star_plan(session, key=key)
            except DomainError as error:
                log.info("north_star_not_due", north_star=key, reason=error.detail)
                continue
            if (data_as_of := _due_at(plan, as_of, last)) is not None:
                found.append(Due("north_star", key, None, document(plan), data_as_of))
    return found


def _due_at(plan: NorthStarPlan | BaselinePlan, as_of: datetime, last: datetime | None) -> datetime | None:
    """The time of the data to count everybody's facts at, None if not now.

    All of them are read again each time, so tables of a warehouse, which bills for that, are read once a day.
    """
    if all(place_of(source) is None for source in plan.fact_sources):
        return as_of
    today = period_start(as_of, timedelta(days=1))
    return today if last is None or last < today else None


async def _baselines(session: AsyncSession, *, as_of: datetime, newest: dict[tuple[str, str], datetime]) -> list[Due]:
    specs = (await session.execute(sa.select(col(FactSource.spec)))).scalars()
    found: list[Due] = []
    for unit_type in sorted({spec["unit_type"] for spec in specs}):
        last = newest.get(("baseline", unit_type))
        if last is None or last < as_of:
            try:
                plan = await freezing.baseline_plan(session, unit_type=unit_type)
            except DomainError as error:
                log.info("baseline_not_due", unit_type=unit_type, reason=error.detail)
                continue
            if (data_as_of := _due_at(plan, as_of, last)) is not None:
                found.append(Due("baseline", unit_type, None, document(plan), data_as_of))
    return found


async def _launches(session: AsyncSession, *, as_of: datetime, newest: dict[tuple[str, str], datetime]) -> list[Due]:
    last = {key: at for (kind, key), at in newest.items() if kind == launch_effects.KIND}
    found: list[Due] = []
    for row in await launch_due.due(session, as_of=as_of, newest=last):
        try:
            plan = await launch_plan(session, row)
        except DomainError as error:
            log.info("launch_not_due", launch=row.key, reason=error.detail)
            continue
        found.append(Due(launch_effects.KIND, row.key, None, document(plan), as_of))
    return found


async def _growth_reviews(
    session: AsyncSession, *, as_of: datetime, newest: dict[tuple[str, str], datetime]
) -> list[Due]:
    last = {key: at for (kind, key), at in newest.items() if kind == ledger_lines.KIND}
    found: list[Due] = []
    for row in await review_due.due(session, as_of=as_of, newest=last):
        try:
            plan = await review_plan(session, row, at=as_of)
        except DomainError as error:
            log.info("growth_review_not_due", growth_review=row.key, reason=error.detail)
            continue
        found.append(Due(ledger_lines.KIND, row.key, None, document(plan), as_of))
    return found


async def _links(session: AsyncSession) -> list[Due]:
    return [
        Due(links_plan.KIND, plan.north_star.spec.key, None, document(plan), data_as_of)
        for plan, data_as_of in await links_plan.due(session)
    ]


async def _programmes(session: AsyncSession, *, at: datetime) -> list[Due]:
    return [
        Due(programme_plan.KIND, plan.metric_key, None, document(plan), data_as_of)
        for plan, data_as_of in await programme_plan.due(session, at=at)
    ]


async def _priors(session: AsyncSession) -> list[Due]:
    found: list[Due] = []
    for key in await learned_prior.due(session):
        plan, data_as_of = await learned_prior.prior_plan(session, metric_key=key)
        found.append(Due(learned_prior.KIND, key, None, document(plan), data_as_of))
    return found
