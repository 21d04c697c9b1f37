"""How far back data is kept: a day per stream, before which nobody reads rows any more, and which only moves forward.

The day is recorded in the audit log before a row is deleted, and readers go by it: rows older than it do not count from
then on, whenever they are removed from the disk, so that no total ever has a part of a day's rows.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit
from experiments.columns import layout
from experiments.definitions import EventSource, FactSourceSpec
from experiments.fact_source import spec_of
from experiments.plan import AnalysisPlan, load
from experiments.tables import AuditEvent, Experiment, FactSource

ACTOR: Final = "upkeep"
_MOVED: Final = "store.retain"
_SUBJECT: Final = "store"
_AFTER_THE_LAST_WINDOW: Final = timedelta(days=14)
"""A stopped experiment keeps its data for so long after its last unit's window has closed, for its last analysis."""


async def kept_since(session: AsyncSession, *, stream: str) -> datetime | None:
    """The day since which rows of a stream (`events`, `exposures`) are kept; None: all are."""
    newest = (
        sa.select(col(AuditEvent.after))
        .where(
            col(AuditEvent.subject_type) == _SUBJECT,
            col(AuditEvent.subject_key) == stream,
            col(AuditEvent.action) == _MOVED,
        )
        .order_by(col(AuditEvent.at).desc(), col(AuditEvent.id).desc())
        .limit(1)
    )
    after: dict[str, Any] | None = await session.scalar(newest)
    return None if after is None else datetime.fromisoformat(after["kept_since"])


async def move(session: AsyncSession, *, stream: str, days: float, at: datetime) -> datetime | None:
    """Move the day of a stream to `days` before now, or to the earliest day that an experiment needs.

    Returns the day that holds from now on, None while none was ever set. Whole days (UTC); never backwards.
    """
    before = await kept_since(session, stream=stream)
    wanted = at - timedelta(days=days)
    needed = await needed_since(session, stream=stream, at=at)
    day = _day_of(wanted if needed is None else min(wanted, needed))
    if before is not None and day <= before:
        return before
    audit.record(
        session,
        actor=ACTOR,
        action=_MOVED,
        subject_type=_SUBJECT,
        subject_key=stream,
        at=at,
        before=None if before is None else {"kept_since": before.isoformat()},
        after={"kept_since": day.isoformat(), "retention_days": days},
    )
    return day


def record_dropped(
    session: AsyncSession, *, stream: str, subject: str, rows: int, before: datetime, at: datetime
) -> None:
    """Keep in the audit log how many rows of an event or an experiment were deleted."""
    audit.record(
        session,
        actor=ACTOR,
        action="store.drop",
        subject_type=_SUBJECT,
        subject_key=stream,
        at=at,
        after={"subject": subject, "rows": rows, "older_than": before.isoformat()},
    )


async def needed_since(session: AsyncSession, *, stream: str, at: datetime) -> datetime | None:
    """Since when experiments that run, or whose last windows have just closed, need rows; None where none does."""
    columns = sa.select(col(Experiment.plan), col(Experiment.started_at), col(Experiment.stopped_at)).where(
        col(Experiment.started_at).is_not(None), col(Experiment.plan).is_not(None)
    )
    needs = []
    for document, started_at, stopped_at in await session.execute(columns):
        plan = load(document) if document is not None else None
        if not isinstance(plan, AnalysisPlan) or plan.data != "events" or started_at is None:
            continue
        found = layout([metric.spec for metric in plan.metrics])
        last = timedelta(days=found.longest_window_days or 0.0) + _AFTER_THE_LAST_WINDOW
        if stopped_at is None or stopped_at + last > at:
            needs.append(started_at - before_start(plan) if stream == "events" else started_at)
    return min(needs, default=None)


async def mapping_events(session: AsyncSession) -> set[str]:
    """Events that say which ids belong to which units. They are kept: without them newer facts would be nobody's."""
    sources = [[spec_of(row) for row in await session.scalars(sa.select(FactSource))]]
    documents = await session.scalars(sa.select(col(Experiment.plan)).where(col(Experiment.plan).is_not(None)))
    plans = [load(document) for document in documents if document is not None]
    sources += [plan.fact_sources for plan in plans if isinstance(plan, AnalysisPlan)]
    return {event for together in sources for event in _mapping_events(together)}


def _mapping_events(sources: Sequence[FactSourceSpec]) -> set[str]:
    maps = {source.unit_mapping.fact_source for source in sources if source.unit_mapping is not None}
    return {source.event for source in sources if isinstance(source, EventSource) and source.key in maps}


def before_start(plan: AnalysisPlan) -> timedelta:
    """How long before an experiment's start its plan looks at facts."""
    found = layout([metric.spec for metric in plan.metrics])
    return timedelta(days=max((one.pre_period_days for one in found.columns if one.period == "pre"), default=0.0))


def _day_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
