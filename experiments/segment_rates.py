"""Inputs of a North Star that are known by segment in two periods: what rate and mix effects are made from (E3)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import series, series_values
from experiments.definitions import NorthStarSpec
from experiments.plan import SegmentRates
from experiments.series_table import SeriesTable
from stats.moments import Floats


async def segment_rates(
    session: AsyncSession,
    *,
    spec: NorthStarSpec,
    begin: datetime,
    end: datetime,
    lag: timedelta,
    known_at: datetime,
) -> list[SegmentRates]:
    """Of every input with a pushed series of means by segment that carries `n`: [begin, end) and `lag` earlier.

    Inputs of which a segment is unknown in one of the periods are left out: its weight could not be told.
    """
    found: list[SegmentRates] = []
    for item in spec.input_metrics:
        if item.series_key is None:
            continue
        row = await series.get(session, key=item.series_key)
        definition = series.spec_of(row)
        if not definition.dimension or definition.aggregation != "mean":
            continue
        table = await series_values.table_of(session, series=row, known_at=known_at, since=begin - lag)
        before, after = _rates(table, begin - lag, end - lag), _rates(table, begin, end)
        if before is not None and after is not None:
            found.append(
                SegmentRates(
                    metric_key=item.metric_key,
                    dimension=definition.dimension,
                    segments=list(table.segments),
                    units_before=before[0].tolist(),
                    mean_before=before[1].tolist(),
                    units_after=after[0].tolist(),
                    mean_after=after[1].tolist(),
                )
            )
    return found


def _rates(table: SeriesTable, begin: datetime, end: datetime) -> Sequence[Floats] | None:
    """Units and their mean (segments,) over the periods of [begin, end); None where one is not known."""
    within = [i for i, at in enumerate(table.periods) if begin <= at < end]
    units, means = table.n[:, within], table.values[:, within]
    if not within or not len(table.segments) or not np.isfinite(units * means).all() or not units.sum(axis=1).all():
        return None
    total = units.sum(axis=1)
    return total, (units * means).sum(axis=1) / total
