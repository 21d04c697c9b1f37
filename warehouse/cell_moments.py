"""The moments of a bucket's units as they are grouped: by look, segment, stratum, and what other experiments gave.

With clustered randomisation it is clusters that are grouped instead (`warehouse.clusters`).
"""

from collections.abc import Callable

import numpy as np

from stats.moments import Floats, Ints, Moments
from warehouse.cells import OverLooks, join, moments_by_cell, regroup, reshape
from warehouse.measured import Measured
from warehouse.other_experiments import variants_elsewhere


def moments_over_looks(
    measured: Measured, values_at: Callable[[int], Floats] | None
) -> tuple[OverLooks, OverLooks | None]:
    """Cells (looks, V), and (looks, strata, V) if there are strata.

    `values_at` gives the values (k, n) as of an earlier look where they change with the look.
    """
    work, placed, arms, size = measured.work, measured.placed, measured.arms, len(measured.work.looks)
    entering = reshape(moments_by_cell(measured.values, placed.cell, size * arms, work.pool), (size, arms))
    count, stratum = 0, np.zeros(0, dtype=np.int64)
    strata: Moments | None = None
    if work.strata is not None:
        count, stratum = len(work.strata.names), work.strata.of(placed.units)
        within = np.where(placed.entered, (placed.entry * count + stratum) * arms + placed.units.variant, -1)
        strata = reshape(_regrouped(measured, measured.values, within, size * count * arms), (size, count, arms))
    snapshots, strata_snapshots = [], []
    for look in range(size - 1) if values_at is not None else ():
        assert values_at is not None
        values = values_at(look)
        variant = np.where(placed.entry <= look, placed.variant, -1)
        snapshots.append(_regrouped(measured, values, variant, arms))
        if strata is not None:
            within = np.where(variant >= 0, stratum * arms + variant, -1)
            strata_snapshots.append(reshape(_regrouped(measured, values, within, count * arms), (count, arms)))
    overall = OverLooks(entering, tuple(snapshots))
    return overall, None if strata is None else OverLooks(strata, tuple(strata_snapshots))


def segment_moments(measured: Measured) -> Moments:
    """Cells (segments, V) at the last look."""
    work, arms = measured.work, measured.arms
    found = [
        _crossed(measured, segment.of(measured.placed.units.segment), len(segment.groups)) for segment in work.segments
    ]
    return reshape(join(found, len(measured.values)), (sum(len(segment.groups) for segment in work.segments), arms))


def concurrent_moments(measured: Measured) -> tuple[Moments, ...]:
    """Cells (other variants, V) at the last look for each concurrent experiment (METHODS A16)."""
    work, arms = measured.work, measured.arms
    others = work.data.concurrent
    given = variants_elsewhere(work.connection, work.data, measured.placed.units)
    return tuple(
        reshape(_crossed(measured, given[i], len(other.variants)), (len(other.variants), arms))
        for i, other in enumerate(others)
    )


def _crossed(measured: Measured, group: Ints, groups: int) -> Moments:
    """Cells (groups * V,) at the last look; units of the group -1 are left out."""
    variant, arms = measured.placed.variant, measured.arms
    cell = np.where((variant >= 0) & (group >= 0), group * arms + variant, -1)
    return _regrouped(measured, measured.values, cell, groups * arms)


def _regrouped(measured: Measured, values: Floats, cell: Ints, cells: int) -> Moments:
    return moments_by_cell(values, cell, cells, measured.work.pool, regroup(cell, cells))
