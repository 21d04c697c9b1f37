"""What past experiments found for a metric: the input of the scale of effects (METHODS A14, C3)."""

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.tables import Experiment, Result, ResultRow


class PastEffect(NamedTuple):
    """The lift of one variant in one finished experiment, and its standard error, both relative to control."""

    experiment_key: str
    variant_key: str
    lift: float
    standard_error: float


async def past_effects(session: AsyncSession, *, metric_keys: Collection[str]) -> dict[str, list[PastEffect]]:
    """By metric, one effect of every experiment that has ended, from its latest result, whatever was decided.

    Whoever learns from winners only, learns exaggerations. Of several variants the most precisely measured one speaks:
    they share a control, so they are not independent. A/A tests, where nothing was changed, are left out.
    """
    if not metric_keys:
        return {}
    newest = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = (
        sa.select(col(Result.id).label("id"), newest.label("rank"))
        .join(Experiment, col(Experiment.key) == col(Result.subject_key))
        .where(col(Result.kind) == "experiment", col(Experiment.stopped_at).is_not(None))
        .subquery()
    )
    statement = (
        sa.select(
            col(ResultRow.metric_key),
            col(ResultRow.experiment_key),
            col(ResultRow.variant_key),
            col(ResultRow.lift),
            col(ResultRow.standard_error),
            col(Experiment.spec),
        )
        .join(ranked, sa.and_(ranked.c.id == col(ResultRow.result_id), ranked.c.rank == 1))
        .join(Experiment, col(Experiment.key) == col(ResultRow.experiment_key))
        .where(
            col(ResultRow.metric_key).in_(sorted(metric_keys)),
            col(ResultRow.segment_dimension).is_(None),
            col(ResultRow.lift) > -1,
            col(ResultRow.standard_error) > 0,
        )
        .order_by(col(ResultRow.experiment_key), col(ResultRow.standard_error), col(ResultRow.variant_key))
    )
    found: dict[str, list[PastEffect]] = {}
    seen: set[tuple[str, str]] = set()
    for metric_key, experiment_key, variant_key, lift, error, spec in await session.execute(statement):
        if (metric_key, experiment_key) in seen or spec.get("purpose") == "aa":
            continue
        seen.add((metric_key, experiment_key))
        found.setdefault(metric_key, []).append(PastEffect(experiment_key, variant_key, lift, error))
    return found
