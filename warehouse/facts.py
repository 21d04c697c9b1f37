"""The per-unit table: every column of the plan for every unit, each fact source read and joined once."""

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np

from experiments.columns import Column
from experiments.definitions import FactSourceSpec
from stats.moments import Floats
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters
from warehouse.measures import FactQuery, Span, span_of
from warehouse.sources import open_source, unreadable
from warehouse.units import UNITS


def measure_units(
    connection: duckdb.DuckDBPyConnection,
    sources: Mapping[str, FactSourceSpec],
    columns: Sequence[Column],
    data: DataSlice,
    *,
    units: int,
    period_us: tuple[int, int],
    look_us: int,
) -> Floats:
    """(columns, units) the columns' values in the order of the table `UNITS`; 0 without facts.

    `period_us` bounds the units' exposures; `look_us` ends open-ended windows. Values are as found: indicators are not
    applied yet and non-finite facts show as non-finite values.
    """
    values: Floats = np.zeros((len(columns), units))
    by_source: dict[str, list[int]] = {}
    for i, column in enumerate(columns):
        by_source.setdefault(column.measure.fact_source, []).append(i)
    for key, positions in by_source.items():
        _measure_source(connection, sources[key], columns, positions, data, values, period_us, look_us)
    return values


def _measure_source(
    connection: duckdb.DuckDBPyConnection,
    spec: FactSourceSpec,
    columns: Sequence[Column],
    positions: Sequence[int],
    data: DataSlice,
    values: Floats,
    period_us: tuple[int, int],
    look_us: int,
) -> None:
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    if source is None or not values.shape[1]:
        return
    query = FactQuery(source, parameters)
    spans = [span_of(columns[i]) for i in positions]
    look = str(int(look_us))
    aggregates = [
        query.aggregate(columns[i].measure, span.condition(look)) for i, span in zip(positions, spans, strict=True)
    ]
    start, end = _reach(spans)
    latest = look_us if end is None else min(look_us, period_us[1] + end)
    facts = query.facts(earliest_us=period_us[0] + start, latest_us=latest)
    within = f"since >= {start}" + ("" if end is None else f" AND since < {end}")
    chosen = ", ".join(f"{aggregate} AS c{i}" for i, aggregate in enumerate(aggregates))
    sql = (
        f"SELECT unit, {chosen} FROM (SELECT u.rowid AS unit, f.*, f.at_us - u.at_us AS since FROM ({facts}) f"
        f" JOIN {UNITS} u ON f.unit_id = u.unit_id) WHERE {within} GROUP BY unit"
    )
    try:
        table = connection.sql(sql, params=parameters.values).to_arrow_table()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    unit = table.column("unit").to_numpy()
    for i, position in enumerate(positions):
        values[position, unit] = table.column(f"c{i}").to_numpy()


def _reach(spans: Sequence[Span]) -> tuple[int, int | None]:
    ends = [span.end for span in spans]
    closed = [end for end in ends if end is not None]
    return min(span.start for span in spans), None if len(closed) < len(ends) else max(closed)
