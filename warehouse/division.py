"""More units than are measured at a time, or units of several plans: facts are read and joined once, into buckets.

The engine streams facts, their units are looked up by id (`warehouse.id_lookup`; of very many units the engine joins
facts to their table), and whose they are, when, and the inputs of the measures are put aside by bucket: numbers only,
so that what is written and read again is small. Reading every source again for each bucket took twice as long.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from experiments.columns import Column
from experiments.plan import AnalysisPlan
from stats.moments import Ints
from warehouse.bucket_files import BucketFiles, Buckets, Columns, numbers, stream
from warehouse.engine import Parameters, epoch_us
from warehouse.facts import Facts, Needed, inputs_of, inputs_used, measure_of, needed, select_facts
from warehouse.id_lookup import IdLookup, size_of
from warehouse.one_pass import Pass
from warehouse.other_experiments import arms_elsewhere
from warehouse.sources import count_rows, open_source, unreadable
from warehouse.triggers import keep_triggered
from warehouse.units import UNITS, Bucket, Units, as_units, create_units, selected_columns

MOST_BUCKETS: Final = 512
"""As many files are open at a time."""

LARGEST_LOOKUP: Final = 768 * 1024 * 1024
"""Bytes of ids that are kept at hand; of more units the engine joins facts to their table, spilling where it must."""

_PLACE_BITS: Final = 32

_made: Final = count()


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """The facts of a source by bucket: `unit` is a place among the rows of the bucket, `at_us` a time.

    With `shared` they are those of several plans, from which each takes what it needs.
    """

    files: BucketFiles
    inputs: tuple[str, ...]
    names: Mapping[str, str]
    shared: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """The rows of a `table` of units in buckets by hash: `bucket` and `place` (rows,) say where each of them is.

    A fact of a unit is needed from `first` and `last` on, columns of the table.
    """

    folder: Path
    table: str
    first: str
    last: str
    bucket: Buckets
    place: NDArray[np.int32]
    sizes: Ints

    @property
    def period(self) -> tuple[str, ...]:
        """The columns of the table that facts are needed from: one if both are."""
        return tuple(dict.fromkeys([self.first, self.last]))


@dataclass(slots=True, eq=False)
class DividedUnits:
    """The units of a plan in the buckets of a division, and where the facts of each source are."""

    division: Division
    files: BucketFiles
    arms: int
    segments: int
    assigned: Ints | None
    elsewhere: NDArray[np.int16] | None = None
    sources: dict[str, StoredFacts | None] = field(default_factory=dict)

    @property
    def of(self) -> int:
        """How many buckets there are."""
        return len(self.division.sizes)

    def __len__(self) -> int:
        return int(self.files.rows.sum())

    def units(self, index: int) -> Units:
        """The units of a bucket."""
        records = self.files.read(index)
        assigned = self.assigned if self.assigned is None or index == 0 else np.zeros_like(self.assigned)
        columns = {name: records[name] for name in records.dtype.names or ()}
        found = as_units(columns, self.arms, self.segments, assigned)
        there = None if self.elsewhere is None else self.elsewhere[:, found.rowid].astype(np.int64)
        return replace(found, rowid=np.arange(len(records)), bucket=index, elsewhere=there)

    def read(self, work: Pass, units: Units, look_us: int, columns: Sequence[Column]) -> dict[str, Facts | None]:
        """The facts of a bucket's units (see `values.read_all`)."""
        return {
            key: self._facts(units, self.sources[key], reads, needed(reads, work.exposed_us, look_us))
            for key, reads in reads_by_source(columns).items()
        }

    def _facts(self, units: Units, source: StoredFacts | None, reads: Sequence[Column], need: Needed) -> Facts | None:
        if source is None or not len(units):
            return None
        records = source.files.read(units.bucket)
        row = self.files.read(units.bucket)["row"]
        of_row = np.full(self.division.sizes[units.bucket], -1, dtype=np.int32)
        of_row[self.division.place[row[units.rowid]]] = np.arange(len(units))
        position = of_row[records["unit"]]
        at_us = records["at_us"]
        used = inputs_used(reads, source.names)
        inputs = {name: records[name] for name in source.inputs if name in used}
        if source.shared:
            kept = _are_needed(at_us, position, units, need)
            position, at_us = position[kept], at_us[kept]
            inputs = {name: values[kept] for name, values in inputs.items()}
        return Facts(
            units=units,
            position=position,
            since_us=at_us - units.assigned_us[position],
            inputs={name: np.ascontiguousarray(values) for name, values in inputs.items()},
            names=source.names,
            most=int(np.bincount(position, minlength=1).max()),
        )


def _are_needed(at_us: Ints, position: NDArray[np.int32], units: Units, need: Needed) -> Ints:
    """Which facts a plan alone would have read, of those of several plans; `position` is -1 for units of others."""
    kept = np.flatnonzero((position >= 0) & (at_us >= need.earliest) & (at_us < need.latest))
    at, unit = at_us[kept], position[kept]
    inside = at >= units.assigned_us[unit] + need.start
    if need.end is not None:
        inside &= at < units.at_us[unit] + need.end
    return kept[inside]


def reads_by_source(columns: Sequence[Column]) -> dict[str, list[Column]]:
    """The plain columns whose facts have to be read, by source."""
    found: dict[str, list[Column]] = {}
    for read in (read for column in columns for read in column.reads):
        found.setdefault(measure_of(read).fact_source, []).append(read)
    return found


def count_facts(work: Pass, columns: Sequence[Column]) -> int:
    """Rows of the sources of columns, of any time: an upper bound of the facts to read. Raises `SourceUnreadable`."""
    return sum(count_rows(work.connection, work.sources[key], work.data) for key in reads_by_source(columns))


@contextmanager
def divided(work: Pass, plan: AnalysisPlan, of: int, columns: Sequence[Column]) -> Iterator[DividedUnits]:
    """All units of a plan in `of` buckets, with the facts of `columns` up to the last look; also the table `UNITS`.

    Buckets hold whole clusters. Files are in a private folder that is gone afterwards. Raises `SourceUnreadable`.
    """
    assigned = everybody(work, plan)
    with TemporaryDirectory(prefix="northlift-buckets-") as folder:
        by = "hash(unit_id)" if plan.cluster is None else "hash(cluster)"
        last = "at_us" if plan.trigger is None else "triggered_us"
        division = divide(work.connection, UNITS, ("at_us", last), by, of, Path(folder))
        units = put_units(work, plan, division, assigned)
        _put_all_facts(work, units, columns)
        yield units


def _put_all_facts(work: Pass, units: DividedUnits, columns: Sequence[Column]) -> None:
    lookup = lookup_of(work.connection, units.division)
    for key, reads in reads_by_source(columns).items():
        need = needed(reads, work.exposed_us, epoch_us(work.looks[-1]))
        units.sources[key] = put_facts(work, units.division, lookup, key, reads, need)


def everybody(work: Pass, plan: AnalysisPlan) -> Ints | None:
    """The table `UNITS` with all units of a plan. Returns `Units.assigned`."""
    trigger = None
    if plan.trigger is not None:
        source = work.sources[plan.trigger.fact_source]
        trigger = partial(keep_triggered, work.connection, source, plan.trigger, work.data, work.exposed_us)
    return create_units(
        work.connection, work.data, work.variants, work.levels, Bucket(), cluster=plan.cluster, trigger=trigger
    )


def divide(
    connection: duckdb.DuckDBPyConnection, table: str, period: tuple[str, str], by: str, of: int, folder: Path
) -> Division:
    """The rows of a table by a hash of theirs (SQL). `period` are the columns `first` and `last` of the division."""
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    bucket, place = np.zeros(rows, dtype=np.uint16), np.zeros(rows, dtype=np.int32)
    sizes = np.zeros(of, dtype=np.int64)
    sql = f"SELECT rowid AS r, ({by} % {of})::USMALLINT AS b FROM {table}"
    for batch in stream(connection, sql, Parameters()):
        found = numbers(batch, {"r": "i8", "b": "u2"})
        its = found["b"]
        bucket[found["r"]] = its
        place[found["r"]] = _places(its, sizes)
        sizes += np.bincount(its, minlength=of)
    return Division(folder, table, *period, bucket, place, sizes)


def lookup_of(connection: duckdb.DuckDBPyConnection, division: Division) -> IdLookup | None:
    """The units by their ids, each with its period, bucket and place; None where that takes too much memory."""
    counted = connection.execute(f"SELECT strlen(unit_id), count(*) FROM {division.table} GROUP BY ALL").fetchall()
    ids = {int(length): int(n) for length, n in counted}
    numbers_of_each = len(division.period) + 1
    if size_of(ids, numbers_of_each) > LARGEST_LOOKUP:
        return None
    lookup = IdLookup(ids, numbers_of_each)
    sql = f"SELECT unit_id, hash(unit_id) AS h, rowid AS r, {', '.join(division.period)} FROM {division.table}"
    for batch in stream(connection, sql, Parameters()):
        found = numbers(batch, {"h": "u8", "r": "i8", **dict.fromkeys(division.period, "i8")})
        its = division.bucket[found["r"]].astype(np.int64) << _PLACE_BITS | division.place[found["r"]]
        stored = np.stack([*(found[name] for name in division.period), its], axis=1)
        lookup.add(batch.column("unit_id"), found["h"], stored)
    return lookup.finish()


def put_units(work: Pass, plan: AnalysisPlan, division: Division, assigned: Ints | None) -> DividedUnits:
    """The units of the table `UNITS` in the buckets of their rows in the division's table."""
    parameters = Parameters()
    columns = selected_columns(
        work.levels, parameters, clustered=plan.cluster is not None, triggered=plan.trigger is not None
    )
    types = {expression.rpartition(" AS ")[2]: kind for expression, kind in columns.items()}
    sql = f"SELECT {', '.join(columns)}, rowid AS row FROM {UNITS}"
    if division.table != UNITS:
        # By row numbers, since the columns of both tables have the same names.
        rows = f"SELECT u.rowid AS r, d.rowid AS row FROM {UNITS} u JOIN {division.table} d ON u.unit_id = d.unit_id"
        sql = f"SELECT t.*, d.row FROM (SELECT {', '.join(columns)} FROM {UNITS}) t JOIN ({rows}) d ON t.r = d.r"
    types["row"] = "i8"
    name = f"units {next(_made)}"
    with BucketFiles(division.folder, name, len(division.sizes), types) as files:
        for batch in stream(work.connection, sql, parameters):
            found = numbers(batch, types)
            files.add(found, division.bucket[found["row"]])
    elsewhere = None
    if work.data.concurrent:
        elsewhere = arms_elsewhere(work.connection, work.data, int(files.rows.sum()))
    return DividedUnits(division, files, len(work.variants), len(work.levels), assigned, elsewhere)


def _places(bucket: Buckets, before: Ints) -> NDArray[np.int32]:
    """(n,) the place of each row in its bucket, which has `before` (buckets,) rows already."""
    order = np.argsort(bucket, kind="stable")
    counts = np.bincount(bucket, minlength=len(before))
    first = np.cumsum(counts) - counts
    place = np.empty(len(bucket), dtype=np.int32)
    place[order] = np.arange(len(bucket)) - (first - before)[bucket[order]]
    return place


def put_facts(
    work: Pass,
    division: Division,
    lookup: IdLookup | None,
    key: str,
    columns: Sequence[Column],
    need: Needed,
    *,
    shared: bool = False,
) -> StoredFacts | None:
    """Read a source for all units of a division, found by `lookup` or by the engine; None when there is nothing to

    read. Raises `SourceUnreadable`.
    """
    parameters = Parameters()
    source = open_source(work.connection, work.sources[key], work.data, parameters)
    if source is None or not len(division.bucket):
        return None
    inputs, names = inputs_of(source, columns, parameters)
    types = {"at_us": "i8", **{name: "f8" if name.startswith("n") else "u1" for name in inputs.values()}}
    facts = _Wanted(select_facts(source, inputs, need, parameters), parameters, types, need)
    with BucketFiles(division.folder, f"facts {next(_made)}", len(division.sizes), {"unit": "i4", **types}) as files:
        try:
            for found, bucket in _joined(work, division, facts) if lookup is None else _found(work, facts, lookup):
                files.add(found, bucket)
        except duckdb.Error as error:
            raise unreadable(key, error) from error
    return StoredFacts(files, tuple(inputs.values()), names, shared)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The facts of a source that may be needed, as SQL, with the types of its numbers by name."""

    sql: str
    parameters: Parameters
    types: Mapping[str, str]
    need: Needed

    @property
    def selected(self) -> str:
        return ", ".join(
            f"f.{name}{'::UTINYINT' if kind == 'u1' else ''} AS {name}" for name, kind in self.types.items()
        )


def _found(work: Pass, facts: _Wanted, lookup: IdLookup) -> Iterator[tuple[Columns, Buckets]]:
    """The facts of units, with their places as `unit`, and their buckets."""
    sql = f"SELECT f.unit_id, hash(f.unit_id) AS h, {facts.selected} FROM ({facts.sql}) f"
    need = facts.need
    for batch in stream(work.connection, sql, facts.parameters):
        read = numbers(batch, {"h": "u8", **facts.types})
        within, stored = lookup.find(batch.column("unit_id"), read["h"])
        at_us = read["at_us"]
        within &= at_us >= stored[:, 0] + need.start
        if need.end is not None:
            within &= at_us < stored[:, -2] + need.end
        fact = np.flatnonzero(within)
        its = stored[fact, -1]
        found = {name: read[name][fact] for name in facts.types}
        yield {"unit": its.astype(np.int32), **found}, (its >> _PLACE_BITS).astype(np.uint16)


def _joined(work: Pass, division: Division, facts: _Wanted) -> Iterator[tuple[Columns, Buckets]]:
    """As `_found`, by the engine."""
    need = facts.need
    within = f"f.at_us >= u.{division.first} + {need.start}"
    if need.end is not None:
        within += f" AND f.at_us < u.{division.last} + {need.end}"
    sql = (
        f"SELECT CAST(u.rowid AS INTEGER) AS unit, {facts.selected} FROM ({facts.sql}) f JOIN {division.table} u"
        f" ON f.unit_id = u.unit_id WHERE {within}"
    )
    for batch in stream(work.connection, sql, facts.parameters):
        found = dict(numbers(batch, {"unit": "i4", **facts.types}))
        row = found["unit"]
        found["unit"] = division.place[row]
        yield found, division.bucket[row]
