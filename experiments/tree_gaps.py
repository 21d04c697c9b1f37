"""How far trees of drivers were off in past experiments: what the blend of direct and tree learns from (METHODS E8)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.definitions import NorthStarSpec
from experiments.json_query import json_text
from experiments.plan import TreeGap
from experiments.result import NorthStarEffect
from experiments.tables import Experiment, Result

MOST: Final = 60
"""Past experiments that are read, the newest first: with 40 the bias's scale is known to a tenth of itself."""

_EFFECTS: Final = TypeAdapter(list[NorthStarEffect])


async def past_gaps(session: AsyncSession, *, spec: NorthStarSpec, besides: str) -> list[TreeGap]:
    """The gap of every ended test of the North Star in its newest result, by experiment.

    Of several variants the most precise gap counts: they share a control. Left out are the experiment `besides`,
    results that failed a check, and those whose tree had other inputs than this one. A definitional tree has no gaps.
    """
    if not spec.rests_on_drivers:
        return []
    newest = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = (
        sa.select(col(Result.id).label("id"), newest.label("rank"))
        .join(Experiment, col(Experiment.key) == col(Result.subject_key))
        .where(
            col(Result.kind) == "experiment",
            col(Experiment.stopped_at).is_not(None),
            col(Experiment.key) != besides,
            json_text(session, Experiment.spec, "north_star_key") == spec.key,
            sa.func.coalesce(json_text(session, Experiment.spec, "purpose"), "test") == "test",
        )
        .subquery()
    )
    statement = (
        sa.select(col(Result.subject_key), col(Result.body))
        .join(ranked, sa.and_(ranked.c.id == col(Result.id), ranked.c.rank == 1))
        .where(sa.func.coalesce(col(Result.verdict), "") != "unreliable")
        .order_by(col(Result.data_as_of).desc(), col(Result.subject_key))
        .limit(MOST)
    )
    found = {key: _gap(key, json.loads(body), spec) for key, body in await session.execute(statement)}
    return [gap for _, gap in sorted(found.items()) if gap is not None]


def _gap(experiment_key: str, document: Mapping[str, Any], spec: NorthStarSpec) -> TreeGap | None:
    edges = {item.metric_key: item.edge for item in spec.input_metrics}
    known = [
        (each.gap, each.gap_standard_error**2)
        for each in _EFFECTS.validate_python(document.get("north_star", []))
        if each.gap is not None
        and each.gap_standard_error
        and each.metric_key == spec.metric_key
        and {item.metric_key: item.edge for item in each.inputs} == edges
    ]
    if not known:
        return None
    gap, variance = min(known, key=lambda pair: pair[1])
    return TreeGap(experiment_key=experiment_key, gap=gap, variance=variance)
