"""Columns with numbers that double precision cannot square, divide and square again are refused at the door.

Real metrics stay far inside 1e-30 … 1e30. Beyond, an influence function would overflow to infinity half way through and
take the other metrics of the joint matrix with it, so such a column is treated like one with non-finite values.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stats.moment_set import MomentSet
from stats.moments import Bools, Moments

LARGEST = 1e30
OUT_OF_RANGE = "values_out_of_range"


def within_range(moments: MomentSet) -> MomentSet:
    """The same moments, with zeros and an `invalid` reason for columns whose scale is beyond reason in any cell.

    Moments without any column (every metric is a quantile) get one of zeros, so that arrays are never empty.
    """
    if not moments.columns:
        return _with_a_column(moments)
    beyond = _beyond(moments.overall) | _beyond(moments.by_segment)
    if moments.by_stratum is not None:
        beyond |= _beyond(moments.by_stratum)
    by_age = {key: found for key, found in moments.by_age.items() if not _beyond(found).any()}
    if not beyond.any() and len(by_age) == len(moments.by_age):
        return moments
    refused = {name: OUT_OF_RANGE for name, bad in zip(moments.columns, beyond.tolist(), strict=True) if bad}
    strata, clusters, buckets = moments.by_stratum, moments.clusters, moments.buckets
    return replace(
        moments,
        overall=_without(moments.overall, beyond),
        by_segment=_without(moments.by_segment, beyond),
        by_stratum=None if strata is None else _without(strata, beyond),
        clusters=None if clusters is None else replace(clusters, values=np.where(beyond, 0.0, clusters.values)),
        buckets=None if buckets is None else replace(buckets, mean=np.where(beyond, 0.0, buckets.mean)),
        concurrent={
            key: replace(found, moments=_without(found.moments, beyond)) for key, found in moments.concurrent.items()
        },
        by_age=by_age,
        invalid={**refused, **moments.invalid},
    )


def _beyond(moments: Moments) -> Bools:
    """(k,): whether some cell's mean or spread is larger than `LARGEST`, or not zero but smaller than its inverse."""
    square = np.maximum(np.diagonal(moments.comoment, axis1=-2, axis2=-1), 0.0)
    scale = np.maximum(np.abs(moments.mean), np.sqrt(square)).reshape(-1, moments.columns)
    known = np.isfinite(scale) & np.isfinite(moments.third.reshape(-1, moments.columns))
    return np.asarray((~known | (scale > LARGEST) | ((scale > 0) & (scale < 1 / LARGEST))).any(axis=0))


def _with_a_column(moments: MomentSet) -> MomentSet:
    def widened(bare: Moments) -> Moments:
        cells = bare.cells
        return Moments(bare.count, np.zeros((*cells, 1)), np.zeros((*cells, 1, 1)), np.zeros((*cells, 1)))

    strata = moments.by_stratum
    return replace(
        moments,
        columns=("nothing",),
        overall=widened(moments.overall),
        by_segment=widened(moments.by_segment),
        by_stratum=None if strata is None else widened(strata),
        buckets=None,
        clusters=None,
        concurrent={},
    )


def _without(moments: Moments, columns: Bools) -> Moments:
    keep = ~columns
    return Moments(
        moments.count,
        np.where(keep, moments.mean, 0.0),
        np.where(keep[:, None] & keep, moments.comoment, 0.0),
        np.where(keep, moments.third, 0.0),
    )
