"""Which experiments may be measured in one pass with another: looked up, not claimed. Each stays its own analysis.

An experiment that keeps what it read (`warehouse.state`) reads only what is new, and does better alone. The others read
everything each time: those that are due at the same moment read it together.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import ingest_batch
from experiments.definitions import TableSource
from experiments.errors import DomainError
from experiments.plan import AnalysisPlan, load
from experiments.settings import Settings
from experiments.tables import Analysis, Experiment
from warehouse.catalog import slice_for
from warehouse.data_slice import DataSlice
from warehouse.kept_moments import is_kept, key_of
from warehouse.state.refresh import FEWEST_EXPOSURES, why_in_full
from warehouse.together import WAITING, Asked, Together

NOT_YET_MEASURING: Final = ("claimed", "preparing", WAITING)
"""Stages of an analysis that runs, and may still find its moments."""
BYTES_OF_AN_EXPOSURE: Final = 32
"""What a shared pass holds in memory of every unit of every experiment at once: its place, and its arms elsewhere."""
SHARE_OF_MEMORY: Final = 0.25
SHARE_OF_TIME: Final = 0.5
"""Of the time that an analysis has: the rest is enough to measure alone, as it would have been without the others."""


async def of(
    session: AsyncSession, settings: Settings, analysis: Analysis, plan: AnalysisPlan, data: DataSlice
) -> Together | None:
    """Who may be measured with an analysis; None where it is measured alone in any case. Reads only.

    At most `pass_experiments` with itself, the oldest first, about the same type of unit, with a fact source in common,
    as of the same time, and no more exposures than there is memory for. Plans whose exposures are facts are measured
    alone: how many there are is not known before they are read. An analysis that was tried before is nobody's companion
    and has none, so that a plan on which processes die costs each of the others one attempt at most.
    """
    rows = await ingest_batch.accepted_rows(
        session, stream="exposures", subjects=[plan.experiment_key], until=analysis.data_as_of
    )
    size = rows[plan.experiment_key]
    if settings.pass_experiments == 1 or data.data_dir is None or plan.exposures is not None:
        return None
    if _keeps_state(settings, plan, data, size):
        return None
    key = key_of(plan, data)
    seconds = SHARE_OF_TIME * settings.analysis_timeout_seconds
    if analysis.attempt > 1 or analysis.max_attempts == 1 or is_kept(data.data_dir, key):
        return Together(key, (), seconds)
    due = await _due(session, settings, analysis)
    plans = {one.id: other for one in due if (other := _shareable(one, plan)) is not None}
    rows = await ingest_batch.accepted_rows(
        session,
        stream="exposures",
        subjects=[other.experiment_key for other in plans.values()],
        until=analysis.data_as_of,
    )
    found: list[Asked] = []
    room = SHARE_OF_MEMORY * settings.analysis_memory_mb * 2**20 / BYTES_OF_AN_EXPOSURE - size
    for one in due:
        if len(found) + 1 == settings.pass_experiments:
            break
        other = plans.get(one.id)
        if other is None or rows[other.experiment_key] > room:
            continue
        its = await _slice(session, settings, one, other)
        if its is None or _keeps_state(settings, other, its, rows[other.experiment_key]):
            continue
        its_key = key_of(other, its)
        if not is_kept(data.data_dir, its_key):
            found.append(Asked(its_key, other, its))
            room -= rows[other.experiment_key]
    return Together(key, tuple(found), seconds)


async def _due(session: AsyncSession, settings: Settings, analysis: Analysis) -> list[Any]:
    """Other experiments' analyses as of the same time that wait, or have just begun."""
    waits = sa.and_(col(Analysis.state) == "queued", col(Analysis.attempt) == 0)
    begins = sa.and_(
        col(Analysis.state) == "running", col(Analysis.attempt) == 1, col(Analysis.stage).in_(NOT_YET_MEASURING)
    )
    columns = sa.select(
        col(Analysis.id), col(Analysis.plan), col(Analysis.experiment_id), col(Analysis.data_as_of),
        col(Analysis.created_at),
    ).where(
        col(Analysis.kind) == "experiment",
        col(Analysis.data_as_of) == analysis.data_as_of,
        col(Analysis.id) != analysis.id,
        col(Analysis.cancel_requested_at).is_(None),
        sa.or_(waits, begins),
    )  # fmt: skip
    # Some keep state, or read something else: those are looked at and left out.
    most = 4 * settings.pass_experiments
    return list((await session.execute(columns.order_by(col(Analysis.created_at), col(Analysis.id)).limit(most))).all())


def _shareable(row: Any, plan: AnalysisPlan) -> AnalysisPlan | None:
    """The plan of an analysis if it can share a pass with this one."""
    try:
        other = load(row.plan)
    except ValueError:
        return None  # of another version: its own analysis says so
    if not isinstance(other, AnalysisPlan) or other.data != "events" or other.unit_type != plan.unit_type:
        return None
    if other.exposures is not None or any(isinstance(source, TableSource) for source in other.fact_sources):
        return None
    ours = {source.model_dump_json() for source in plan.fact_sources}
    return None if ours.isdisjoint(source.model_dump_json() for source in other.fact_sources) else other


async def _slice(session: AsyncSession, settings: Settings, row: Any, plan: AnalysisPlan) -> DataSlice | None:
    """The data of another analysis, as its own worker finds them."""
    experiment = await session.get(Experiment, row.experiment_id)
    if experiment is None or experiment.started_at is None:
        return None
    try:
        return await slice_for(session, settings, plan, experiment, row.data_as_of, row.created_at)
    except DomainError:
        return None


def _keeps_state(settings: Settings, plan: AnalysisPlan, data: DataSlice, exposures: int) -> bool:
    """Whether a pass over this plan alone keeps what it reads, or reads what was kept."""
    return settings.keep_state and exposures >= FEWEST_EXPOSURES and why_in_full(plan, data) is None
