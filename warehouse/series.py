"""Company-wide weekly totals of a North Star's columns: every unit counts, exposed or not, and windows do not apply."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np

from experiments.columns import Column, layout
from experiments.definitions import FactSourceSpec
from experiments.plan import NorthStarPlan
from stats.moments import Floats
from warehouse.answers import INVALID_ANSWERS
from warehouse.data_slice import DataSlice
from warehouse.engine import MICROSECONDS_A_DAY, Parameters, connect, epoch_us, identifier
from warehouse.facts import measure_of, takes_numbers
from warehouse.sources import FactRelation, open_source, predicate, unreadable
from warehouse.values import NON_FINITE

A_DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, eq=False)
class WeeklySeries:
    """`totals` (weeks, columns). `weeks` are the Mondays, 00:00 UTC, at which the weeks begin, ascending without gaps.

    `columns` are the names of `experiments.columns.layout`, outcomes only. An indicator's total is how many units had
    a value above 0 in the week, any other column's the sum over units of the week's aggregate; of a survey that is all
    scores and all answers. Caps do not apply: a company's total is what it is. Quantile metrics have no columns.
    Weeks before the first fact are left out: nobody counted then, which is not zero. `complete` is false for a week
    that had not ended at `data_as_of`, and for the first week when its first fact came more than a day after it began.
    `invalid` maps columns with NaN or infinite facts, or answers off their scale, whose totals are nan, to a reason.
    """

    weeks: tuple[datetime, ...]
    columns: tuple[str, ...]
    totals: Floats
    complete: tuple[bool, ...]
    invalid: Mapping[str, str] = field(default_factory=dict)


def extract_series(
    plan: NorthStarPlan,
    data: DataSlice,
    *,
    threads: int = 2,
    memory_limit: str | None = None,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> WeeklySeries:
    """The last `plan.weeks` ISO weeks with facts before or in them; the last is the week that `data_as_of` lies in.

    Raises `SourceUnreadable`.
    """
    specs = layout([metric.spec for metric in plan.metrics])
    columns = [column for column in specs.columns if column.period == "outcome"]
    last = week_of(data.data_as_of - timedelta(microseconds=1))
    weeks = tuple(last - WEEK * i for i in reversed(range(plan.weeks)))
    totals: Floats = np.zeros((len(weeks), len(columns)))
    invalid: dict[int, str] = {}
    sources = {source.key: source for source in plan.fact_sources}
    keys = list(dict.fromkeys(column.measure.fact_source for column in columns if column.measure))
    first_us: list[int] = []
    with connect(threads=threads, memory_limit=memory_limit) as connection:
        for done, key in enumerate(keys):
            progress("reading facts", done / len(keys))
            places = [i for i, column in enumerate(columns) if column.measure and column.measure.fact_source == key]
            chosen = [columns[i] for i in places]
            _add_totals(connection, sources[key], chosen, places, data, weeks, totals, invalid)
            first_us += _first_fact(connection, sources[key], data)
    progress("reading facts", 1.0)
    totals[:, list(invalid)] = np.nan
    began = datetime.fromtimestamp(min(first_us) / 1e6, UTC) if first_us else None
    counted = [i for i, week in enumerate(weeks) if began is not None and week + WEEK > began]
    return WeeklySeries(
        weeks=tuple(weeks[i] for i in counted),
        columns=tuple(column.name for column in columns),
        totals=totals[counted],
        complete=tuple(
            began is not None and weeks[i] + WEEK <= data.data_as_of and weeks[i] + A_DAY > began for i in counted
        ),
        invalid={columns[i].name: reason for i, reason in sorted(invalid.items())},
    )


def week_of(at: datetime) -> datetime:
    """The Monday 00:00 UTC on or before a time."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def _add_totals(
    connection: duckdb.DuckDBPyConnection,
    spec: FactSourceSpec,
    columns: Sequence[Column],
    places: Sequence[int],
    data: DataSlice,
    weeks: Sequence[datetime],
    totals: Floats,
    invalid: dict[int, str],
) -> None:
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    if source is None:
        return
    start, unit = epoch_us(weeks[0]), identifier(source.unit)
    facts = (
        f"FROM {source.relation} WHERE {unit} IS NOT NULL AND {source.time_test('>=', parameters.add(start))}"
        f" AND {source.time_test('<', parameters.add(epoch_us(data.data_as_of)))}"
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
        week = f"({source.time_us} - {start}) // {7 * MICROSECONDS_A_DAY}"
        per_unit = f"SELECT {unit} AS unit_id, {week} AS week, {inner} {facts} GROUP BY 1, 2"
        sql = f"SELECT week, {outer} FROM ({per_unit}) GROUP BY week"
        table = connection.sql(sql, params=parameters.values).fetchnumpy()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    found = np.asarray(table["week"])
    for i, place in enumerate(places):
        total = np.asarray(table[f"t{i}"])
        if np.asarray(table[f"b{i}"]).any() or not np.isfinite(total).all():
            invalid[place] = NON_FINITE
        elif np.asarray(table[f"o{i}"]).any():
            invalid[place] = INVALID_ANSWERS
        totals[found, place] = total


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
    """A week's total over units: of the values, or of the units that have any."""
    if column.content in ("indicator", "responded"):
        return f"count(CASE WHEN {name} > 0 THEN 1 END)::DOUBLE"
    return f"coalesce(sum({name}), 0)::DOUBLE"


def _first_fact(connection: duckdb.DuckDBPyConnection, spec: FactSourceSpec, data: DataSlice) -> list[int]:
    """When the source's first fact happened, in microseconds; empty without facts."""
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    if source is None:
        return []
    sql = (
        f"SELECT min({source.time_us}) FROM {source.relation} WHERE {identifier(source.unit)} IS NOT NULL"
        f" AND {source.time_test('<', parameters.add(epoch_us(data.data_as_of)))}"
    )
    try:
        row = connection.execute(sql, parameters.values).fetchone()
    except duckdb.Error as error:
        raise unreadable(spec.key, error) from error
    return [] if row is None or row[0] is None else [int(row[0])]


def _aggregate(source: FactRelation, column: Column, scale: float, parameters: Parameters) -> str:
    """A unit's value in a week, times `scale` where it is made of numbers."""
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
