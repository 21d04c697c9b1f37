"""Totals of facts by period, and by segment where the facts have one: every unit counts, and windows do not apply."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import duckdb
import numpy as np

from experiments.columns import Column
from experiments.definitions import FactSourceSpec
from experiments.errors import SourceUnreadable
from stats.moments import Bools, Floats
from warehouse.data_slice import DataSlice
from warehouse.engine import MICROSECONDS_A_DAY, Parameters, days_us, epoch_us, identifier
from warehouse.facts import measure_of, takes_numbers
from warehouse.sources import FactRelation, open_source, predicate, unreadable

MAX_SEGMENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Periods:
    """`count` periods of `length`, the first of which starts at `first`; facts at or after `until` do not count."""

    first: datetime
    length: timedelta
    count: int
    until: datetime

    @property
    def starts(self) -> tuple[datetime, ...]:
        """When each begins."""
        return tuple(self.first + self.length * i for i in range(self.count))


@dataclass(frozen=True, slots=True, eq=False)
class PeriodTotals:
    """`totals` (segments, periods, columns) of one source, 0 where a segment had no fact in a period.

    An indicator's total is how many units had a value above 0 in the period, any other column's the sum over units of
    the period's aggregate. `not_finite` and `off_scale`, of the same shape, mark totals that facts are in which are no
    numbers, or no answers on their scale.
    """

    segments: tuple[str, ...]
    totals: Floats
    not_finite: Bools
    off_scale: Bools


@dataclass(frozen=True, slots=True)
class Beginnings:
    """When the first fact of each segment happened, in microseconds; `unplaced` facts name no segment."""

    by_segment: Mapping[str, int]
    unplaced: int

    @property
    def earliest(self) -> int | None:
        """The source's first fact in a segment; None without any."""
        return min(self.by_segment.values(), default=None)


def period_totals(
    connection: duckdb.DuckDBPyConnection,
    spec: FactSourceSpec,
    columns: Sequence[Column],
    data: DataSlice,
    periods: Periods,
    *,
    dimension: str = "",
    buckets: int = 0,
) -> PeriodTotals:
    """The totals of a source's columns. `dimension` is the facts' property that names their segment; facts without it

    count in none. Without a dimension the one segment is the empty text; with `buckets` the segments are so many parts
    of the units by hash, `0`, `1` … as text. Raises `SourceUnreadable`.
    """
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    if source is None:
        return _totals_of({}, columns, periods)
    start, unit = epoch_us(periods.first), identifier(source.unit)
    segment = f"CAST(hash(CAST({unit} AS VARCHAR)) % {buckets} AS VARCHAR)" if buckets else _segment(source, dimension)
    facts = (
        f"FROM {source.relation} WHERE {unit} IS NOT NULL AND {source.time_test('>=', parameters.add(start))}"
        f" AND {source.time_test('<', parameters.add(epoch_us(periods.until)))} AND {segment} IS NOT NULL"
    )
    try:
        scales = _scales(connection, source, columns, facts, parameters)
        inner = ", ".join(
            f"{_aggregate(source, c, scales[i], parameters)} AS c{i}, {_not_finite(source, c, parameters)} AS b{i},"
            f" {_off_scale(source, c, parameters)} AS o{i}"
            for i, c in enumerate(columns)
        )
        outer = ", ".join(
            f"{_total(c, f'c{i}')} / {parameters.add(1.0 if c.content == 'indicator' else scales[i])} AS t{i},"
            f" bool_or(b{i}) AS b{i}, bool_or(o{i}) AS o{i}"
            for i, c in enumerate(columns)
        )
        period = f"({source.time_us} - {start}) // {days_us(periods.length / timedelta(days=1))}"
        whose = "0" if all(map(_adds_up, columns)) else unit
        per_unit = (
            f"SELECT {segment} AS segment, {period} AS period, {whose} AS unit_id, {inner} {facts} GROUP BY 1, 2, 3"
        )
        sql = f"SELECT segment, period, {outer} FROM ({per_unit}) GROUP BY segment, period"
        table = connection.sql(sql, params=parameters.values).fetchnumpy()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    return _totals_of(table, columns, periods)


def beginnings(
    connection: duckdb.DuckDBPyConnection, spec: FactSourceSpec, data: DataSlice, *, dimension: str = ""
) -> Beginnings:
    """When a source's segments began. Raises `SourceUnreadable`, also for more than `MAX_SEGMENTS` of them."""
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    if source is None:
        return Beginnings({}, 0)
    sql = (
        f"SELECT {_segment(source, dimension)} AS segment, min({source.time_us}), count(*) FROM {source.relation}"
        f" WHERE {identifier(source.unit)} IS NOT NULL"
        f" AND {source.time_test('<', parameters.add(epoch_us(data.data_as_of)))}"
        f" GROUP BY 1 ORDER BY 1 NULLS FIRST LIMIT {MAX_SEGMENTS + 2}"
    )
    try:
        rows = connection.execute(sql, parameters.values).fetchall()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    found = {str(segment): int(first) for segment, first, _ in rows if segment is not None}
    if len(found) > MAX_SEGMENTS:
        raise SourceUnreadable(
            f"fact source {spec.key!r}: {dimension!r} has more than {MAX_SEGMENTS} different values",
            remedy="make the series by a property with few values, such as a country or a plan",
            column=dimension,
        )
    return Beginnings(found, sum(int(count) for segment, _, count in rows if segment is None))


def _totals_of(
    table: Mapping[str, np.ndarray[tuple[int], np.dtype[np.generic]]], columns: Sequence[Column], periods: Periods
) -> PeriodTotals:
    """The engine's rows in the shape of `PeriodTotals`."""
    names = [str(name) for name in table["segment"]] if table else []
    segments = tuple(sorted(set(names)))
    place = {name: i for i, name in enumerate(segments)}
    shape = (len(segments), periods.count, len(columns))
    totals: Floats = np.zeros(shape)
    not_finite: Bools = np.zeros(shape, dtype=np.bool_)
    off_scale: Bools = np.zeros(shape, dtype=np.bool_)
    if names:
        where = np.array([place[name] for name in names]), np.asarray(table["period"])
        for i in range(len(columns)):
            total = np.asarray(table[f"t{i}"], dtype=np.float64)
            totals[*where, i] = total
            not_finite[*where, i] = np.asarray(table[f"b{i}"], dtype=np.bool_) | ~np.isfinite(total)
            off_scale[*where, i] = np.asarray(table[f"o{i}"], dtype=np.bool_)
    return PeriodTotals(segments, totals, not_finite, off_scale)


def _segment(source: FactRelation, dimension: str) -> str:
    """A fact's segment as text, null where it has none; a number that shares its column with text is read as text."""
    if not dimension:
        return "''"
    text = f"regexp_replace(CAST({source.column(dimension)} AS VARCHAR), '^(-?[0-9]+)\\.0$', '\\1')"
    return f"nullif({text}, '')"


def _adds_up(column: Column) -> bool:
    """Whether the total over units is the one over facts, so that units need not be told apart."""
    return column.content in ("score", "answers") or (
        column.content == "value" and measure_of(column).aggregation in ("sum", "count")
    )


def _scales(
    connection: duckdb.DuckDBPyConnection,
    source: FactRelation,
    columns: Sequence[Column],
    facts: str,
    parameters: Parameters,
) -> list[float]:
    """By column the power of two that turns its numbers into whole ones of the engine's largest type, HUGEINT.

    Sums of those are exact, so they do not depend on the order in which threads find the facts. All facts together stay
    below 2^120, and the largest number that a filter lets through keeps more digits than it has.
    """
    numbers = [i for i, column in enumerate(columns) if _adds_numbers(column)]
    own = Parameters()
    own.values.update(parameters.values)
    largest = "".join(
        f", max(CASE WHEN {_where(source, columns[i], own)} AND isfinite({number}) THEN abs({number}) END)"
        for i, number in ((i, source.number(measure_of(columns[i]).column)) for i in numbers)
    )
    scales = [1.0] * len(columns)
    if numbers:
        # All rows are fetched: a result that is left unfinished would hold the connection.
        ((count, *most),) = connection.execute(f"SELECT count(*){largest} {facts}", own.values).fetchall()
        for i, number in zip(numbers, most, strict=True):
            if number:
                scales[i] = 2.0 ** min(120 - int(count).bit_length() - math.frexp(number)[1], 1000)
    return scales


def _adds_numbers(column: Column) -> bool:
    """Whether a total is one of numbers, not of how many facts or units there are."""
    return takes_numbers(column) and column.content not in ("answers", "responded")


def _total(column: Column, name: str) -> str:
    """A period's total over units: of the values, or of the units that have any."""
    if column.content in ("indicator", "responded"):
        return f"count(CASE WHEN {name} > 0 THEN 1 END)::DOUBLE"
    return f"coalesce(sum({name}), 0)::DOUBLE"


def _aggregate(source: FactRelation, column: Column, scale: float, parameters: Parameters) -> str:
    """A unit's value in a period, times `scale` where it is made of numbers."""
    measure, where = measure_of(column), _where(source, column, parameters)
    number = source.number(measure.column) if takes_numbers(column) else ""
    known = f"{where} AND isfinite({number})"
    if column.content in ("answers", "responded"):
        return f"count(CASE WHEN {where} THEN {number} END)"
    if column.content == "score" or measure.aggregation == "sum":
        value = _score(number, column) if column.content == "score" else number
        whole = f"CAST(({value}) * {parameters.add(scale)} AS HUGEINT)"
        return f"coalesce(sum(CASE WHEN {known} THEN {whole} END), 0)"
    match measure.aggregation:
        case "max":
            return f"CAST(coalesce(max(CASE WHEN {known} THEN {number} END), 0) * {parameters.add(scale)} AS HUGEINT)"
        case "count":
            return f"count(CASE WHEN {where} THEN 1 END)"
        case "any":
            return f"coalesce(max(CASE WHEN {where} THEN 1 END), 0)"
        case "distinct_days":
            return f"count(DISTINCT CASE WHEN {where} THEN {source.time_us} // {MICROSECONDS_A_DAY} END)"


def _not_finite(source: FactRelation, column: Column, parameters: Parameters) -> str:
    """Whether a number of the unit is NaN or infinite."""
    if not _adds_numbers(column):
        return "FALSE"
    number = source.number(measure_of(column).column)
    return f"coalesce(bool_or({_where(source, column, parameters)} AND NOT isfinite({number})), FALSE)"


def _where(source: FactRelation, column: Column, parameters: Parameters) -> str:
    tests = (predicate(source, item, parameters) for item in measure_of(column).filters)
    return " AND ".join(["TRUE", *tests])


def _score(answer: str, column: Column) -> str:
    """A finite answer on its scale, as `warehouse.answers` has it."""
    if column.scale != "nps":
        return answer
    return f"CASE WHEN {answer} >= 9 THEN 1.0::DOUBLE WHEN {answer} <= 6 THEN -1.0::DOUBLE ELSE 0.0::DOUBLE END"


def _off_scale(source: FactRelation, column: Column, parameters: Parameters) -> str:
    """Whether the unit gave an answer that is none of 0, 1, ..., 10."""
    if column.content != "score" or column.scale != "nps":
        return "FALSE"
    answer = source.number(measure_of(column).column)
    off = f"({answer} NOT BETWEEN 0 AND 10 OR {answer} <> round({answer}))"
    return f"coalesce(bool_or({_where(source, column, parameters)} AND {off}), FALSE)"
