"""What an analysis of an experiment would read, before it runs: rows and bytes by source, and who says so.

Nothing of anybody's rows is read for it: footers of files, and what an engine plans to do.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from experiments import retention
from experiments.columns import aged, company_specs, layout
from experiments.connection import Access
from experiments.definitions import DuckDBSource, EventSource, FactSourceSpec, FileSource, TableSource
from experiments.errors import SourceUnreadable
from experiments.metric import measures_of
from experiments.plan import AnalysisPlan
from warehouse.data_slice import DataSlice
from warehouse.engine import connect
from warehouse.facts import measure_of
from warehouse.looks import MAX_OPEN_LOOKS, look_times
from warehouse.parquet import RECORDED
from warehouse.source_files import attach, reader_of, source_path
from warehouse.sources import EVENT_VALUE, property_column
from warehouse.units import SEGMENT_PREFIX

FOOTERS: Final = "footers of the Parquet files"


@dataclass(frozen=True, slots=True)
class SourceCost:
    """Rows and bytes of one source; None where nobody can say, and then `reason` says why.

    `source` is None for the exposures that were sent, which are no fact source. `times`: how often an analysis reads
    them. `basis`: where the numbers are from.
    """

    source: str | None
    rows: int | None
    bytes: int | None
    times: int
    basis: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReadingCost:
    """What an analysis would read. From files at most: one that refreshes what an earlier one kept reads less.

    `engine` is where the rows are read: `embedded`, `postgres`, `spark`, or `none` for summaries.
    """

    engine: str
    sources: tuple[SourceCost, ...]

    @property
    def rows(self) -> int | None:
        """Of all sources, each as often as it is read; None unless all are known."""
        return _total((one.rows, one.times) for one in self.sources)

    @property
    def bytes(self) -> int | None:
        """As `rows`."""
        return _total((one.bytes, one.times) for one in self.sources)


def reading_cost(plan: AnalysisPlan, data: DataSlice, access: Access | None) -> ReadingCost:
    """What an analysis of this slice would read. Opens the warehouse that `access` is for, and runs no query there.

    A source that cannot be opened has its reason; a warehouse that cannot be opened raises `SourceUnreadable`.
    """
    if plan.data == "summary":
        return ReadingCost("none", ())
    if access is not None:
        return _in_warehouse(plan, data, access)
    found = []
    if plan.exposures is None:
        wanted = {f"{SEGMENT_PREFIX}{name}".lower() for name in (*plan.segments, *plan.estimation.stratify_by)}
        wanted |= {f"{SEGMENT_PREFIX}{plan.cluster}".lower()} if plan.cluster else set()
        start, end = _exposed(data)
        every = {"unit_id", "exposed_at", "variant_key", RECORDED, *wanted}
        found.append(_of_files(None, data.exposure_files, "exposed_at", every, start, end, 1))
    columns, twice = columns_read(plan), _of_company(plan)
    for spec in plan.fact_sources:
        period, times = _period(plan, data, spec.key), 2 if spec.key in twice else 1
        try:
            found.append(_stored(spec, data, columns[spec.key], period, times))
        except SourceUnreadable as error:
            found.append(SourceCost(spec.key, None, None, times, "", error.detail))
    return ReadingCost("embedded", tuple(found))


def columns_read(plan: AnalysisPlan) -> dict[str, set[str]]:
    """By fact source, the columns that a plan names besides those of unit and time."""
    found: dict[str, set[str]] = {spec.key: {item.column for item in spec.filters} for spec in plan.fact_sources}
    for metric in plan.metrics:
        for measure in measures_of(metric.spec).values():
            names = found.setdefault(measure.fact_source, set())
            names |= {item.column for item in measure.filters}
            if measure.aggregation in ("sum", "max", "last") or metric.spec.kind in ("survey", "quantile"):
                names.add(measure.column)
    for spec in plan.fact_sources:
        if spec.unit_mapping is not None:
            found.setdefault(spec.unit_mapping.fact_source, set()).add(spec.unit_mapping.id_column)
    if plan.trigger is not None:
        found.setdefault(plan.trigger.fact_source, set()).update(item.column for item in plan.trigger.filters)
    if (given := plan.exposures) is not None:
        names = found.setdefault(given.fact_source, set())
        names |= {given.variant_column, *(item.column for item in given.filters), *given.segments.values()}
    return found


def _of_company(plan: AnalysisPlan) -> set[str]:
    """The sources that are read once more for everybody, to say what share of the company was reached."""
    specs = () if plan.purpose == "aa" else company_specs(plan).values()
    return {measure.fact_source for spec in specs for measure in measures_of(spec).values()}


def _exposed(data: DataSlice) -> tuple[datetime, datetime]:
    assert data.started_at is not None
    return data.started_at, data.data_as_of if data.ended_at is None else min(data.ended_at, data.data_as_of)


def _period(plan: AnalysisPlan, data: DataSlice, key: str) -> tuple[datetime, datetime]:
    """The times of facts that can matter."""
    start, end = _exposed(data)
    if plan.exposures is not None and plan.exposures.fact_source == key and not _measured(plan, key):
        return start, end
    return start - retention.before_start(plan), data.data_as_of


def _measured(plan: AnalysisPlan, key: str) -> bool:
    return any(measure.fact_source == key for item in plan.metrics for measure in measures_of(item.spec).values())


def _stored(
    spec: FactSourceSpec, data: DataSlice, columns: set[str], period: tuple[datetime, datetime], times: int
) -> SourceCost:
    match spec:
        case EventSource():
            physical = {property_column(name) for name in columns if name != EVENT_VALUE}
            physical |= {"unit_id", "occurred_at", RECORDED} | ({EVENT_VALUE} & columns)
            return _of_files(spec.key, data.event_files.get(spec.event, ()), "occurred_at", physical, *period, times)
        case FileSource():
            path = source_path(data.file_source_dir, spec.path, spec.key)
            if reader_of(path, spec.key) != "read_parquet":
                reason = "rows of a text file are not counted before it is read"
                return SourceCost(spec.key, None, path.stat().st_size, times, "size of the file", reason)
            every = {name.lower() for name in (*columns, spec.unit_column, spec.timestamp_column)}
            return _of_files(spec.key, [path], spec.timestamp_column, every, *period, times)
        case DuckDBSource():
            path = source_path(data.file_source_dir, spec.path, spec.key)
            rows = _rows_of_table(spec, path)
            reason = "a view's rows are not counted before it is read" if rows is None else _NO_BYTES
            return SourceCost(spec.key, rows, None, times, "what the database counts", reason)
        case TableSource():
            raise SourceUnreadable(f"fact source {spec.key!r} is in a warehouse, which was not opened")


_NO_BYTES: Final = "the database does not say how many bytes a column has"


def _rows_of_table(spec: DuckDBSource, path: Path) -> int | None:
    schema, _, table = spec.table.rpartition(".")
    with connect(threads=1, memory_limit=None) as connection:
        catalogue = attach(connection, path, spec)
        row = connection.execute(
            "SELECT estimated_size FROM duckdb_tables() WHERE database_name = $database AND schema_name = $schema "
            "AND table_name = $table",
            {"database": catalogue, "schema": schema or "main", "table": table},
        ).fetchone()
    return None if row is None else int(row[0])


def _of_files(
    source: str | None, files: Sequence[Path], time: str, columns: set[str], start: datetime, end: datetime, times: int
) -> SourceCost:
    """Row groups whose times overlap [start, end): what an engine that looks at footers reads."""
    rows = size = 0
    try:
        for path in files:
            footer = pq.read_metadata(path)
            names = {footer.schema.column(i).name.lower(): i for i in range(footer.num_columns)}
            place = names.get(time.lower())
            for group in (footer.row_group(i) for i in range(footer.num_row_groups)):
                if place is None or _overlaps(group.column(place), start, end):
                    rows += group.num_rows
                    size += sum(group.column(i).total_compressed_size for name, i in names.items() if name in columns)
    except (OSError, pa.ArrowInvalid) as error:
        return SourceCost(source, None, None, times, "", f"a file cannot be read: {type(error).__name__}")
    return SourceCost(source, rows, size, times, FOOTERS)


def _overlaps(column: pq.ColumnChunkMetaData, start: datetime, end: datetime) -> bool:
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        return True
    first, last = statistics.min, statistics.max
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        return True
    return _utc(first) < end and _utc(last) >= start


def _utc(at: datetime) -> datetime:
    """Times without a zone are UTC, here as in the engine."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _in_warehouse(plan: AnalysisPlan, data: DataSlice, access: Access) -> ReadingCost:
    """The engine's own estimate of each source; an analysis reads it with every statement that it runs."""
    # Only who reads from a warehouse needs its client and the compiler.
    from warehouse.engines.opening import open_engine
    from warehouse.source_estimate import estimate_source

    columns, found = columns_read(plan), []
    with closing(open_engine(access)) as engine:
        for spec in plan.fact_sources:
            times = _statements(plan, data, spec.key)
            try:
                told = estimate_source(engine, spec, data, columns[spec.key], _period(plan, data, spec.key))
            except SourceUnreadable as error:
                found.append(SourceCost(spec.key, None, None, times, "", error.detail))
                continue
            reason = "" if told.rows is not None else "nobody counted the rows of the table; ANALYZE does"
            found.append(SourceCost(spec.key, told.rows, told.bytes, times, told.basis, reason))
        return ReadingCost(engine.dialect, tuple(found))


def _statements(plan: AnalysisPlan, data: DataSlice, key: str) -> int:
    """How many statements of an analysis read a source: one, one for each earlier look of open windows, and one for

    each metric that is followed by days since exposure.
    """
    assert data.started_at is not None
    columns = layout([metric.spec for metric in plan.metrics])
    looks = 1
    if any(column.period == "outcome" and column.window_days is None for column in columns.columns):
        sequential = plan.estimation.sequential
        looks = len(
            look_times(
                started_at=data.started_at,
                ended_at=data.ended_at,
                data_as_of=data.data_as_of,
                longest_window_days=columns.longest_window_days,
                most=MAX_OPEN_LOOKS,
                every_days=sequential.look_every_days if sequential.method == "group_sequential" else None,
            )
        )
    everywhere = {named.fact_source for named in (plan.exposures, plan.trigger) if named is not None}
    mapped = (spec.unit_mapping for spec in plan.fact_sources)
    everywhere |= {mapping.fact_source for mapping in mapped if mapping is not None}
    ages = [metric for metric in aged(plan) if metric.column.cap is None]
    reads = [
        key in everywhere or any(measure_of(one).fact_source == key for one in metric.column.reads) for metric in ages
    ]
    return looks + sum(reads)


def _total(each: Iterable[tuple[int | None, int]]) -> int | None:
    total = 0
    for number, times in each:
        if number is None:
            return None
        total += number * times
    return total
