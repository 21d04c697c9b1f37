"""The cells that are compared together, and what the same pass over the data knows about them beyond moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from stats.moment_set import ClusterTable, HashBuckets, MomentSet
from stats.moments import Moments
from stats.quantile import QuantileSummary


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Moments with cells (cells, V), and in step with them `quantiles` by metric key (`refused` says why one is not).

    `strata` (n, S, V) are those of the cells `stratified`, n of them. Cell `last` is everybody at the last look: what
    `buckets` and `clusters` are about.
    """

    moments: Moments
    quantiles: Mapping[str, QuantileSummary]
    refused: Mapping[str, str]
    strata: Moments | None
    stratified: slice
    last: int
    buckets: HashBuckets | None
    clusters: ClusterTable | None


def current_cells(data: MomentSet) -> Cells:
    """Cells (1 + segments,): everybody at the last look first. Only everybody is post-stratified (METHODS A8)."""
    return Cells(
        moments=joined(data.last, data.by_segment),
        quantiles={
            key: QuantileSummary(
                found.overall.probability,
                found.overall.level,
                *(
                    np.concatenate([getattr(found.overall, name)[-1:], getattr(found.by_segment, name)])
                    for name in _per_cell(found.overall)
                ),
            )
            for key, found in data.quantiles.items()
        },
        refused=data.refused,
        strata=None if data.by_stratum is None else data.by_stratum[-1:],
        stratified=slice(0, 1),
        last=0,
        buckets=data.buckets,
        clusters=data.clusters,
    )


def everybody_cells(data: MomentSet) -> Cells:
    """One cell: everybody at the last look, without quantiles."""
    return Cells(
        moments=data.overall[-1:],
        quantiles={},
        refused={},
        strata=None if data.by_stratum is None else data.by_stratum[-1:],
        stratified=slice(None),
        last=0,
        buckets=data.buckets,
        clusters=data.clusters,
    )


def cells_over_time(data: MomentSet) -> Cells:
    """Cells (looks,), cumulative."""
    return Cells(
        moments=data.overall,
        quantiles={key: found.overall for key, found in data.quantiles.items()},
        refused=data.refused,
        strata=data.by_stratum,
        stratified=slice(None),
        last=len(data.looks) - 1,
        buckets=data.buckets,
        clusters=data.clusters,
    )


def joined(everybody: Moments, segments: Moments) -> Moments:
    """Cells (1 + segments, V): everybody first."""
    return Moments(
        np.concatenate([everybody.count[None], segments.count]),
        np.concatenate([everybody.mean[None], segments.mean]),
        np.concatenate([everybody.comoment[None], segments.comoment]),
        np.concatenate([everybody.third[None], segments.third]),
    )


def _per_cell(summary: QuantileSummary) -> list[str]:
    """The arrays of a summary, in the order of its fields after `probability` and `level`."""
    return [field.name for field in fields(summary)][2:]
