"""What everybody's facts add up to by period, as statements: who was exposed to what does not matter.

The meaning is that of `warehouse.exact_totals`: a unit has a value in each period, and these are added up, or units
that have any are counted. Here numbers are added as doubles, in the engine's own order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from experiments.columns import Column
from experiments.definitions import FactSourceSpec
from warehouse.compile import people
from warehouse.compile.facts import KNOWN, MISSING, NOT_FINITE, Inputs, facts_of_source, inputs_of
from warehouse.compile.question import Facts, Question
from warehouse.compile.relations import Rows
from warehouse.compile.values import distinct_days, no_answer, nps_score
from warehouse.compile.words import (
    BIGINT,
    DOUBLE,
    TEXT,
    E,
    Statement,
    Words,
    case,
    cast,
    coalesce,
    col,
    count_rows,
    every,
    flag,
    join,
    known,
    minus,
    named,
    over,
    select,
    stored,
    subquery,
    table,
    text_literal,
    whole,
)
from warehouse.exact_totals import adds_numbers, adds_up
from warehouse.facts import measure_of


@dataclass(frozen=True, slots=True, eq=False)
class Everybody:
    """The facts of everybody: `rows` of each source in an engine, None where there are none."""

    words: Words
    rows: Mapping[str, Rows | None]
    sources: Mapping[str, FactSourceSpec]
    as_of_us: int

    def spec(self, key: str) -> FactSourceSpec:
        return self.sources[key]


@dataclass(frozen=True, slots=True)
class Span:
    """Periods of `length_us` from `start_us` on; facts at `until_us` or later do not count."""

    start_us: int
    until_us: int
    length_us: int


def period_totals(
    facts: Facts, key: str, columns: Sequence[Column], span: Span, *, dimension: str, buckets: int
) -> exp.Select | None:
    """Lines of segment (text), period (when it begins, in microseconds since the first), and for the i-th column its

    total t{i}, b{i}: 1 where a fact is not finite, and o{i}: 1 where an answer is off its scale. None without facts.
    `dimension` and `buckets` are those of `warehouse.period_totals`. Raises `SourceUnreadable`.
    """
    rows = facts.rows[key]
    if rows is None:
        return None
    inputs = inputs_of(facts, rows, columns)
    read = facts_of_source(
        facts, key, (span.start_us, span.until_us), [*inputs.named, ("segment", _segment(facts.words, rows, dimension))]
    )
    segment = cast(facts.words.bucket(col("unit_id", "f"), buckets), TEXT) if buckets else col("segment", "f")
    whose = whole(0) if all(map(adds_up, columns)) else col("unit_id", "f")
    placed = select(
        [
            named(segment, "segment"),
            named(_period(span), "period"),
            named(whose, "who"),
            col("at_us", "f"),
            *(col(name, "f") for name, _ in inputs.named),
        ],
        subquery(read, "f"),
        where=[] if buckets else [known(col("segment", "f"))],
    )
    keys = ["segment", "period", "who"]
    values = _unit_values(inputs, columns, keys, {"c": []})
    per_unit = select([*(col(one) for one in keys), *values.chosen], values.source(placed), group=list(map(col, keys)))
    totals = []
    for i, column in enumerate(columns):
        totals.append(named(_total(column, f"c_{i}"), f"t{i}"))
        totals += [named(cast(exp.Max(this=col(f"{name}_{i}")), BIGINT), f"{name[0]}{i}") for name in ("bad", "off")]
    return select(
        [named(col("segment"), "segment"), named(cast(col("period"), BIGINT), "period"), *totals],
        subquery(per_unit, "u"),
        group=[col("segment"), col("period")],
    )


def reached(question: Question, key: str, columns: Sequence[Column], span: Span, *, buckets: int) -> Statement | None:
    """Lines of bucket, period (as in `period_totals`) and arm (-1: in none): `units` with a fact, those `reached`, and

    for the i-th column t{i}, the total of all of their facts, r{i}, that since their exposure, and b{i}: 1 where a fact
    is not finite or an answer is off its scale. None without facts. Raises `SourceUnreadable`.
    """
    rows = question.rows[key]
    if rows is None:
        return None
    inputs = inputs_of(question, rows, columns)
    read = facts_of_source(question, key, (span.start_us, span.until_us), inputs.named)
    placed = select(
        [
            named(col("unit_id", "f"), "who"),
            named(_period(span), "period"),
            col("at_us", "f"),
            col("arm", "u"),
            named(flag(exp.GTE(this=col("at_us", "f"), expression=col("at_us", "u"))), "since"),
            *(col(name, "f") for name, _ in inputs.named),
        ],
        subquery(read, "f"),
        joins=[join(table("units", "u"), exp.EQ(this=col("unit_id", "f"), expression=col("unit_id", "u")), "LEFT")],
    )
    keys = ["who", "period"]
    since = exp.EQ(this=col("since"), expression=whole(1))
    values = _unit_values(inputs, columns, keys, {"c": [], "r": [since]})
    of_unit = [
        *(col(one) for one in keys),
        named(coalesce(exp.Max(this=col("arm")), whole(-1)), "arm"),
        named(exp.Max(this=col("since")), "seen"),
    ]
    per_unit = select([*of_unit, *values.chosen], values.source(placed), group=[col(key) for key in keys])
    coded = select([exp.Star(), named(question.words.bucket(col("who"), buckets), "bucket")], subquery(per_unit, "w"))
    totals = []
    for i, column in enumerate(columns):
        fault = exp.Add(this=col(f"bad_{i}"), expression=col(f"off_{i}"))
        totals += [
            named(_total(column, f"c_{i}"), f"t{i}"),
            named(_total(column, f"r_{i}"), f"r{i}"),
            named(cast(exp.Max(this=fault), BIGINT), f"b{i}"),
        ]
    group = [col("bucket"), col("period"), col("arm")]
    lines = select(
        [
            *(named(cast(one.copy(), BIGINT), one.name) for one in group),
            named(cast(count_rows(), BIGINT), "units"),
            named(cast(exp.Sum(this=col("seen")), BIGINT), "reached"),
            *totals,
        ],
        subquery(coded, "u"),
        group=group,
    )
    return question.words.with_parts(people.parts(question), lines)


def beginnings(facts: Facts, key: str, until_us: int, *, dimension: str, most: int) -> exp.Select | None:
    """At most so many lines of segment (null: none), its first fact as `first_us`, and how many facts it has as `n`."""
    rows = facts.rows[key]
    if rows is None:
        return None
    read = facts_of_source(facts, key, (None, until_us), [("segment", _segment(facts.words, rows, dimension))])
    found = select(
        [
            named(col("segment", "f"), "segment"),
            named(cast(exp.Min(this=col("at_us", "f")), BIGINT), "first_us"),
            named(cast(count_rows(), BIGINT), "n"),
        ],
        subquery(read, "f"),
        group=[col("segment", "f")],
    )
    found.set("limit", exp.Limit(expression=exp.Literal.number(most)))
    return found


@dataclass(frozen=True, slots=True)
class _UnitValues:
    """What a unit's values are chosen by, and the window functions that they need below them."""

    chosen: list[E]
    windows: list[E]

    def source(self, rows: exp.Select) -> E:
        if not self.windows:
            return subquery(rows, "p")
        return subquery(select([exp.Star(), *self.windows], subquery(rows, "r")), "p")


def _unit_values(
    inputs: Inputs, columns: Sequence[Column], keys: Sequence[str], among: Mapping[str, Sequence[E]]
) -> _UnitValues:
    """Under each prefix its values of the columns, `c_0` ..., of the facts that are `among` those; `bad_i`, `off_i`."""
    found = _UnitValues([], [])
    for i, column in enumerate(columns):
        for prefix, conditions in among.items():
            latest = f"{prefix}_latest_{i}"
            value = _unit_value(inputs, column, [*inputs.passes(column), *(one.copy() for one in conditions)], latest)
            found.chosen.append(named(coalesce(value, whole(0)), f"{prefix}_{i}"))
            if _takes_latest(column):
                counts = every([*_known(inputs, column), *(one.copy() for one in conditions)])
                of_unit = over(exp.Max(this=case([(counts, col("at_us"))])), [col(key) for key in keys])
                found.windows.append(named(of_unit, latest))
        bad, off = _faults(inputs, column)
        found.chosen.extend([named(bad, f"bad_{i}"), named(off, f"off_{i}")])
    return found


def _takes_latest(column: Column) -> bool:
    return column.content != "score" and adds_numbers(column) and measure_of(column).aggregation == "last"


def _known(inputs: Inputs, column: Column) -> list[E]:
    return [*inputs.passes(column), inputs.state(column, KNOWN)]


def _unit_value(inputs: Inputs, column: Column, where: Sequence[E], latest: str) -> E:
    """A unit's value, of the facts `where` that holds; null or 0 without any."""
    counts, aggregation = every(where), measure_of(column).aggregation
    if column.content in ("answers", "responded"):
        return exp.Sum(this=flag(every([counts, inputs.state(column, MISSING, equal=False)])))
    if not adds_numbers(column):
        match aggregation:
            case "count":
                return exp.Sum(this=flag(counts))
            case "any":
                return exp.Max(this=flag(counts))
            case _:
                return distinct_days(counts, "at_us")
    value, has_number = inputs.number(column), every([counts, inputs.state(column, KNOWN)])
    if column.content == "score":
        return exp.Sum(this=case([(has_number, nps_score(value) if column.scale == "nps" else value)]))
    if aggregation == "sum":
        return exp.Sum(this=case([(has_number, value)]))
    if aggregation == "last":
        has_number = every([has_number, exp.EQ(this=col("at_us"), expression=col(latest))])
    return exp.Max(this=case([(has_number, value)]))


def _faults(inputs: Inputs, column: Column) -> tuple[E, E]:
    """1 where a number of the unit is not finite, 1 where an answer is none of 0, 1, ..., 10."""
    if not adds_numbers(column):
        return whole(0), whole(0)
    bad = exp.Max(this=flag(every([*inputs.passes(column), inputs.state(column, NOT_FINITE)])))
    if column.content != "score" or column.scale != "nps":
        return bad, whole(0)
    return bad, exp.Max(this=flag(every([*_known(inputs, column), no_answer(inputs.number(column))])))


def _total(column: Column, name: str) -> E:
    """A period's total over units: of the values, or of the units that have any."""
    if column.content in ("indicator", "responded"):
        return cast(exp.Sum(this=flag(exp.GT(this=col(name), expression=whole(0)))), DOUBLE)
    return cast(exp.Sum(this=col(name)), DOUBLE)


def _segment(words: Words, rows: Rows, dimension: str) -> E:
    """A fact's segment as text, null where it has none."""
    if not dimension:
        return text_literal("")
    column = rows.physical(dimension)
    return exp.Nullif(this=words.plain_text(stored(column), rows.kinds[column]), expression=text_literal(""))


def _period(span: Span) -> E:
    """When a fact's period begins, in microseconds since the first."""
    since = exp.Paren(this=minus(col("at_us", "f"), whole(span.start_us)))
    return minus(since, exp.Paren(this=exp.Mod(this=since.copy(), expression=whole(span.length_us))))
