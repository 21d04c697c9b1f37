"""Parts of single cohorts, put at their looks and among the groups that the units have now."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from stats.moments import Ints, Moments
from warehouse.cells import OverLooks, stack
from warehouse.experiment_moments import Parts
from warehouse.hash_buckets import BucketSums
from warehouse.one_pass import Pass
from warehouse.populations import Counts
from warehouse.products import Products
from warehouse.quantiles import Rows
from warehouse.units import OTHER_LEVELS
from warehouse.wanted import Caps


@dataclass(frozen=True, slots=True)
class Grouping:
    """What decides, besides values, on the cells that units fall into: levels by dimension, groups by segment, strata.

    `stages_us` are when the stages of a ramp began.
    """

    levels: tuple[tuple[str, tuple[str, ...]], ...]
    segments: tuple[tuple[str, tuple[str, ...]], ...]
    strata: tuple[str, ...] | None
    stages_us: tuple[int, ...]


def grouping_of(work: Pass) -> Grouping:
    """The groups of a pass."""
    strata = work.strata
    return Grouping(
        tuple((name, tuple(levels)) for name, levels in work.levels),
        tuple((segment.name, tuple(segment.groups)) for segment in work.segments),
        None if strata is None else strata.names,
        () if strata is None else tuple(int(at) for at in strata.stages_us),
    )


@dataclass(frozen=True, slots=True, eq=False)
class CohortParts:
    """The parts of one cohort at a look of its own, with all that they depend on besides facts and units.

    `last_us` is the last moment at which its windows begin.
    """

    parts: Parts
    caps: Caps
    grouping: Grouping
    last_us: int


def places(found: CohortParts, now: Grouping) -> tuple[list[Ints], Ints] | None:
    """Where a cohort's groups are among those of `now`, by segment and for strata; None if that cannot be said.

    Groups are found by their names. What is in a group of the rest depends on all others.
    """
    before = found.grouping
    if before == now:
        return [np.arange(len(groups)) for _, groups in now.segments], np.arange(len(now.strata or ()))
    known = dict(before.levels)
    if [name for name, _ in before.segments] != [name for name, _ in now.segments]:
        return None
    if (before.strata is None) != (now.strata is None):
        return None
    for name, levels in now.levels:
        truncated = OTHER_LEVELS in (levels[-1:] + known.get(name, ())[-1:])
        if name not in known or (truncated and set(levels) != set(known[name])):
            return None
    if before.strata is not None:
        shared = len(before.stages_us)
        later = now.stages_us[shared:]
        if now.stages_us[:shared] != before.stages_us or any(at <= found.last_us for at in later):
            return None
    segments, begin = [], 0
    for (_, old), (_, new) in zip(before.segments, now.segments, strict=True):
        rows = slice(begin, begin + len(old))
        used = found.parts.by_segment.count[rows].any(axis=1)
        place = _by_name(old, new, used)
        if place is None:
            return None
        segments.append(place)
        begin += len(old)
    strata = np.arange(0)
    if before.strata is not None and now.strata is not None:
        assert found.parts.by_stratum is not None and found.parts.by_stratum.entering is not None
        used = found.parts.by_stratum.entering.count.any(axis=(0, -1))
        by_name = _by_name(before.strata, now.strata, used)
        if by_name is None:
            return None
        strata = by_name
    return segments, strata


def _by_name(old: Sequence[str], new: Sequence[str], used: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Ints | None:
    """(old,) the place of every group by its name, -1 for one that is gone and was empty."""
    if tuple(old) == tuple(new):
        return np.arange(len(old), dtype=np.int64)
    if len(set(new)) < len(new) or len(set(old)) < len(old):
        return None
    place = {name: i for i, name in enumerate(new)}
    same = set(old) == set(new)
    for name, has_units in zip(old, used, strict=True):
        rest = name.startswith(OTHER_LEVELS)
        if has_units and (name not in place or (rest and not same)):
            return None
    return np.array([place.get(name, -1) for name in old], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Placed:
    """The parts of cohorts, the look of now at which those of each look of theirs enter, and the places of groups."""

    parts: Parts
    entry: Ints
    segments: list[Ints]
    strata: Ints


def merge(cohorts: Sequence[Placed], work: Pass, counts: Counts) -> Parts:
    """The parts of all units: what every cohort has, at its look. `counts` has the populations of exposed units."""
    looks, arms, k = len(work.looks), len(work.variants), len(work.columns)
    every = [one.parts for one in cohorts]
    sizes = [len(segment.groups) for segment in work.segments]
    groups = [_joined(one.segments, sizes) for one in cohorts]
    invalid: dict[int, str] = {}
    for part in every:
        invalid = {**part.invalid, **invalid}
    strata = None
    if work.strata is not None:
        cells = (len(work.strata.names), arms)
        strata = OverLooks(_over_looks([_strata(one, cells, k) for one in cohorts], cohorts, looks))
    return Parts(
        OverLooks(_over_looks([_entering(one.parts.overall) for one in cohorts], cohorts, looks)),
        _union([_scatter(one.parts.by_segment, g, sum(sizes)) for one, g in zip(cohorts, groups, strict=True)]),
        counts,
        counts_of_crossover(every),
        invalid,
        reduce(Products.merge, [_products(one, sizes, looks) for one in cohorts]),
        by_stratum=strata,
        buckets=_buckets([part.buckets for part in every]),
    )


def counts_of_crossover(parts: Sequence[Parts]) -> int:
    """Units in two arms."""
    return sum(part.crossover for part in parts)


def _entering(over: OverLooks) -> Moments:
    assert over.entering is not None and not over.snapshots
    return over.entering


def _over_looks(cells: Sequence[Moments], cohorts: Sequence[Placed], looks: int) -> Moments:
    """(looks, ...) of the units that enter at each look; `cells` (looks of the cohorts, ...)."""
    empty = Moments.empty(cells[0].cells[1:], cells[0].columns)
    entries = [(part, one.entry.tolist()) for part, one in zip(cells, cohorts, strict=True)]
    at = [[part[i] for part, entry in entries for i, at in enumerate(entry) if at == look] for look in range(looks)]
    return stack([_union(parts) if parts else empty for parts in at])


def _union(parts: Sequence[Moments]) -> Moments:
    return parts[0] if len(parts) == 1 else stack(parts).merge_axis(0)


def _scatter(moments: Moments, place: Ints, size: int) -> Moments:
    """Cells (groups, ...) at other places of `size`; those without a place are empty."""
    if len(place) == size and (place == np.arange(size)).all():
        return moments
    kept = np.flatnonzero(place >= 0)
    k, rest = moments.columns, moments.cells[1:]
    found = Moments.empty((size, *rest), k)
    found.count[place[kept]] = moments.count[kept]
    found.mean[place[kept]] = moments.mean[kept]
    found.comoment[place[kept]] = moments.comoment[kept]
    found.third[place[kept]] = moments.third[kept]
    return found


def _joined(segments: Sequence[Ints], sizes: Sequence[int]) -> Ints:
    """The places of all segments' groups in one list."""
    begin, found = 0, [np.zeros(0, dtype=np.int64)]
    for place, size in zip(segments, sizes, strict=True):
        found.append(np.where(place >= 0, place + begin, -1))
        begin += size
    return np.concatenate(found)


def _strata(one: Placed, cells: tuple[int, int], k: int) -> Moments:
    """(looks of the cohorts, strata, V)."""
    if one.parts.by_stratum is None:
        return Moments.empty((len(one.entry), *cells), k)
    entering = _entering(one.parts.by_stratum)
    return stack([_scatter(entering[i], one.strata, cells[0]) for i in range(len(one.entry))])


def _products(one: Placed, sizes: Sequence[int], looks: int) -> Products:
    products = one.parts.products
    levels = products.groups.levels
    if levels.size:
        levels = np.array(
            [place[codes] for place, codes in zip(one.segments, levels, strict=True)], dtype=np.int16
        ).reshape(levels.shape)
    rows = {
        key: Rows(
            found.value,
            found.unit,
            one.entry[found.first].astype(np.int16),
            np.full(len(found.value), looks - 1, dtype=np.int16),
        )
        for key, found in products.quantiles.items()
    }
    return replace(products, groups=replace(products.groups, levels=levels), quantiles=rows, sizes=tuple(sizes))


def _buckets(parts: Sequence[BucketSums | None]) -> BucketSums | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return BucketSums(np.sum([part.count for part in known], axis=0), np.sum([part.sums for part in known], axis=0))
