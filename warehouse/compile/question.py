"""What a statement is asked: a pass, the rows it reads, the look, and what else narrows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from experiments.definitions import FactSourceSpec, Filter
from experiments.plan import AnalysisPlan
from warehouse.compile.relations import Rows
from warehouse.compile.words import Words
from warehouse.engine import epoch_us
from warehouse.one_pass import Pass
from warehouse.wanted import Caps


class Facts(Protocol):
    """What reading facts takes: the rows of each source (None: no facts at all), and when the data end."""

    @property
    def words(self) -> Words: ...

    @property
    def rows(self) -> Mapping[str, Rows | None]: ...

    @property
    def as_of_us(self) -> int: ...

    def spec(self, key: str) -> FactSourceSpec: ...


@dataclass(frozen=True, slots=True)
class Shown:
    """Exposures as a relation: its column of variants, and the column of each segment by its name in lower case.

    `source` is the key of the fact source whose rows they are, those that pass `filters`; None for what was ingested.
    """

    rows: Rows
    variant: str
    segments: Mapping[str, str]
    source: str | None = None
    filters: tuple[Filter, ...] = ()

    def column(self, dimension: str) -> str | None:
        """The column with a dimension's levels; None if there is none."""
        return self.segments.get(dimension.lower())


@dataclass(frozen=True, slots=True)
class Cohort:
    """Units whose first exposure is in [`start_us`, `end_us`): cohorts are disjoint, so their moments merge."""

    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Elsewhere:
    """What another experiment gave units: its exposures in a period, and its arms; they are not in this plan."""

    facts: Facts
    shown: Shown
    period_us: tuple[int, int]
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Active:
    """In place of an experiment's plan: units are those with any fact of these sources, from their first one on."""

    sources: tuple[str, ...]
    trigger: None = None
    cluster: None = None


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A pass over `rows` by source (None: no facts at all) and the exposures `shown` (None: nobody).

    `look` is the position of the look; only the last one answers everything. `caps` are those of all units, where
    another statement found them. With `elsewhere` the codes of units are what each of these gave them, one past the
    last arm for none or several; the pass then has no levels.
    """

    work: Pass
    plan: AnalysisPlan | Active
    words: Words
    shown: Shown | None
    rows: Mapping[str, Rows | None]
    look: int
    caps: Caps | None = None
    cohort: Cohort | None = None
    elsewhere: tuple[Elsewhere, ...] = ()

    @property
    def look_us(self) -> int:
        return epoch_us(self.work.looks[self.look])

    @property
    def as_of_us(self) -> int:
        return epoch_us(self.work.data.data_as_of)

    @property
    def arms(self) -> int:
        return len(self.work.variants)

    @property
    def is_last(self) -> bool:
        return self.look == len(self.work.looks) - 1

    def spec(self, key: str) -> FactSourceSpec:
        return self.work.sources[key]
