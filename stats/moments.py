"""Mergeable moments of a per-unit vector: the only thing that leaves the data engine (METHODS 1).

A unit (user, account, ...) has a vector of k columns: metric values, numerators, denominators and pre-period
covariates. For each cell (variant, look, segment, ...) we keep how many units there are, the column means, the centred
sums of products between columns, and the centred sums of cubes. Cells of disjoint units merge exactly (Chan, Golub &
LeVeque 1983), and nothing here subtracts two large sums, so a metric near 1e9 with a spread of 1 keeps its digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

type Floats = NDArray[np.float64]
type Ints = NDArray[np.int64]
type Bools = NDArray[np.bool_]
type Index = int | slice | EllipsisType | Sequence[int] | NDArray[np.bool_] | NDArray[np.int64]

NEGATIVE_EIGENVALUE = 1e-9
"""A co-moment matrix may have eigenvalues down to -1e-9 of its trace from rounding, not below."""


class InvalidMoments(ValueError):
    """Moments that no data could have produced; `column` names the offender."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"moments of column {column!r}: {problem}")
        self.column = column
        self.problem = problem


def safe_divide(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """`numerator / denominator` elementwise, 0 where the denominator is 0 (the caller carries the mask)."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    result: Floats = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, mean and centred second and third moments of k columns, for an array of cells.

    Shapes (`...` are the cells): `count` (...,) units; `mean` (..., k); `comoment` (..., k, k) = sum (w-mean)(w-mean)';
    `third` (..., k) = sum (w-mean)^3. A cell without units is all zeros.
    """

    count: Ints
    mean: Floats
    comoment: Floats
    third: Floats

    def __post_init__(self) -> None:
        cells, k = self.count.shape, self.mean.shape[-1]
        expected = {"mean": (*cells, k), "comoment": (*cells, k, k), "third": (*cells, k)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")

    @classmethod
    def from_rows(cls, values: ArrayLike, cell: ArrayLike, cells: int | tuple[int, ...]) -> Self:
        """One row per unit: `values` (n, k) of any real dtype, `cell` (n,) flat index of the row's cell in `cells`.

        Two passes with a correction of the second pass' own rounding, so a constant offset of 1e9 is harmless.
        """
        rows = np.asarray(values, dtype=np.float64)
        where = np.asarray(cell, dtype=np.int64)
        shape = (cells,) if isinstance(cells, int) else cells
        size, k = int(np.prod(shape)), rows.shape[1]
        count = np.bincount(where, minlength=size)
        centre = rows.mean(axis=0) if len(rows) else np.zeros(k)
        deviations = rows - centre

        def totals(column: Floats) -> Floats:
            return np.bincount(where, weights=column, minlength=size)

        shift = np.stack([safe_divide(totals(deviations[:, i]), count) for i in range(k)], axis=-1)
        deviations -= shift[where]
        sums = np.stack([totals(deviations[:, i]) for i in range(k)], axis=-1)
        cubes = np.stack([totals(deviations[:, i] ** 3) for i in range(k)], axis=-1)
        products = np.empty((size, k, k))
        for i in range(k):
            for j in range(i + 1):
                products[:, i, j] = products[:, j, i] = totals(deviations[:, i] * deviations[:, j])
        local = cls.from_shifted_sums(count, np.zeros(k), sums, products, cubes)
        mean = np.where((count > 0)[:, None], centre + shift + local.mean, 0.0)
        return cls(
            count.reshape(shape),
            mean.reshape(*shape, k),
            local.comoment.reshape(*shape, k, k),
            local.third.reshape(*shape, k),
        )

    @classmethod
    def from_shifted_sums(
        cls, count: ArrayLike, shift: ArrayLike, sums: ArrayLike, products: ArrayLike, cubes: ArrayLike
    ) -> Self:
        """Sums as a data engine returns them, about a constant `shift` (k,), or (..., k) of each cell, near the mean.

        `sums` (..., k) of (x - shift); `products` (..., k, k) of (x_i - shift_i)(x_j - shift_j); `cubes` (..., k) of
        (x - shift)^3. Loses digits only when the mean is many standard deviations away from the shift.
        """
        n = np.asarray(count, dtype=np.int64)
        s, p, q = (np.asarray(a, dtype=np.float64) for a in (sums, products, cubes))
        d = safe_divide(s, n[..., None])
        square = np.diagonal(p, axis1=-2, axis2=-1)
        comoment = p - s[..., :, None] * d[..., None, :]
        mean = np.where((n > 0)[..., None], np.asarray(shift, dtype=np.float64) + d, 0.0)
        third = q - 3 * d * square + 2 * d * d * s
        return cls(n, mean, (comoment + np.swapaxes(comoment, -1, -2)) / 2, third)

    @classmethod
    def empty(cls, cells: tuple[int, ...], columns: int) -> Self:
        """Moments of no units at all."""
        return cls(
            np.zeros(cells, dtype=np.int64),
            np.zeros((*cells, columns)),
            np.zeros((*cells, columns, columns)),
            np.zeros((*cells, columns)),
        )

    @property
    def cells(self) -> tuple[int, ...]:
        return self.count.shape

    @property
    def columns(self) -> int:
        return int(self.mean.shape[-1])

    @property
    def has_covariance(self) -> Bools:
        """(...,) whether a cell has the two units a covariance needs."""
        return self.count >= 2

    @property
    def covariance(self) -> Floats:
        """(..., k, k) unbiased sample covariance of the columns; zeros where `has_covariance` is false, never nan."""
        freedom = np.where(self.has_covariance, self.count - 1, 0)
        result: Floats = self.comoment * safe_divide(1.0, freedom)[..., None, None]
        return result

    def __getitem__(self, index: Index | tuple[Index, ...]) -> Self:
        """Index the cells, never the columns."""
        key = index if isinstance(index, tuple) else (index,)
        open_ended = any(part is Ellipsis for part in key)
        one = (*key, slice(None)) if open_ended else key
        two = (*key, slice(None), slice(None)) if open_ended else key
        return type(self)(
            np.asarray(self.count[key]),
            self.mean[one],
            self.comoment[two],
            self.third[one],
        )

    def select(self, columns: Sequence[int]) -> Self:
        """The same cells with only these columns, in this order."""
        pick = np.asarray(columns, dtype=np.int64)
        return type(self)(
            self.count, self.mean[..., pick], self.comoment[..., pick[:, None], pick], self.third[..., pick]
        )

    def merge(self, other: Self) -> Self:
        """Cell by cell union with moments of *other* units (never the same units on another day)."""
        both = type(self)(
            np.stack([self.count, other.count]),
            np.stack([self.mean, other.mean]),
            np.stack([self.comoment, other.comoment]),
            np.stack([self.third, other.third]),
        )
        return both.merge_axis(0)

    def merge_axis(self, axis: int) -> Self:
        """Union of the cells along one axis, in one pass; the result does not depend on their order beyond rounding."""
        axis %= self.count.ndim
        n = self.count[..., None].astype(np.float64)
        total = self.count.sum(axis=axis)
        whole = total[..., None].astype(np.float64)
        # Means are compared with one of themselves, so the common offset never enters a product.
        used = self.count > 0
        anchor_at = np.expand_dims(np.argmax(used, axis=axis), axis)[..., None]
        anchor = np.take_along_axis(self.mean, anchor_at, axis=axis)
        gap = np.where(used[..., None], self.mean - anchor, 0.0)
        centre = safe_divide((n * gap).sum(axis=axis), whole)
        mean = np.squeeze(anchor, axis=axis) + centre
        gap = np.where(used[..., None], gap - np.expand_dims(centre, axis), 0.0)
        square = np.diagonal(self.comoment, axis1=-2, axis2=-1)
        comoment = (self.comoment + (n * gap)[..., :, None] * gap[..., None, :]).sum(axis=axis)
        third = (self.third + 3 * gap * square + n * gap**3).sum(axis=axis)
        return type(self)(total, np.where(whole > 0, mean, 0.0), comoment, third)

    def validate(self, names: Sequence[str] | None = None) -> None:
        """Raise `InvalidMoments` naming the column if these numbers cannot be moments of real data."""
        labels = list(names) if names is not None else [f"#{i}" for i in range(self.columns)]
        if (self.count < 0).any():
            raise InvalidMoments("count", "a cell has a negative number of units")
        finite = {
            "mean": np.isfinite(self.mean),
            "third moment": np.isfinite(self.third),
            "co-moment": np.isfinite(self.comoment).all(axis=-1),
        }
        for what, good in finite.items():
            if not good.all():
                raise InvalidMoments(labels[int(np.argwhere(~good)[0][-1])], f"{what} is not finite")
        if not self.columns or not self.count.size:
            return
        square = np.diagonal(self.comoment, axis1=-2, axis2=-1)
        roots, vectors = np.linalg.eigh(self.comoment)
        trace = np.abs(square).sum(axis=-1)
        bad = roots[..., 0] < -NEGATIVE_EIGENVALUE * trace
        if bad.any():
            direction = np.abs(vectors[..., :, 0][bad][0])
            raise InvalidMoments(
                labels[int(direction.argmax())], "the sums of products are not those of any data (negative variance)"
            )
