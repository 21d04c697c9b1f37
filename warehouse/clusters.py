"""Clustered randomisation: units to totals of clusters, and the moments of those (METHODS A5)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stats.moment_set import ClusterTable
from stats.moments import Bools, Floats, Ints, Moments
from warehouse.cells import OverLooks, join, moments_by_cell, regroup, reshape
from warehouse.hash_buckets import BucketSums, bucket_sums
from warehouse.measured import Measured

FEW_CLUSTERS = 2000
"""Totals of more clusters are not kept: nobody needs corrections for few clusters then."""


@dataclass(frozen=True, slots=True, eq=False)
class ClusterTotals:
    """`values` (G, k) and `variant` (G,) of the clusters at the last look; None when they are too many."""

    rows: tuple[Floats, Ints] | None

    def merge(self, other: "ClusterTotals") -> "ClusterTotals":
        """Union with other clusters."""
        if self.rows is None or other.rows is None:
            return ClusterTotals(None)
        (values, variant), (more, of) = self.rows, other.rows
        return cluster_totals(np.concatenate([values, more]), np.concatenate([variant, of]))

    def finish(self, withdrawn: Bools) -> ClusterTable | None:
        """The table, zero in columns that are `withdrawn` (k,)."""
        if self.rows is None:
            return None
        values, variant = self.rows
        return ClusterTable(np.where(withdrawn, 0.0, values), variant)


def cluster_totals(values: Floats, variant: Ints) -> ClusterTotals:
    """The clusters, if they are few."""
    return ClusterTotals((values, variant) if len(variant) <= FEW_CLUSTERS else None)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterMoments:
    """What `measure_clusters` finds."""

    overall: OverLooks
    by_stratum: OverLooks | None
    by_segment: Moments
    buckets: BucketSums
    totals: ClusterTotals


def measure_clusters(measured: Measured, values_at: Callable[[int], Floats] | None) -> ClusterMoments:
    """Moments over clusters of the totals of their entered units; the last column counts these.

    `values_at` gives the values (k, n) as of an earlier look where they change with the look. A bucket holds whole
    clusters. In a segment a cluster is its units of that level. A cluster's stratum is that of its first unit.
    """
    work, placed, arms = measured.work, measured.placed, measured.arms
    assert placed.units.cluster is not None
    inside = np.flatnonzero(placed.entered)
    hashes, cluster = np.unique(placed.units.cluster[inside], return_inverse=True)
    variant = np.zeros(len(hashes), dtype=np.int64)
    variant[cluster] = placed.variant[inside]

    def totals(values: Floats, rows: Ints, of: Ints, groups: int) -> Floats:
        """(k + 1, groups) sums over units, and how many there are."""
        sums = [np.bincount(of, weights=row[rows], minlength=groups) for row in values]
        return np.array([*sums, np.bincount(of, minlength=groups)], dtype=np.float64)

    def moments(table: Floats, cells: int, cell: Ints) -> Moments:
        """Of the clusters that have units yet."""
        there = np.where(table[-1] > 0, cell, -1)
        return moments_by_cell(table, there, cells, work.pool, regroup(there, cells))

    final = totals(measured.values, inside, cluster, len(hashes))
    by_segment = []
    for segment in work.segments:
        levels = len(segment.groups)
        pair, of = np.unique(cluster * levels + segment.of(placed.units.segment)[inside], return_inverse=True)
        table = totals(measured.values, inside, of, len(pair))
        by_segment.append(moments(table, levels * arms, pair % levels * arms + variant[pair // levels]))

    overall, strata = [], []
    stratum = _of_first_unit(measured, inside, cluster, len(hashes))
    last = len(work.looks) - 1
    # The units inside lie in order of entry.
    ends = np.searchsorted(placed.entry[inside], np.arange(last + 1), side="right")
    so_far: Floats = np.zeros(final.shape)
    for look, end in enumerate(ends):
        if look == last:
            so_far = final
        elif values_at is None:
            new = slice(ends[look - 1] if look else 0, end)
            so_far = so_far + totals(measured.values, inside[new], cluster[new], len(hashes))
        else:
            so_far = totals(values_at(look), inside[:end], cluster[:end], len(hashes))
        overall.append(moments(so_far, arms, variant))
        if work.strata is not None:
            count = len(work.strata.names)
            strata.append(reshape(moments(so_far, count * arms, stratum * arms + variant), (count, arms)))
    return ClusterMoments(
        OverLooks(None, tuple(overall)),
        OverLooks(None, tuple(strata)) if strata else None,
        reshape(join(by_segment, len(final)), (sum(len(segment.groups) for segment in work.segments), arms)),
        bucket_sums(final, variant, hashes, arms),
        cluster_totals(final.T, variant),
    )


def _of_first_unit(measured: Measured, inside: Ints, cluster: Ints, clusters: int) -> Ints:
    """(clusters,) the stratum of the unit that was assigned first (of several the one with the smallest hash)."""
    stratum = np.zeros(clusters, dtype=np.int64)
    if measured.work.strata is None:
        return stratum
    units = measured.placed.units
    latest_first = np.lexsort((units.unit_hash[inside], units.assigned_us[inside]))[::-1]
    # Of several assignments to one place the last one stays.
    stratum[cluster[latest_first]] = measured.work.strata.of(units)[inside][latest_first]
    return stratum
