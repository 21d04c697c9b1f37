"""The per-unit table of one bucket of units: every column's value for every unit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from experiments.columns import Column
from stats.moments import Bools, Floats
from warehouse.answers import score_answers
from warehouse.facts import Facts, measure_of, read_facts
from warehouse.one_pass import Pass, is_open
from warehouse.sequences import fill_days_share, fill_sequence
from warehouse.units import Units

NON_FINITE = "non_finite_values"
LARGEST_VALUE = 1e90
"""Sums of cubes of larger values are not finite."""

type AllFacts = Mapping[str, Facts | None]
"""The facts of a bucket of units by source; None for a source without any."""

type Reader = Callable[[Pass, Units, int, Sequence[Column]], AllFacts]
"""As `read_all`."""


def read_all(work: Pass, units: Units, look_us: int, columns: Sequence[Column]) -> dict[str, Facts | None]:
    """The facts of every source that the columns use, up to a look."""
    by_source: dict[str, list[Column]] = {}
    for read in (read for column in columns for read in column.reads):
        by_source.setdefault(measure_of(read).fact_source, []).append(read)
    return {
        key: read_facts(
            work.connection,
            work.sources[key],
            reads,
            work.data,
            units=units,
            exposed_us=work.exposed_us,
            look_us=look_us,
        )
        for key, reads in by_source.items()
    }


def facts_of(facts: AllFacts, column: Column) -> Facts | None:
    """The facts that a column reads."""
    return facts[measure_of(column).fact_source]


def is_calculable(values: Floats) -> bool:
    """Whether all values are finite and small enough for moments; comparisons with NaN are false, so it is caught."""
    return not len(values) or bool(values.min() >= -LARGEST_VALUE and values.max() <= LARGEST_VALUE)


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """The per-unit table: `values` (k, n), indicators and caps applied.

    `invalid` columns held something that is no number to calculate with, and are zeros; they map to the reason.
    `missing` has, by column, the unit of every fact that holds a null where the column takes a number: such a fact
    counts for nothing. `caps` by column are applied whenever it is filled.
    """

    values: Floats
    invalid: dict[int, str] = field(default_factory=dict)
    missing: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    caps: dict[int, float] = field(default_factory=dict)

    @classmethod
    def empty(cls, columns: int, units: int) -> "Values":
        return cls(np.zeros((columns, units)))

    def fill(self, columns: Sequence[Column], facts: AllFacts, look_us: int, *, only_open: bool = False) -> None:
        """Compute the columns as of a look; `only_open` those whose values change with the look."""
        for i, column in enumerate(columns):
            if i in self.invalid or (only_open and not is_open(column)):
                continue
            value = self.values[i]
            value[:] = 0.0
            reason = self._measure(i, column, facts, look_us)
            if not reason and not is_calculable(value):
                reason = NON_FINITE
            if reason:
                self.refuse(i, reason)
            elif column.content == "indicator":
                value[:] = value > 0
            if i in self.caps:
                np.minimum(value, self.caps[i], out=value)

    def refuse(self, i: int, reason: str) -> None:
        """Withdraw a column."""
        self.invalid[i] = reason
        self.values[i] = 0.0

    def _measure(self, i: int, column: Column, facts: AllFacts, look_us: int) -> str:
        """Fill a column with what its facts say; returns why it cannot be."""
        value = self.values[i]
        if column.content in ("step", "returned"):
            fill_sequence(column, [(facts_of(facts, read), read) for read in column.reads], look_us, value)
            return ""
        if column.content == "no_history":
            seen: Bools = np.zeros(len(value), dtype=np.bool_)
            for read in column.reads:
                source = facts_of(facts, read)
                if source is not None:
                    source.mark(read, look_us, seen)
            value[:] = ~seen
            return ""
        source = facts_of(facts, column)
        if source is None:
            return ""
        if column.content == "days_share":
            fill_days_share(column, source, look_us, value)
            return ""
        if column.content in ("value", "indicator"):
            self.missing[i] = source.measure(column, look_us, value)
            return ""
        answers = source.numbers(column, look_us)
        self.missing[i] = answers.missing
        return score_answers(column, answers, value, source.most)
