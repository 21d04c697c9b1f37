"""Per-unit vectors to moments per cell, in an order that does not depend on how many threads read the data."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stats.moments import Floats, Ints, Moments

_CELL_BITS = 20
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Rows sorted by cell and, within a cell, by the hash of the unit id: the order of summation."""

    rows: NDArray[np.int64]
    bounds: NDArray[np.int64]


def order_by_cell(cell: Ints, cells: int, unit_hash: NDArray[np.uint64]) -> Order:
    """`cell` (n,) of each unit, -1 where the unit is in none; `unit_hash` (n,) 64 bits."""
    if cells >= 1 << _CELL_BITS:
        raise ValueError(f"{cells} cells are more than one extraction can hold")
    inside = np.flatnonzero(cell >= 0)
    chosen = cell[inside]
    key = (chosen.astype(np.uint64) << np.uint64(64 - _CELL_BITS)) | (unit_hash[inside] >> np.uint64(_CELL_BITS))
    bounds = np.zeros(cells + 1, dtype=np.int64)
    np.cumsum(np.bincount(chosen, minlength=cells), out=bounds[1:])
    return Order(inside[np.argsort(key)], bounds)


def shift_of(values: Floats, order: Order) -> Floats:
    """(k,) a constant near each column's mean: the mean of a fixed sample of the ordered units, so it is reproducible.

    Whole numbers keep a whole shift: their sums stay exact.
    """
    if not len(order.rows):
        return np.zeros(values.shape[0])
    sample = values[:, order.rows[:: -(-len(order.rows) // _CHUNK)]]
    with np.errstate(over="ignore"):
        mean = sample.mean(axis=1)
    whole = (sample == np.rint(sample)).all(axis=1)
    return np.where(np.isfinite(mean), np.where(whole, np.rint(mean), mean), 0.0)


def moments_by_cell(values: Floats, order: Order, shift: Floats) -> Moments:
    """Moments of `values` (k, n) per cell: shifted sums about `shift` (k,), products by matrix multiplication.

    Columns that overflow give non-finite moments; the caller withdraws them.
    """
    k, cells = values.shape[0], len(order.bounds) - 1
    sums, products, cubes = np.zeros((cells, k)), np.zeros((cells, k, k)), np.zeros((cells, k))
    counts = np.diff(order.bounds)
    with np.errstate(over="ignore", invalid="ignore"):
        for cell in np.flatnonzero(counts):
            for start in range(int(order.bounds[cell]), int(order.bounds[cell + 1]), _CHUNK):
                rows = order.rows[start : min(start + _CHUNK, int(order.bounds[cell + 1]))]
                gap = values[:, rows] - shift[:, None]
                sums[cell] += gap.sum(axis=1)
                products[cell] += gap @ gap.T
                cubes[cell] += np.einsum("ij,ij,ij->i", gap, gap, gap)
        return Moments.from_shifted_sums(counts, shift, sums, products, cubes)


def without_columns(moments: Moments, columns: NDArray[np.bool_]) -> Moments:
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
    return Moments(
        np.stack([part.count for part in running]),
        np.stack([part.mean for part in running]),
        np.stack([part.comoment for part in running]),
        np.stack([part.third for part in running]),
    )
