"""Fact sources as relations of the engine: unit, time in microseconds, and the columns that measures ask for.

Two roads lead from a plan to moments. This one, the embedded road, reads the store and files with DuckDB: its
statements are few and their shape never depends on user text. Names only enter through `engine.identifier`, values
(file paths included) only as bound parameters, filters are compiled from the structured `Filter` model; so there is
nothing to parse or to escape. The compiled road (`warehouse.compile`) turns a plan into one statement in the dialect of
a warehouse; it is built of sqlglot's expressions, whose third of a second of import time is not paid here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb

from experiments.definitions import DuckDBSource, EventSource, FactSourceSpec, FileSource, Filter, TableSource
from experiments.errors import SourceUnreadable
from warehouse import parquet, properties
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, Value, identifier
from warehouse.engines.messages import UNREADABLE_VALUES, of_duckdb
from warehouse.ids import id_text, plain_text
from warehouse.source_files import READER_OPTIONS, attach, reader_of, source_path

EVENT_VALUE, PROPERTY_PREFIX = "value", "p_"
_BYTES_OF_A_ROW = 32
_NUMERIC = frozenset(["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL"])


def property_column(name: str) -> str:
    """The stored column of an event's property. The engine ignores case in names, so names are kept in lower case."""
    return PROPERTY_PREFIX + name.lower()


@dataclass(frozen=True, slots=True)
class FactRelation:
    """A fact source opened on a connection. `relation` is what follows FROM; `types` the columns it has.

    It has only rows that pass the source's filters. With a unit mapping `unit` is null for an id with several units.
    """

    key: str
    relation: str
    unit: str
    time: str
    types: Mapping[str, str]
    events: bool

    def column(self, name: str) -> str:
        """The SQL of a named column; `SourceUnreadable` naming it when the source does not have it."""
        physical = self._physical(name)
        if physical not in self.types:
            if self.events:
                remedy = f"send the events with the property {name!r}, or correct the definition that names it"
            else:
                remedy = "add the column to the source or correct the definition; the source has " + ", ".join(
                    sorted(self.types)[:20]
                )
            raise SourceUnreadable(f"fact source {self.key!r} has no column {name!r}", remedy=remedy, column=name)
        return identifier(physical)

    def number(self, name: str) -> str:
        """The column as DOUBLE; text that is no number fails the query (see `unreadable`)."""
        if self.events and self.type_of(name) == "VARCHAR":
            return properties.number(self.column(name), name)
        return f"CAST({self.column(name)} AS DOUBLE)"

    def type_of(self, name: str) -> str:
        """The engine's type of a named column."""
        self.column(name)
        return self.types[self._physical(name)]

    def _physical(self, name: str) -> str:
        return property_column(name) if self.events and name != EVENT_VALUE else name

    @property
    def zoned_time(self) -> str:
        """The time with its zone; times without one are UTC."""
        column = identifier(self.time)
        return column if self.types[self.time] == "TIMESTAMP WITH TIME ZONE" else f"CAST({column} AS TIMESTAMPTZ)"

    @property
    def time_us(self) -> str:
        """The time as microseconds since 1970; times without a zone are UTC."""
        return f"epoch_us({self.zoned_time})"

    def time_test(self, op: str, microseconds: str) -> str:
        """The stored column against a constant, so that the engine can skip row groups by their statistics."""
        return f"{self.zoned_time} {op} make_timestamptz({microseconds})"


def open_source(
    connection: duckdb.DuckDBPyConnection,
    spec: FactSourceSpec,
    data: DataSlice,
    parameters: Parameters,
) -> FactRelation | None:
    """The relation of a source; None for an event that has never been ingested (it has no facts).

    A source with a unit mapping needs its table in `data` (`warehouse.unit_mapping`). Raises `SourceUnreadable`.
    """
    earlier = set(parameters.values)
    match spec:
        case EventSource():
            files = data.event_files.get(spec.event, ())
            if not files:
                return None
            relation = parquet.relation(files, parameters, data.recorded_before_us, file_names=True)
            unit, time, events = "unit_id", "occurred_at", True
            if data.events_since_us is not None:
                since = f"make_timestamptz({parameters.add(data.events_since_us)})"
                relation = f"(SELECT * FROM {relation} WHERE {identifier(time)} >= {since})"
        case FileSource():
            path = source_path(data.file_source_dir, spec.path, spec.key)
            reader = reader_of(path, spec.key)
            options = "".join(f", {option} = {value}" for option, value in READER_OPTIONS[reader].items())
            relation = f"{reader}({parameters.add(str(path))}{options})"
            unit, time, events = spec.unit_column, spec.timestamp_column, False
        case DuckDBSource():
            path = source_path(data.file_source_dir, spec.path, spec.key)
            relation = f"{identifier(attach(connection, path, spec, data))}.{_table_name(spec.table)}"
            unit, time, events = spec.unit_column, spec.timestamp_column, False
        case TableSource():
            raise SourceUnreadable(
                f"fact source {spec.key!r} lives in the connection {spec.connection!r} and cannot be read from here",
                remedy="let all sources of the experiment, and its exposures, be tables of that connection, or none",
            )
    own = {name: value for name, value in parameters.values.items() if name not in earlier}
    types = _describe(connection, spec.key, relation, own)
    source = FactRelation(spec.key, relation, unit, time, types, events)
    for name in (unit, time):
        if name not in types:
            raise SourceUnreadable(
                f"fact source {spec.key!r} has no column {name!r}",
                remedy="correct the source's unit or timestamp column; it has " + ", ".join(sorted(types)[:20]),
                column=name,
            )
    return _of_units(_with_ids(_filtered(source, spec.filters, parameters)), spec, data)


def _filtered(source: FactRelation, filters: Sequence[Filter], parameters: Parameters) -> FactRelation:
    if not filters:
        return source
    passing = " AND ".join(predicate(source, item, parameters) for item in filters)
    return replace(source, relation=f"(SELECT * FROM {source.relation} WHERE {passing})")


def _with_ids(source: FactRelation) -> FactRelation:
    kind, unit = source.types[source.unit], identifier(source.unit)
    if not kind.startswith(("FLOAT", "DOUBLE", "DECIMAL")):
        return source
    rows = f"(SELECT * REPLACE ({id_text(unit, kind)} AS {unit}) FROM {source.relation})"
    return replace(source, relation=rows, types={**source.types, source.unit: "VARCHAR"})


def _of_units(source: FactRelation, spec: FactSourceSpec, data: DataSlice) -> FactRelation:
    """The source by unit, where its rows name another id. Facts of ids without a unit are left out."""
    if spec.unit_mapping is None:
        return source
    if spec.key not in data.mapping_tables:
        raise ValueError(f"the unit mapping of {spec.key!r} was not made on this connection")
    unit = "unit by mapping"
    while unit in source.types:
        unit += " "
    relation = (
        f"(SELECT facts.*, owners.unit_id AS {identifier(unit)} FROM {source.relation} AS facts"
        f" JOIN {data.mapping_tables[spec.key]} AS owners"
        f" ON {plain_text(f'facts.{identifier(source.unit)}')} = owners.other_id)"
    )
    return replace(source, relation=relation, unit=unit, types={**source.types, unit: "VARCHAR"})


def count_rows(connection: duckdb.DuckDBPyConnection, spec: FactSourceSpec, data: DataSlice) -> int:
    """Rows of a source, without its filters: what Parquet files and tables know, of text a guess from its size."""
    if isinstance(spec, FileSource):
        path = source_path(data.file_source_dir, spec.path, spec.key)
        if reader_of(path, spec.key) == "read_csv":
            return path.stat().st_size // _BYTES_OF_A_ROW
    parameters = Parameters()
    if isinstance(spec, EventSource):
        files = data.event_files.get(spec.event, ())
        if not files:
            return 0
        relation = f"read_parquet({parameters.add_paths(files)})"
    else:
        source = open_source(
            connection, spec.model_copy(update={"filters": [], "unit_mapping": None}), data, parameters
        )
        relation = "(SELECT 0 WHERE FALSE)" if source is None else source.relation
    try:
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {relation}", parameters.values).fetchall()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    return int(rows)


def predicate(source: FactRelation, condition: Filter, parameters: Parameters) -> str:
    """A filter as SQL. A fact whose column is null passes no filter. Text compares as text, numbers as numbers."""
    column, kind = source.column(condition.column), source.type_of(condition.column)
    values: Sequence[str | float | bool] = condition.value if isinstance(condition.value, list) else [condition.value]
    compared = _property_comparison if source.events else _comparison
    tests = [compared(column, kind, condition.op, value, parameters) for value in values]
    if condition.op == "in":
        return "(" + (" OR ".join(tests) if tests else "FALSE") + ")"
    if len(tests) != 1:
        raise SourceUnreadable(
            f"the filter on {condition.column!r} compares with a list", remedy="use the operator `in` with a list"
        )
    return tests[0]


_TRUTHS: Mapping[str, float] = {"true": 1.0, "false": 0.0}


def _property_comparison(column: str, kind: str, op: str, value: str | float | bool, parameters: Parameters) -> str:
    """A test of an event's property, which holds of a row whatever type other batches gave it (`properties`)."""
    symbol = {"in": "=", "!=": "<>"}.get(op, op)
    if kind == "VARCHAR":
        if isinstance(value, bool):
            return f"({properties.truth(column)} {symbol} {parameters.add('true' if value else 'false')})"
        if not isinstance(value, str):
            return f"(({properties.number_or_null(column)}) {symbol} {parameters.add(float(value))})"
        truth, number = _TRUTHS.get(value), _as_number(value)
        known = number if truth is None else truth
        if known is not None:
            as_numbers = truth is not None or op in ("<", "<=", ">", ">=")
            text, given = parameters.add(value), parameters.add(known)
            test = properties.compared(column, plain_text(column), symbol, text, given, as_numbers=as_numbers)
            return f"({test})"
    elif isinstance(value, str) and (_is_numeric(kind) or kind == "BOOLEAN"):
        number = _TRUTHS.get(value, _as_number(value))
        value = value if number is None else number
    return _comparison(column, kind, op, value, parameters)


def _comparison(column: str, kind: str, op: str, value: str | float | bool, parameters: Parameters) -> str:
    symbol = {"in": "=", "!=": "<>"}.get(op, op)
    if isinstance(value, bool):
        if kind == "BOOLEAN":
            return f"({column} {symbol} {parameters.add(value)})"
        text = parameters.add("true" if value else "false")
        as_text = (
            f"lower(CAST({column} AS VARCHAR))" if kind == "VARCHAR" else f"CAST(CAST({column} AS BOOLEAN) AS VARCHAR)"
        )
        return f"({as_text} {symbol} {text})"
    if isinstance(value, str):
        number = _as_number(value) if _is_numeric(kind) else None
        if number is None:
            return f"({plain_text(column)} {symbol} {parameters.add(value)})"
        value = number
    if kind.startswith(("DATE", "TIME")):
        raise SourceUnreadable(
            f"the filter on {column} compares a time with a number",
            remedy="compare it with text, or name another column",
        )
    return f"(TRY_CAST({column} AS DOUBLE) {symbol} {parameters.add(float(value))})"


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_numeric(kind: str) -> bool:
    return kind.split("(")[0].removeprefix("U") in _NUMERIC


def _table_name(table: str) -> str:
    schema, _, name = table.rpartition(".")
    return f"{identifier(schema or 'main')}.{identifier(name)}"


def _describe(
    connection: duckdb.DuckDBPyConnection, key: str, relation: str, values: Mapping[str, Value]
) -> dict[str, str]:
    try:
        rows = connection.execute(f"DESCRIBE SELECT * FROM {relation}", values).fetchall()
    except duckdb.Error as error:
        raise SourceUnreadable(
            f"fact source {key!r} cannot be read: {of_duckdb(error)}",
            remedy="check that the file or table exists and is complete",
        ) from None
    return {str(row[0]): str(row[1]) for row in rows}


def unreadable(key: str, error: duckdb.Error) -> SourceUnreadable:
    """The problem behind an engine error while facts were read: usually text where a number or a time must be."""
    return properties.fault_of(key, error) or SourceUnreadable(
        f"fact source {key!r} cannot be read: {of_duckdb(error)}", remedy=UNREADABLE_VALUES
    )
