"""What is held against an outcome from outside its own segments: regressors and control series (METHODS D4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from experiments.evidence.launch.segments import Scale
from experiments.plan import PlannedMeasurement, PlannedSeries
from experiments.series_table import SeriesTable
from stats.moments import Bools, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """`regressors` (T, K) and `controls` (T, C) with the keys of their series; `left_out` are those with gaps."""

    regressors: Floats
    regressor_names: tuple[str, ...]
    controls: Floats
    control_names: tuple[str, ...]
    left_out: tuple[str, ...]


def outside_of(
    measurement: PlannedMeasurement,
    tables: Mapping[str, SeriesTable],
    starts: Sequence[datetime],
    treated: Sequence[str],
    share: Floats,
    scale: Scale,
    before: Bools,
) -> Outside:
    """Every series over the periods of the outcome, for the treated segments where it has segments.

    `share` is that of each treated segment. A series that misses a period, or never changed before the launch, is left
    out. Controls are on the scale of the outcome where their values allow it, regressors as they are.
    """
    left_out: list[str] = []

    def columns(planned: Sequence[PlannedSeries]) -> tuple[list[Floats], list[str]]:
        found: list[Floats] = []
        names: list[str] = []
        for series in sorted(planned, key=lambda item: item.spec.key):
            values = _values(series, tables, starts, treated, share)
            if values is None or not _usable(values, before):
                left_out.append(series.spec.key)
                continue
            found.append(values)
            names.append(series.spec.key)
        return found, names

    regressors, regressor_names = columns(measurement.regressors)
    controls, control_names = columns(measurement.controls)
    on_scale = [np.log(values) if scale == "log" and (values > 0).all() else values for values in controls]
    return Outside(
        _stacked(regressors, len(starts)),
        tuple(regressor_names),
        _stacked(on_scale, len(starts)),
        tuple(control_names),
        tuple(left_out),
    )


def _values(
    series: PlannedSeries,
    tables: Mapping[str, SeriesTable],
    starts: Sequence[datetime],
    treated: Sequence[str],
    share: Floats,
) -> Floats | None:
    """(T,) nan where unknown; None for a series that does not have the treated segments."""
    table = tables.get(series.spec.key)
    if table is None:
        return None
    at = {period: t for t, period in enumerate(table.periods)}
    rows = [0] if not series.spec.dimension else [table.segments.index(s) for s in treated if s in table.segments]
    if not table.segments or (series.spec.dimension and len(rows) < len(treated)):
        return None
    found = np.full((len(rows), len(starts)), np.nan)
    places = [(t, at[start]) for t, start in enumerate(starts) if start in at]
    if places:
        mine, theirs = (list(side) for side in zip(*places, strict=True))
        found[:, mine] = table.values[np.ix_(rows, theirs)]
    if not series.spec.dimension:
        return np.asarray(found[0], dtype=np.float64)
    if series.spec.role == "outcome" and series.spec.aggregation == "total":
        return np.asarray(found.sum(axis=0), dtype=np.float64)
    return np.asarray(share @ found, dtype=np.float64)


def _usable(values: Floats, before: Bools) -> bool:
    """Known in every period and not the same in all of those before the launch."""
    earlier = values[before]
    return bool(np.isfinite(values).all()) and earlier.size > 0 and bool((earlier != earlier[0]).any())


def _stacked(columns: Sequence[Floats], periods: int) -> Floats:
    return np.column_stack(columns) if columns else np.empty((periods, 0))
