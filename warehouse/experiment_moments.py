"""An experiment's unit-level data to moments: first exposures, one per-unit table, moments per look and segment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

import duckdb
import numpy as np

from experiments.columns import Column, layout
from experiments.definitions import FactSourceSpec
from experiments.plan import AnalysisPlan
from stats.moments import Bools, Floats, Ints, Moments, MomentSet
from warehouse.cells import cumulative, moments_by_cell, order_by_cell, shift_of, without_columns
from warehouse.data_slice import DataSlice
from warehouse.engine import connect, days_us, epoch_us
from warehouse.facts import measure_units
from warehouse.looks import MAX_LOOKS, MAX_OPEN_LOOKS, look_times
from warehouse.units import Bucket, Units, count_exposures, exposed_units, segment_levels

type Progress = Callable[[str, float], None]

NON_FINITE = "non_finite_values"
BUCKET_BYTES = 512 * 1024 * 1024
"""The per-unit table of one pass may take this much; more units are done in buckets."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What one bucket of units contributes; parts of disjoint units merge."""

    entering: Moments
    snapshots: tuple[Moments, ...]
    by_segment: Moments
    exposures: Ints
    crossover: int
    invalid: Bools

    def merge(self, other: "Parts") -> "Parts":
        return Parts(
            self.entering.merge(other.entering),
            tuple(a.merge(b) for a, b in zip(self.snapshots, other.snapshots, strict=True)),
            self.by_segment.merge(other.by_segment),
            self.exposures + other.exposures,
            self.crossover + other.crossover,
            self.invalid | other.invalid,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Everything about an extraction that does not depend on the bucket."""

    connection: duckdb.DuckDBPyConnection
    data: DataSlice
    sources: Mapping[str, FactSourceSpec]
    columns: tuple[Column, ...]
    longest_us: int
    looks: tuple[datetime, ...]
    variants: tuple[str, ...]
    levels: tuple[tuple[str, Sequence[str]], ...]
    exposed_us: tuple[int, int]

    @property
    def open_columns(self) -> list[int]:
        """Positions of the columns whose values grow with every look."""
        return [i for i, c in enumerate(self.columns) if c.period == "outcome" and c.window_days is None]


def extract_experiment(
    plan: AnalysisPlan,
    data: DataSlice,
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Progress = lambda stage, fraction: None,
) -> MomentSet:
    """The joint moments of all columns that the plan's metrics need (`experiments.columns.layout`).

    A unit enters at the first look at which its longest closed window is complete; only then do its values count, in
    all columns. Looks are daily (`warehouse.looks`). `by_segment` has a level `(none)` for units without one. Columns
    with NaN or infinities in any unit's window come back as zeros and in `invalid`. Raises `SourceUnreadable`.
    """
    columns = layout([metric.spec for metric in plan.metrics])
    if data.started_at is None:
        raise ValueError("an experiment's slice needs `started_at`")
    longest = columns.longest_window_days
    has_open = any(c.period == "outcome" and c.window_days is None for c in columns.columns)
    looks = look_times(
        started_at=data.started_at,
        ended_at=data.ended_at,
        data_as_of=data.data_as_of,
        longest_window_days=longest,
        most=MAX_OPEN_LOOKS if has_open else MAX_LOOKS,
    )
    exposed_until = data.data_as_of if data.ended_at is None else min(data.ended_at, data.data_as_of)
    with connect(threads=threads, memory_limit=memory_limit) as connection:
        work = Pass(
            connection=connection,
            data=data,
            sources={source.key: source for source in plan.fact_sources},
            columns=columns.columns,
            longest_us=days_us(longest) if longest is not None else 0,
            looks=looks,
            variants=tuple(variant.key for variant in plan.variants),
            levels=tuple(segment_levels(connection, data, plan.segments)),
            exposed_us=(epoch_us(data.started_at), epoch_us(exposed_until)),
        )
        of = max(1, -(-count_exposures(connection, data) * max(1, len(work.columns)) * 8 // BUCKET_BYTES))
        parts = []
        for index in range(of):
            progress("reading exposures", index / of)
            units = exposed_units(connection, data, work.variants, work.levels, Bucket(index, of))
            parts.append(
                measure(work, units, lambda share, done=index: progress("computing moments", (done + share) / of))
            )
    progress("computing moments", 1.0)
    return combine(work, reduce(Parts.merge, parts))


def measure(work: Pass, units: Units, progress: Callable[[float], None]) -> Parts:
    """The moments of one bucket of units."""
    looks_us = np.array([epoch_us(look) for look in work.looks])
    arms, size = len(work.variants), len(work.looks)
    entry = np.searchsorted(looks_us, units.at_us + work.longest_us, side="left")
    entered = (units.variant >= 0) & (entry < size)
    values, invalid = _values(work, work.columns, len(units), int(looks_us[-1]))
    progress(0.6)

    cell = np.where(entered, entry * arms + units.variant, -1)
    order = order_by_cell(cell, size * arms, units.unit_hash)
    shift = shift_of(values, order)
    by_entry = moments_by_cell(values, order, shift)
    entering = _reshape(by_entry, (size, arms))
    progress(0.8)

    segments = []
    for i, (_, levels) in enumerate(work.levels):
        cell = np.where(entered, units.segment[i] * arms + units.variant, -1)
        segments.append(moments_by_cell(values, order_by_cell(cell, len(levels) * arms, units.unit_hash), shift))
    level_count = sum(len(levels) for _, levels in work.levels)
    by_segment = _reshape(_join(segments, len(work.columns)), (level_count, arms))

    snapshots = []
    if work.open_columns:
        grown = [work.columns[i] for i in work.open_columns]
        for look in range(size - 1):
            now, bad = _values(work, grown, len(units), int(looks_us[look]))
            values[work.open_columns] = now
            invalid[work.open_columns] |= bad
            cell = np.where(entered & (entry <= look), units.variant, -1)
            snapshots.append(moments_by_cell(values, order_by_cell(cell, arms, units.unit_hash), shift))
            progress(0.8 + 0.2 * (look + 1) / size)
    return Parts(entering, tuple(snapshots), by_segment, _exposures(units, looks_us, arms), units.crossover, invalid)


def combine(work: Pass, parts: Parts) -> MomentSet:
    """The moments of all units as the rest of the system sees them; columns that are not finite are withdrawn."""
    overall = cumulative(parts.entering)
    if parts.snapshots:
        # With open-ended windows a look is not the sum of earlier ones, but the last look is already complete.
        overall = _stack([*parts.snapshots, overall[-1]])
    bad = parts.invalid.copy()
    for moments in (overall, parts.by_segment):
        for array in (moments.mean, moments.third, np.diagonal(moments.comoment, axis1=-2, axis2=-1)):
            bad |= ~np.isfinite(array).all(axis=tuple(range(array.ndim - 1)))
    names = tuple(column.name for column in work.columns)
    return MomentSet(
        columns=names,
        variants=work.variants,
        looks=work.looks,
        overall=without_columns(overall, bad),
        segments=tuple((name, level) for name, levels in work.levels for level in levels),
        by_segment=without_columns(parts.by_segment, bad),
        exposures=parts.exposures,
        crossover=parts.crossover,
        invalid={names[i]: NON_FINITE for i in np.flatnonzero(bad)},
    )


def _values(work: Pass, columns: Sequence[Column], units: int, look_us: int) -> tuple[Floats, Bools]:
    """(k, n) values with indicators applied, and (k,) which columns held something that is not finite (now zeros)."""
    values = measure_units(
        work.connection, work.sources, columns, work.data, units=units, period_us=work.exposed_us, look_us=look_us
    )
    invalid = np.zeros(len(columns), dtype=np.bool_)
    for i, column in enumerate(columns):
        invalid[i] = not np.isfinite(values[i]).all()
        if invalid[i]:
            values[i] = 0.0
        elif column.indicator:
            values[i] = values[i] > 0
    return values, invalid


def _exposures(units: Units, looks_us: Ints, arms: int) -> Ints:
    seen = np.searchsorted(looks_us, units.at_us, side="right")
    counted = (units.variant >= 0) & (seen < len(looks_us))
    cell = seen[counted] * arms + units.variant[counted]
    daily = np.bincount(cell, minlength=len(looks_us) * arms).reshape(len(looks_us), arms)
    return np.cumsum(daily, axis=0)


def _reshape(moments: Moments, cells: tuple[int, ...]) -> Moments:
    k = moments.columns
    return Moments(
        moments.count.reshape(cells),
        moments.mean.reshape(*cells, k),
        moments.comoment.reshape(*cells, k, k),
        moments.third.reshape(*cells, k),
    )


def _join(parts: Sequence[Moments], columns: int) -> Moments:
    """Cells one after the other."""
    if not parts:
        return Moments.empty((0,), columns)
    return Moments(
        np.concatenate([part.count for part in parts]),
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.comoment for part in parts]),
        np.concatenate([part.third for part in parts]),
    )


def _stack(parts: Sequence[Moments]) -> Moments:
    """Cells of equal shape along a new first axis."""
    return _join([part[None] for part in parts], parts[0].columns)
