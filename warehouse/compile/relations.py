"""Where the rows of a plan are, as relations of one engine: facts, exposures, mappings, and the rows that pass filters.

The meaning of a filter is that of `warehouse.sources.predicate`: what is null passes none, text compares as text by its
bytes, numbers as numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sqlglot import exp

from experiments.definitions import FactSourceSpec, Filter, TableSource
from experiments.errors import SourceUnreadable
from warehouse.compile.words import E, Words, cast, coalesce, every, function, name, real, some, stored, text_literal
from warehouse.data_slice import DataSlice
from warehouse.engines.contract import Engine, Kind

TEXT = exp.DType.VARCHAR


@dataclass(frozen=True, slots=True)
class Rows:
    """A relation as it is stored: what follows FROM, the columns of unit and time, and what the others hold.

    `prefix` comes before the name of a property where properties are columns of the store. `day` is the UTC day of the
    time.
    """

    key: str
    relation: exp.Table | exp.Subquery
    unit: str
    time: str
    kinds: Mapping[str, Kind]
    day: str | None = None
    properties: Mapping[str, str] | None = None

    def physical(self, column: str) -> str:
        """The stored name of a column; raises `SourceUnreadable` where there is none."""
        found = column if self.properties is None else self.properties.get(column.lower(), "")
        if found not in self.kinds:
            has = ", ".join(sorted(self.kinds if self.properties is None else self.properties)[:20])
            raise SourceUnreadable(
                f"fact source {self.key!r} has no column {column!r}",
                remedy=f"add the column to the source or correct the definition; the source has {has}",
                column=column,
            )
        return found

    def kind(self, column: str) -> Kind:
        return self.kinds[self.physical(column)]

    def from_(self) -> E:
        """The relation under the name by which `stored` columns call it."""
        found = self.relation.copy()
        found.set("alias", exp.TableAlias(this=exp.Identifier(this="t", quoted=False)))
        return found


@runtime_checkable
class Store(Protocol):
    """An engine that also reads what was ingested, and files: all but `table` sources."""

    def stored_facts(self, spec: FactSourceSpec, data: DataSlice) -> Rows | None:
        """The rows of a source; None for an event that has never been ingested."""
        ...

    def stored_exposures(self, data: DataSlice) -> Rows | None:
        """What was sent to the ingest; None without any."""
        ...


def rows_of(engine: Engine, spec: FactSourceSpec, data: DataSlice) -> Rows | None:
    """A source as a relation of the engine; None for an event that has never been ingested.

    Raises `SourceUnreadable`, also for a source that lives elsewhere.
    """
    if isinstance(spec, TableSource):
        relation = table_named(spec.table)
        kinds = engine.columns(relation)
        found = Rows(spec.key, relation, spec.unit_column, spec.timestamp_column, kinds, spec.day_column)
        for column in (found.unit, found.time, *([found.day] if found.day else [])):
            found.physical(column)
        return found
    if isinstance(engine, Store):
        return engine.stored_facts(spec, data)
    raise SourceUnreadable(
        f"fact source {spec.key!r} is not in the warehouse that the other sources of the plan are in",
        remedy="let all sources and the exposures of a plan be tables of one connection, or none of them",
    )


def table_named(dotted: str) -> exp.Table:
    """`table`, `schema.table` or `catalog.schema.table`, every part quoted."""
    parts = dotted.split(".")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise SourceUnreadable(
            f"{dotted!r} does not name a table", remedy="write table, schema.table or catalog.schema.table"
        )
    called, *above = [name(part) for part in reversed(parts)]
    return exp.Table(this=called, db=above[0] if above else None, catalog=above[1] if len(above) > 1 else None)


def passing(words: Words, rows: Rows, filters: Sequence[Filter]) -> E:
    """Whether a row of `t` passes all filters; null where one is unknown."""
    return every(_test(words, rows, item) for item in filters)


def number(words: Words, rows: Rows, column: str) -> E:
    """A column of `t` as a double."""
    kind = rows.kind(column)
    if kind not in ("number", "boolean", "text"):
        raise SourceUnreadable(
            f"fact source {rows.key!r}: column {column!r} holds no numbers",
            remedy="name a column of numbers, or let the metric count facts",
            column=column,
        )
    return words.number(stored(rows.physical(column)), kind)


def in_period(words: Words, rows: Rows, start_us: int | None, end_us: int) -> list[E]:
    """The conditions on `t` for times in [start, end), None being no start; on the day too, if tables have one."""
    kind = rows.kinds[rows.time]

    def time() -> E:
        return words.moment_of(stored(rows.time), kind)

    found: list[E] = []
    if start_us is not None:
        found.append(exp.GTE(this=time(), expression=words.moment(start_us, kind)))
    found.append(exp.LT(this=time(), expression=words.moment(end_us, kind)))
    if rows.day is not None:
        if start_us is not None:
            found.append(exp.GTE(this=stored(rows.day), expression=words.day(start_us)))
        found.append(exp.LTE(this=stored(rows.day), expression=words.day(end_us)))
    return found


def at_us(words: Words, rows: Rows) -> E:
    """The time of a row of `t` in microseconds since 1970."""
    return words.micros(stored(rows.time), rows.kinds[rows.time])


def _test(words: Words, rows: Rows, condition: Filter) -> E:
    values: Sequence[str | float | bool] = condition.value if isinstance(condition.value, list) else [condition.value]
    if condition.op != "in" and len(values) != 1:
        raise SourceUnreadable(
            f"the filter on {condition.column!r} compares with a list", remedy="use the operator `in` with a list"
        )
    column, kind = rows.physical(condition.column), rows.kind(condition.column)
    tests = [_comparison(words, stored(column), kind, condition.op, value) for value in values]
    return some(tests) if condition.op == "in" else tests[0]


_OPERATORS: Mapping[str, type[exp.Binary]] = {
    "=": exp.EQ,
    "in": exp.EQ,
    "!=": exp.NEQ,
    "<": exp.LT,
    "<=": exp.LTE,
    ">": exp.GT,
    ">=": exp.GTE,
}


def _comparison(words: Words, column: exp.Column, kind: Kind, op: str, value: str | float | bool) -> E:
    test = _OPERATORS[op]
    if isinstance(value, bool):
        text = text_literal("true" if value else "false")
        if kind == "text":
            return test(this=words.by_bytes(function("LOWER", cast(column, TEXT))), expression=text)
        truth: E = column if kind == "boolean" else exp.NEQ(this=column, expression=real(0.0))
        spelled = exp.Case(
            ifs=[
                exp.If(this=truth, true=text_literal("true")),
                exp.If(this=exp.Not(this=exp.Paren(this=truth.copy())), true=text_literal("false")),
            ]
        )
        return test(this=words.by_bytes(spelled), expression=text)
    if isinstance(value, str):
        as_number = _as_number(value) if kind == "number" else None
        if as_number is None:
            return test(this=words.plain_text(column, kind), expression=text_literal(value))
        value = as_number
    if kind not in ("number", "boolean", "text"):
        raise SourceUnreadable(
            f"the filter on {condition_name(column)!r} compares a time with a number",
            remedy="compare it with text, or name another column",
        )
    return test(this=words.number_or_null(column, kind), expression=_real_or_special(value))


def condition_name(column: exp.Column) -> str:
    return str(column.name)


def _real_or_special(value: float) -> E:
    if value == value and abs(value) != float("inf"):
        return real(float(value))
    return cast(
        text_literal({"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(float(value))]),
        exp.DType.DOUBLE,
    )


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def present(what: E) -> E:
    """A condition that counts as false where it is unknown."""
    return coalesce(what, exp.false())
