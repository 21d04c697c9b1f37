"""Units in a hundred buckets by hash, for the jackknife (METHODS A4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stats.moment_set import HashBuckets
from stats.moments import Bools, Floats, Ints, safe_divide

BUCKETS = 100


@dataclass(frozen=True, slots=True, eq=False)
class BucketSums:
    """`count` (B, V) units and `sums` (B, V, k) of their values."""

    count: Ints
    sums: Floats

    def merge(self, other: "BucketSums") -> "BucketSums":
        """Union with other units."""
        return BucketSums(self.count + other.count, self.sums + other.sums)

    def finish(self, withdrawn: Bools) -> HashBuckets:
        """Means, zero in columns that are `withdrawn` (k,)."""
        return HashBuckets(self.count, np.where(withdrawn, 0.0, safe_divide(self.sums, self.count[..., None])))


def bucket_sums(values: Floats, variant: Ints, unit_hash: NDArray[np.uint64], arms: int) -> BucketSums:
    """Sums of `values` (k, n) per bucket and arm; units with the variant -1 are left out."""
    chosen = variant >= 0
    cell = (unit_hash % np.uint64(BUCKETS)).astype(np.int64) * arms + variant
    whole = bool(chosen.all())
    cell = cell if whole else cell[chosen]
    size = BUCKETS * arms
    sums = [np.bincount(cell, weights=row if whole else row[chosen], minlength=size) for row in values]
    return BucketSums(
        np.bincount(cell, minlength=size).reshape(BUCKETS, arms),
        np.array(sums).reshape(len(values), size).T.reshape(BUCKETS, arms, len(values)),
    )
