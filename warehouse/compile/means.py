"""A statement for people: one row per variant, with how many units there are and what they did on average."""

from sqlglot import exp

from warehouse.compile.asked import Asked
from warehouse.compile.question import Question
from warehouse.compile.words import (
    BIGINT,
    E,
    Statement,
    case,
    cast,
    col,
    count_rows,
    every,
    join,
    known,
    name,
    named,
    select,
    table,
    text_literal,
    whole,
)


def means(question: Question, asked: Asked, whole_statement: Statement) -> exp.Select:
    """n, and the mean and the variance over units of every column of the moments; null where a column has no numbers.

    The parts are those of `whole_statement`. With clusters n counts units and means are per unit; there are no
    variances then, because the units of a cluster are not independent.
    """
    work, k = question.work, asked.k
    arm = col("arm", "u")
    arms: list[tuple[E, E]] = [
        (exp.EQ(this=arm.copy(), expression=whole(i)), text_literal(key)) for i, key in enumerate(work.variants)
    ]
    chosen: list[E] = [named(case(arms), "variant")]
    if work.clustered:
        chosen += [named(count_rows(), "clusters"), named(cast(exp.Sum(this=col(f"x_{k}", "u")), BIGINT), "n")]
    else:
        chosen.append(named(count_rows(), "n"))
    for i, column in enumerate(work.columns):
        x = col(f"x_{i}", "u")
        mean: E = exp.Avg(this=x)
        if work.clustered:
            mean = exp.Div(this=exp.Sum(this=x), expression=exp.Sum(this=col(f"x_{k}", "u")))
        chosen.append(_aliased(_where_known(asked, question, i, mean), f"mean of {column.name}"))
        if not work.clustered:
            spread = _where_known(asked, question, i, exp.Variance(this=x.copy()))
            chosen.append(_aliased(spread, f"variance of {column.name}"))
    joins = [join(table("withheld", "h"), None, "CROSS")] if asked.numeric else []
    joins += [join(table(f"cap_{i}"), None, "CROSS") for i in asked.base]
    of = table("cluster_totals" if work.clustered else "final", "u")
    found = select(chosen, of, joins=joins, group=[arm])
    found.set("order", exp.Order(expressions=[exp.Ordered(this=arm.copy(), nulls_first=False)]))
    found.set("with_", exp.With(expressions=_parts_of(found, whole_statement)))
    return found


def _where_known(asked: Asked, question: Question, i: int, what: E) -> E:
    """A column that cannot be calculated with is 0 in `final`, which is not its mean."""
    conditions: list[E] = []
    if i in asked.numeric:
        conditions.append(exp.EQ(this=exp.Max(this=col(f"bad_{i}", "h")), expression=whole(0)))
    if i in asked.base and question.work.columns[i].period == "outcome":
        conditions.append(known(exp.Max(this=col(f"cap_{i}"))))
    return case([(every(conditions), what)]) if conditions else what


def _aliased(what: E, called: str) -> E:
    return exp.Alias(this=what, alias=name(called))


def _parts_of(statement: exp.Select, whole_statement: Statement) -> list[exp.CTE]:
    """The parts that a statement reads, and those that they read, in their order."""
    with_ = whole_statement.args["with_"]
    parts: dict[str, exp.CTE] = {str(cte.alias): cte for cte in with_.expressions}
    needed: set[str] = set()
    left: list[exp.Expr] = [statement]
    while left:
        reads = {str(each.name) for each in left.pop().find_all(exp.Table)} & parts.keys() - needed
        needed |= reads
        left += [parts[each] for each in reads]
    return [part.copy() for called, part in parts.items() if called in needed]
