"""When a cohort is sealed, and on which days its facts are."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from warehouse.compile.asked import Asked, reads, span_of_all
from warehouse.compile.preparing import Prepared
from warehouse.engine import MICROSECONDS_A_DAY
from warehouse.state.cohort_facts import last_moment


@dataclass(frozen=True)
class CohortDays:
    """Cohorts (`cohort_facts`) of an experiment whose facts may come `late_us` late.

    `spans`: by source, the first and last moment since exposure at which a fact can matter. Days of a source are
    counted from the first one that matters to anybody, and end a microsecond after those of cohorts.
    """

    started_us: int
    longest_us: int
    late_us: int
    spans: Mapping[str, tuple[int, int]]

    @cached_property
    def _tail_us(self) -> int:
        """Whole days after which all windows of a cohort are complete."""
        longest = max([self.longest_us, *(end for _, end in self.spans.values())])
        return -(-longest // MICROSECONDS_A_DAY) * MICROSECONDS_A_DAY

    def settled_us(self, cohort: int) -> int:
        """When nothing of a cohort is expected to come late any more."""
        return last_moment(cohort, self.started_us) + self._tail_us + self.late_us

    def sealed(self, as_of_us: int) -> int:
        """How many cohorts, from 0, are sealed."""
        return max(0, (as_of_us - self.settled_us(0)) // MICROSECONDS_A_DAY + 1)

    def period_us(self, source: str, sealed: int) -> tuple[int, int]:
        """The days of a source that sealed cohorts need: [first, end)."""
        first = self._first_us(source)
        _, last = self.days(source, 0, sealed - 1)
        return first, first + (last + 1) * MICROSECONDS_A_DAY

    def days(self, source: str, first: int, last: int) -> tuple[int, int]:
        """The first and last day of a source with facts of the cohorts `first` to `last`."""
        start, end = self.spans[source]
        begin = last_moment(first - 1, self.started_us) + 1 + start
        until = last_moment(last, self.started_us) + end - 1
        low, high = ((at - self._first_us(source)) // MICROSECONDS_A_DAY for at in (begin, until))
        return low, high

    def _first_us(self, source: str) -> int:
        start, _ = self.spans[source]
        return self.started_us + 1 + (start - MICROSECONDS_A_DAY) // MICROSECONDS_A_DAY * MICROSECONDS_A_DAY


def spans_of(work: Prepared, asked: Asked) -> dict[str, tuple[int, int]]:
    """By source, the first and last moment since exposure at which a fact can matter."""
    found = {}
    for key, columns in reads(asked.columns).items():
        start, end = span_of_all(columns)
        assert end is not None
        if work.rows[key] is not None:
            found[key] = (start, end)
    return found
