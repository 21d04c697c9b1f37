"""What tells whether kept cohorts still are what they were, without their facts being joined to anybody.

A census of all units from exposures alone, and per source and day how many facts there are and a checksum of them.
"""

from typing import Final

from sqlglot import exp

from warehouse.compile import lines, people
from warehouse.compile.asked import asked, reads
from warehouse.compile.facts import facts_of_source
from warehouse.compile.question import Question
from warehouse.compile.words import (
    BIGINT,
    TEXT,
    E,
    Statement,
    cast,
    col,
    count_rows,
    minus,
    named,
    select,
    stored,
    subquery,
    table,
    text_literal,
    whole,
)
from warehouse.engine import MICROSECONDS_A_DAY
from warehouse.facts import measure_of

COHORTS: Final = 100
"""The part of the lines about cohorts, after those of `warehouse.compile.lines`."""

_HASHES: Final = 1 << 32
_PRIME: Final = 1_000_003
_FACTORS: Final = 1024
"""Times and hashes are added up as products so small that two billion facts of a day are not too many."""


def census(question: Question) -> Statement:
    """The lines of `lines.exposed`, and per cohort by first exposure: how many units, and a sum of their hashes.

    A hash is of all that a cohort's moments take from exposures: the unit, its first exposure, the first and last of
    its arms, its levels. In `v`: the cohort's number in microseconds, the sum.
    """
    found = people.parts(question)
    # Cohort i are first exposures in (start + (i - 1) days, start + i days].
    since = exp.Paren(this=minus(col("assigned_us"), whole(question.work.exposed_us[0] + 1 - MICROSECONDS_A_DAY)))
    known: list[E] = [
        col("unit_id"),
        *(cast(col(one), TEXT) for one in ("assigned_us", "first_arm", "last_arm")),
        *(col(f"level_{i}") for i in range(len(question.work.levels))),
    ]
    text = known[0]
    for one in known[1:]:
        text = exp.DPipe(this=exp.DPipe(this=text, expression=text_literal("|")), expression=one)
    coded = select(
        [named(_floor(since), "cohort"), named(question.words.bucket(exp.Paren(this=text), _HASHES), "hash")],
        table("first_exposures"),
    )
    found.append(("identities", coded))
    per_cohort = lines.line(
        COHORTS,
        whole(-1),
        count_rows(),
        [col("cohort"), exp.Sum(this=col("hash"))],
        table("identities"),
        group=[col("cohort")],
    )
    return question.words.with_parts(found, lines.together([*lines.exposed(question), per_cohort]))


def days_of(question: Question, key: str, first_us: int, end_us: int) -> exp.Select:
    """Per day since `first_us`: `day` in microseconds, `n` facts in [first, end), and a `checksum` of them.

    Of whose they are, when they were, and what is in the columns that the plan reads, also in filters.
    """
    facts = facts_of_source(question, key, (first_us, end_us), [("hash", _hash(question, key))])
    if question.words.dialect == "postgres":
        # Otherwise its planner merges the parts, and converts each time three times over.
        facts.set("offset", exp.Offset(expression=whole(0)))
    since = exp.Paren(this=minus(col("at_us"), whole(first_us)))
    hashed = exp.Mod(this=col("hash"), expression=whole(_HASHES))
    timed = select(
        [named(_floor(since), "day"), named(col("at_us"), "at_us"), named(cast(hashed, BIGINT), "hash")],
        subquery(facts, "f"),
    )
    factor = exp.Abs(this=exp.Mod(this=col("hash"), expression=whole(_FACTORS)))
    weighed = exp.Mul(
        this=exp.Mod(this=col("at_us"), expression=whole(_PRIME)),
        expression=exp.Paren(this=exp.Add(this=whole(1), expression=factor)),
    )
    return select(
        [
            named(col("day"), "day"),
            named(cast(count_rows(), BIGINT), "n"),
            named(cast(exp.Sum(this=exp.Add(this=weighed, expression=col("hash"))), BIGINT), "checksum"),
        ],
        subquery(timed, "d"),
        group=[col("day")],
    )


def _hash(question: Question, key: str) -> E:
    """Of a fact: whose it is, and what the plan reads of it."""
    rows, words = question.rows[key], question.words
    if rows is None:
        return whole(0)
    measures = [measure_of(column) for column in reads(asked(question).columns).get(key, [])]
    read = [one.column for one in measures if one.column]
    read += [test.column for one in (question.spec(key), *measures) for test in one.filters]
    names = list(dict.fromkeys(rows.physical(column) for column in read))
    return words.hashed([(stored(each), rows.kinds[each]) for each in [rows.unit, *names]])


def _floor(since: E) -> E:
    """Whole days of a duration that is not negative."""
    return minus(since, exp.Paren(this=exp.Mod(this=since.copy(), expression=whole(MICROSECONDS_A_DAY))))
