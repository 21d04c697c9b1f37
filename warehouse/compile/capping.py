"""Caps, and the final values of units, as parts of a statement (METHODS A9)."""

from collections.abc import Sequence

from sqlglot import exp

from warehouse.compile.asked import Asked
from warehouse.compile.people import Part
from warehouse.compile.question import Question
from warehouse.compile.words import (
    DOUBLE,
    E,
    case,
    cast,
    col,
    count_rows,
    every,
    flag,
    join,
    known,
    minus,
    named,
    over,
    real,
    select,
    some,
    subquery,
    table,
    whole,
)

ROUNDING = 1e-9
"""A share of the units that is a whole number but for its rounding is that number (`warehouse.caps.Top`)."""


def withheld(asked: Asked) -> exp.Select:
    """One row: `bad_i`, why a column of numbers cannot be calculated with (0: it can)."""
    worst = [named(exp.Max(this=col(f"refused_{i}")), f"bad_{i}") for i in asked.numeric]
    # An aggregate also without columns of numbers: a constant would be a row per unit.
    return select(worst or [named(exp.Max(this=whole(0)), "nothing")], table("wide"))


def cap_part(question: Question, asked: Asked, i: int) -> Part:
    """One row: the quantile of all units that count, `cap_i`; null where it cannot be had or is not above 0."""
    column, base = question.work.columns[i], asked.base[i]
    assert column.cap is not None and column.cap.quantile is not None
    refused = col(f"refused_{base}") if base in asked.numeric else whole(0)
    ranked = select(
        [
            named(col(f"value_{base}"), "value"),
            named(refused, "refused"),
            named(over(exp.RowNumber(), (), [exp.Ordered(this=col(f"value_{base}"), nulls_first=False)]), "place"),
            named(over(count_rows()), "n"),
        ],
        table("wide"),
    )
    share = exp.Mul(this=real(column.cap.quantile), expression=cast(col("n"), DOUBLE))
    rank = exp.Ceil(this=minus(share, real(ROUNDING)))
    place = exp.Greatest(this=rank, expressions=[whole(1)])
    found = exp.Max(this=case([(exp.EQ(this=col("place"), expression=place), col("value"))]))
    fine = exp.EQ(this=exp.Max(this=col("refused")), expression=whole(0))
    positive = exp.GT(this=found.copy(), expression=whole(0))
    cap = case([(exp.And(this=fine, expression=positive), found)])
    return f"cap_{i}", select([named(cap, f"cap_{i}")], subquery(ranked, "r"))


def final(question: Question, asked: Asked, keys: list[str]) -> exp.Select:
    """One row per unit that counts: `keys`, the columns x_i of the moments, above_i, active, missing_i.

    Columns that cannot be calculated with are 0, and so is an outcome whose cap cannot be had: without its cap it would
    not be what was planned.
    """
    numeric = set(asked.numeric)
    chosen: list[E] = [col(key, "w") for key in keys]
    joins = [join(table("withheld", "h"), None, "CROSS")]
    active: list[E] = [exp.EQ(this=col(f"there_{place}", "w"), expression=whole(1)) for _, place in asked.quantiles]
    for i, column in enumerate(question.work.columns):
        value: E = col(f"value_{i}", "w")
        above: E | None = None
        if i in asked.base:
            joins.append(join(table(f"cap_{i}"), None, "CROSS"))
            capped = exp.Least(this=value, expressions=[col(f"cap_{i}")])
            otherwise: E = cast(whole(0), DOUBLE) if column.period == "outcome" else value.copy()
            above = flag(exp.GT(this=value.copy(), expression=col(f"cap_{i}")))
            value = case([(known(col(f"cap_{i}")), capped)], otherwise)
        elif (fixed := known_cap(question, i)) is not None:
            above = flag(exp.GT(this=value.copy(), expression=real(fixed)))
            value = exp.Least(this=value, expressions=[real(fixed)])
        if i in numeric:
            value = case([(exp.GT(this=col(f"bad_{i}", "h"), expression=whole(0)), cast(whole(0), DOUBLE))], value)
        chosen.append(named(value, f"x_{i}"))
        if column.period == "outcome":
            active.append(exp.NEQ(this=value.copy(), expression=whole(0)))
        if above is not None:
            chosen.append(named(above, f"above_{i}"))
    chosen += [named(col(f"missing_{i}", "w"), f"missing_{i}") for i in asked.counted]
    chosen.append(named(flag(some(active)), "active"))
    return select(chosen, table("wide", "w"), joins=joins)


def known_cap(question: Question, i: int) -> float | None:
    """A cap that is known before the statement runs."""
    cap = question.work.columns[i].cap
    if question.caps is not None:
        return question.caps.values.get(i)
    return None if cap is None else cap.value


def capped(question: Question, asked: Asked) -> list[int]:
    """The columns that a cap may change."""
    return [i for i in range(asked.k) if i in asked.base or known_cap(question, i) is not None]


def centre(k: int, source: str, keys: Sequence[str] = ()) -> exp.Select:
    """One row per cell of `keys`: they, `n` and per column a constant near its mean, `c_i`.

    Of a constant it is exactly that, of whole numbers a whole number. Sums of what is left when it is taken away lose
    no digits, and those of whole numbers are exact.
    """
    chosen: list[E] = [*(col(key) for key in keys), named(count_rows(), "n")]
    for i in range(k):
        x = col(f"x_{i}")
        constant = exp.EQ(this=exp.Min(this=x.copy()), expression=exp.Max(this=x.copy()))
        fractions = exp.Sum(this=flag(exp.NEQ(this=x.copy(), expression=exp.Floor(this=x.copy()))))
        mean = exp.Avg(this=x.copy())
        near = case(
            [
                (constant, exp.Min(this=x.copy())),
                (exp.EQ(this=fractions, expression=whole(0)), exp.Round(this=mean.copy())),
            ],
            mean,
        )
        chosen.append(named(near, f"c_{i}"))
    return select(chosen, table(source), group=[col(key) for key in keys])


def gaps(k: int, source: str, keys: Sequence[str]) -> exp.Select:
    """`keys`, and g_i: how far each value is from the centre of all."""
    chosen = [*(col(key, "x") for key in keys), *_gaps(k)]
    return select(chosen, table(source, "x"), joins=[join(table("centre", "c"), None, "CROSS")])


def gaps_in_cells(k: int, source: str, keys: Sequence[str], cell: Sequence[str], centres: str) -> exp.Select:
    """`keys`, and g_i: how far each value is from the centre of its `cell`; keys that are not of the cell are -1."""
    chosen = [col(key, "x") if key in cell else named(whole(-1), key) for key in keys]
    same = every(exp.EQ(this=col(key, "x"), expression=col(key, "c")) for key in cell)
    return select([*chosen, *_gaps(k)], table(source, "x"), joins=[join(table(centres, "c"), same)])


def _gaps(k: int) -> list[E]:
    return [named(minus(col(f"x_{i}", "x"), col(f"c_{i}", "c")), f"g_{i}") for i in range(k)]
