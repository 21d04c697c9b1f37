"""Per-unit vectors to moments per cell, in an order that does not depend on how many threads read the data."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stats.moments import Bools, Floats, Ints, Moments

type Units = NDArray[np.int64]

_CELL_BITS = 16
_CHUNK = 1 << 14


def order_of_units(cell: Ints, cells: int, unit_hash: NDArray[np.uint64]) -> Units:
    """The units sorted by cell (units in none, -1, come last) and within a cell by hash: always the same order."""
    _check(cells)
    place = np.where(cell < 0, cells, cell).astype(np.uint64)
    order: Units = np.argsort((place << np.uint64(64 - _CELL_BITS)) | (unit_hash >> np.uint64(_CELL_BITS)))
    return order


def regroup(cell: Ints, cells: int) -> Units:
    """The units sorted by another cell, otherwise in their present order; units in no cell (-1) come last."""
    # 16 bits are sorted by radix, an order of magnitude faster.
    width = np.uint16 if cells < 1 << _CELL_BITS else np.uint32
    order: Units = np.argsort(np.where(cell < 0, cells, cell).astype(width), kind="stable")
    return order


def _check(cells: int) -> None:
    if cells >= (1 << _CELL_BITS) - 1:
        raise ValueError(f"{cells} cells are more than one extraction can hold")


def moments_by_cell(values: Floats, cell: Ints, cells: int, pool: Executor, order: Units | None = None) -> Moments:
    """Moments of `values` (k, n) per cell: sums about a constant near the cell's mean, products by matrix products.

    `cell` (n,) is each unit's cell, -1 for none. Without `order` the units lie sorted by cell already. The values are
    finite, and small enough for their cubes to be.
    """
    k = values.shape[0]
    counts = np.bincount(cell[cell >= 0], minlength=cells)
    ends = np.cumsum(counts)
    used = np.flatnonzero(counts)

    def sums_of(c: int) -> tuple[Floats, Floats, Floats, Floats]:
        shift, sums, products, cubes = np.zeros(k), np.zeros(k), np.zeros((k, k)), np.zeros(k)
        first, end = int(ends[c] - counts[c]), int(ends[c])
        for start in range(first, end, _CHUNK):
            rows = slice(start, min(start + _CHUNK, end))
            block = values[:, rows] if order is None else np.take(values, order[rows], axis=1)
            if start == first:
                shift = _near_mean(block)
            gap = block - shift[:, None]
            sums += gap.sum(axis=1)
            products += gap @ gap.T
            cubes += np.einsum("ij,ij,ij->i", gap, gap, gap)
        return shift, sums, products, cubes

    shift, sums, products, cubes = (
        np.zeros((cells, k)),
        np.zeros((cells, k)),
        np.zeros((cells, k, k)),
        np.zeros((cells, k)),
    )
    for c, parts in zip(used, pool.map(sums_of, used), strict=True):
        shift[c], sums[c], products[c], cubes[c] = parts
    return Moments.from_shifted_sums(counts, shift, sums, products, cubes)


def _near_mean(block: Floats) -> Floats:
    """(k,) the mean of some of a cell's units. Of a constant exactly that constant, so that its variance is exactly 0;

    of whole numbers a whole number, so that their sums stay exact.
    """
    origin = block[:, 0]
    gap = (block - origin[:, None]).mean(axis=1)
    whole = (block == np.rint(block)).all(axis=1)
    near: Floats = origin + np.where(whole, np.rint(gap), gap)
    return near


def without_columns(moments: Moments, columns: Bools) -> Moments:
    """The same cells with these columns (k,) zeroed, in means, products with every column, and cubes."""
    if not columns.any():
        return moments
    keep = ~columns
    return Moments(
        moments.count,
        np.where(keep, moments.mean, 0.0),
        np.where(keep[:, None] & keep[None, :], moments.comoment, 0.0),
        np.where(keep, moments.third, 0.0),
    )


def cumulative(moments: Moments) -> Moments:
    """Running union along the first axis: cells (looks, ...) of the units that entered at each look."""
    running = [moments[0]]
    for look in range(1, moments.count.shape[0]):
        running.append(running[-1].merge(moments[look]))
    return stack(running)


def stack(parts: Sequence[Moments]) -> Moments:
    """Cells of equal shape along a new first axis."""
    return join([reshape(part, (1, *part.cells)) for part in parts], parts[0].columns)


def join(parts: Sequence[Moments], columns: int) -> Moments:
    """Cells one after the other along the first axis; (0,) cells of `columns` columns when there are none."""
    if not parts:
        return Moments.empty((0,), columns)
    return Moments(
        np.concatenate([part.count for part in parts]),
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.comoment for part in parts]),
        np.concatenate([part.third for part in parts]),
    )


def reshape(moments: Moments, cells: tuple[int, ...]) -> Moments:
    """The same cells in another shape."""
    k = moments.columns
    return Moments(
        moments.count.reshape(cells),
        moments.mean.reshape(*cells, k),
        moments.comoment.reshape(*cells, k, k),
        moments.third.reshape(*cells, k),
    )


@dataclass(frozen=True, slots=True, eq=False)
class OverLooks:
    """Cells (looks, ...) in the making: of the units `entering` at each look, and `snapshots` of all units at a look.

    With snapshots of all looks there is no `entering`; with those of all but the last, its sum is the last.
    """

    entering: Moments | None
    snapshots: tuple[Moments, ...] = ()

    def merge(self, other: "OverLooks") -> "OverLooks":
        """Union with other units."""
        entering = self.entering
        if entering is not None and other.entering is not None:
            entering = entering.merge(other.entering)
        return OverLooks(entering, tuple(a.merge(b) for a, b in zip(self.snapshots, other.snapshots, strict=True)))

    def finish(self) -> Moments:
        """The moments at every look."""
        if self.entering is None:
            return stack(self.snapshots)
        overall = cumulative(self.entering)
        return stack([*self.snapshots, overall[-1]]) if self.snapshots else overall
