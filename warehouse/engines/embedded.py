"""DuckDB in this process: on what was ingested, on files, and on tables of a DuckDB database."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
from numpy.typing import NDArray
from sqlglot import exp

from experiments.definitions import DuckDBSource, EventSource, FactSourceSpec, FileSource
from experiments.errors import SourceUnreadable
from warehouse.compile.relations import Rows, table_named
from warehouse.compile.words import every, is_null, name, some, stored, text_literal, whole
from warehouse.data_slice import DataSlice
from warehouse.engine import connect
from warehouse.engines.contract import Estimate, Kind, Table
from warehouse.engines.messages import UNREADABLE_VALUES, of_duckdb
from warehouse.parquet import RECORDED, bucket_of
from warehouse.source_files import READER_OPTIONS, attach, reader_of, source_path
from warehouse.sources import EVENT_VALUE, PROPERTY_PREFIX

_NUMBERS = frozenset(
    [
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "UHUGEINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
    ]
)
_KINDS: Mapping[str, Kind] = {
    "VARCHAR": "text",
    "BOOLEAN": "boolean",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP_S": "timestamp",
    "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP_NS": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "DATE": "date",
}


class DuckDBEngine:
    """An embedded database of its own; also the engine of everything that is stored as Parquet."""

    def __init__(self, *, threads: int = 2, memory_limit: str | None = None) -> None:
        self._open = ExitStack()
        self._connection = self._open.enter_context(connect(threads=threads, memory_limit=memory_limit))

    @property
    def dialect(self) -> Literal["duckdb"]:
        return "duckdb"

    def columns(self, table: exp.Table) -> Mapping[str, Kind]:
        """The columns of a table. Raises `SourceUnreadable`."""
        return self._columns(table)

    def run(self, statement: exp.Expression) -> Table:
        """The result as arrays. Raises `SourceUnreadable`."""
        found = self._execute(statement).fetchnumpy()
        return {str(column).lower(): _plain(values) for column, values in found.items()}

    def estimate(self, statement: exp.Expression) -> Estimate:
        """Rows and bytes of the Parquet files that the statement names, by their footers."""
        paths = [str(literal.this) for call in _readers(statement) for literal in call.find_all(exp.Literal)]
        files = [path for path in dict.fromkeys(paths) if path.endswith(".parquet")]
        if not files:
            return Estimate(None, None, "no Parquet files")
        row = self._connection.execute(
            "SELECT sum(num_rows) FROM parquet_file_metadata($files)", {"files": files}
        ).fetchone()
        size = sum(Path(path).stat().st_size for path in files)
        return Estimate(int(row[0]) if row else None, size, "footers of the Parquet files")

    def close(self) -> None:
        """Close the database."""
        self._open.close()

    def stored_facts(self, spec: FactSourceSpec, data: DataSlice) -> Rows | None:
        """The rows of a source; None for an event that has never been ingested. Raises `SourceUnreadable`."""
        match spec:
            case EventSource():
                files = data.event_files.get(spec.event, ())
                if not files:
                    return None
                relation = _parquet(files, data.recorded_before_us)
                kinds = self._columns(relation)
                own = {
                    column.removeprefix(PROPERTY_PREFIX): column
                    for column in kinds
                    if column.startswith(PROPERTY_PREFIX)
                }
                return Rows(
                    spec.key, relation, "unit_id", "occurred_at", kinds, properties={**own, EVENT_VALUE: EVENT_VALUE}
                )
            case FileSource():
                path = source_path(data.file_source_dir, spec.path, spec.key)
                reader = reader_of(path, spec.key)
                options = [
                    exp.EQ(this=exp.to_identifier(option), expression=whole(value))
                    for option, value in READER_OPTIONS[reader].items()
                ]
                read = exp.Anonymous(this=reader, expressions=[text_literal(str(path)), *options])
                table = exp.Table(this=read)
            case DuckDBSource():
                path = source_path(data.file_source_dir, spec.path, spec.key)
                catalogue = attach(self._connection, path, spec, data)
                schema, _, called = spec.table.rpartition(".")
                table = exp.Table(this=name(called), db=name(schema or "main"), catalog=name(catalogue))
            case _:
                table = table_named(spec.table)
        rows = Rows(spec.key, table, spec.unit_column, spec.timestamp_column, self._columns(table))
        for column in (rows.unit, rows.time):
            rows.physical(column)
        return rows

    def stored_exposures(self, data: DataSlice) -> Rows | None:
        """What was sent to the ingest; None without any."""
        if not data.exposure_files:
            return None
        relation = _parquet(data.exposure_files, data.recorded_before_us)
        return Rows("exposures", relation, "unit_id", "exposed_at", self._columns(relation))

    def _columns(self, relation: exp.Table | exp.Subquery) -> dict[str, Kind]:
        described = exp.Describe(this=exp.select("*", copy=False).from_(relation.copy(), copy=False))
        rows = self._execute(described).fetchall()
        return {str(row[0]): _kind(str(row[1])) for row in rows}

    def _execute(self, statement: exp.Expression) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(statement.sql(dialect="duckdb", copy=False))
        except duckdb.Error as error:
            raise SourceUnreadable(
                f"the embedded engine cannot read this: {of_duckdb(error)}", remedy=UNREADABLE_VALUES
            ) from None


def _kind(declared: str) -> Kind:
    if declared.split("(")[0] in _NUMBERS:
        return "number"
    return _KINDS.get(declared, "other")


def _parquet(files: Sequence[Path], recorded_before_us: int | None) -> exp.Table | exp.Subquery:
    """Loose and compacted files, without rows of batches that were recorded later (`warehouse.parquet.relation`)."""
    paths = exp.Array(expressions=[text_literal(str(path)) for path in files])
    by_name = exp.EQ(this=exp.to_identifier("union_by_name"), expression=exp.true())
    read = exp.Table(this=exp.Anonymous(this="READ_PARQUET", expressions=[paths, by_name]))
    if recorded_before_us is None or all(bucket_of(path) is None for path in files):
        return read
    read.set("alias", exp.TableAlias(this=exp.to_identifier("t")))
    early = exp.LTE(this=stored(RECORDED), expression=whole(recorded_before_us))
    chosen = (
        exp.select("*").from_(read, copy=False).where(every([some([is_null(stored(RECORDED)), early])]), copy=False)
    )
    return exp.Subquery(this=chosen)


def _readers(statement: exp.Expression) -> list[exp.Anonymous]:
    return [call for call in statement.find_all(exp.Anonymous) if str(call.this).upper() == "READ_PARQUET"]


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Nulls as the contract has them."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    if values.dtype.kind not in "if":
        return np.array(values.tolist(), dtype=object)
    return np.ma.filled(values.astype(np.float64), np.nan) if values.mask.any() else np.asarray(values.data)
