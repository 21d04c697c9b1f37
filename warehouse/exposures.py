"""Where exposures are read: in stored files, or in a table made of the rows of a fact source, once per pass.

Both have the columns unit_id, variant_key, exposed_at, and segment_<name> for each dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Final

import duckdb

from experiments.definitions import ExposureSource, FactSourceSpec
from experiments.errors import SourceUnreadable
from experiments.plan import AnalysisPlan
from warehouse import parquet
from warehouse.data_slice import ConcurrentExposures, DataSlice
from warehouse.engine import Parameters, epoch_us, identifier
from warehouse.ids import plain_text
from warehouse.rows import attribute_column
from warehouse.sources import open_source, predicate, unreadable
from warehouse.unit_mapping import with_mappings

_made: Final = count()


def relation(of: DataSlice | ConcurrentExposures, parameters: Parameters, recorded_before_us: int | None) -> str | None:
    """What follows FROM to read the exposures of an experiment; None when there are none."""
    if of.exposure_table is not None:
        return of.exposure_table
    return parquet.relation(of.exposure_files, parameters, recorded_before_us) if of.exposure_files else None


def with_tables(connection: duckdb.DuckDBPyConnection, plan: AnalysisPlan, data: DataSlice) -> DataSlice:
    """The slice with what a pass makes on its connection before it reads: unit mappings, and exposures of fact sources.

    Raises `SourceUnreadable`.
    """
    data = with_mappings(connection, plan.fact_sources, data)
    if data.started_at is None:
        raise ValueError("an experiment's slice needs `started_at`")
    if plan.exposures is not None:
        end = data.data_as_of if data.ended_at is None else min(data.ended_at, data.data_as_of)
        sources = {source.key: source for source in plan.fact_sources}
        table = _table(connection, plan.exposures, sources, data, (data.started_at, end))
        data = replace(data, exposure_table=table)
    return replace(data, concurrent=tuple(_other(connection, other, data) for other in data.concurrent))


def _other(connection: duckdb.DuckDBPyConnection, other: ConcurrentExposures, data: DataSlice) -> ConcurrentExposures:
    """Another experiment's exposures. That they cannot be read is no reason to withhold this one's result."""
    if other.exposures is None:
        return other
    sources = {source.key: source for source in other.fact_sources}
    try:
        mapped = with_mappings(connection, other.fact_sources, data)
        table = _table(connection, other.exposures, sources, mapped, (other.started_at, other.ended_at))
    except SourceUnreadable as error:
        return replace(other, unreadable=error.detail)
    return replace(other, exposure_table=table)


def _table(
    connection: duckdb.DuckDBPyConnection,
    named: ExposureSource,
    sources: Mapping[str, FactSourceSpec],
    data: DataSlice,
    period: tuple[datetime, datetime],
) -> str:
    """A table of the exposures in [period); null units and null variants are none."""
    spec = sources[named.fact_source]
    table = identifier(f"exposures {next(_made)}")
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    columns = [attribute_column(name, "exposures") for name in named.segments]
    if source is None:
        rows = _nothing(columns)
    else:
        unit, variant = identifier(source.unit), plain_text(source.column(named.variant_column))
        levels = "".join(
            f", nullif({plain_text(source.column(stored))}, '') AS {identifier(column)}"
            for column, stored in zip(columns, named.segments.values(), strict=True)
        )
        start, end = (parameters.add(epoch_us(at)) for at in period)
        passing = "".join(f" AND {predicate(source, item, parameters)}" for item in named.filters)
        rows = (
            f"SELECT CAST({unit} AS VARCHAR) AS unit_id, {variant} AS variant_key, {source.zoned_time} AS exposed_at"
            f"{levels} FROM {source.relation} WHERE {unit} IS NOT NULL AND {variant} IS NOT NULL"
            f" AND {source.time_test('>=', start)} AND {source.time_test('<', end)}{passing}"
        )
    try:
        connection.execute(f"CREATE TEMP TABLE {table} AS {rows}", parameters.values)
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    return table


def _nothing(columns: Sequence[str]) -> str:
    levels = "".join(f", NULL::VARCHAR AS {identifier(column)}" for column in columns)
    return (
        f"SELECT NULL::VARCHAR AS unit_id, NULL::VARCHAR AS variant_key, NULL::TIMESTAMPTZ AS exposed_at{levels}"
        " WHERE FALSE"
    )
