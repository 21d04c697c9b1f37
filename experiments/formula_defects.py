"""Defects of a registered North Star's formula, over the weeks of its inputs that are on record (METHODS G8)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import metric, north_star
from experiments.definitions import MetricSpec, NorthStarSpec
from experiments.errors import NotReady
from experiments.evidence.formula_defects import defects
from experiments.plan import InputNature
from experiments.result import FormulaDefects
from experiments.tables import NorthStar, Series
from experiments.weekly_values import WEEK, company_weeks
from stats.formula import parse

_COUNTED_KINDS: Final = ("mean", "proportion")
"""Of these a week's value is a total over units, of the others a rate."""


async def formula_defects(session: AsyncSession, star: NorthStar, *, at: datetime) -> FormulaDefects:
    """The defects of a North Star as its weeks up to `at` show them; of its definition alone where no week is known."""
    spec = north_star.spec_of(star)
    known = {key: item.spec for key, item in (await metric.all_known(session, archived=True)).items()}
    try:
        tree_alone = spec.model_copy(update={"influences": []})
        company = await company_weeks(session, spec=tree_alone, known_at=at, until=at)
        weeks, inputs = company.weeks, company.inputs
    except NotReady:
        weeks, inputs = [], {}
    written = [values for key, values in inputs.items() if key in parse(spec.formula).names]
    usable = [week for i, week in enumerate(weeks) if all(values[i] is not None for values in written)]
    return FormulaDefects(
        north_star_key=spec.key,
        north_star_version=star.version,
        formula=spec.formula,
        weeks=len(usable),
        begins_at=usable[0] if usable else None,
        ends_at=usable[-1] + WEEK if usable else None,
        defects=defects(spec, await natures(session, spec, known), known[spec.metric_key].direction, inputs),
        methods=["G8"],
    )


async def natures(
    session: AsyncSession, spec: NorthStarSpec, known: Mapping[str, MetricSpec]
) -> dict[str, InputNature]:
    """Where each input should go, and whether its weekly value is a total that doubles with everything."""
    named = [item.series_key for item in spec.input_metrics if item.series_key is not None]
    rows = await session.scalars(sa.select(Series).where(col(Series.key).in_(named)))
    totals = {row.key: row.spec["aggregation"] == "total" for row in rows}
    return {
        item.metric_key: InputNature(
            direction=known[item.metric_key].direction,
            counted=known[item.metric_key].kind in _COUNTED_KINDS and totals.get(item.series_key or "", True),
        )
        for item in spec.input_metrics
    }
