"""What facts add up to, exactly: a unit's value in a period and the total over units, as SQL.

Numbers are added as whole ones of the engine's largest type, so that no total depends on the order of the facts.
"""

import math
from collections.abc import Sequence

import duckdb

from experiments.columns import Column
from warehouse.engine import MICROSECONDS_A_DAY, Parameters
from warehouse.facts import measure_of, takes_numbers
from warehouse.sources import FactRelation, predicate


def scales_of(
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
    numbers = [i for i, column in enumerate(columns) if adds_numbers(column)]
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


def adds_numbers(column: Column) -> bool:
    """Whether a total is one of numbers, not of how many facts or units there are."""
    return takes_numbers(column) and column.content not in ("answers", "responded")


def adds_up(column: Column) -> bool:
    """Whether the total over units is the one over facts, so that units need not be told apart."""
    return column.content in ("score", "answers") or (
        column.content == "value" and measure_of(column).aggregation in ("sum", "count")
    )


def total_over_units(column: Column, name: str) -> str:
    """A period's total over units: of the values, or of the units that have any."""
    if column.content in ("indicator", "responded"):
        return f"count(CASE WHEN {name} > 0 THEN 1 END)::DOUBLE"
    return f"coalesce(sum({name}), 0)::DOUBLE"


def unit_value(
    source: FactRelation, column: Column, scale: float, parameters: Parameters, *, among: str = "TRUE"
) -> str:
    """A unit's value in a period, times `scale` where it is made of numbers, from the facts that are `among` these."""
    measure, where = measure_of(column), f"{_where(source, column, parameters)} AND {among}"
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
        case "last":
            latest = f"max(CASE WHEN {known} THEN {{'at': {source.time_us}, 'number': {number}}} END).number"
            return f"CAST(coalesce({latest}, 0) * {parameters.add(scale)} AS HUGEINT)"
        case "count":
            return f"count(CASE WHEN {where} THEN 1 END)"
        case "any":
            return f"coalesce(max(CASE WHEN {where} THEN 1 END), 0)"
        case "distinct_days":
            return f"count(DISTINCT CASE WHEN {where} THEN {source.time_us} // {MICROSECONDS_A_DAY} END)"


def any_not_finite(source: FactRelation, column: Column, parameters: Parameters) -> str:
    """Whether a number of the unit is NaN or infinite."""
    if not adds_numbers(column):
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


def any_off_scale(source: FactRelation, column: Column, parameters: Parameters) -> str:
    """Whether the unit gave an answer that is none of 0, 1, ..., 10."""
    if column.content != "score" or column.scale != "nps":
        return "FALSE"
    answer = source.number(measure_of(column).column)
    off = f"({answer} NOT BETWEEN 0 AND 10 OR {answer} <> round({answer}))"
    return f"coalesce(bool_or({_where(source, column, parameters)} AND {off}), FALSE)"
