"""Experiments that have ended, with their newest result and what was decided: flat facts, in a few queries."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.plan import AnalysisPlan
from experiments.tables import Analysis, Decision, Experiment, Launch, Result


@dataclass(frozen=True, slots=True)
class NewestResult:
    """A result without its bytes. `analysis_id` is its own id where no analysis of this service made it."""

    id: uuid.UUID
    analysis_id: str
    verdict: str | None
    data_as_of: datetime


@dataclass(frozen=True, slots=True)
class EndedExperiment:
    """An experiment that tested a change and is over. `decision` is the newest one, `launch_key` what it led to."""

    row: Experiment
    result: NewestResult | None
    decision: Decision | None
    launch_key: str | None
    metric_keys: frozenset[str]

    @property
    def shipped_variant(self) -> str | None:
        """The treatment that people shipped last; None where they shipped nothing, or the control."""
        if self.decision is None or self.decision.outcome != "ship" or self.row.plan is None:
            return None
        treatments = {each["key"] for each in self.row.plan["variants"] if not each["is_control"]}
        return self.decision.shipped_variant if self.decision.shipped_variant in treatments else None

    @property
    def without_effect(self) -> str | None:
        """Why nothing that it measured can be counted, as far as the flat facts say."""
        if self.row.conclusion == "invalid":
            return "declared_invalid"
        if self.result is None:
            return "never_analysed"
        return "unreliable" if self.result.verdict == "unreliable" else None

    def plan(self) -> AnalysisPlan:
        """The frozen plan."""
        return AnalysisPlan.model_validate(self.row.plan)


async def ended_experiments(session: AsyncSession, *, at: datetime) -> list[EndedExperiment]:
    """All that had ended at a time, in that order, with what had been measured and decided by then.

    A/A tests and holdouts tested no change, so they are left out.
    """
    statement = sa.select(Experiment).where(
        col(Experiment.started_at).is_not(None),
        col(Experiment.stopped_at) <= at,
        col(Experiment.plan).is_not(None),
    )
    rows = (await session.scalars(statement.order_by(col(Experiment.stopped_at), col(Experiment.key)))).all()
    tests = [row for row in rows if row.plan is not None and row.plan.get("purpose", "test") == "test"]
    results = await newest_results(session, at=at)
    decisions = await _newest_decisions(session, at=at)
    return [
        EndedExperiment(
            row=row,
            result=results.get(row.key),
            decision=decisions[row.id][0] if row.id in decisions else None,
            launch_key=decisions[row.id][1] if row.id in decisions else None,
            metric_keys=frozenset(each["metric_key"] for each in (row.plan or {})["metrics"]),
        )
        for row in tests
    ]


async def newest_results(
    session: AsyncSession, *, at: datetime, keys: Sequence[str] | None = None
) -> Mapping[str, NewestResult]:
    """By experiment (all of them, or those with `keys`), its newest result on data up to a time."""
    newest = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = sa.select(
        col(Result.id), col(Result.subject_key), col(Result.verdict), col(Result.data_as_of), newest.label("rank")
    ).where(col(Result.kind) == "experiment", col(Result.data_as_of) <= at)
    if keys is not None:
        ranked = ranked.where(col(Result.subject_key).in_(keys))
    inner = ranked.subquery()
    statement = (
        sa.select(inner.c.subject_key, inner.c.id, col(Analysis.id), inner.c.verdict, inner.c.data_as_of)
        .outerjoin(Analysis, col(Analysis.result_id) == inner.c.id)
        .where(inner.c.rank == 1)
    )
    return {
        key: NewestResult(result_id, str(analysis_id or result_id), verdict, as_of)
        for key, result_id, analysis_id, verdict, as_of in (await session.execute(statement)).all()
    }


async def _newest_decisions(session: AsyncSession, *, at: datetime) -> Mapping[uuid.UUID, tuple[Decision, str | None]]:
    """By experiment, the decision that counts and the key of the launch it led to."""
    newest = sa.func.row_number().over(
        partition_by=col(Decision.experiment_id), order_by=(col(Decision.decided_at).desc(), col(Decision.id).desc())
    )
    ranked = (
        sa.select(col(Decision.id).label("id"), newest.label("rank")).where(col(Decision.decided_at) <= at).subquery()
    )
    statement = (
        sa.select(Decision, col(Launch.key))
        .join(ranked, sa.and_(ranked.c.id == col(Decision.id), ranked.c.rank == 1))
        .outerjoin(Launch, col(Launch.id) == col(Decision.launch_id))
    )
    return {decision.experiment_id: (decision, key) for decision, key in (await session.execute(statement)).all()}
