"""Facts of analysed units: each fact source is read, filtered and joined to the exposures once, by the engine.

The engine returns, per fact, whose it is, when it was relative to the exposure, and the inputs that the plan's measures
need; windows are then applied to these arrays. That beats a GROUP BY with dozens of conditional aggregates (two thirds
of the time on 3 M facts of 1 M units), and looks at open-ended metrics need no further query.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
from numpy.typing import NDArray

from experiments.columns import Column
from experiments.definitions import FactSourceSpec, Filter, Measure
from stats.moments import Bools, Floats, Ints
from warehouse.aggregates import aggregate
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, days_us, identifier
from warehouse.sources import FactRelation, open_source, predicate, unreadable
from warehouse.units import UNITS


@dataclass(frozen=True, slots=True)
class Span:
    """Microseconds relative to exposure: facts with `start` <= time since exposure < `end` (None: until the look)."""

    start: int
    end: int | None


def measure_of(column: Column) -> Measure:
    """What a column that reads facts measures."""
    assert column.measure is not None
    return column.measure


def span_of(column: Column) -> Span:
    """The half-open period in which a column's facts lie."""
    if column.period == "pre":
        return Span(-days_us(column.pre_period_days), 0)
    start = days_us(column.delay_days)
    return Span(start, None if column.window_days is None else start + days_us(column.window_days))


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The facts of one window that pass the filters of a measure: which they are, and whose."""

    facts: Ints
    position: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """The facts of one source: `position` (facts,) of the unit, `since_us` (facts,) exposure, and named inputs."""

    position: NDArray[np.int32]
    since_us: Ints
    inputs: Mapping[str, NDArray[np.generic]]
    names: Mapping[str, str]
    most: int
    _closed: dict[str, Selection] = field(default_factory=dict)

    def measure(self, column: Column, exposed_us: Ints, look_us: int, out: Floats) -> None:
        """Fill `out` (units,) with a column's values at a look, before the indicator; see `aggregates.aggregate`."""
        selection = self._select(column, exposed_us, look_us)
        aggregate(
            measure_of(column).aggregation,
            selection.position,
            out,
            number=lambda: self.inputs[self.names[_number_key(column)]][selection.facts].astype(np.float64, copy=False),
            at_us=lambda: self.since_us[selection.facts] + exposed_us[selection.position],
            most=self.most,
        )

    def _select(self, column: Column, exposed_us: Ints, look_us: int) -> Selection:
        span, filters = span_of(column), [_filter_key(item) for item in measure_of(column).filters]
        key = f"{span} {sorted(filters)}"
        if key in self._closed:
            return self._closed[key]
        chosen: Bools = self.since_us >= span.start
        if span.end is None:
            chosen &= self.since_us + exposed_us[self.position] < look_us
        else:
            chosen &= self.since_us < span.end
        for name in filters:
            chosen &= self.inputs[self.names[name]].astype(np.bool_)
        facts = np.flatnonzero(chosen)
        selection = Selection(facts, self.position[facts])
        if span.end is not None:
            self._closed[key] = selection
        return selection


def read_facts(
    connection: duckdb.DuckDBPyConnection,
    spec: FactSourceSpec,
    columns: Sequence[Column],
    data: DataSlice,
    *,
    position: Ints,
    exposed_us: tuple[int, int],
    look_us: int,
) -> Facts | None:
    """All facts that `columns` (of this source) can need, up to the last look; None when there are none to read.

    `position` (units,) maps the rowid of the table `UNITS` to the unit's place; `exposed_us` bounds the exposures.
    """
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    if source is None or not len(position):
        return None
    inputs, names = _inputs(source, columns, parameters)
    spans = [span_of(column) for column in columns]
    closed = [span.end for span in spans if span.end is not None]
    start = min(span.start for span in spans)
    end = max(closed) if len(closed) == len(spans) else None
    latest = look_us if end is None else min(look_us, exposed_us[1] + end)
    chosen = "".join(f", {expression} AS {name}" for expression, name in inputs.items())
    unit = identifier(source.unit)
    facts = (
        f"SELECT CAST({unit} AS VARCHAR) AS unit_id, {source.time_us} AS at_us{chosen} FROM {source.relation}"
        f" WHERE {unit} IS NOT NULL AND {source.time_test('<', parameters.add(latest))}"
        f" AND {source.time_test('>=', parameters.add(exposed_us[0] + start))}"
    )
    kept = "".join(f", {name}" for name in inputs.values())
    within = f"since_us >= {start}" + ("" if end is None else f" AND since_us < {end}")
    sql = (
        f"SELECT unit, since_us{kept} FROM (SELECT CAST(u.rowid AS INTEGER) AS unit, f.*, f.at_us - u.at_us AS since_us"
        f" FROM ({facts}) f JOIN {UNITS} u ON f.unit_id = u.unit_id) WHERE {within}"
    )
    try:
        # Not through Arrow: its arrays import pandas, a second of CPU in a fresh child.
        table = connection.sql(sql, params=parameters.values).fetchnumpy()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    place = position.astype(np.int32)[np.asarray(table["unit"])]
    return Facts(
        position=place,
        since_us=np.asarray(table["since_us"]),
        inputs={name: np.asarray(table[name]) for name in inputs.values()},
        names=names,
        most=int(np.bincount(place, minlength=1).max()),
    )


def _inputs(
    source: FactRelation, columns: Sequence[Column], parameters: Parameters
) -> tuple[dict[str, str], dict[str, str]]:
    """SQL expression to name, and what the plan asks for to that name; each expression once."""
    inputs: dict[str, str] = {}
    names: dict[str, str] = {}
    for column in columns:
        for condition in measure_of(column).filters:
            key = _filter_key(condition)
            if key not in names:
                expression = f"coalesce({predicate(source, condition, parameters)}, FALSE)"
                names[key] = inputs.setdefault(expression, f"i{len(inputs)}")
        if measure_of(column).aggregation in ("sum", "max"):
            missing = "0" if measure_of(column).aggregation == "sum" else "'-inf'"
            expression = _number(source, column, missing)
            names[_number_key(column)] = inputs.setdefault(expression, f"i{len(inputs)}")
    return inputs, names


def _number(source: FactRelation, column: Column, missing: str) -> str:
    value = source.number(measure_of(column).column)
    if measure_of(column).aggregation == "max":
        # A real -inf must not look like a null.
        value = f"CASE WHEN isfinite({value}) THEN {value} WHEN {value} IS NOT NULL THEN 'inf'::DOUBLE END"
    return f"coalesce({value}, {missing}::DOUBLE)"


def _filter_key(condition: Filter) -> str:
    return "filter " + condition.model_dump_json()


def _number_key(column: Column) -> str:
    return f"{measure_of(column).aggregation} {measure_of(column).column}"
