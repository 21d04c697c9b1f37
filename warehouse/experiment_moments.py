"""An experiment's unit-level data to moments: first exposures, one per-unit table, moments per look and segment."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Final, Protocol, Self

import duckdb
import numpy as np

from experiments.columns import CLUSTER_SIZE
from experiments.plan import AnalysisPlan
from stats.moment_set import ConcurrentCells, MomentSet, Reach
from stats.moments import Floats, Ints, Moments
from warehouse.answers import INVALID_ANSWERS
from warehouse.caps import caps_of_buckets, columns_to_read
from warehouse.cell_moments import concurrent_moments, moments_over_looks, segment_moments
from warehouse.cells import OverLooks, without_columns
from warehouse.clusters import ClusterTotals, measure_clusters
from warehouse.crossings import segments
from warehouse.data_slice import DataSlice
from warehouse.division import MOST_BUCKETS, DividedUnits, count_facts, divided
from warehouse.engine import connect, epoch_us
from warehouse.engines.capabilities import QUANTILE_NOT_COMPILED
from warehouse.entered import of_entered
from warehouse.exposures import with_tables
from warehouse.hash_buckets import BucketSums, bucket_sums
from warehouse.measured import Measured, in_order
from warehouse.one_pass import Pass
from warehouse.other_experiments import FEWEST_COMMON_UNITS
from warehouse.planned_pass import attributes_of, mapped_us, planned_pass
from warehouse.populations import WITH_OUTCOME, Counts, count
from warehouse.products import Products, products_of
from warehouse.reach import reach_sums, reach_wanted
from warehouse.strata import strata_of
from warehouse.triggers import keep_triggered
from warehouse.unit_mapping import unmapped_facts
from warehouse.units import OTHER_LEVELS, Bucket, Units, count_exposures, exposed_units, segment_levels
from warehouse.values import NON_FINITE, Reader, Values, read_all

type Progress = Callable[[str, float], None]

BUCKET_BYTES = 512 * 1024 * 1024
"""The per-unit table and the facts of units that are measured at once may take this much."""

DIVIDED_FURTHER: Final = 4
"""Without room for all units at once, buckets are smaller by this: sums of facts then stay in the processor's cache.

Three million units in 14 buckets took 5.5 seconds of CPU, in 4 buckets 7.4.
"""

NUMBERS_OF_A_FACT: Final = 3
"""Whose it is, when it was, and one input."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What one bucket of units contributes; parts of disjoint units merge. None is what the plan does not ask for."""

    overall: OverLooks
    by_segment: Moments
    counts: Counts
    crossover: int
    invalid: Mapping[int, str]
    products: Products
    by_stratum: OverLooks | None = None
    buckets: BucketSums | None = None
    clusters: ClusterTotals | None = None
    concurrent: tuple[Moments, ...] = ()

    def merge(self, other: "Parts") -> "Parts":
        return Parts(
            self.overall.merge(other.overall),
            self.by_segment.merge(other.by_segment),
            self.counts.merge(other.counts),
            self.crossover + other.crossover,
            {**other.invalid, **self.invalid},
            self.products.merge(other.products),
            by_stratum=_both(self.by_stratum, other.by_stratum),
            buckets=_both(self.buckets, other.buckets),
            clusters=_both(self.clusters, other.clusters),
            concurrent=tuple(a.merge(b) for a, b in zip(self.concurrent, other.concurrent, strict=True)),
        )


class _Mergeable(Protocol):
    def merge(self, other: Self) -> Self: ...


def _both[M: _Mergeable](first: M | None, second: M | None) -> M | None:
    """The union of what both have; every bucket of a pass has the same."""
    return None if first is None or second is None else first.merge(second)


def extract_experiment(
    plan: AnalysisPlan,
    data: DataSlice,
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Progress = lambda stage, fraction: None,
) -> MomentSet:
    """The joint moments of all columns that the plan's metrics need (`experiments.columns.layout`).

    A unit enters at the first look at which its longest closed window is complete; only then do its values count, in
    all columns. Looks are daily, or the planned ones (`warehouse.looks`). `by_segment` has a level `(none)` for units
    without one; pairs of dimensions are dimensions named `a × b`. Columns with NaN, infinities or values above
    `LARGEST_VALUE` in any such unit's window come back as zeros and in `invalid`.

    With a trigger the exposures are assignments and windows begin at the first trigger (`warehouse.triggers`). With a
    cluster the units of all moments are clusters, whose values are the totals of their units (`warehouse.clusters`);
    `exposures` and populations still count units. Strata are there where the plan or a ramp has several
    (`warehouse.strata`). The same slice gives the same bytes for any number of threads. Raises `SourceUnreadable`.
    """
    with (
        connect(threads=threads, memory_limit=memory_limit) as connection,
        ThreadPoolExecutor(max(1, threads)) as pool,
    ):
        work = prepare(plan, data, connection, pool)
        of = buckets_of(work, count_exposures(connection, work.data), count_facts(work, columns_to_read(work)))
        found = _in_buckets(work, plan, of, progress) if of > 1 else _at_once(work, plan, progress)
        progress("computing moments", 1.0)
        return replace(found, reach=company_of(work, plan))


def company_of(work: Pass, plan: AnalysisPlan) -> Reach | None:
    """How much of the company the units reached that are in the table `UNITS`, which is all of them."""
    wanted_of_company = reach_wanted(plan, work.exposed_us)
    if wanted_of_company is None:
        return None
    sums = reach_sums(work, wanted_of_company, triggered=plan.trigger is not None)
    return sums.finish(wanted_of_company)


def buckets_of(work: Pass, units: int, facts: int) -> int:
    """In how many buckets so many units and facts (at most) are measured."""
    numbers = max(1, len(work.columns) + work.wanted.width)
    size = (units * numbers + facts * NUMBERS_OF_A_FACT) * 8
    return 1 if size <= BUCKET_BYTES else min(MOST_BUCKETS, -(-size * DIVIDED_FURTHER // BUCKET_BYTES))


def _at_once(work: Pass, plan: AnalysisPlan, progress: Progress) -> MomentSet:
    progress("reading exposures", 0.0)
    return combine(
        work, measure(work, units_of(work, plan, Bucket()), lambda done: progress("computing moments", done))
    )


def _in_buckets(work: Pass, plan: AnalysisPlan, of: int, progress: Progress) -> MomentSet:
    progress("reading exposures", 0.0)
    with divided(work, plan, of, columns_to_read(work)) as units:
        return measure_divided(work, units, progress)


def measure_divided(work: Pass, units: DividedUnits, progress: Progress) -> MomentSet:
    """The moments of units that come in buckets, one after the other: a bucket is as much as there is room for."""
    if units.of > 1:
        every = (units.units(index) for index in range(units.of))
        work = replace(work, wanted=work.wanted.with_caps(caps_of_buckets(work, every, len(units), units.read)))

    def part(index: int) -> Parts:
        return measure(work, units.units(index), _Share(progress, index, units.of), units.read)

    return combine(work, reduce(Parts.merge, map(part, range(units.of))))


def prepare(plan: AnalysisPlan, data: DataSlice, connection: duckdb.DuckDBPyConnection, pool: Executor) -> Pass:
    """Everything about a pass that does not depend on which units are measured."""
    work = planned_pass(plan, with_tables(connection, plan, data), connection, pool)
    levels = tuple(segment_levels(connection, work.data, attributes_of(plan)))
    return replace(
        work,
        levels=levels,
        segments=segments(connection, work.data, levels, plan.segments, plan.two_way_segments),
        strata=strata_of(connection, work.data, levels, plan.estimation.stratify_by),
        unmapped=unmapped_facts(connection, plan.fact_sources, work.data, mapped_us(work)),
    )


def units_of(work: Pass, plan: AnalysisPlan, bucket: Bucket) -> Units:
    """The units of a bucket, also as the table `UNITS` of the connection."""
    trigger = None
    if plan.trigger is not None:
        source = work.sources[plan.trigger.fact_source]
        trigger = partial(keep_triggered, work.connection, source, plan.trigger, work.data, work.exposed_us)
    return exposed_units(
        work.connection,
        work.data,
        work.variants,
        work.levels,
        bucket,
        cluster=plan.cluster,
        trigger=trigger,
    )


@dataclass(frozen=True, slots=True)
class _Share:
    """Progress of one bucket as progress of all."""

    whole: Progress
    index: int
    of: int

    def __call__(self, fraction: float) -> None:
        self.whole("computing moments", (self.index + fraction) / self.of)


def measure(work: Pass, units: Units, progress: Callable[[float], None], read: Reader = read_all) -> Parts:
    """The moments of one bucket of units, whose facts come from `read`."""
    looks_us = np.array([epoch_us(look) for look in work.looks])
    arms, last, k = len(work.variants), len(work.looks) - 1, len(work.columns)
    placed = in_order(units, looks_us, work.longest_us, arms)
    units = placed.units

    table = Values.empty(k, len(units))
    facts = of_entered(read(work, units, int(looks_us[-1]), columns_to_read(work)), placed.entered)
    table.fill(work.columns, facts, int(looks_us[-1]))
    products = products_of(work, facts, table, placed)
    progress(0.7)

    measured = Measured(work, placed, table.values)
    counts = count(measured, facts, looks_us)

    def values_at(look: int) -> Floats:
        table.fill(work.columns, facts, int(looks_us[look]), only_open=True)
        progress(0.7 + 0.3 * (look + 1) / last)
        return table.values

    at_looks = values_at if work.has_open_columns else None
    if work.clustered:
        found = measure_clusters(measured, at_looks)
        return Parts(
            found.overall,
            found.by_segment,
            counts,
            units.crossover,
            table.invalid,
            products,
            by_stratum=found.by_stratum,
            buckets=found.buckets,
            clusters=found.totals,
        )
    by_segment = segment_moments(measured)
    buckets = bucket_sums(table.values, placed.variant, units.unit_hash, arms)
    concurrent = concurrent_moments(measured)
    # Last, because earlier looks overwrite the values.
    overall, by_stratum = moments_over_looks(measured, at_looks)
    return Parts(
        overall,
        by_segment,
        counts,
        units.crossover,
        table.invalid,
        products,
        by_stratum=by_stratum,
        buckets=buckets,
        concurrent=concurrent,
    )


def combine(work: Pass, parts: Parts) -> MomentSet:
    """The moments of all units as the rest of the system sees them; columns that are not finite are withdrawn."""
    names = tuple(column.name for column in work.columns)
    bad = np.isin(np.arange(len(names)), list(parts.invalid))
    invalid = {names[i]: reason for i, reason in sorted(parts.invalid.items())}
    if work.clustered:
        names, bad = (*names, CLUSTER_SIZE), np.append(bad, False)
    segments = [(segment.name, group) for segment in work.segments for group in segment.groups]
    shown = [i for i, (_, group) in enumerate(segments) if group != OTHER_LEVELS or parts.counts.by_segment[i].any()]
    strata, by_stratum = _strata(work, parts)
    concurrent = {
        other.key: ConcurrentCells(other.variants, without_columns(moments, bad))
        for other, moments in zip(work.data.concurrent, parts.concurrent, strict=False)
        if moments.count.sum() >= FEWEST_COMMON_UNITS
    }
    return MomentSet(
        columns=names,
        variants=work.variants,
        looks=work.looks,
        overall=without_columns(parts.overall.finish(), bad),
        segments=tuple(segments[i] for i in shown),
        by_segment=without_columns(parts.by_segment[shown], bad),
        exposures=parts.counts.exposures,
        crossover=parts.crossover,
        invalid=invalid,
        strata=strata,
        by_stratum=None if by_stratum is None else without_columns(by_stratum, bad),
        populations=_populations(work, parts),
        segment_exposures=parts.counts.by_segment[shown],
        buckets=None if parts.buckets is None else parts.buckets.finish(bad),
        clusters=None if parts.clusters is None else parts.clusters.finish(bad),
        concurrent=concurrent,
        unmapped=work.unmapped,
        unscreened={other.key: other.unreadable for other in work.data.concurrent if other.unreadable},
        **parts.products.fields(work, parts.invalid, shown),
    )


def _populations(work: Pass, parts: Parts) -> dict[str, Ints]:
    """The populations; without that of units with an outcome where one was withdrawn for what its facts hold.

    Which bucket of units has such a fact decides on what counts there, so nobody could say what they add up to. Nor is
    it there where an engine does not read the facts of every metric.
    """
    faults = [i for i, reason in parts.invalid.items() if reason in (NON_FINITE, INVALID_ANSWERS)]
    unread = QUANTILE_NOT_COMPILED in parts.products.refused.values()
    unknown = unread or any(work.columns[i].period == "outcome" for i in faults)
    return {name: n for name, n in parts.counts.named.items() if not (unknown and name == WITH_OUTCOME)}


def _strata(work: Pass, parts: Parts) -> tuple[tuple[str, ...], Moments | None]:
    """The strata that have units, if they are several."""
    if work.strata is None or parts.by_stratum is None:
        return (), None
    moments = parts.by_stratum.finish()
    used = np.flatnonzero(moments.count[-1].any(axis=-1))
    if len(used) < 2:
        return (), None
    return tuple(work.strata.names[i] for i in used), moments[:, used]
