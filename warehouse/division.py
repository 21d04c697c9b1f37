"""More units than are measured at a time: exposures and facts are read and joined once, and put into buckets of units.

The engine joins facts to the table of all units, spilling where it must, and streams whose they are, when, and the
inputs of the measures: numbers only, so that what is written and read again is small. Reading every source again for
each bucket took more, as did writing its rows with the units' names into buckets before the join (650 and 520 ns a
fact, of 100 M facts in 8 buckets; this 330).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from experiments.columns import Column
from experiments.plan import AnalysisPlan
from stats.moments import Ints
from warehouse.bucket_files import BucketFiles, Buckets, Records, stream
from warehouse.engine import Parameters, epoch_us
from warehouse.facts import Facts, inputs_of, measure_of, needed, select_facts
from warehouse.one_pass import Pass
from warehouse.other_experiments import arms_elsewhere
from warehouse.sources import count_rows, open_source, unreadable
from warehouse.triggers import keep_triggered
from warehouse.units import UNITS, Bucket, Units, as_units, create_units, selected_columns

MOST_BUCKETS: Final = 512
"""As many files are open at a time."""


@dataclass(frozen=True, slots=True)
class _Source:
    """The facts of a source by bucket: `unit` is a place among the bucket's units, `at_us` a time."""

    files: BucketFiles
    inputs: tuple[str, ...]
    names: Mapping[str, str]


@dataclass(slots=True, eq=False)
class Division:
    """The units of the table `UNITS` in `of` buckets by hash, and their facts.

    `bucket` and `place` (rows,) say where each row of the table is.
    """

    of: int
    files: BucketFiles
    bucket: Buckets
    place: NDArray[np.int32]
    arms: int
    segments: int
    assigned: Ints | None
    elsewhere: NDArray[np.int16] | None = None
    sources: dict[str, _Source | None] = field(default_factory=dict)

    def units(self, index: int) -> Units:
        """The units of a bucket."""
        records = self.files.read(index)
        assigned = self.assigned if self.assigned is None or index == 0 else np.zeros_like(self.assigned)
        found = as_units(
            {name: records[name] for name in records.dtype.names or ()}, self.arms, self.segments, assigned
        )
        there = None if self.elsewhere is None else self.elsewhere[:, found.rowid].astype(np.int64)
        return replace(found, rowid=np.arange(len(records)), bucket=index, elsewhere=there)

    def read(self, work: Pass, units: Units, look_us: int, columns: Sequence[Column]) -> dict[str, Facts | None]:
        """The facts of a bucket's units (see `values.read_all`), as they were put into buckets for all columns."""
        keys = dict.fromkeys(measure_of(read).fact_source for column in columns for read in column.reads)
        return {key: self._facts(units, self.sources[key]) for key in keys}

    def _facts(self, units: Units, source: _Source | None) -> Facts | None:
        if source is None or not len(units):
            return None
        records = source.files.read(units.bucket)
        position = units.position.astype(np.int32)[records["unit"]]
        return Facts(
            units=units,
            position=position,
            since_us=records["at_us"] - units.assigned_us[position],
            inputs={name: np.ascontiguousarray(records[name]) for name in source.inputs},
            names=source.names,
            most=int(np.bincount(position, minlength=1).max()),
        )


def count_facts(work: Pass, columns: Sequence[Column]) -> int:
    """Rows of the sources of columns, of any time: an upper bound of the facts to read. Raises `SourceUnreadable`."""
    keys = dict.fromkeys(measure_of(read).fact_source for column in columns for read in column.reads)
    return sum(count_rows(work.connection, work.sources[key], work.data) for key in keys)


@contextmanager
def divided(work: Pass, plan: AnalysisPlan, of: int, columns: Sequence[Column]) -> Iterator[Division]:
    """All units of a plan in `of` buckets, with the facts of `columns` up to the last look; also the table `UNITS`.

    Buckets hold whole clusters. Files are in a private folder that is gone afterwards. Raises `SourceUnreadable`.
    """
    trigger = None
    if plan.trigger is not None:
        source = work.sources[plan.trigger.fact_source]
        trigger = partial(keep_triggered, work.connection, source, plan.trigger, work.data, work.exposed_us)
    assigned = create_units(
        work.connection, work.data, work.variants, work.levels, Bucket(), cluster=plan.cluster, trigger=trigger
    )
    with TemporaryDirectory(prefix="northlift-buckets-") as folder:
        division = _units_in_buckets(work, plan, of, Path(folder), assigned)
        if work.data.concurrent:
            division.elsewhere = arms_elsewhere(work.connection, work.data, len(division.bucket))
        by_source: dict[str, list[Column]] = {}
        for read in (read for column in columns for read in column.reads):
            by_source.setdefault(measure_of(read).fact_source, []).append(read)
        for key, reads in by_source.items():
            division.sources[key] = _facts_in_buckets(work, division, key, reads, Path(folder))
        yield division


def _units_in_buckets(work: Pass, plan: AnalysisPlan, of: int, folder: Path, assigned: Ints | None) -> Division:
    connection, parameters = work.connection, Parameters()
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {UNITS}").fetchall()
    columns = selected_columns(
        work.levels, parameters, clustered=plan.cluster is not None, triggered=plan.trigger is not None
    )
    types = {expression.rpartition(" AS ")[2]: kind for expression, kind in columns.items()}
    bucket, place = np.zeros(rows, dtype=np.uint16), np.zeros(rows, dtype=np.int32)
    with BucketFiles(folder, "units", of, types) as files:
        for records in stream(connection, f"SELECT {', '.join(columns)} FROM {UNITS}", parameters, types):
            its = (records["h" if plan.cluster is None else "c"] % np.uint64(of)).astype(np.uint16)
            bucket[records["r"]] = its
            place[records["r"]] = _places(its, files.rows)
            files.add(records, its)
    return Division(of, files, bucket, place, len(work.variants), len(work.levels), assigned)


def _places(bucket: Buckets, before: Ints) -> NDArray[np.int32]:
    """(n,) the place of each row in its bucket's file, which has `before` (buckets,) rows already."""
    order = np.argsort(bucket, kind="stable")
    counts = np.bincount(bucket, minlength=len(before))
    first = np.cumsum(counts) - counts
    place = np.empty(len(bucket), dtype=np.int32)
    place[order] = np.arange(len(bucket)) - (first - before)[bucket[order]]
    return place


def _facts_in_buckets(
    work: Pass, division: Division, key: str, columns: Sequence[Column], folder: Path
) -> _Source | None:
    """Read a source for all units; None when there is nothing to read."""
    connection, parameters = work.connection, Parameters()
    source = open_source(connection, work.sources[key], work.data, parameters)
    if source is None or not len(division.bucket):
        return None
    inputs, names = inputs_of(source, columns, parameters)
    need = needed(columns, work.exposed_us, epoch_us(work.looks[-1]))
    facts = select_facts(source, inputs, need, parameters)
    begin = "at_us" if division.assigned is None else "triggered_us"
    within = f"f.at_us >= u.at_us + {need.start}" + (
        "" if need.end is None else f" AND f.at_us < u.{begin} + {need.end}"
    )
    types = {"unit": "i4", "at_us": "i8", **{name: "f8" if name.startswith("n") else "u1" for name in inputs.values()}}
    kept = "".join(f", f.{name}" + ("" if types[name] == "f8" else "::UTINYINT") for name in inputs.values())
    sql = (
        f"SELECT CAST(u.rowid AS INTEGER) AS unit, f.at_us{kept} FROM ({facts}) f JOIN {UNITS} u"
        f" ON f.unit_id = u.unit_id WHERE {within}"
    )
    with BucketFiles(folder, f"facts {len(division.sources)}", division.of, types) as files:
        try:
            for records in stream(connection, sql, parameters, types):
                _add(files, records, division)
        except duckdb.Error as error:
            raise unreadable(key, error) from error
    return _Source(files, tuple(inputs.values()), names)


def _add(files: BucketFiles, records: Records, division: Division) -> None:
    row = records["unit"]
    its = division.bucket[row]
    records["unit"] = division.place[row]
    files.add(records, its)
