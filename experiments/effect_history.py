"""What past experiments found for a metric: the input of the scale of effects and of learned priors (A14, C3)."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.json_query import json_text
from experiments.tables import Experiment, Result, ResultRow


class PastEffect(NamedTuple):
    """The lift of one variant in one finished experiment, and its standard error, both relative to control.

    `stratum` is the team that ran it; `data_as_of` is that of the result that it comes from.
    """

    experiment_key: str
    variant_key: str
    lift: float
    standard_error: float
    stratum: str | None = None
    data_as_of: datetime | None = None


async def past_effects(session: AsyncSession, *, metric_keys: Collection[str] | None) -> dict[str, list[PastEffect]]:
    """By metric (all with None), one effect of every experiment that has ended, from its latest result.

    Whatever was decided: whoever learns from winners only, learns exaggerations. Of several variants the most precisely
    measured one speaks: they share a control, so they are not independent. Left out are A/A tests, where nothing was
    changed, holdouts, where everything was, and results that failed a check: what they measured is not the effect of
    the change.
    """
    if metric_keys is not None and not metric_keys:
        return {}
    newest = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = (
        sa.select(
            col(Result.id).label("id"), col(Result.data_as_of).label("at"), col(Result.verdict).label("verdict"),
            col(Experiment.team).label("team"), newest.label("rank"),
        )
        .join(Experiment, col(Experiment.key) == col(Result.subject_key))
        .where(
            col(Result.kind) == "experiment", col(Experiment.stopped_at).is_not(None),
            sa.func.coalesce(json_text(session, Experiment.spec, "purpose"), "test") == "test",
        )
        .subquery()
    )  # fmt: skip
    statement = (
        sa.select(
            col(ResultRow.metric_key),
            col(ResultRow.experiment_key),
            col(ResultRow.variant_key),
            col(ResultRow.lift),
            col(ResultRow.standard_error),
            ranked.c.team,
            ranked.c.at,
        )
        .join(ranked, sa.and_(ranked.c.id == col(ResultRow.result_id), ranked.c.rank == 1))
        .where(
            sa.func.coalesce(ranked.c.verdict, "") != "unreliable",
            col(ResultRow.segment_dimension).is_(None),
            col(ResultRow.lift) > -1,
            col(ResultRow.standard_error) > 0,
        )
        .order_by(col(ResultRow.experiment_key), col(ResultRow.standard_error), col(ResultRow.variant_key))
    )
    if metric_keys is not None:
        statement = statement.where(col(ResultRow.metric_key).in_(sorted(metric_keys)))
    found: dict[str, list[PastEffect]] = {}
    seen: set[tuple[str, str]] = set()
    for metric_key, experiment_key, variant_key, lift, error, team, at in await session.execute(statement):
        if (metric_key, experiment_key) in seen:
            continue
        seen.add((metric_key, experiment_key))
        found.setdefault(metric_key, []).append(PastEffect(experiment_key, variant_key, lift, error, team or None, at))
    return found
