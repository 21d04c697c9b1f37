"""The words of compiled statements: names, literals, and what every dialect says in its own way.

User text is only ever an argument of `name` and `text_literal`; the generator of sqlglot quotes both for its dialect.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlglot import exp

from warehouse.engines.contract import Kind

type Dialect = Literal["duckdb", "postgres", "spark"]
type E = exp.Expr
type Statement = exp.Select | exp.Union

BIGINT, DOUBLE, TEXT = exp.DType.BIGINT, exp.DType.DOUBLE, exp.DType.VARCHAR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = r"^ *[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)? *$"
_WHOLE_AS_FLOAT = r"^-?[0-9]+[.]0$"
_LARGEST_WHOLE = float(2**63)


def name(text: str) -> exp.Identifier:
    """A name as it is stored, quoted. Raises ValueError for the character NUL, which no engine can quote."""
    if "\x00" in text:
        raise ValueError("a name cannot contain the character NUL")
    return exp.Identifier(this=text, quoted=True)


def stored(column: str, table: str = "t") -> exp.Column:
    """A column of a source."""
    return exp.Column(this=name(column), table=exp.Identifier(this=table, quoted=False))


def col(column: str, table: str | None = None) -> exp.Column:
    """A column that the statement itself named."""
    of = None if table is None else exp.Identifier(this=table, quoted=False)
    return exp.Column(this=exp.Identifier(this=column, quoted=False), table=of)


def text_literal(text: str) -> exp.Literal:
    if "\x00" in text:
        raise ValueError("a text cannot contain the character NUL")
    return exp.Literal.string(text)


def whole(value: int) -> E:
    literal = exp.Literal.number(str(abs(value)))
    return exp.Neg(this=literal) if value < 0 else literal


def real(value: float) -> E:
    """A number with all its digits, as a double. Finite."""
    literal = exp.Literal.number(repr(abs(value)))
    return cast(exp.Neg(this=literal) if value < 0 else literal, DOUBLE)


def cast(what: E, to: exp.DType) -> exp.Cast:
    return exp.Cast(this=what, to=exp.DataType(this=to))


def named(what: E, alias: str) -> exp.Alias:
    return exp.Alias(this=what, alias=exp.Identifier(this=alias, quoted=False))


def every(conditions: Iterable[E]) -> E:
    """All of them; TRUE without any."""
    found: E | None = None
    for one in conditions:
        found = one if found is None else exp.And(this=found, expression=one)
    return exp.true() if found is None else found


def some(conditions: Iterable[E]) -> E:
    """Any of them; FALSE without any."""
    found: E | None = None
    for one in conditions:
        found = one if found is None else exp.Or(this=found, expression=one)
    return exp.false() if found is None else exp.Paren(this=found)


def case(branches: Sequence[tuple[E, E]], otherwise: E | None = None) -> E:
    if not branches:
        return exp.Null() if otherwise is None else otherwise
    return exp.Case(ifs=[exp.If(this=when, true=then) for when, then in branches], default=otherwise)


def flag(condition: E) -> E:
    """1 or 0; 0 where the condition is unknown."""
    return case([(condition, whole(1))], whole(0))


def coalesce(what: E, otherwise: E) -> E:
    return exp.Coalesce(this=what, expressions=[otherwise])


def within(what: E, limit: float) -> E:
    """Whether a number is finite and at most `limit` in size. NaN is larger than everything in all engines."""
    return exp.Between(this=what, low=real(-limit), high=real(limit))


def minus(a: E, b: E) -> E:
    return exp.Sub(this=a, expression=b)


def is_null(what: E) -> E:
    return exp.Is(this=what, expression=exp.Null())


def known(what: E) -> E:
    return exp.Not(this=is_null(what))


def array(values: Sequence[E]) -> E:
    """An array of doubles."""
    first, *others = values or [whole(0)]
    return exp.Array(expressions=[cast(first, DOUBLE), *others])


def count_rows() -> E:
    return exp.Count(this=exp.Star())


def select(
    chosen: Sequence[E],
    source: E,
    *,
    joins: Sequence[exp.Join] = (),
    where: Sequence[E] = (),
    group: Sequence[E] = (),
    having: E | None = None,
) -> exp.Select:
    """A SELECT of given parts; nothing is copied."""
    found = exp.Select(expressions=list(chosen))
    found.set("from_", exp.From(this=source))
    if joins:
        found.set("joins", list(joins))
    if where:
        found.set("where", exp.Where(this=every(where)))
    if group:
        found.set("group", exp.Group(expressions=list(group)))
    if having is not None:
        found.set("having", exp.Having(this=having))
    return found


def table(of: str, alias: str | None = None) -> exp.Table:
    """A named part of the statement."""
    return exp.Table(
        this=exp.Identifier(this=of, quoted=False),
        alias=None if alias is None else exp.TableAlias(this=exp.Identifier(this=alias, quoted=False)),
    )


def subquery(what: exp.Select, alias: str) -> exp.Subquery:
    return exp.Subquery(this=what, alias=exp.TableAlias(this=exp.Identifier(this=alias, quoted=False)))


def join(what: E, on: E | None, side: Literal["", "LEFT", "CROSS"] = "") -> exp.Join:
    if side == "CROSS":
        return exp.Join(this=what, kind="CROSS")
    return exp.Join(this=what, on=on, side=side) if side else exp.Join(this=what, on=on)


def over(function: E, partition: Sequence[E] = (), order: Sequence[E] = (), spec: E | None = None) -> E:
    """A window function."""
    ordered = exp.Order(expressions=list(order)) if order else None
    return exp.Window(this=function, partition_by=list(partition), order=ordered, spec=spec, over="OVER")


def grouping_sets(sets: Sequence[Sequence[E]]) -> list[E]:
    """What follows GROUP BY."""
    return [exp.GroupingSets(expressions=[exp.Tuple(expressions=list(one)) for one in sets])]


def function(called: str, *arguments: E) -> E:
    return exp.Anonymous(this=called, expressions=list(arguments))


@dataclass(frozen=True, slots=True)
class Words:
    """What a dialect says in its own way."""

    dialect: Dialect

    def text(self, what: E) -> E:
        """As text that compares, sorts and joins by its bytes, whatever the collation of the column."""
        as_text = cast(what, TEXT)
        return self.by_bytes(as_text)

    def by_bytes(self, text: E) -> E:
        if self.dialect == "postgres":
            return exp.Collate(this=text, expression=name("C"))
        return text

    def micros(self, time: E, kind: Kind) -> E:
        """Microseconds since 1970 of a moment; times without a zone are UTC."""
        if self.dialect == "duckdb":
            return function("EPOCH_US", self.moment_of(time, kind))
        if self.dialect == "spark":
            return function("UNIX_MICROS", cast(time, exp.DType.TIMESTAMPTZ))
        seconds = exp.Extract(this=exp.Var(this="EPOCH"), expression=self.moment_of(time, kind))
        return cast(exp.Mul(this=seconds, expression=whole(1_000_000)), BIGINT)

    def moment_of(self, time: E, kind: Kind) -> E:
        """The stored time; cast only where it is not one with a zone, so that indexes and statistics serve."""
        if kind == "timestamptz" or (kind == "timestamp" and self.dialect == "postgres"):
            return time
        if kind == "date" and self.dialect == "postgres":
            return cast(time, exp.DType.TIMESTAMP)
        return cast(time, exp.DType.TIMESTAMPTZ)

    def moment(self, us: int, kind: Kind) -> E:
        """A constant to compare `moment_of` a column of this kind with."""
        at = _EPOCH + timedelta(microseconds=us)
        zoneless = self.dialect == "postgres" and kind in ("timestamp", "date")
        literal = text_literal(at.strftime("%Y-%m-%d %H:%M:%S.%f") + ("" if zoneless else "+00:00"))
        return cast(literal, exp.DType.TIMESTAMP if zoneless else exp.DType.TIMESTAMPTZ)

    def day(self, us: int) -> E:
        """The UTC day of a moment."""
        at = _EPOCH + timedelta(microseconds=us)
        return cast(text_literal(at.strftime("%Y-%m-%d")), exp.DType.DATE)

    def bucket(self, text: E, of: int) -> E:
        """The top 32 bits of the MD5 of a text, modulo `of`: the same in every engine."""
        # DuckDB also has MD5_NUMBER, whose bytes are in the order of the machine.
        digits = function("SUBSTR", function("MD5", text), whole(1), whole(8))
        if self.dialect == "duckdb":
            bits: E = cast(exp.Paren(this=exp.DPipe(this=text_literal("0x"), expression=digits)), BIGINT)
        elif self.dialect == "spark":
            bits = cast(function("CONV", digits, whole(16), whole(10)), BIGINT)
        else:
            bit_string = exp.Cast(this=function("CONCAT", text_literal("x"), digits), to=exp.DataType.build("BIT(32)"))
            bits = cast(bit_string, BIGINT)
        return exp.Mod(this=bits, expression=whole(of))

    def hashed(self, values: Sequence[tuple[E, Kind]]) -> E:
        """A whole number that other values hardly share, the same for the same ones as long as the engine is."""
        if self.dialect != "postgres":
            return function("XXHASH64" if self.dialect == "spark" else "HASH", *(what for what, _ in values))
        # Its functions hash one value, with what was hashed before as a seed; of null they make null.
        found = whole(0)
        for what, kind in values:
            if kind == "number":
                found = function("HASHFLOAT8EXTENDED", coalesce(cast(what, DOUBLE), real(-sys.float_info.max)), found)
            else:
                text = exp.Paren(this=coalesce(cast(what, TEXT), text_literal("\x01")))
                found = function("HASHTEXTEXTENDED", self.by_bytes(text), found)
        return found

    def number(self, what: E, kind: Kind) -> E:
        """A stored value as a double; text that is no number fails the query."""
        if kind == "boolean":
            return cast(case([(what, whole(1)), (exp.Not(this=what.copy()), whole(0))]), DOUBLE)
        return cast(what, DOUBLE)

    def number_or_null(self, what: E, kind: Kind) -> E:
        """A stored value as a double, null if it is none."""
        if kind != "text":
            return self.number(what, kind)
        if self.dialect != "duckdb":
            looks_like_one = exp.RegexpLike(this=what, expression=text_literal(_NUMBER))
            return case([(looks_like_one, cast(what.copy(), DOUBLE))])
        return exp.TryCast(this=what, to=exp.DataType(this=DOUBLE))

    def plain_text(self, what: E, kind: Kind) -> E:
        """A stored value as text, whole numbers without `.0`: a number that shares its column with text is text."""
        if kind == "number":
            return self.by_bytes(_number_as_text(what))
        text = cast(what, TEXT)
        length = exp.Sub(this=exp.Length(this=cast(what.copy(), TEXT)), expression=whole(2))
        short = function("SUBSTR", cast(what.copy(), TEXT), whole(1), length)
        decimal = exp.RegexpLike(this=cast(what.copy(), TEXT), expression=text_literal(_WHOLE_AS_FLOAT))
        return self.by_bytes(case([(decimal, short)], text))

    def unit(self, what: E, kind: Kind) -> E:
        """Whose a row is, as text: 13085 whatever type of number holds it, text as it is."""
        return self.plain_text(what, kind) if kind == "number" else self.text(what)

    def with_parts(self, parts: Sequence[tuple[str, exp.Select]], last: Statement) -> Statement:
        """WITH part AS (...), ... last. Parts that are read several times are computed once where one can say so."""
        often = None if self.dialect == "spark" else True
        ctes = [
            exp.CTE(this=what, alias=exp.TableAlias(this=exp.Identifier(this=part, quoted=False)), materialized=often)
            for part, what in parts
        ]
        last.set("with_", exp.With(expressions=ctes))
        return last


def _number_as_text(what: E) -> E:
    """Engines write numbers in their own ways (13085.0, 13085, 1.3085E4, NaN, nan): this is `warehouse.ids.plain_text`.

    Whether one is whole is asked of it as it is stored: a decimal has more digits than a double.
    """
    size = exp.Abs(this=cast(what.copy(), DOUBLE))
    is_whole = every(
        [
            exp.LT(this=size, expression=real(_LARGEST_WHOLE)),
            exp.EQ(this=what.copy(), expression=exp.Floor(this=what.copy())),
        ]
    )
    spelled = [
        (exp.EQ(this=cast(what.copy(), DOUBLE), expression=cast(text_literal(written), DOUBLE)), text_literal(text))
        for written, text in (("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf"))
    ]
    without_zeros = function("REGEXP_REPLACE", cast(what, TEXT), text_literal("[.]0+$"), text_literal(""))
    return case([(is_whole, cast(cast(what.copy(), BIGINT), TEXT)), *spelled], without_zeros)
