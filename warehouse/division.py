"""More units than are measured at a time, or units of several plans: facts are read and joined once, into buckets.

The engine joins facts to the table of all units, spilling where it must, and streams whose they are, when, and the
inputs of the measures: numbers only, so that what is written and read again is small. Reading every source again for
each bucket took more: 138 CPU seconds for 20 metrics of 10 M units and 100 M facts, this 63 to 75 (two busy cores).
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
from experiments.definitions import EventSource, FactSourceSpec
from experiments.plan import AnalysisPlan
from stats.moments import Ints
from warehouse import parquet
from warehouse.bucket_files import BucketFiles, Buckets, stream
from warehouse.engine import Parameters, epoch_us, identifier
from warehouse.facts import Facts, Needed, inputs_of, inputs_used, measure_of, needed, select_facts
from warehouse.one_pass import Pass
from warehouse.other_experiments import arms_elsewhere
from warehouse.sources import count_rows, open_source, unreadable
from warehouse.triggers import keep_triggered
from warehouse.units import UNITS, Bucket, Units, as_units, create_units, selected_columns

MOST_BUCKETS: Final = 512
"""As many files are open at a time."""

LARGEST_TABLE: Final = 1_000_000
"""More units than this are joined to compacted files in parts."""

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
    _parts: dict[int, str] = field(default_factory=dict)

    def part(self, connection: duckdb.DuckDBPyConnection, file_bucket: int) -> str:
        """A table of the rows whose facts are in one of the files of a compacted segment, with their `row_number`."""
        if not self._parts:
            rows = identifier(f"{next(_made)} by file")
            period = ", ".join(dict.fromkeys([self.first, self.last]))
            connection.execute(
                f"CREATE TEMP TABLE {rows} AS SELECT rowid AS row_number, unit_id, {period},"
                f" {parquet.bucket_expression('unit_id')} AS its_file FROM {self.table}"
            )
            for index in range(parquet.BUCKETS):
                self._parts[index] = identifier(f"{next(_made)} of a file")
                connection.execute(
                    f"CREATE TEMP TABLE {self._parts[index]} AS SELECT * FROM {rows} WHERE its_file = {index}"
                )
            connection.execute(f"DROP TABLE {rows}")
        return self._parts[file_bucket]


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
        for key, reads in reads_by_source(columns).items():
            need = needed(reads, work.exposed_us, epoch_us(work.looks[-1]))
            units.sources[key] = put_facts(work, division, key, reads, need)
        yield units


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
    for records in stream(connection, sql, Parameters(), {"r": "i8", "b": "u2"}):
        its = np.ascontiguousarray(records["b"])
        bucket[records["r"]] = its
        place[records["r"]] = _places(its, sizes)
        sizes += np.bincount(its, minlength=of)
    return Division(folder, table, *period, bucket, place, sizes)


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
        for records in stream(work.connection, sql, parameters, types):
            files.add(records, division.bucket[records["row"]])
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
    work: Pass, division: Division, key: str, columns: Sequence[Column], need: Needed, *, shared: bool = False
) -> StoredFacts | None:
    """Read a source for all units of a division; None when there is nothing to read. Raises `SourceUnreadable`."""
    parameters = Parameters()
    source = open_source(work.connection, work.sources[key], work.data, parameters)
    if source is None or not len(division.bucket):
        return None
    inputs, names = inputs_of(source, columns, parameters)
    types = {"unit": "i4", "at_us": "i8", **{name: "f8" if name.startswith("n") else "u1" for name in inputs.values()}}
    with BucketFiles(division.folder, f"facts {next(_made)}", len(division.sizes), types) as files:
        try:
            for reading in _readings(work, division, work.sources[key]):
                _read(work, division, key, columns, need, reading, files)
        except duckdb.Error as error:
            raise unreadable(key, error) from error
    return StoredFacts(files, tuple(inputs.values()), names, shared)


type _Reading = tuple[Sequence[Path] | None, str, str]
"""Some of a source's files (None: all), the table of units to join them to, and SQL of their row in the division."""


def _readings(work: Pass, division: Division, spec: FactSourceSpec) -> Iterator[_Reading]:
    """How to read a source. Files of a compacted segment hold facts of a sixteenth of the units: a table for each that

    fits into the processor's cache sooner, and into memory.
    """
    files = work.data.event_files.get(spec.event, ()) if isinstance(spec, EventSource) else ()
    by_file: dict[int | None, list[Path]] = {}
    for path in files:
        by_file.setdefault(parquet.bucket_of(path), []).append(path)
    if len(division.bucket) <= LARGEST_TABLE or spec.unit_mapping is not None or not set(by_file) - {None}:
        yield None, division.table, "u.rowid"
        return
    for file_bucket, paths in by_file.items():
        if file_bucket is None:
            yield paths, division.table, "u.rowid"
        else:
            yield paths, division.part(work.connection, file_bucket), "u.row_number"


def _read(
    work: Pass,
    division: Division,
    key: str,
    columns: Sequence[Column],
    need: Needed,
    reading: _Reading,
    files: BucketFiles,
) -> None:
    (only, table, row), parameters = reading, Parameters()
    source = open_source(work.connection, work.sources[key], work.data, parameters, only=only)
    if source is None:
        return
    inputs, _ = inputs_of(source, columns, parameters)
    within = f"f.at_us >= u.{division.first} + {need.start}"
    if need.end is not None:
        within += f" AND f.at_us < u.{division.last} + {need.end}"
    kept = "".join(f", f.{name}" + ("" if files.types[name] == "f8" else "::UTINYINT") for name in inputs.values())
    sql = (
        f"SELECT CAST({row} AS INTEGER) AS unit, f.at_us{kept}"
        f" FROM ({select_facts(source, inputs, need, parameters)}) f JOIN {table} u"
        f" ON f.unit_id = u.unit_id WHERE {within}"
    )
    for records in stream(work.connection, sql, parameters, files.types):
        rows = records["unit"]
        its = division.bucket[rows]
        records["unit"] = division.place[rows]
        files.add(records, its)
