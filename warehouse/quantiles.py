"""Quantile metrics (METHODS A6): the single values of a pass, whose they are, and from which look on they count.

A quantile has no moments that merge, so its values leave the buckets as they are: about 16 bytes per unit with facts,
or per fact. Only units with a fact in the window count; no fact is no value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.columns import QuantileColumn
from stats.moment_set import QuantileCells
from stats.moments import Bools, Floats, Ints
from stats.quantile import QuantileSummary, summarise
from warehouse.engine import epoch_us
from warehouse.facts import Facts
from warehouse.looks import thin
from warehouse.one_pass import Pass, is_open
from warehouse.values import NON_FINITE, AllFacts, facts_of, is_calculable

MOST_LOOKS = 20
MOST_VALUES = 10_000_000
"""Above this many values, over all looks, only `MOST_LOOKS` of the looks have cells; those of the others are empty."""

type Breakdown = tuple[Ints, int]
"""The level of every unit (n,) in a dimension, and how many levels that has; a unit in none has -1."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The analysed units of a bucket (n,): what their values are compared by. `cluster` is what was randomised."""

    variant: NDArray[np.int16]
    levels: NDArray[np.int16]
    cluster: NDArray[np.uint64] | None

    def merge(self, other: "Groups") -> "Groups":
        one, two = self.cluster, other.cluster
        return Groups(
            np.concatenate([self.variant, other.variant]),
            np.concatenate([self.levels, other.levels], axis=1),
            None if one is None or two is None else np.concatenate([one, two]),
        )

    def __len__(self) -> int:
        return len(self.variant)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Values (m,) of a quantile metric, the unit of each in `Groups`, and its first and last look."""

    value: Floats
    unit: NDArray[np.int32]
    first: NDArray[np.int16]
    last: NDArray[np.int16]

    def merge(self, other: "Rows", units: int) -> "Rows":
        """Both together, of which the others belong to units that come `units` later."""
        return Rows(
            np.concatenate([self.value, other.value]),
            np.concatenate([self.unit, other.unit + np.int32(units)]),
            np.concatenate([self.first, other.first]),
            np.concatenate([self.last, other.last]),
        )


NO_ROWS = Rows(np.zeros(0), np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(0, np.int16))


def groups_of(
    variant: Ints, cluster: NDArray[np.uint64] | None, breakdowns: Sequence[Breakdown], inside: Bools
) -> Groups:
    """The analysed ones among a bucket's units."""
    levels = np.zeros((len(breakdowns), int(inside.sum())), dtype=np.int16)
    for row, (code, _) in zip(levels, breakdowns, strict=True):
        row[:] = code[inside]
    return Groups(variant[inside].astype(np.int16), levels, None if cluster is None else cluster[inside])


def rows_of(work: Pass, metric: QuantileColumn, facts: AllFacts, entry: Ints, inside: Bools) -> tuple[Rows | None, str]:
    """A metric's values over the analysed units, which enter at the looks `entry` (n,); or the reason to refuse it."""
    source = facts_of(facts, metric.column)
    if source is None:
        return NO_ROWS, ""
    size = len(work.looks)
    if metric.of == "event":
        value, unit, first = _events(work, metric, source, entry, inside)
        last = np.full(len(value), size - 1, dtype=np.int16)
    elif is_open(metric.column):
        value, unit, first, last = _changing(work, metric, source, entry, inside)
    else:
        value, there = _aggregate(metric, source, epoch_us(work.looks[-1]), inside)
        unit = np.flatnonzero(there)
        value, first = value[unit], entry[unit]
        last = np.full(len(value), size - 1, dtype=np.int16)
    if not is_calculable(value):
        return None, NON_FINITE
    place = np.cumsum(inside) - 1
    return Rows(value, place[unit].astype(np.int32), first.astype(np.int16), last), ""


def _events(work: Pass, metric: QuantileColumn, source: Facts, entry: Ints, inside: Bools) -> tuple[Floats, Ints, Ints]:
    """Every fact in the window is a value; in an open window from the first look after it happened."""
    numbers = source.numbers(metric.column, epoch_us(work.looks[-1]))
    kept = inside[numbers.position]
    unit = numbers.position[kept].astype(np.int64)
    first = entry[unit]
    if is_open(metric.column):
        looks_us = np.array([epoch_us(look) for look in work.looks])
        first = np.maximum(first, np.searchsorted(looks_us, source.times(numbers.facts[kept]), side="right"))
    return numbers.values[kept], unit, first


def _aggregate(metric: QuantileColumn, source: Facts, look_us: int, inside: Bools) -> tuple[Floats, Bools]:
    """One value per unit, and which analysed units have facts."""
    value, there = np.zeros(len(inside)), np.zeros(len(inside), dtype=np.bool_)
    source.measure(metric.column, look_us, value)
    source.mark(metric.column, look_us, there)
    return value, there & inside


def _changing(
    work: Pass, metric: QuantileColumn, source: Facts, entry: Ints, inside: Bools
) -> tuple[Floats, Ints, Ints, NDArray[np.int16]]:
    """One value per unit and stretch of looks over which it stays the same."""
    size = len(work.looks)
    held, since = np.full(len(inside), np.nan), np.zeros(len(inside), dtype=np.int64)
    ended: list[tuple[Floats, Ints, Ints, NDArray[np.int16]]] = []

    def end(units: Ints, last: int) -> None:
        known = units[~np.isnan(held[units])]
        ended.append((held[known], known, since[known], np.full(len(known), last, dtype=np.int16)))

    for look in range(size):
        value, there = _aggregate(metric, source, epoch_us(work.looks[look]), inside & (entry <= look))
        changed = np.flatnonzero(there & (value != held))
        end(changed, look - 1)
        held[changed], since[changed] = value[changed], look
    end(np.arange(len(inside)), size - 1)
    value, unit, first, last = (np.concatenate(part) for part in zip(*ended, strict=True))
    return value, unit, first, last


def quantile_cells(
    work: Pass, metric: QuantileColumn, rows: Rows, groups: Groups, sizes: Sequence[int], segments: Sequence[int]
) -> QuantileCells:
    """The metric at every look, and by segment at the last one.

    `sizes` are the levels of each breakdown, `segments` which of all levels are shown.
    """
    arms, looks = len(work.variants), len(work.looks)
    order = np.argsort(rows.value, kind="stable")
    value, unit, first, last = (part[order] for part in (rows.value, rows.unit, rows.first, rows.last))
    variant = groups.variant[unit].astype(np.int64)
    who: Ints = unit.astype(np.int64)
    if groups.cluster is not None:
        who = np.unique(groups.cluster, return_inverse=True)[1].astype(np.int64)[unit]

    def summary(cell: Ints, cells: tuple[int, ...]) -> QuantileSummary:
        chosen = np.flatnonzero(cell >= 0)
        return summarise(value[chosen], who[chosen], cell[chosen], cells, metric.probability, work.wanted.level)

    shown = set(range(looks))
    if len(value) * looks > MOST_VALUES:
        shown = {work.looks.index(look) for look in thin(work.looks, MOST_LOOKS)}
    overall = []
    for look in range(looks):
        counts = (first <= look) & (look <= last) if look in shown else np.zeros(len(value), dtype=np.bool_)
        overall.append(summary(np.where(counts, variant, -1), (arms,)))
    final = last == looks - 1
    by_segment = [summary(np.zeros(0, dtype=np.int64), (0, arms))] if not sizes else []
    for of_unit, size in zip(groups.levels, sizes, strict=True):
        level = of_unit[unit].astype(np.int64)
        by_segment.append(summary(np.where(final & (level >= 0), level * arms + variant, -1), (size, arms)))
    return QuantileCells(_join([_at(part, None) for part in overall]), _at(_join(by_segment), list(segments)))


def merge_rows(one: Mapping[str, Rows], other: Mapping[str, Rows], units: int) -> dict[str, Rows]:
    """Metric by metric; a metric that only one of both has was refused in the other."""
    return {key: rows.merge(other[key], units) for key, rows in one.items() if key in other}


_ARRAYS = ("units", "events", "value", "lower", "upper", "share_sd", "tied")


def _at(summary: QuantileSummary, index: list[int] | None) -> QuantileSummary:
    """These cells of the first axis, or with None a new first axis."""
    return replace(summary, **{name: getattr(summary, name)[index] for name in _ARRAYS})


def _join(parts: Sequence[QuantileSummary]) -> QuantileSummary:
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return replace(parts[0], **arrays)
