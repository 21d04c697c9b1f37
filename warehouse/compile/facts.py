"""The facts of a source as a part of a statement: whose, when, and what measures ask of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from experiments.columns import Column
from experiments.definitions import FactSourceSpec, Filter
from warehouse.compile.asked import is_plain
from warehouse.compile.question import Facts
from warehouse.compile.relations import Rows, at_us, in_period, number, passing, present
from warehouse.compile.words import (
    BIGINT,
    TEXT,
    E,
    case,
    cast,
    coalesce,
    col,
    flag,
    is_null,
    join,
    known,
    named,
    select,
    stored,
    subquery,
    table,
    whole,
    within,
)
from warehouse.facts import measure_of, takes_numbers

LARGEST_FACT = 1e290
"""Larger numbers count as infinite: no sum of facts may overflow, which some engines answer with an error."""

KNOWN, MISSING, NOT_FINITE = 0, 1, 2
"""What a number can be."""


def facts_of_source(
    question: Facts,
    key: str,
    period_us: tuple[int | None, int],
    inputs: Sequence[tuple[str, E]],
    filters: Sequence[Filter] = (),
) -> exp.Select:
    """unit_id, at_us and `inputs` (named expressions over `t`) of the facts in [start, end) that pass `filters`.

    Without a start they are all before the end. The row filters of the source hold as well, and its ids are mapped to
    units. Raises `SourceUnreadable`.
    """
    rows, spec, words = question.rows[key], question.spec(key), question.words
    if rows is None:
        nothing = [named(cast(exp.Null(), TEXT), "unit_id"), named(cast(exp.Null(), BIGINT), "at_us")]
        found = exp.Select(expressions=nothing)
        found.set("where", exp.Where(this=exp.false()))
        return found
    conditions: list[E] = [known(stored(rows.unit)), *in_period(words, rows, *period_us)]
    tests = [*spec.filters, *filters]
    if tests:
        conditions.append(passing(words, rows, tests))
    times = [named(at_us(words, rows), "at_us"), *(named(what, alias) for alias, what in inputs)]
    if spec.unit_mapping is None:
        unit = named(words.unit(stored(rows.unit), rows.kinds[rows.unit]), "unit_id")
        return select([unit, *times], rows.from_(), where=conditions)
    same = exp.EQ(this=words.plain_text(stored(rows.unit), rows.kinds[rows.unit]), expression=col("id", "m"))
    mapped = subquery(_mapping(question, spec, _owners()), "m")
    unit = named(col("unit_id", "m"), "unit_id")
    return select([unit, *times], rows.from_(), joins=[join(mapped, same)], where=conditions)


def _owners() -> E:
    """Ids that belong to one unit."""
    return exp.EQ(this=exp.Min(this=col("unit_id", "i")), expression=exp.Max(this=col("unit_id", "i")))


def _mapping(question: Facts, spec: FactSourceSpec, having: E | None) -> exp.Select:
    """id, the smallest unit it belongs to as unit_id, the largest as last_unit_id."""
    assert spec.unit_mapping is not None
    key, words = spec.unit_mapping.fact_source, question.words
    rows, source = question.rows[key], question.spec(key)
    if rows is None:
        found = exp.Select(
            expressions=[named(cast(exp.Null(), TEXT), one) for one in ("id", "unit_id", "last_unit_id")]
        )
        found.set("where", exp.Where(this=exp.false()))
        return found
    other_id = rows.physical(spec.unit_mapping.id_column)
    time = in_period(words, rows, None, question.as_of_us)[0]
    conditions = [known(stored(rows.unit)), known(stored(other_id)), time]
    if source.filters:
        conditions.append(passing(words, rows, source.filters))
    ids = select(
        [
            named(words.plain_text(stored(other_id), rows.kinds[other_id]), "id"),
            named(words.unit(stored(rows.unit), rows.kinds[rows.unit]), "unit_id"),
        ],
        rows.from_(),
        where=conditions,
    )
    return select(
        [
            col("id", "i"),
            named(exp.Min(this=col("unit_id", "i")), "unit_id"),
            named(exp.Max(this=col("unit_id", "i")), "last_unit_id"),
        ],
        subquery(ids, "i"),
        group=[col("id", "i")],
        having=having,
    )


def mapping_losses(question: Facts, spec: FactSourceSpec, period_us: tuple[int, int]) -> exp.Select:
    """One row: how many facts in [start, end) a mapped source has, and how many of them have no unit, or several."""
    rows, words = question.rows[spec.key], question.words
    assert rows is not None
    conditions: list[E] = [known(stored(rows.unit)), *in_period(words, rows, *period_us)]
    if spec.filters:
        conditions.append(passing(words, rows, spec.filters))
    facts = select(
        [named(words.plain_text(stored(rows.unit), rows.kinds[rows.unit]), "id")], rows.from_(), where=conditions
    )
    several = exp.NEQ(this=col("unit_id", "m"), expression=col("last_unit_id", "m"))
    counted = {
        "facts": exp.Count(this=exp.Star()),
        "without_unit": coalesce(exp.Sum(this=flag(is_null(col("id", "m")))), whole(0)),
        "ambiguous": coalesce(exp.Sum(this=flag(several)), whole(0)),
    }
    same = exp.EQ(this=col("id", "f"), expression=col("id", "m"))
    return select(
        [named(cast(what, BIGINT), alias) for alias, what in counted.items()],
        subquery(facts, "f"),
        joins=[join(subquery(_mapping(question, spec, None), "m"), same, "LEFT")],
    )


@dataclass(frozen=True, slots=True)
class Inputs:
    """What columns ask of the facts of a source, as `named` expressions over `t`: 1 where a fact passes a filter

    (`tests`: the name of each), and its numbers with what they are (`numbers`: the place of each).
    """

    named: tuple[tuple[str, E], ...]
    tests: Mapping[str, str]
    numbers: Mapping[str, int]

    def passes(self, column: Column) -> list[E]:
        """That a fact passes the filters of a column."""
        return [
            exp.EQ(this=col(self.tests[item.model_dump_json()]), expression=whole(1))
            for item in measure_of(column).filters
        ]

    def number(self, column: Column) -> exp.Column:
        return col(f"number_{self.numbers[measure_of(column).column]}")

    def state(self, column: Column, state: int, *, equal: bool = True) -> E:
        """Whether a column's number is of a kind."""
        test = exp.EQ if equal else exp.NEQ
        return test(this=col(f"state_{self.numbers[measure_of(column).column]}"), expression=whole(state))


def inputs_of(question: Facts, rows: Rows, columns: Sequence[Column]) -> Inputs:
    """What columns need of the facts of one source."""
    tests: dict[str, str] = {}
    numbers: dict[str, int] = {}
    inputs: list[tuple[str, E]] = []
    for column in columns:
        for condition in measure_of(column).filters:
            named_by = condition.model_dump_json()
            if named_by not in tests:
                tests[named_by] = f"test_{len(tests)}"
                inputs.append((tests[named_by], flag(present(passing(question.words, rows, [condition])))))
        stored_in = measure_of(column).column
        if is_plain(column) and takes_numbers(column) and stored_in not in numbers:
            numbers[stored_in] = len(numbers)
            inputs += _number_inputs(question, rows, stored_in, numbers[stored_in])
    return Inputs(tuple(inputs), tests, numbers)


def _number_inputs(question: Facts, rows: Rows, column: str, place: int) -> list[tuple[str, E]]:
    """The number of a fact (null unless it is finite) as `number_i`, and what it is as `state_i`."""

    def value() -> E:
        return number(question.words, rows, column)

    finite = within(value(), LARGEST_FACT)
    state = case([(is_null(value()), whole(MISSING)), (finite.copy(), whole(KNOWN))], whole(NOT_FINITE))
    return [(f"number_{place}", case([(finite, value())])), (f"state_{place}", state)]


def joined_to_units(facts: exp.Select, kept: Sequence[str], start_us: int, end_us: int | None) -> exp.Select:
    """Facts of units that count, with `since` the unit's exposure and `before`: since its assignment."""
    since = exp.Sub(this=col("at_us", "f"), expression=col("at_us", "u"))
    before = exp.Sub(this=col("at_us", "f"), expression=col("assigned_us", "u"))
    conditions: list[E] = [
        exp.EQ(this=col("inside", "u"), expression=whole(1)),
        exp.GTE(this=before.copy(), expression=whole(start_us)),
    ]
    if end_us is not None:
        conditions.append(exp.LT(this=since.copy(), expression=whole(end_us)))
    return select(
        [
            col("unit_id", "u"),
            col("at_us", "f"),
            named(since, "since"),
            named(before, "before"),
            *(col(one, "f") for one in kept),
        ],
        subquery(facts, "f"),
        joins=[join(table("units", "u"), exp.EQ(this=col("unit_id", "f"), expression=col("unit_id", "u")))],
        where=conditions,
    )
