"""What facts say in their order, as parts of a statement: steps of a funnel, and returns after a start."""

from collections.abc import Callable

from sqlglot import exp

from experiments.columns import Column
from warehouse.compile.asked import delayed
from warehouse.compile.people import Part
from warehouse.compile.words import (
    E,
    case,
    col,
    every,
    join,
    known,
    named,
    over,
    select,
    subquery,
    table,
    whole,
)
from warehouse.engine import days_us


def sequence(
    column: Column, part: str, facts_of: Callable[[Column], str | None], condition: Callable[[Column], E]
) -> list[Part]:
    """The parts of a column; the last one, `part`, has unit_id and raw = 1 for who went the whole way.

    Empty where a source has no facts at all, so that nobody did.
    """
    sources = [facts_of(read) for read in column.reads]
    if any(source is None for source in sources):
        return []
    names = [source for source in sources if source is not None]
    if column.content == "returned":
        return _returned(column, part, names, condition)
    return _steps(column, part, names, condition)


def _done(source: E) -> exp.Select:
    return select([col("unit_id"), named(exp.Max(this=whole(1)), "raw")], source, group=[col("unit_id")])


def _returned(column: Column, part: str, names: list[str], condition: Callable[[Column], E]) -> list[Part]:
    start, after = column.reads
    low, high = delayed(column)
    first = select(
        [col("unit_id"), named(exp.Min(this=col("since")), "started")],
        table(names[0]),
        where=[condition(start)],
        group=[col("unit_id")],
    )
    later = select([col("unit_id"), col("since")], table(names[1]), where=[condition(after)])
    gap = exp.Sub(this=col("since", "f"), expression=col("started", "b"))
    inside = every(
        [
            exp.EQ(this=col("unit_id", "f"), expression=col("unit_id", "b")),
            exp.GTE(this=gap.copy(), expression=whole(low)),
            exp.LT(this=gap, expression=whole(high)),
        ]
    )
    back = select([col("unit_id", "f")], subquery(later, "f"), joins=[join(table(f"{part}_start", "b"), inside)])
    return [(f"{part}_start", first), (part, _done(subquery(back, "r")))]


def _steps(column: Column, part: str, names: list[str], condition: Callable[[Column], E]) -> list[Part]:
    """Whose facts end a whole sequence: every fact looks at the latest earlier one that ends a sequence so far.

    Later it has no more time than that, and what came before it does not matter any more.
    """
    moment = "before" if column.period == "pre" else "since"
    reads = column.reads

    def happened(step: int, kind: int) -> exp.Select:
        chosen = [col("unit_id"), named(col(moment), "moment"), named(whole(kind), "kind")]
        return select(chosen, table(names[step]), where=[condition(reads[step])])

    parts: list[Part] = [(f"{part}_0", happened(0, 0))]
    for step in range(1, len(reads)):
        reached = select([col("unit_id"), col("moment"), col("kind")], table(f"{part}_{step - 1}"))
        both = exp.Union(this=reached, expression=happened(step, 1), distinct=False)
        # Of facts at the same moment those that look come first, so that they see only what is earlier.
        order = [
            exp.Ordered(this=col("moment"), desc=False, nulls_first=False),
            exp.Ordered(this=col("kind"), desc=True, nulls_first=False),
        ]
        ahead = exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW", end_side=None)
        before = case([(exp.EQ(this=col("kind"), expression=whole(0)), col("moment"))])
        latest = over(exp.Max(this=before), [col("unit_id")], order, ahead)
        looking = select(
            [col("unit_id"), col("moment"), col("kind"), named(latest, "latest")],
            exp.Subquery(this=both, alias=exp.TableAlias(this=exp.Identifier(this="o", quoted=False))),
        )
        conditions: list[E] = [exp.EQ(this=col("kind"), expression=whole(1)), known(col("latest"))]
        within_days = column.steps[step].within_days
        if within_days is not None:
            gap = exp.Sub(this=col("moment"), expression=col("latest"))
            conditions.append(exp.LTE(this=gap, expression=whole(days_us(within_days))))
        chosen = [col("unit_id"), col("moment"), named(whole(0), "kind")]
        parts.append((f"{part}_{step}", select(chosen, subquery(looking, "l"), where=conditions)))
    return [*parts, (part, _done(table(f"{part}_{len(reads) - 1}")))]
