"""The numbers per unit that a statement makes: columns of the moments, what caps are quantiles of, quantile metrics.

What can be said without any SQL: which columns take part, what each reads, and what a window is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from experiments.columns import Column, QuantileColumn
from warehouse.caps import bases
from warehouse.compile.question import Question
from warehouse.compile.words import E, col, every, whole
from warehouse.engine import days_us
from warehouse.facts import measure_of, span_of, takes_numbers
from warehouse.one_pass import is_open


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """`columns`: first the k of the moments, then others, each once.

    `base` by position of a column capped at a quantile is the position of the column whose quantile that is;
    `quantiles` are (metric, position of its column).
    """

    columns: tuple[Column, ...]
    k: int
    base: dict[int, int]
    quantiles: tuple[tuple[QuantileColumn, int], ...]

    @property
    def numeric(self) -> list[int]:
        """Positions of columns whose facts are numbers, which may be no numbers to calculate with."""
        return [i for i, column in enumerate(self.columns) if is_plain(column) and takes_numbers(column)]

    @property
    def counted(self) -> list[int]:
        """Positions of columns of the moments with facts that may lack their number."""
        return [i for i in self.numeric if i < self.k]


def asked(question: Question) -> Asked:
    """What the question needs; quantile metrics only at the last look."""
    work = question.work
    columns = list(work.columns)
    bare = [replace(column, name="", cap=None) for column in columns]
    found: dict[int, int] = {}
    for i, basis in (bases(work) if question.caps is None and question.is_last else {}).items():
        if basis.period == work.columns[i].period:
            found[i] = i
            continue
        key = replace(basis, name="")
        if key not in bare:
            columns.append(basis)
            bare.append(key)
        found[i] = bare.index(key)
    quantiles = []
    for metric in compiled_quantiles(question) if question.is_last else ():
        quantiles.append((metric, len(columns)))
        columns.append(metric.column)
    return Asked(tuple(columns), len(work.columns), found, tuple(quantiles))


def compiled_quantiles(question: Question) -> list[QuantileColumn]:
    """The quantile metrics whose values leave an engine as counts: of units in closed windows, each unit by itself."""
    work = question.work
    return [
        metric
        for metric in work.wanted.quantiles
        if metric.of == "unit" and not is_open(metric.column) and not work.clustered
    ]


def is_plain(column: Column) -> bool:
    """Whether a column is an aggregate of the facts of one source."""
    return column.content not in ("no_history", "step", "returned")


def reads(columns: Sequence[Column]) -> dict[str, list[Column]]:
    """By source, the plain columns that have to be read."""
    found: dict[str, list[Column]] = {}
    for read in (read for column in columns for read in column.reads):
        found.setdefault(measure_of(read).fact_source, []).append(read)
    return found


def span_of_all(columns: Sequence[Column]) -> tuple[int, int | None]:
    """The first and last microsecond, since exposure, at which a fact can matter to any of them."""
    spans = [span_of(column) for column in columns]
    closed = [span.end for span in spans if span.end is not None]
    return min(span.start for span in spans), max(closed) if len(closed) == len(spans) else None


def in_window(column: Column, passes: Sequence[E], look_us: int) -> E:
    """Whether a fact is in a column's window and `passes` its filters."""
    span = span_of(column)
    since = "before" if span.before else "since"
    conditions: list[E] = [exp.GTE(this=col(since), expression=whole(span.start))]
    if span.end is None:
        conditions.append(exp.LT(this=col("at_us"), expression=whole(look_us)))
    else:
        conditions.append(exp.LT(this=col(since), expression=whole(span.end)))
    conditions += passes
    return every(conditions)


def whole_days(column: Column) -> int:
    """The length of a column's period in whole days, rounded up."""
    length = column.pre_period_days if column.period == "pre" else column.window_days
    assert length is not None
    return math.ceil(length)


def delayed(column: Column) -> tuple[int, int]:
    """The window after the start of a column of the content `returned`."""
    assert column.window_days is not None
    low = days_us(column.delay_days)
    return low, low + days_us(column.window_days)
