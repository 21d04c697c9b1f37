"""The facts of a cohort of units, kept as they were read, and put together with those that came later.

Cohort i are the units whose windows begin in (start + (i - 1) days, start + i days]: all of them enter at one look.
Facts and not values are kept: they take about as much space, a late one is simply added, and whatever a plan makes of
facts is made by the same code as in a full pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stats.moments import Bools, Ints
from warehouse.engine import MICROSECONDS_A_DAY
from warehouse.facts import Facts
from warehouse.state.known_units import Hashes, place_of
from warehouse.state.unusable import Unusable
from warehouse.units import Units


def cohort_of(at_us: Ints, started_us: int) -> Ints:
    """(n,) the cohort of units by where their windows begin."""
    return -((started_us - at_us) // MICROSECONDS_A_DAY)


def last_moment(cohort: int, started_us: int) -> int:
    """The last moment at which windows of a cohort begin."""
    return started_us + cohort * MICROSECONDS_A_DAY


@dataclass(frozen=True, slots=True, eq=False)
class SourceFacts:
    """The facts of one source, as in `facts.Facts`; `position` points into the cohort's units."""

    position: NDArray[np.int32]
    since_us: Ints
    inputs: Mapping[str, NDArray[np.generic]]
    names: Mapping[str, str]

    def take(self, rows: Ints | Bools, position: NDArray[np.int32]) -> "SourceFacts":
        """Some of the facts, at other positions."""
        inputs = {name: values[rows] for name, values in self.inputs.items()}
        return SourceFacts(position, self.since_us[rows], inputs, self.names)

    def __add__(self, other: "SourceFacts") -> "SourceFacts":
        types = {name: values.dtype for name, values in self.inputs.items()}
        if self.names != other.names or types != {name: values.dtype for name, values in other.inputs.items()}:
            raise Unusable("facts have other columns now")
        return SourceFacts(
            np.concatenate([self.position, other.position]),
            np.concatenate([self.since_us, other.since_us]),
            {name: np.concatenate([values, other.inputs[name]]) for name, values in self.inputs.items()},
            self.names,
        )


@dataclass(frozen=True, slots=True, eq=False)
class CohortFacts:
    """Units by ascending `hash` (n,) and their facts by source; None for a source without any."""

    hash: Hashes
    sources: Mapping[str, SourceFacts | None]

    @property
    def size(self) -> int:
        """Bytes of its arrays."""
        sources = [source for source in self.sources.values() if source is not None]
        of_inputs = sum(values.nbytes for source in sources for values in source.inputs.values())
        return of_inputs + sum(source.position.nbytes + source.since_us.nbytes for source in sources)

    def moved_to(self, hashes: Hashes, without: Hashes) -> "CohortFacts":
        """The facts of those units that are among `hashes` and not among `without`; both ascending."""
        place, there = place_of(self.hash, hashes)
        there &= ~place_of(self.hash, without)[1]
        target, moved = place.astype(np.int32), dict[str, SourceFacts | None]()
        for key, source in self.sources.items():
            if source is None:
                moved[key] = None
            else:
                rows = np.flatnonzero(there[source.position])
                moved[key] = source.take(rows, target[source.position[rows]])
        return CohortFacts(hashes, moved)

    def __add__(self, other: "CohortFacts") -> "CohortFacts":
        """With more facts, of units that are all among these."""
        late = other.moved_to(self.hash, without=self.hash[:0])
        keys = dict.fromkeys([*self.sources, *late.sources])
        return CohortFacts(self.hash, {key: _both(self.sources.get(key), late.sources.get(key)) for key in keys})

    def facts(self, units: Units) -> dict[str, Facts | None]:
        """As a pass reads them, for these very units in any order (their `rowid` is their place here)."""
        place = units.position.astype(np.int32)
        found = dict[str, Facts | None]()
        for key, source in self.sources.items():
            if source is None:
                found[key] = None
            else:
                position = place[source.position]
                most = int(np.bincount(position, minlength=1).max())
                found[key] = Facts(units, position, source.since_us, source.inputs, source.names, most)
        return found


def _both(one: SourceFacts | None, other: SourceFacts | None) -> SourceFacts | None:
    if one is None or other is None:
        return one or other
    if not len(one.position):
        return other
    return one + other if len(other.position) else one


def by_cohort(facts: Mapping[str, Facts | None], hashes: Hashes, cohort: Ints) -> dict[int, CohortFacts]:
    """The facts of units that lie in order of their `cohort` (n,) and within of their `hashes` (n,), apart."""
    present, begin = np.unique(cohort, return_index=True)
    ends = np.append(begin[1:], len(cohort))
    found: dict[int, dict[str, SourceFacts | None]] = {int(i): {} for i in present}
    for key, source in facts.items():
        if source is None:
            for one in found.values():
                one[key] = None
            continue
        group = np.searchsorted(begin, source.position, side="right") - 1
        order = np.argsort(group.astype(np.uint16), kind="stable")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(present)))])
        for i, index in enumerate(present):
            rows = order[bounds[i] : bounds[i + 1]]
            position = source.position[rows] - np.int32(begin[i])
            inputs = {name: values[rows] for name, values in source.inputs.items()}
            found[int(index)][key] = SourceFacts(position, source.since_us[rows], inputs, source.names)
    return {int(i): CohortFacts(hashes[a:b], found[int(i)]) for i, a, b in zip(present, begin, ends, strict=True)}
