"""Whose facts are that name another id than the unit's: ids to units, as tables of the connection."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Final

import duckdb

from experiments.definitions import FactSourceSpec, UnitMapping
from experiments.errors import SourceUnreadable
from stats.moment_set import UnmappedFacts
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, epoch_us, identifier
from warehouse.ids import plain_text
from warehouse.sources import open_source, unreadable

_made: Final = count()


def with_mappings(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[FactSourceSpec], data: DataSlice
) -> DataSlice:
    """The slice with a table for every mapping of these sources, which `open_source` joins.

    A table (other_id, unit_id) has one row per id; `unit_id` is null for an id with several units. A mapping's rows
    count from the beginning of time up to, not including, `data_as_of`: an id that is known late is known for all of
    its facts. Raises `SourceUnreadable`.
    """
    wanted = {source.key: source.unit_mapping for source in sources if source.unit_mapping is not None}
    known = {source.key: source for source in sources}
    names = {(mapping.fact_source, mapping.id_column): mapping for mapping in wanted.values()}
    tables = {
        name: _table(connection, known.get(mapping.fact_source), mapping, data) for name, mapping in names.items()
    }
    found = {key: tables[mapping.fact_source, mapping.id_column] for key, mapping in wanted.items()}
    return replace(data, mapping_tables=found)


def _table(
    connection: duckdb.DuckDBPyConnection, spec: FactSourceSpec | None, mapping: UnitMapping, data: DataSlice
) -> str:
    if spec is None or spec.unit_mapping is not None:
        why = "is not there" if spec is None else "maps its own units"
        raise SourceUnreadable(
            f"units are mapped by the fact source {mapping.fact_source!r}, which {why}",
            remedy="map units by a registered fact source that has no mapping itself",
        )
    # Several passes may share a connection: their mappings may be those of different times.
    table = identifier(f"units by id {next(_made)}")
    parameters = Parameters()
    # Events that map units are kept for as long as something maps by them (`experiments.retention`).
    source = open_source(connection, spec, replace(data, events_since_us=None), parameters)
    rows = "SELECT NULL::VARCHAR AS other_id, NULL::VARCHAR AS unit_id WHERE FALSE"
    if source is not None:
        unit, other = identifier(source.unit), plain_text(source.column(mapping.id_column))
        rows = (
            f"SELECT other_id, CASE WHEN min(unit_id) = max(unit_id) THEN min(unit_id) END AS unit_id"
            f" FROM (SELECT {other} AS other_id, CAST({unit} AS VARCHAR) AS unit_id FROM {source.relation}"
            f" WHERE {unit} IS NOT NULL AND {source.time_test('<', parameters.add(epoch_us(data.data_as_of)))})"
            f" WHERE other_id IS NOT NULL GROUP BY other_id"
        )
    try:
        connection.execute(f"CREATE TEMP TABLE {table} AS {rows}", parameters.values)
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    return table


def unmapped_facts(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[FactSourceSpec],
    data: DataSlice,
    period_us: tuple[int, int],
) -> dict[str, UnmappedFacts]:
    """What the mappings of these sources lose of their facts in [period), everybody's. Raises `SourceUnreadable`."""
    found = {}
    for spec in sources:
        if spec.unit_mapping is not None:
            found[spec.key] = _lost(connection, spec, data, period_us)
    return found


def _lost(
    connection: duckdb.DuckDBPyConnection, spec: FactSourceSpec, data: DataSlice, period_us: tuple[int, int]
) -> UnmappedFacts:
    parameters = Parameters()
    source = open_source(connection, spec.model_copy(update={"unit_mapping": None}), data, parameters)
    if source is None:
        return UnmappedFacts(0, 0, 0)
    unit, (start, end) = identifier(source.unit), (parameters.add(at) for at in period_us)
    facts = (
        f"SELECT {plain_text(unit)} AS other_id, count(*) AS n FROM {source.relation} WHERE {unit} IS NOT NULL"
        f" AND {source.time_test('>=', start)} AND {source.time_test('<', end)} GROUP BY 1"
    )
    sql = (
        "SELECT coalesce(sum(n), 0), coalesce(sum(n) FILTER (owner.other_id IS NULL), 0),"
        " coalesce(sum(n) FILTER (owner.other_id IS NOT NULL AND owner.unit_id IS NULL), 0)"
        f" FROM ({facts}) AS facts LEFT JOIN {data.mapping_tables[spec.key]} AS owner USING (other_id)"
    )
    try:
        ((every, without, ambiguous),) = connection.execute(sql, parameters.values).fetchall()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    return UnmappedFacts(int(every), int(without), int(ambiguous))
