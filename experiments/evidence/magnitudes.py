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
    """The same moments, with zeros and an `invalid` reason for columns whose scale is beyond reason in any cell."""
    beyond = _beyond(moments.overall) | _beyond(moments.by_segment)
    if not beyond.any():
        return moments
    refused = {name: OUT_OF_RANGE for name, bad in zip(moments.columns, beyond.tolist(), strict=True) if bad}
    return replace(
        moments,
        overall=_without(moments.overall, beyond),
        by_segment=_without(moments.by_segment, beyond),
        invalid={**refused, **moments.invalid},
    )


def _beyond(moments: Moments) -> Bools:
    """(k,): whether some cell's mean or spread is larger than `LARGEST`, or not zero but smaller than its inverse."""
    square = np.maximum(np.diagonal(moments.comoment, axis1=-2, axis2=-1), 0.0)
    scale = np.maximum(np.abs(moments.mean), np.sqrt(square)).reshape(-1, moments.columns)
    known = np.isfinite(scale) & np.isfinite(moments.third.reshape(-1, moments.columns))
    return np.asarray((~known | (scale > LARGEST) | ((scale > 0) & (scale < 1 / LARGEST))).any(axis=0))


def _without(moments: Moments, columns: Bools) -> Moments:
    keep = ~columns
    return Moments(
        moments.count,
        np.where(keep, moments.mean, 0.0),
        np.where(keep[:, None] & keep, moments.comoment, 0.0),
        np.where(keep, moments.third, 0.0),
    )
