"""An experiment's unit-level data to moments: first exposures, one per-unit table, moments per look and segment."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce

import numpy as np

from experiments.columns import layout
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Bools, Ints, Moments
from warehouse.cells import (
    cumulative,
    join,
    moments_by_cell,
    order_of_units,
    regroup,
    reshape,
    stack,
    without_columns,
)
from warehouse.data_slice import DataSlice
from warehouse.engine import connect, days_us, epoch_us
from warehouse.looks import MAX_LOOKS, MAX_OPEN_LOOKS, look_times
from warehouse.one_pass import Pass, is_open
from warehouse.units import Bucket, Units, count_exposures, exposed_units, segment_levels
from warehouse.values import NON_FINITE, Values, read_all

type Progress = Callable[[str, float], None]

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
    with NaN, infinities or values above `LARGEST_VALUE` in any unit's window come back as zeros and in `invalid`.
    Raises `SourceUnreadable`.
    """
    columns = layout([metric.spec for metric in plan.metrics])
    if data.started_at is None:
        raise ValueError("an experiment's slice needs `started_at`")
    longest = columns.longest_window_days
    has_open = any(is_open(column) for column in columns.columns)
    looks = look_times(
        started_at=data.started_at,
        ended_at=data.ended_at,
        data_as_of=data.data_as_of,
        longest_window_days=longest,
        most=MAX_OPEN_LOOKS if has_open else MAX_LOOKS,
    )
    exposed_until = data.data_as_of if data.ended_at is None else min(data.ended_at, data.data_as_of)
    with (
        connect(threads=threads, memory_limit=memory_limit) as connection,
        ThreadPoolExecutor(max(1, threads)) as pool,
    ):
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
            pool=pool,
        )
        of = max(1, -(-count_exposures(connection, data) * max(1, len(work.columns)) * 8 // BUCKET_BYTES))
        parts = []
        for index in range(of):
            progress("reading exposures", index / of)
            units = exposed_units(connection, data, work.variants, work.levels, Bucket(index, of))
            parts.append(measure(work, units, _Share(progress, index, of)))
    progress("computing moments", 1.0)
    return combine(work, reduce(Parts.merge, parts))


@dataclass(frozen=True, slots=True)
class _Share:
    """Progress of one bucket as progress of all."""

    whole: Progress
    index: int
    of: int

    def __call__(self, fraction: float) -> None:
        self.whole("computing moments", (self.index + fraction) / self.of)


def measure(work: Pass, units: Units, progress: Callable[[float], None]) -> Parts:
    """The moments of one bucket of units."""
    looks_us = np.array([epoch_us(look) for look in work.looks])
    arms, size, k = len(work.variants), len(work.looks), len(work.columns)
    units, entry, cell = _in_order(units, looks_us, work.longest_us, arms)

    table = Values(np.zeros((k, len(units))), np.zeros(k, dtype=np.bool_))
    facts = read_all(work, units, int(looks_us[-1]))
    table.fill(work.columns, facts, units.at_us, int(looks_us[-1]))
    progress(0.7)

    entering = reshape(moments_by_cell(table.values, cell, size * arms, work.pool), (size, arms))
    segments = []
    for i, (_, levels) in enumerate(work.levels):
        of_level = np.where(cell >= 0, units.segment[i] * arms + units.variant, -1)
        order = regroup(of_level, len(levels) * arms)
        segments.append(moments_by_cell(table.values, of_level, len(levels) * arms, work.pool, order))
    by_segment = reshape(join(segments, k), (sum(len(levels) for _, levels in work.levels), arms))

    snapshots = []
    if work.has_open_columns:
        for look in range(size - 1):
            table.fill(work.columns, facts, units.at_us, int(looks_us[look]), only_open=True)
            of_arm = np.where((cell >= 0) & (entry <= look), units.variant, -1)
            snapshots.append(moments_by_cell(table.values, of_arm, arms, work.pool, regroup(of_arm, arms)))
            progress(0.7 + 0.3 * (look + 1) / size)
    exposures = _exposures(units, looks_us, arms)
    return Parts(entering, tuple(snapshots), by_segment, exposures, units.crossover, table.invalid)


def _in_order(units: Units, looks_us: Ints, longest_us: int, arms: int) -> tuple[Units, Ints, Ints]:
    """The units in their order of summation, the look at which each enters, and its cell (entry, variant) or -1."""

    def place(these: Units) -> tuple[Ints, Ints]:
        entry: Ints = np.searchsorted(looks_us, these.at_us + longest_us, side="left")
        inside = (these.variant >= 0) & (entry < len(looks_us))
        return entry, np.where(inside, entry * arms + these.variant, -1)

    ordered = units.take(order_of_units(place(units)[1], len(looks_us) * arms, units.unit_hash))
    return ordered, *place(ordered)


def combine(work: Pass, parts: Parts) -> MomentSet:
    """The moments of all units as the rest of the system sees them; columns that are not finite are withdrawn."""
    overall = cumulative(parts.entering)
    if parts.snapshots:
        # With open-ended windows a look is not the sum of earlier ones, but the last look is already complete.
        overall = stack([*parts.snapshots, overall[-1]])
    bad = parts.invalid
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


def _exposures(units: Units, looks_us: Ints, arms: int) -> Ints:
    seen = np.searchsorted(looks_us, units.at_us, side="right")
    counted = (units.variant >= 0) & (seen < len(looks_us))
    cell = seen[counted] * arms + units.variant[counted]
    daily = np.bincount(cell, minlength=len(looks_us) * arms).reshape(len(looks_us), arms)
    return np.cumsum(daily, axis=0)
