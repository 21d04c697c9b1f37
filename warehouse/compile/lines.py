"""What a statement gives back: lines of (part, arm, n, v), every number of a part in one array.

An array takes any number of columns, where a SELECT list has an end (1664 in PostgreSQL), and so all parts are one
result of one statement. Keys come first in `v`; a key that a line is not grouped by is -1.
"""

from collections.abc import Sequence

from sqlglot import exp

from warehouse.compile.asked import Asked
from warehouse.compile.capping import capped
from warehouse.compile.question import Question
from warehouse.compile.words import (
    BIGINT,
    E,
    Statement,
    array,
    cast,
    coalesce,
    col,
    count_rows,
    every,
    grouping_sets,
    join,
    named,
    select,
    table,
    whole,
)

(
    SUMMARY,
    MOMENTS,
    BUCKETS,
    EXPOSURES,
    EXPOSED_BY_GROUP,
    POPULATIONS,
    CROSSED,
    ALONE,
    ASSIGNED,
    RESPONSES,
    QUANTILES,
    CLUSTERS,
    UNIT_VALUES,
    RANGES,
    CENTRES,
) = range(15)


def line(
    part: int,
    arm: E,
    n: E,
    values: Sequence[E],
    source: E,
    *,
    where: Sequence[E] = (),
    group: Sequence[E] = (),
    joins: Sequence[exp.Join] = (),
) -> exp.Select:
    chosen = [
        named(cast(whole(part), BIGINT), "part"),
        named(cast(arm, BIGINT), "arm"),
        named(cast(n, BIGINT), "n"),
        named(array(values), "v"),
    ]
    return select(chosen, source, where=where, group=group, joins=joins)


def summary(question: Question, asked: Asked) -> exp.Select:
    """One line: bad_i of columns of numbers, caps at quantiles, centres."""
    values: list[E] = [
        *(col(f"bad_{i}", "h") for i in asked.numeric),
        *(col(f"cap_{i}") for i in asked.base),
        *(col(f"c_{i}", "c") for i in range(width(question, asked))),
    ]
    joins = [join(table("withheld", "h"), None, "CROSS")]
    joins += [join(table(f"cap_{i}"), None, "CROSS") for i in asked.base]
    return line(SUMMARY, whole(-1), col("n", "c"), values, table("centre", "c"), joins=joins)


def width(question: Question, asked: Asked) -> int:
    """Columns of the moments; with clusters one more, which counts units."""
    return asked.k + (1 if question.work.clustered else 0)


def moments(source: str, k: int, keys: Sequence[str], sets: Sequence[Sequence[str]], part: int = MOMENTS) -> exp.Select:
    """Shifted sums, cubes and products of g_i, by every set of keys and arm."""
    names = [f"g_{i}" for i in range(k)]
    values: list[E] = [coalesce(col(key), whole(-1)) for key in keys]
    values += [exp.Sum(this=col(g)) for g in names]
    values += [exp.Sum(this=_times(_times(col(g), col(g)), col(g))) for g in names]
    values += [exp.Sum(this=_times(col(names[i]), col(names[j]))) for i in range(k) for j in range(i, k)]
    group = grouping_sets([[*(col(key) for key in one), col("arm")] for one in sets])
    return line(part, col("arm"), count_rows(), values, table(source), group=group)


def ranges(source: str, k: int, keys: Sequence[str], sets: Sequence[Sequence[str]]) -> exp.Select:
    """The lowest and the highest x_i, by every set of keys and arm: whether a column has one value there."""
    values: list[E] = [coalesce(col(key), whole(-1)) for key in keys]
    values += [exp.Min(this=col(f"x_{i}")) for i in range(k)]
    values += [exp.Max(this=col(f"x_{i}")) for i in range(k)]
    group = grouping_sets([[*(col(key) for key in one), col("arm")] for one in sets])
    return line(RANGES, col("arm"), count_rows(), values, table(source), group=group)


def centres(part: str, k: int, keys: Sequence[str], cell: Sequence[str]) -> exp.Select:
    """The centres of cells; keys that are not of the cell are -1."""
    values = [col(key) if key in cell else whole(-1) for key in keys]
    return line(CENTRES, col("arm"), col("n"), [*values, *(col(f"c_{i}") for i in range(k))], table(part))


def _times(a: E, b: E) -> E:
    return exp.Mul(this=a, expression=b)


def moment_keys(question: Question) -> tuple[list[str], list[list[str]]]:
    """The keys of moments, and the sets in which they group."""
    work = question.work
    strata = ["stratum"] if work.strata is not None else []
    if not question.is_last:
        return strata, [[], *([strata] if strata else [])]
    groups = [f"group_{i}" for i in range(len(work.segments))]
    sets = [["entry"], *([group] for group in groups), *([["entry", "stratum"]] if strata else [])]
    return ["entry", *strata, *groups], sets


def buckets(source: str, k: int) -> exp.Select:
    """Sums of the values by hash bucket."""
    sums: list[E] = [col("bucket"), *(exp.Sum(this=col(f"x_{i}")) for i in range(k))]
    return line(BUCKETS, col("arm"), count_rows(), sums, table(source), group=[col("bucket"), col("arm")])


def exposed(question: Question) -> list[exp.Select]:
    """How many units were exposed by when, and how many are in two arms."""
    work = question.work
    size = len(work.looks)
    in_arm = exp.GTE(this=col("arm"), expression=whole(0))
    found = [
        line(
            EXPOSURES,
            col("arm"),
            count_rows(),
            [col("seen")],
            table("units"),
            where=[in_arm.copy()],
            group=[col("seen"), col("arm")],
        ),
        line(CROSSED, whole(-1), coalesce(exp.Sum(this=col("crossed")), whole(0)), [], table("units")),
    ]
    if work.segments:
        groups = [f"group_{i}" for i in range(len(work.segments))]
        early = exp.LT(this=col("seen"), expression=whole(size))
        found.append(
            line(
                EXPOSED_BY_GROUP,
                col("arm"),
                count_rows(),
                [coalesce(col(group), whole(-1)) for group in groups],
                table("units"),
                where=[every([in_arm.copy(), early])],
                group=grouping_sets([[col(group), col("arm")] for group in groups]),
            )
        )
    return found


def populations(question: Question, asked: Asked) -> list[exp.Select]:
    """How many units there are of what kind."""
    work, found = question.work, exposed(question)
    in_arm = exp.GTE(this=col("arm"), expression=whole(0))
    counted = ["active", *(f"missing_{i}" for i in asked.counted), *(f"above_{i}" for i in capped(question, asked))]
    sums = [exp.Sum(this=col(one)) for one in counted]
    found.append(line(POPULATIONS, col("arm"), count_rows(), sums, table("final"), group=[col("arm")]))
    if work.clustered:
        lonely = exp.GTE(this=col("alone"), expression=whole(0))
        found.append(line(ALONE, col("alone"), count_rows(), [], table("units"), where=[lonely], group=[col("alone")]))
    if question.plan.trigger is not None:
        found.append(
            line(ASSIGNED, col("arm"), count_rows(), [], table("assigned"), where=[in_arm], group=[col("arm")])
        )
    return found


def responses(question: Question, asked: Asked) -> list[exp.Select]:
    """Units by their mean answer, for each survey."""
    found = []
    for place, (score, answers) in enumerate(question.work.wanted.surveys.values()):
        mean = exp.Div(this=col(f"x_{score}"), expression=col(f"x_{answers}"))
        answered = exp.GT(this=col(f"x_{answers}"), expression=whole(0))
        group = [col("arm"), mean.copy()]
        values = [whole(place), mean]
        found.append(line(RESPONSES, col("arm"), count_rows(), values, table("final"), where=[answered], group=group))
    return found


def unit_values(question: Question) -> list[exp.Select]:
    """Units by the value of a metric whose likelihood is about single units; who they are stays behind."""
    found = []
    for place, metric in enumerate(question.work.wanted.modelled):
        x = col(f"x_{metric.column}")
        group = [col("arm"), x.copy()]
        found.append(line(UNIT_VALUES, col("arm"), count_rows(), [whole(place), x], table("final"), group=group))
    return found


def quantiles(question: Question, asked: Asked) -> list[exp.Select]:
    """Units by their value, with the look at which they enter and their groups."""
    groups = [f"group_{i}" for i in range(len(question.work.segments))]
    found = []
    for place, (_, i) in enumerate(asked.quantiles):
        there = exp.EQ(this=col(f"there_{i}"), expression=whole(1))
        keys = ["entry", *groups, f"value_{i}"]
        values = [whole(place), *(col(key) for key in keys)]
        group = [col("arm"), *(col(key) for key in keys)]
        found.append(line(QUANTILES, col("arm"), count_rows(), values, table("wide"), where=[there], group=group))
    return found


def together(lines: Sequence[exp.Select]) -> Statement:
    """UNION ALL of the lines."""
    found: Statement = lines[0]
    for one in lines[1:]:
        found = exp.Union(this=found, expression=one, distinct=False)
    return found
