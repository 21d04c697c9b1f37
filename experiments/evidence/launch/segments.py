"""Which segments of an outcome take part, and on which scale (METHODS D3: logarithms only of what is positive)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.series_table import SeriesTable
from stats.moments import Bools, Floats

type Scale = Literal["log", "level"]

SHARE_OBSERVED: Final = 0.5
"""A segment with fewer of its values before the launch is left out."""
MOST_NOT_POSITIVE: Final = 0.5
"""Where more of the untreated segments have values of zero or below, logarithms would choose the comparison."""
_APART_FROM_ZERO: Final = 3.0


@dataclass(frozen=True, slots=True)
class Omitted:
    """Segments that take no part, by name, and why."""

    by_option: tuple[str, ...] = ()
    all_zero: tuple[str, ...] = ()
    without_values: tuple[str, ...] = ()
    not_positive: tuple[str, ...] = ()
    near_zero: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """N segments in the order of their names: values, numbers of units and coverage (N, T); `mean` (N,) before."""

    names: tuple[str, ...]
    values: Floats
    counts: Floats
    coverage: Floats
    mean: Floats
    scale: Scale
    left_out: Omitted
    treated_left_out: bool = False

    @property
    def treated(self) -> Bools:
        """(N,) segments that ever have the change."""
        return np.asarray((self.coverage > 0).any(axis=1))

    def only(self, kept: Bools) -> Segments:
        """The segments that are kept."""
        return replace(
            self,
            names=tuple(name for name, keep in zip(self.names, kept, strict=True) if keep),
            values=self.values[kept],
            counts=self.counts[kept],
            coverage=self.coverage[kept],
            mean=self.mean[kept],
            treated_left_out=self.treated_left_out or bool((self.treated & ~kept).any()),
        )

    def named(self, which: Bools) -> tuple[str, ...]:
        """The names of some."""
        return tuple(name for name, is_meant in zip(self.names, which, strict=True) if is_meant)


def rows_of(table: SeriesTable, columns: list[int]) -> tuple[tuple[str, ...], Floats, Floats]:
    """Names in their order, values and numbers of units of these periods."""
    rows = sorted(range(len(table.segments)), key=lambda i: table.segments[i])
    cells = np.ix_(rows, columns)
    return tuple(table.segments[i] for i in rows), table.values[cells], table.n[cells]


def chosen_segments(
    names: tuple[str, ...],
    values: Floats,
    counts: Floats,
    coverage: Floats,
    before: Bools,
    after: Bools,
    excluded: Collection[str],
) -> Segments:
    """The segments that can be used, on one scale for all.

    `before`, `after` (T,) are the periods before the launch and from it on. Left out are segments that options exclude,
    that are nothing but zeros, or that have no values to speak of. Effects are on the log scale where all values are
    positive; untreated segments that are not all positive are left out for that while they are few. Otherwise the scale
    is the level, and every segment needs a mean before the launch that is apart from zero, because effects are relative
    to it.
    """
    known = np.isfinite(values)
    by_option = np.array([name in excluded for name in names], dtype=np.bool_)
    zero = known.any(axis=1) & (np.where(known, values, 0.0) == 0).all(axis=1) & ~by_option
    thin = known[:, before].sum(axis=1) < SHARE_OBSERVED * before.sum()
    if after.any():
        thin |= ~known[:, after].any(axis=1)
    thin &= ~by_option & ~zero
    everything = Segments(names, values, counts, coverage, means(values, before), "log", Omitted())
    left_out = Omitted(
        by_option=everything.named(by_option), all_zero=everything.named(zero), without_values=everything.named(thin)
    )
    used = replace(everything, left_out=left_out).only(~(by_option | zero | thin))
    low = (np.where(np.isfinite(used.values), used.values, 1.0) <= 0).any(axis=1)
    if not low.any():
        return used
    untreated = ~used.treated
    few = np.count_nonzero(low) <= MOST_NOT_POSITIVE * np.count_nonzero(untreated)
    if few and not (low & used.treated).any():
        return replace(used, left_out=replace(left_out, not_positive=used.named(low))).only(~low)
    near = np.abs(used.mean) < _APART_FROM_ZERO * _errors(used.values, before)
    near |= ~np.isfinite(used.mean) | (used.mean == 0)
    return replace(used, scale="level", left_out=replace(left_out, near_zero=used.named(near))).only(~near)


def means(values: Floats, columns: Bools) -> Floats:
    """(N,) means of the known values in some columns, nan where there is none."""
    known = np.isfinite(values) & columns
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.asarray(np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0))


def _errors(values: Floats, columns: Bools) -> Floats:
    known = np.isfinite(values) & columns
    count = known.sum(axis=1)
    deviation = np.where(known, values - means(values, columns)[:, None], 0.0)
    variance = np.divide(
        (deviation**2).sum(axis=1), count * (count - 1), out=np.full(count.size, np.inf), where=count > 1
    )
    return np.asarray(np.sqrt(variance), dtype=np.float64)


def sizes(segments: Segments, aggregation: Literal["total", "mean"], before: Bools) -> NDArray[np.float64]:
    """(N,) units behind a value before the launch, for means that carry them; 1 for totals and where unknown."""
    units = means(segments.counts, before)
    known = aggregation == "mean" and bool(np.isfinite(units).all()) and bool((units > 0).all())
    return units if known else np.ones(len(segments.names))


def together(segments: Segments, aggregation: Literal["total", "mean"], size: Floats) -> Floats:
    """(T,) the segments as one: totals added up, means weighted by units; nan where any value is missing."""
    if not segments.names:
        return np.full(segments.values.shape[1], np.nan)
    if aggregation == "total":
        return np.asarray(segments.values.sum(axis=0))
    counted = bool(np.isfinite(segments.counts).all())
    weight = segments.counts if counted else np.broadcast_to(size[:, None], segments.values.shape)
    return np.asarray((weight * segments.values).sum(axis=0) / weight.sum(axis=0))
