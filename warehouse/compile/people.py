"""Who is analysed, as parts of a statement: exposures, one row per unit, and when its windows begin.

The meaning is that of `warehouse.units`: the first exposure counts, a unit of two variants (or of a cluster of two) is
in no arm, levels are those of the first exposure, the smallest one where rows of that very moment disagree.
"""

from collections.abc import Sequence

from sqlglot import exp

from warehouse.compile import activity
from warehouse.compile.facts import facts_of_source
from warehouse.compile.question import Active, Elsewhere, Facts, Question, Shown
from warehouse.compile.relations import at_us, in_period
from warehouse.compile.words import (
    BIGINT,
    TEXT,
    E,
    Words,
    case,
    cast,
    coalesce,
    col,
    every,
    flag,
    is_null,
    join,
    known,
    named,
    over,
    select,
    some,
    stored,
    subquery,
    table,
    text_literal,
    whole,
)
from warehouse.crossings import Crossing
from warehouse.engine import epoch_us
from warehouse.hash_buckets import BUCKETS
from warehouse.units import NO_LEVEL, OTHER_LEVELS

type Part = tuple[str, exp.Select]


def exposures(question: Question) -> exp.Select:
    """unit_id, at_us, arm (one past the last for variants that are not in the plan), level_i, cluster."""
    work = question.work
    arms = [
        (exp.EQ(this=col("variant", "s"), expression=text_literal(key)), whole(i))
        for i, key in enumerate(work.variants)
    ]
    chosen = [
        col("unit_id", "s"),
        col("at_us", "s"),
        named(case(arms, whole(question.arms)), "arm"),
        *(col(f"level_{i}", "s") for i in range(len(work.levels))),
        *([col("cluster", "s")] if work.clustered else []),
    ]
    return select(chosen, subquery(shown(question, [name for name, _ in work.levels]), "s"))


def shown(question: Question, dimensions: Sequence[str]) -> exp.Select:
    """The rows of exposures in the period: unit_id, at_us, variant, level_i of the dimensions, cluster."""
    words, given, period = question.words, question.shown, question.work.exposed_us
    if given is None:
        names = ["unit_id", "variant", *(f"level_{i}" for i in range(len(dimensions))), "cluster"]
        nothing = exp.Select(expressions=[named(cast(exp.Null(), TEXT), one) for one in names])
        nothing.append("expressions", named(cast(exp.Null(), BIGINT), "at_us"))
        nothing.set("where", exp.Where(this=exp.false()))
        return nothing
    inputs: list[tuple[str, E]] = []
    for i, dimension in enumerate(dimensions):
        inputs.append((f"level_{i}", coalesce(_attribute(words, given, dimension), text_literal(NO_LEVEL))))
    if question.work.clustered:
        cluster = question.plan.cluster or ""
        there = given.column(cluster) is not None
        inputs.append(("cluster", _attribute(words, given, cluster) if there else cast(exp.Null(), TEXT)))
    return _rows_of(question, given, period, inputs)


def _rows_of(facts: Facts, given: Shown, period: tuple[int, int], inputs: Sequence[tuple[str, E]]) -> exp.Select:
    """unit_id, at_us, variant and `inputs` of the rows of exposures in a period."""
    words = facts.words
    variant, kind = stored(given.rows.physical(given.variant)), given.rows.kind(given.variant)
    as_text = words.text(variant) if given.source is None else words.plain_text(variant, kind)
    every_input = [("variant", as_text), *inputs]
    if given.source is not None:
        found = facts_of_source(facts, given.source, period, every_input, given.filters)
        return found.where(known(stored(given.rows.physical(given.variant))), copy=False)
    chosen = [
        named(words.unit(stored(given.rows.unit), given.rows.kinds[given.rows.unit]), "unit_id"),
        named(at_us(words, given.rows), "at_us"),
        *(named(what, alias) for alias, what in every_input),
    ]
    conditions = [known(stored(given.rows.unit)), *in_period(words, given.rows, *period)]
    return select(chosen, given.rows.from_(), where=conditions)


def given_elsewhere(other: Elsewhere) -> exp.Select:
    """unit_id, and the first and last of the arms that another experiment gave it. Raises `SourceUnreadable`."""
    arms = [
        (exp.EQ(this=col("variant", "s"), expression=text_literal(key)), whole(i))
        for i, key in enumerate(other.variants)
    ]
    rows = _rows_of(other.facts, other.shown, other.period_us, ())
    coded = select([col("unit_id", "s"), named(case(arms, whole(len(other.variants))), "arm")], subquery(rows, "s"))
    ends = [
        named(exp.Min(this=col("arm", "a")), "first_arm"), named(exp.Max(this=col("arm", "a")), "last_arm")
    ]  # fmt: skip
    return select([col("unit_id", "a"), *ends], subquery(coded, "a"), group=[col("unit_id", "a")])


def _with_codes_elsewhere(others: Sequence[Elsewhere]) -> exp.Select:
    """Who was exposed, with code_i: the one arm that the i-th other experiment gave the unit."""
    chosen: list[E] = [exp.Column(this=exp.Star(), table=exp.to_identifier("x"))]
    joins = []
    for i, other in enumerate(others):
        alias = f"o{i}"
        one_arm = exp.EQ(this=col("first_arm", alias), expression=col("last_arm", alias))
        code_there = case([(one_arm, col("first_arm", alias))], whole(len(other.variants)))
        chosen.append(named(code_there, f"code_{i}"))
        same = exp.EQ(this=col("unit_id", "x"), expression=col("unit_id", alias))
        joins.append(join(table(f"elsewhere_{i}", alias), same, "LEFT"))
    return select(chosen, table("exposed_here", "x"), joins=joins)


def _attribute(words: Words, given: Shown, dimension: str) -> E:
    """The level of a row, null without one; in a table of somebody else an empty text is none."""
    named_so = given.column(dimension) or ""
    column = stored(given.rows.physical(named_so))
    if given.source is None:
        return words.text(column)
    return exp.Nullif(this=words.plain_text(column, given.rows.kind(named_so)), expression=text_literal(""))


def code(of: E, levels: tuple[str, ...]) -> E:
    """The position of a level; what is not named is the last one."""
    listed = levels[:-1] if levels and levels[-1] == OTHER_LEVELS else levels
    branches = [(exp.EQ(this=of.copy(), expression=text_literal(one)), whole(i)) for i, one in enumerate(listed)]
    return case(branches, whole(len(listed))) if branches else whole(0)


def parts(question: Question) -> list[Part]:
    """The parts up to `units`: unit_id, arm (-1: in none), crossed, alone, assigned_us, at_us, entry, seen, inside,

    bucket, stratum, group_i for each breakdown, cluster. `assigned` has those units before any trigger.
    """
    work = question.work
    if isinstance(question.plan, Active):
        active = activity.exposed(question, question.plan.sources, work.exposed_us)
        return [("exposed", active), ("units", _units(question))]
    found: list[Part] = [("exposures", exposures(question))]
    per_unit = [f"level_{i}" for i in range(len(work.levels))] + (["cluster"] if work.clustered else [])
    source = "exposures"
    if per_unit:
        first = over(exp.Min(this=col("at_us")), [col("unit_id")])
        found.append(("exposures_in_order", select([exp.Star(), named(first, "first_us")], table("exposures"))))
        source = "exposures_in_order"
    of_first = [
        named(exp.Min(this=case([(exp.EQ(this=col("at_us"), expression=col("first_us")), col(one))])), one)
        for one in per_unit
    ]
    lowest, highest = exp.Min(this=col("arm")), exp.Max(this=col("arm"))
    grouped = [
        col("unit_id"),
        named(exp.Min(this=col("at_us")), "assigned_us"),
        named(lowest, "first_arm"),
        named(highest, "last_arm"),
        *of_first,
    ]
    cohort = question.cohort
    having = None
    if cohort is not None:
        having = every(
            [
                exp.GTE(this=exp.Min(this=col("at_us")), expression=whole(cohort.start_us)),
                exp.LT(this=exp.Min(this=col("at_us")), expression=whole(cohort.end_us)),
            ]
        )
    found.append(("first_exposures", select(grouped, table(source), group=[col("unit_id")], having=having)))
    if work.clustered:
        two_arms = exp.NEQ(this=exp.Min(this=col("arm")), expression=exp.Max(this=col("arm")))
        crossed = select(
            [col("cluster")],
            table("exposures"),
            where=[known(col("cluster"))],
            group=[col("cluster")],
            having=two_arms,
        )
        found.append(("crossed_clusters", crossed))
    found.append(("assigned", _assigned(question)))
    if question.plan.trigger is not None:
        found.append(("triggers", _triggers(question)))
    if question.elsewhere:
        found.append(("exposed_here", _exposed(question)))
        found += [(f"elsewhere_{i}", given_elsewhere(other)) for i, other in enumerate(question.elsewhere)]
        found.append(("exposed", _with_codes_elsewhere(question.elsewhere)))
    else:
        found.append(("exposed", _exposed(question)))
    found.append(("units", _units(question)))
    return found


def _assigned(question: Question) -> exp.Select:
    work = question.work
    crossed: list[E] = [exp.NEQ(this=col("first_arm", "e"), expression=col("last_arm", "e"))]
    if work.clustered:
        crossed.append(known(col("cluster", "c")))
    one_arm = [
        exp.EQ(this=col("first_arm", "e"), expression=col("last_arm", "e")),
        exp.LT(this=col("first_arm", "e"), expression=whole(question.arms)),
        *([is_null(col("cluster", "c"))] if work.clustered else []),
    ]
    belongs = [known(col("cluster", "e"))] if work.clustered else []
    alone = [is_null(col("cluster", "e"))] if work.clustered else [exp.false()]
    codes = [
        named(code(col(f"level_{i}", "e"), tuple(levels)), f"code_{i}") for i, (_, levels) in enumerate(work.levels)
    ]
    chosen: list[E] = [
        col("unit_id", "e"),
        col("assigned_us", "e"),
        named(flag(some(crossed)), "crossed"),
        named(case([(every([*(one.copy() for one in one_arm), *belongs]), col("first_arm", "e"))], whole(-1)), "arm"),
        named(case([(every([*one_arm, *alone]), col("first_arm", "e"))], whole(-1)), "alone"),
        *codes,
        *([col("cluster", "e")] if work.clustered else []),
    ]
    joins = []
    if work.clustered:
        same = exp.EQ(this=col("cluster", "e"), expression=col("cluster", "c"))
        joins = [join(table("crossed_clusters", "c"), same, "LEFT")]
    return select(chosen, table("first_exposures", "e"), joins=joins)


def _triggers(question: Question) -> exp.Select:
    """The first trigger of each unit since it was assigned, before the end of exposure."""
    trigger = question.plan.trigger
    assert trigger is not None
    work = question.work
    facts = facts_of_source(question, trigger.fact_source, work.exposed_us, (), trigger.filters)
    later = every(
        [
            exp.EQ(this=col("unit_id", "f"), expression=col("unit_id", "a")),
            exp.GTE(this=col("at_us", "f"), expression=col("assigned_us", "a")),
        ]
    )
    return select(
        [col("unit_id", "a"), named(exp.Min(this=col("at_us", "f")), "triggered_us")],
        exp.Subquery(this=facts, alias=exp.TableAlias(this=exp.to_identifier("f"))),
        joins=[join(table("assigned", "a"), later)],
        group=[col("unit_id", "a")],
    )


def _exposed(question: Question) -> exp.Select:
    if question.plan.trigger is None:
        return select([exp.Star(), named(col("assigned_us"), "at_us")], table("assigned"))
    same = exp.EQ(this=col("unit_id", "a"), expression=col("unit_id", "g"))
    every_column = exp.Column(this=exp.Star(), table=exp.to_identifier("a"))
    return select(
        [every_column, named(col("triggered_us", "g"), "at_us")],
        table("assigned", "a"),
        joins=[join(table("triggers", "g"), same)],
    )


def _units(question: Question) -> exp.Select:
    work = question.work
    looks = [epoch_us(look) for look in work.looks]
    size = len(looks)
    complete = [
        (exp.LTE(this=col("at_us"), expression=whole(look - work.longest_us)), whole(i)) for i, look in enumerate(looks)
    ]
    seen = [(exp.LT(this=col("at_us"), expression=whole(look)), whole(i)) for i, look in enumerate(looks)]
    last = looks[question.look] - work.longest_us
    inside = every([exp.GTE(this=col("arm"), expression=whole(0)), exp.LTE(this=col("at_us"), expression=whole(last))])
    chosen: list[E] = [
        *(col(one) for one in ("unit_id", "arm", "crossed", "alone", "assigned_us", "at_us")),
        named(case(complete, whole(size)), "entry"),
        named(case(seen, whole(size)), "seen"),
        named(flag(inside), "inside"),
        *(named(_group(segment), f"group_{i}") for i, segment in enumerate(work.segments)),
    ]
    if work.strata is not None:
        stages = [int(at) for at in work.strata.stages_us]
        stage = case(
            [
                (exp.GTE(this=col("assigned_us"), expression=whole(at)), whole(i))
                for i, at in reversed(list(enumerate(stages)))
                if i > 0
            ],
            whole(0),
        )
        stratum = stage
        if work.strata.crossing is not None:
            group = exp.Mul(this=exp.Paren(this=_group(work.strata.crossing)), expression=whole(len(stages)))
            stratum = exp.Add(this=group, expression=stage)
        chosen.append(named(stratum, "stratum"))
    hashed = col("cluster") if work.clustered else col("unit_id")
    chosen.append(named(question.words.bucket(hashed, BUCKETS), "bucket"))
    if work.clustered:
        chosen.append(col("cluster"))
    return select(chosen, table("exposed"))


def _group(crossing: Crossing) -> E:
    """The group of a unit from the codes of its levels."""
    if len(crossing.dimensions) == 1:
        return col(f"code_{crossing.dimensions[0]}")
    rest = len(crossing.groups) - 1
    branches = []
    for place in zip(*(crossing.place != rest).nonzero(), strict=True):
        codes = [
            exp.EQ(this=col(f"code_{dimension}"), expression=whole(int(at)))
            for dimension, at in zip(crossing.dimensions, place, strict=True)
        ]
        branches.append((every(codes), whole(int(crossing.place[place]))))
    return case(branches, whole(rest)) if branches else whole(rest)
