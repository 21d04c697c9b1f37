"""One number per unit and column, as parts of a statement: the facts of every source once, then their aggregates."""

from sqlglot import exp

from experiments.columns import Column
from warehouse.compile.asked import Asked, in_window, is_plain, reads, span_of_all, whole_days
from warehouse.compile.facts import KNOWN, MISSING, NOT_FINITE, Inputs, facts_of_source, inputs_of, joined_to_units
from warehouse.compile.people import Part
from warehouse.compile.question import Question
from warehouse.compile.sequences import sequence
from warehouse.compile.words import (
    DOUBLE,
    E,
    case,
    cast,
    coalesce,
    col,
    every,
    flag,
    join,
    named,
    over,
    real,
    select,
    some,
    table,
    whole,
    within,
)
from warehouse.engine import MICROSECONDS_A_DAY
from warehouse.facts import measure_of, takes_numbers
from warehouse.values import LARGEST_VALUE

REFUSED_FACT, REFUSED_ANSWER = 1, 2
"""Why a column cannot be calculated with: a number that is not finite or too large, an answer that is none."""

_DAYS_SHIFT = MICROSECONDS_A_DAY * 1_000_000
"""Whole days that make every time positive, so that what is left of a division is the same in all dialects."""


class Readings:
    """The parts of all facts and sequences of a question, and where the values per unit are found in them."""

    def __init__(self, question: Question, asked: Asked) -> None:
        self.question = question
        self.asked = asked
        self.parts: list[Part] = []
        self.sources = sorted(key for key in reads(asked.columns) if question.rows[key] is not None)
        self.inputs: dict[str, Inputs] = {}
        self.sequences: list[int] = []
        for i, key in enumerate(self.sources):
            self._read(key, f"facts_{i}", reads(asked.columns)[key])
        for i, key in enumerate(self.sources):
            self._aggregate(key, f"facts_{i}", f"values_{i}")
        for i, column in enumerate(asked.columns):
            if column.content in ("step", "returned"):
                made = sequence(column, f"sequence_{i}", self._facts_of, self._condition)
                if made:
                    self.parts += made
                    self.sequences.append(i)

    def _facts_of(self, read: Column) -> str | None:
        key = measure_of(read).fact_source
        return f"facts_{self.sources.index(key)}" if key in self.sources else None

    def _condition(self, read: Column) -> E:
        return in_window(read, self.inputs[measure_of(read).fact_source].passes(read), self.question.look_us)

    def _read(self, key: str, part: str, columns: list[Column]) -> None:
        """The facts of a source that any column can need."""
        question, rows = self.question, self.question.rows[key]
        assert rows is not None
        inputs = inputs_of(question, rows, columns)
        self.inputs[key] = inputs
        start, end = span_of_all(columns)
        first, last = question.work.exposed_us
        if question.cohort is not None:
            first = max(first, question.cohort.start_us)
            # Windows begin at a trigger, which may come long after the cohort.
            last = last if question.plan.trigger is not None else min(last, question.cohort.end_us)
        latest = question.look_us if end is None else min(question.look_us, last + end)
        facts = facts_of_source(question, key, (first + start, latest), inputs.named)
        self.parts.append((part, joined_to_units(facts, [alias for alias, _ in inputs.named], start, end)))

    def _aggregate(self, key: str, part: str, into: str) -> None:
        """The aggregates of every column that reads this source."""
        chosen: list[E] = []
        latest: list[E] = []
        for i, column in enumerate(self.asked.columns):
            if column.content == "no_history":
                for read in column.reads:
                    if measure_of(read).fact_source == key:
                        there = exp.Max(this=flag(self._condition(read)))
                        chosen.append(named(there, f"seen_{i}"))
            elif is_plain(column) and measure_of(column).fact_source == key:
                chosen += self._of_column(i, column, latest)
        if not chosen:
            return
        source: E = table(part)
        if latest:
            source = exp.Subquery(
                this=select([exp.Star(), *latest], table(part)),
                alias=exp.TableAlias(this=exp.Identifier(this="f", quoted=False)),
            )
        self.parts.append((into, select([col("unit_id"), *chosen], source, group=[col("unit_id")])))

    def _of_column(self, i: int, column: Column, latest: list[E]) -> list[E]:
        measure = measure_of(column)
        inputs = self.inputs[measure.fact_source]
        counts = self._condition(column)
        found: list[E] = []
        if any(i == position for _, position in self.asked.quantiles):
            known = [inputs.state(column, MISSING, equal=False)] if takes_numbers(column) else []
            found.append(named(exp.Max(this=flag(every([counts.copy(), *known]))), f"there_{i}"))
        if column.content == "days_share":
            return [*found, named(distinct_days(counts, "before" if column.period == "pre" else "since"), f"raw_{i}")]
        if not takes_numbers(column):
            match measure.aggregation:
                case "count":
                    raw: E = exp.Sum(this=flag(counts))
                case "any":
                    raw = exp.Max(this=flag(counts))
                case _:
                    raw = distinct_days(counts, "at_us")
            return [*found, named(raw, f"raw_{i}")]
        lacking = exp.Sum(this=flag(every([counts.copy(), inputs.state(column, MISSING)])))
        infinite = every([counts.copy(), inputs.state(column, NOT_FINITE)])
        branches = [(infinite, whole(REFUSED_FACT))]
        value = inputs.number(column)
        if column.content in ("answers", "responded"):
            answered = flag(every([counts, inputs.state(column, MISSING, equal=False)]))
            raw = exp.Sum(this=answered) if column.content == "answers" else exp.Max(this=answered)
            return [*found, named(raw, f"raw_{i}"), named(lacking, f"missing_{i}")]
        if column.content == "score":
            if column.scale == "nps":
                branches.insert(0, (every([counts.copy(), no_answer(value)]), whole(REFUSED_ANSWER)))
                answers = every([counts, inputs.state(column, KNOWN)])
                raw = exp.Sum(this=case([(answers, nps_score(value))], None))
            else:
                raw = exp.Sum(this=case([(counts, value)]))
        elif measure.aggregation == "sum":
            raw = exp.Sum(this=case([(counts, value)]))
        elif measure.aggregation == "max":
            raw = exp.Max(this=case([(counts, value)]))
        else:
            has_number = every([counts.copy(), inputs.state(column, MISSING, equal=False)])
            of_unit = over(exp.Max(this=case([(has_number, col("at_us"))])), [col("unit_id")])
            latest.append(named(of_unit, f"latest_{i}"))
            now = exp.EQ(this=col("at_us"), expression=col(f"latest_{i}"))
            raw = exp.Max(this=case([(every([counts, now]), value)]))
        refused = exp.Max(this=case(branches, whole(0)))
        return [*found, named(raw, f"raw_{i}"), named(lacking, f"missing_{i}"), named(refused, f"refused_{i}")]

    def wide(self, keys: list[str]) -> exp.Select:
        """One row per unit that counts: `keys` of units, and for each column value_i, missing_i, refused_i, there_i."""
        chosen: list[E] = [col(key, "u") for key in keys]
        for i, column in enumerate(self.asked.columns):
            chosen += self._per_unit(i, column)
        made = {name for name, _ in self.parts}
        joins = []
        for part, alias in [(f"values_{i}", f"v{i}") for i in range(len(self.sources))] + [
            (f"sequence_{i}", f"s{i}") for i in self.sequences
        ]:
            if part in made:
                same = exp.EQ(this=col("unit_id", "u"), expression=col("unit_id", alias))
                joins.append(join(table(part, alias), same, "LEFT"))
        inside = exp.EQ(this=col("inside", "u"), expression=whole(1))
        return select(chosen, table("units", "u"), joins=joins, where=[inside])

    def _per_unit(self, i: int, column: Column) -> list[E]:
        if column.content in ("step", "returned"):
            value: E = coalesce(col("raw", f"s{i}"), whole(0)) if i in self.sequences else whole(0)
            return [named(cast(value, DOUBLE), f"value_{i}")]
        if column.content == "no_history":
            seen = [
                exp.GT(this=coalesce(col(f"seen_{i}", f"v{self.sources.index(key)}"), whole(0)), expression=whole(0))
                for key in dict.fromkeys(column.sources)
                if key in self.sources
            ]
            return [named(cast(case([(some(seen), whole(0))], whole(1)), DOUBLE), f"value_{i}")]
        key = measure_of(column).fact_source
        there = any(i == position for _, position in self.asked.quantiles)
        if key not in self.sources:
            names = [f"value_{i}"] + ([f"missing_{i}", f"refused_{i}"] if takes_numbers(column) else [])
            return [named(cast(whole(0), DOUBLE), one) for one in [*names, *([f"there_{i}"] if there else [])]]
        of = f"v{self.sources.index(key)}"

        def part(called: str) -> E:
            return coalesce(col(f"{called}_{i}", of), whole(0))

        found = [named(part("there"), f"there_{i}")] if there else []
        if column.content == "days_share":
            share = exp.Div(this=cast(part("raw"), DOUBLE), expression=real(float(whole_days(column))))
            return [named(share, f"value_{i}")]
        raw = cast(part("raw"), DOUBLE)
        value = raw
        if column.content == "indicator":
            value = cast(flag(exp.GT(this=raw, expression=whole(0))), DOUBLE)
        if not takes_numbers(column):
            return [*found, named(value, f"value_{i}")]
        found.append(named(part("missing"), f"missing_{i}"))
        if column.content in ("answers", "responded"):
            return [*found, named(value, f"value_{i}"), named(whole(0), f"refused_{i}")]
        usable = within(raw.copy(), LARGEST_VALUE)
        why = case(
            [
                (exp.GT(this=part("refused"), expression=whole(0)), part("refused")),
                (exp.Not(this=exp.Paren(this=usable)), whole(REFUSED_FACT)),
            ],
            whole(0),
        )
        kept = case([(usable.copy(), value)], cast(whole(0), DOUBLE))
        return [*found, named(kept, f"value_{i}"), named(why, f"refused_{i}")]


def distinct_days(counts: E, time: str) -> E:
    """On how many days of `time` there are facts that count."""
    shifted = exp.Add(this=col(time), expression=whole(_DAYS_SHIFT))
    into_day = exp.Mod(this=exp.Paren(this=shifted), expression=whole(MICROSECONDS_A_DAY))
    day = exp.Sub(this=col(time), expression=exp.Paren(this=into_day))
    return exp.Count(this=exp.Distinct(expressions=[case([(counts, day)])]))


def nps_score(value: E) -> E:
    """1 for promoters, -1 for detractors."""
    promoter = exp.GTE(this=value.copy(), expression=whole(9))
    detractor = exp.LTE(this=value.copy(), expression=whole(6))
    return case([(promoter, whole(1)), (detractor, whole(-1))], whole(0))


def no_answer(value: E) -> E:
    """Whether a finite number is none of 0, 1, ..., 10."""
    fraction = exp.NEQ(this=value.copy(), expression=exp.Floor(this=value.copy()))
    outside = exp.Not(this=exp.Paren(this=exp.Between(this=value.copy(), low=whole(0), high=whole(10))))
    return some([outside, fraction])
