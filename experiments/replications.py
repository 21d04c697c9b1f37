"""What other experiments on the same hypothesis found: the input of a pooled effect of replications (METHODS H5)."""

import math
from collections.abc import Collection
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.evidence import PastReplication
from experiments.tables import Experiment, Result, ResultRow

REPLICATES: Final = "replicates"
_MOST: Final = 100


async def replications_of(
    session: AsyncSession, *, experiment: Experiment, metric_keys: Collection[str], known_at: datetime
) -> tuple[PastReplication, ...]:
    """Effects on everybody in the ended experiments that test the same hypothesis, by experiment, metric and variant.

    Those are all that are linked by `replicates`, in either direction and over any number of steps. Of each, the latest
    result that was there at `known_at`, unless its checks failed. Arms that were meant to be alike say nothing.
    """
    keys = await _linked(session, experiment)
    if not keys or not metric_keys:
        return ()
    newest = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = (
        sa.select(col(Result.id).label("id"), col(Result.verdict).label("verdict"), newest.label("rank"))
        .join(Experiment, col(Experiment.key) == col(Result.subject_key))
        .where(
            col(Result.kind) == "experiment",
            col(Result.subject_key).in_(keys),
            col(Result.created_at) <= known_at,
            col(Experiment.stopped_at) <= known_at,
        )
        .subquery()
    )
    statement = (
        sa.select(ResultRow)
        .join(ranked, sa.and_(ranked.c.id == col(ResultRow.result_id), ranked.c.rank == 1))
        .where(
            ranked.c.verdict != "unreliable",
            col(ResultRow.metric_key).in_(sorted(metric_keys)),
            col(ResultRow.segment_dimension).is_(None),
            col(ResultRow.lift) > -1,
            col(ResultRow.standard_error) > 0,
        )
        .order_by(col(ResultRow.experiment_key), col(ResultRow.metric_key), col(ResultRow.variant_key))
    )
    found = []
    for row in await session.scalars(statement):
        assert row.lift is not None and row.standard_error is not None
        found.append(
            PastReplication(
                row.experiment_key,
                row.metric_key,
                row.variant_key,
                math.log1p(row.lift),
                row.standard_error / (1 + row.lift),
            )
        )
    return tuple(found)


async def _linked(session: AsyncSession, experiment: Experiment) -> list[str]:
    """The keys of all experiments that are linked to this one by `replicates`: no A/A tests, no holdouts."""
    if not _tests_one_change(experiment):
        return []
    found = {experiment.id: experiment}
    border = [experiment]
    while border and len(found) < _MOST:
        parents = [each.parent_id for each in border if each.relation == REPLICATES and each.parent_id is not None]
        statement = sa.select(Experiment).where(
            sa.or_(
                col(Experiment.id).in_(parents),
                sa.and_(
                    col(Experiment.parent_id).in_([each.id for each in border]),
                    col(Experiment.relation) == REPLICATES,
                ),
            )
        )
        near = (await session.scalars(statement.order_by(col(Experiment.key)))).all()
        border = [each for each in near if each.id not in found]
        found |= {each.id: each for each in border}
    return sorted(each.key for each in found.values() if each.id != experiment.id and _tests_one_change(each))


def _tests_one_change(experiment: Experiment) -> bool:
    return bool(experiment.spec.get("purpose", "test") == "test")
