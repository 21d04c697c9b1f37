"""Clustered randomisation: totals of clusters as parts of a statement (METHODS A5), as in `warehouse.clusters`."""

from sqlglot import exp

from warehouse.clusters import FEW_CLUSTERS
from warehouse.compile.lines import CLUSTERS, line
from warehouse.compile.people import Part
from warehouse.compile.question import Question
from warehouse.compile.words import (
    E,
    Statement,
    case,
    col,
    count_rows,
    join,
    named,
    over,
    select,
    subquery,
    table,
    whole,
)

LOOKS = 0
"""The dimension of totals by look; that of totals by the i-th breakdown is i + 1."""


def total_keys(question: Question) -> tuple[list[str], list[list[str]]]:
    """The keys of the moments of totals, and the sets in which they group: all, and by stratum of looks."""
    keys, strata = ["dimension", "level"], ["stratum"] if question.work.strata is not None else []
    return [*keys, *strata], [keys, *([[*keys, *strata]] if strata else [])]


def cluster_parts(question: Question, k: int) -> list[Part]:
    """`cluster_totals`: one row per cluster: arm, bucket, stratum of its first unit, x_0 ... x_(k-1) and x_k units.

    And `totals`: those by look or by level of each breakdown.
    """
    units = "final"
    found: list[Part] = []
    if question.work.strata is not None:
        order = [
            exp.Ordered(this=col("assigned_us"), nulls_first=False),
            exp.Ordered(this=col("unit_id"), nulls_first=False),
        ]
        ranked = select([exp.Star(), named(over(exp.RowNumber(), [col("cluster")], order), "place")], table("final"))
        found.append(("final_in_order", ranked))
        units = "final_in_order"
    chosen: list[E] = [
        col("cluster"),
        named(exp.Max(this=col("arm")), "arm"),
        named(exp.Max(this=col("bucket")), "bucket"),
        named(_stratum(question), "stratum"),
        *_sums(k),
        named(count_rows(), f"x_{k}"),
    ]
    found.append(("cluster_totals", select(chosen, table(units), group=[col("cluster")])))
    return found


def total_parts(question: Question, k: int) -> list[Part]:
    """`totals` of clusters by look, and by level of each breakdown."""
    found: list[Part] = []
    pieces: list[exp.Select] = []
    if question.is_last and not question.work.has_open_columns:
        by_entry = select(
            [col("cluster"), col("entry"), *_sums(k), named(count_rows(), f"x_{k}")],
            table("final"),
            group=[col("cluster"), col("entry")],
        )
        found.append(("cluster_entries", by_entry))
        pieces.append(_by_look(question, k))
    else:
        values = [col(f"x_{i}") for i in range(k + 1)]
        pieces.append(
            select(
                [
                    named(whole(LOOKS), "dimension"),
                    named(whole(question.look), "level"),
                    *(col(one) for one in ("stratum", "arm")),
                    *values,
                ],
                table("cluster_totals"),
            )
        )
    for i in range(len(question.work.segments) if question.is_last else 0):
        chosen: list[E] = [
            named(whole(i + 1), "dimension"),
            named(col(f"group_{i}"), "level"),
            named(whole(-1), "stratum"),
            named(exp.Max(this=col("arm")), "arm"),
            *_sums(k),
            named(count_rows(), f"x_{k}"),
        ]
        pieces.append(select(chosen, table("final"), group=[col("cluster"), col(f"group_{i}")]))
    every: Statement = pieces[0]
    for piece in pieces[1:]:
        every = exp.Union(this=every, expression=piece, distinct=False)
    together = exp.Subquery(this=every, alias=exp.TableAlias(this=exp.Identifier(this="t", quoted=False)))
    found.append(("totals", select([exp.Star()], together)))
    return found


def few(k: int) -> exp.Select:
    """The totals themselves, while clusters are few."""
    not_many = exp.LTE(this=col("n", "c"), expression=whole(FEW_CLUSTERS))
    values = [col(f"x_{i}", "t") for i in range(k + 1)]
    return line(
        CLUSTERS,
        col("arm", "t"),
        whole(1),
        values,
        table("cluster_totals", "t"),
        joins=[join(table("centre", "c"), not_many)],
    )


def _sums(k: int) -> list[E]:
    return [named(exp.Sum(this=col(f"x_{i}")), f"x_{i}") for i in range(k)]


def _stratum(question: Question) -> E:
    """That of the unit that was assigned first."""
    if question.work.strata is None:
        return exp.Max(this=whole(-1))
    return exp.Max(this=case([(exp.EQ(this=col("place"), expression=whole(1)), col("stratum"))]))


def _by_look(question: Question, k: int) -> exp.Select:
    """Totals of the units that entered by each look."""
    rows = [exp.Tuple(expressions=[whole(look)]) for look in range(len(question.work.looks))]
    looks = exp.Values(
        expressions=rows,
        alias=exp.TableAlias(
            this=exp.Identifier(this="l", quoted=False), columns=[exp.Identifier(this="look", quoted=False)]
        ),
    )
    summed = select(
        [
            col("cluster", "e"),
            col("look", "l"),
            *(named(exp.Sum(this=col(f"x_{i}", "e")), f"x_{i}") for i in range(k + 1)),
        ],
        table("cluster_entries", "e"),
        joins=[join(looks, exp.LTE(this=col("entry", "e"), expression=col("look", "l")))],
        group=[col("cluster", "e"), col("look", "l")],
    )
    same = exp.EQ(this=col("cluster", "s"), expression=col("cluster", "t"))
    return select(
        [
            named(whole(LOOKS), "dimension"),
            named(col("look", "s"), "level"),
            col("stratum", "t"),
            col("arm", "t"),
            *(col(f"x_{i}", "s") for i in range(k + 1)),
        ],
        subquery(summed, "s"),
        joins=[join(table("cluster_totals", "t"), same)],
    )
