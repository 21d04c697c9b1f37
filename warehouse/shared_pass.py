"""Several experiments in one pass: sources that their plans share are read and joined to everybody's units once.

What a plan takes of that is what it would have read alone, so its moments are the same. Plans share a pass when they
are about one type of unit, and a source when it is defined alike for them and its files are the same. How much of the
company an experiment reached is read for each on its own.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import duckdb

from experiments.columns import Column
from experiments.definitions import EventSource
from experiments.errors import DomainError
from experiments.plan import AnalysisPlan
from stats.moment_set import MomentSet
from stats.moments import Ints
from warehouse.caps import columns_to_read
from warehouse.data_slice import DataSlice
from warehouse.division import (
    DividedUnits,
    Division,
    StoredFacts,
    count_facts,
    divide,
    everybody,
    lookup_of,
    put_facts,
    put_units,
    reads_by_source,
)
from warehouse.engine import Parameters, connect, epoch_us, identifier
from warehouse.experiment_moments import (
    Progress,
    buckets_of,
    company_of,
    extract_experiment,
    measure_divided,
    prepare,
)
from warehouse.facts import Needed, inputs_of, needed
from warehouse.id_lookup import IdLookup
from warehouse.one_pass import Pass
from warehouse.sources import open_source
from warehouse.units import UNITS, count_exposures

type Request = tuple[AnalysisPlan, DataSlice]
type FoundOne = Callable[[int, MomentSet | DomainError, int], None]
"""Told as soon as a request has what it gets: its place, that, and how often a fact source was read in its pass."""

_ALL: Final = "units of all plans"


@dataclass(slots=True, eq=False)
class _Member:
    """A plan in a shared pass: its place among the requests, and its units in a `table` of their own."""

    place: int
    plan: AnalysisPlan
    work: Pass
    columns: list[Column]
    table: str
    assigned: Ints | None = None
    units: DividedUnits | None = None

    @property
    def reads(self) -> dict[str, list[Column]]:
        return reads_by_source(self.columns)

    def need(self, key: str) -> Needed:
        return needed(self.reads[key], self.work.exposed_us, epoch_us(self.work.looks[-1]))


def extract_experiments(
    requests: Sequence[Request],
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Progress = lambda stage, fraction: None,
    found_one: FoundOne = lambda place, found, readings: None,
) -> list[MomentSet | DomainError]:
    """What `extract_experiment` gives for each plan and slice, or the error that it raises; in their order."""
    found = _Found(found_one)
    kinds = dict.fromkeys(plan.unit_type for plan, _ in requests)
    for kind in kinds:
        places = [place for place, (plan, _) in enumerate(requests) if plan.unit_type == kind]
        found.readings = 0
        if len(places) == 1:
            found.put(places[0], _alone(requests[places[0]], threads, memory_limit, progress))
            continue
        with (
            connect(threads=threads, memory_limit=memory_limit) as connection,
            ThreadPoolExecutor(max(1, threads)) as pool,
            TemporaryDirectory(prefix="northlift-buckets-") as folder,
        ):
            shared = _SharedPass(connection, pool, Path(folder), found)
            shared.run([(place, *requests[place]) for place in places], progress)
        for place in places:
            if place not in found.by_place:
                found.put(place, _alone(requests[place], threads, memory_limit, progress))
    return [found.by_place[place] for place in range(len(requests))]


@dataclass(slots=True, eq=False)
class _Found:
    """What requests got so far, by place, and who is told of it. `readings` counts those of the pass that runs."""

    tell: FoundOne
    by_place: dict[int, MomentSet | DomainError] = field(default_factory=dict)
    readings: int = 0

    def put(self, place: int, found: MomentSet | DomainError) -> None:
        self.by_place[place] = found
        self.tell(place, found, self.readings)


def _alone(request: Request, threads: int, memory_limit: str | None, progress: Progress) -> MomentSet | DomainError:
    plan, data = request
    try:
        return extract_experiment(plan, data, threads=threads, memory_limit=memory_limit, progress=progress)
    except DomainError as error:
        return error


@dataclass(slots=True, eq=False)
class _SharedPass:
    """A pass over plans of one type of unit. `found` takes results by place; a plan that it leaves out is to be

    measured alone.
    """

    connection: duckdb.DuckDBPyConnection
    pool: ThreadPoolExecutor
    folder: Path
    found: _Found

    def run(self, requests: Sequence[tuple[int, AnalysisPlan, DataSlice]], progress: Progress) -> None:
        """Measure the plans."""
        members = [member for request in requests if (member := self._prepared(*request)) is not None]
        if not members:
            return
        progress("reading exposures", 0.0)
        units = sum(count_exposures(self.connection, member.work.data) for member in members)
        facts = max(count_facts(member.work, member.columns) for member in members)
        of = max(buckets_of(member.work, units, facts) for member in members)
        if of > 1:
            # Buckets hold whole clusters, which are not those of the other plans.
            members = [member for member in members if member.plan.cluster is None]
        members = [member for member in members if self._has_units(member)]
        if not members:
            return
        division = self._division(members, of)
        for member in members:
            self._put_units(member, division)
        self._put_facts(members, division, progress)
        members = [member for member in members if member.place not in self.found.by_place]
        for done, member in enumerate(members):
            share = partial(_part_of, progress, done, len(members))
            self._measure(member, share)

    def _prepared(self, place: int, plan: AnalysisPlan, data: DataSlice) -> _Member | None:
        try:
            work = prepare(plan, data, self.connection, self.pool)
            columns = columns_to_read(work)
            for key, reads in reads_by_source(columns).items():
                _check(work, key, reads)
        except DomainError as error:
            self.found.put(place, error)
            return None
        return _Member(place, plan, work, columns, identifier(f"units of plan {place}"))

    def _has_units(self, member: _Member) -> bool:
        """Make the table of a member's units; False where that cannot be."""
        try:
            member.assigned = everybody(member.work, member.plan)
        except DomainError as error:
            self.found.put(member.place, error)
            return False
        self.connection.execute(f"ALTER TABLE {UNITS} RENAME TO {member.table}")
        return True

    def _division(self, members: Sequence[_Member], of: int) -> Division:
        """The units of all members, from the first time that one of them needs facts of to the last, in buckets."""
        every = " UNION ALL ".join(
            f"SELECT unit_id, at_us, {'at_us' if member.plan.trigger is None else 'triggered_us'} AS last_us"
            f" FROM {member.table}"
            for member in members
        )
        table = identifier(_ALL)
        self.connection.execute(
            f"CREATE TEMP TABLE {table} AS SELECT unit_id, min(at_us) AS first_us, max(last_us) AS last_us"
            f" FROM ({every}) GROUP BY unit_id"
        )
        return divide(self.connection, table, ("first_us", "last_us"), "hash(unit_id)", of, self.folder)

    def _put_units(self, member: _Member, division: Division) -> None:
        self.connection.execute(f"ALTER TABLE {member.table} RENAME TO {UNITS}")
        member.units = put_units(member.work, member.plan, division, member.assigned)
        self.connection.execute(f"ALTER TABLE {UNITS} RENAME TO {member.table}")

    def _put_facts(self, members: Sequence[_Member], division: Division, progress: Progress) -> None:
        """Read every source once for all members that share it; each on its own if that cannot be."""
        groups: dict[object, list[_Member]] = {}
        for member in members:
            for key in member.reads:
                groups.setdefault(_identity(member.work, key), []).append(member)
        lookup = lookup_of(self.connection, division)
        for identity, sharing in groups.items():
            key = str(identity[0]) if isinstance(identity, tuple) else ""
            progress("reading facts", 0.0)
            try:
                self._give(sharing, key, division, lookup)
            except DomainError:
                for member in sharing:
                    self._give_alone(member, key, division, lookup)

    def _give_alone(self, member: _Member, key: str, division: Division, lookup: IdLookup | None) -> None:
        try:
            self._give([member], key, division, lookup)
        except DomainError as error:
            self.found.put(member.place, error)

    def _give(self, sharing: Sequence[_Member], key: str, division: Division, lookup: IdLookup | None) -> None:
        needs = [member.need(key) for member in sharing]
        ends = [need.end for need in needs if need.end is not None]
        union = Needed(
            min(need.start for need in needs),
            max(ends) if len(ends) == len(needs) else None,
            min(need.earliest for need in needs),
            max(need.latest for need in needs),
        )
        reads = [read for member in sharing for read in member.reads[key]]
        self.found.readings += 1
        stored: StoredFacts | None = put_facts(sharing[0].work, division, lookup, key, reads, union, shared=True)
        for member in sharing:
            assert member.units is not None
            member.units.sources[key] = stored

    def _measure(self, member: _Member, progress: Progress) -> None:
        assert member.units is not None
        self.connection.execute(f"ALTER TABLE {member.table} RENAME TO {UNITS}")
        try:
            moments = measure_divided(member.work, member.units, progress)
            self.found.put(member.place, replace(moments, reach=company_of(member.work, member.plan)))
        except DomainError as error:
            self.found.put(member.place, error)
        finally:
            self.connection.execute(f"DROP TABLE {UNITS}")


def _part_of(progress: Progress, done: int, of: int, stage: str, fraction: float) -> None:
    progress(stage, (done + fraction) / of)


def _check(work: Pass, key: str, reads: Sequence[Column]) -> None:
    """Raises `SourceUnreadable` if a source lacks what a plan reads of it, which others must not suffer from."""
    parameters = Parameters()
    source = open_source(work.connection, work.sources[key], work.data, parameters)
    if source is not None:
        inputs_of(source, reads, parameters)


def _identity(work: Pass, key: str) -> tuple[object, ...]:
    """What makes the rows of a source; the key first. Unit mappings are as of a time, and each plan's own."""
    spec, data = work.sources[key], work.data
    files = data.event_files.get(spec.event, ()) if isinstance(spec, EventSource) else data.file_source_dir
    mapping = data.mapping_tables.get(key)
    return key, spec.model_dump_json(), files, data.recorded_before_us, mapping
