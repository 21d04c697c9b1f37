"""Groups of units by one or several dimensions of their exposures: two-way segments, and strata."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import duckdb
import numpy as np

from stats.moments import Ints
from warehouse.data_slice import DataSlice
from warehouse.units import MAX_LEVELS, OTHER_LEVELS, count_level_combinations

type Dimensions = Sequence[tuple[str, Sequence[str]]]
"""(name, levels), in the order of `Units.segment`."""

type CountCombinations = Callable[[Dimensions], Sequence[tuple[int, ...]]]
"""The combinations of positions of levels that exposures carry, most frequent first."""


LONGEST_NAME, LONGEST_GROUP = 64, 200
"""Results hold no longer names."""


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """Disjoint groups that every unit falls into: `place` has one axis per dimension and gives the group's position."""

    name: str
    dimensions: tuple[int, ...]
    groups: tuple[str, ...]
    place: Ints

    def of(self, segment: Ints) -> Ints:
        """(n,) the group of each unit, from the positions of its levels (dimensions, n)."""
        group: Ints = self.place[tuple(segment[i] for i in self.dimensions)]
        return group


def single(dimensions: Dimensions, position: int) -> Crossing:
    """The levels of one dimension as they are."""
    name, levels = dimensions[position]
    groups = tuple(shortened(level, LONGEST_GROUP) for level in levels)
    return Crossing(shortened(name, LONGEST_NAME), (position,), groups, np.arange(len(levels), dtype=np.int64))


def crossed(
    count: CountCombinations,
    dimensions: Dimensions,
    chosen: Sequence[int],
    *,
    name: str,
    label: Callable[[Sequence[str]], str],
    most: int,
) -> Crossing:
    """The combinations of levels that exposures carry, most frequent first; `label` names them.

    The last group, `(other)`, takes what exceeds `most` groups; it may well be empty.
    """
    parts = [dimensions[i] for i in chosen]
    counted = count(parts)
    kept = counted if len(counted) <= most else counted[: most - 1]
    place = np.full([len(levels) for _, levels in parts], len(kept), dtype=np.int64)
    for group, combination in enumerate(kept):
        place[combination] = group
    names = [label([levels[i] for (_, levels), i in zip(parts, combination, strict=True)]) for combination in kept]
    groups = (*(shortened(group, LONGEST_GROUP) for group in names), OTHER_LEVELS)
    return Crossing(shortened(name, LONGEST_NAME), tuple(chosen), groups, place)


def shortened(text: str, longest: int) -> str:
    """The text without its middle if it is too long: paths and the like differ at their ends."""
    if len(text) <= longest:
        return text
    tail = longest // 2
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def segments(
    connection: duckdb.DuckDBPyConnection,
    data: DataSlice,
    dimensions: Dimensions,
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> tuple[Crossing, ...]:
    """As `segments_of`, of the exposures of a slice."""
    return segments_of(partial(count_level_combinations, connection, data), dimensions, names, pairs)


def segments_of(
    count: CountCombinations, dimensions: Dimensions, names: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> tuple[Crossing, ...]:
    """What results are broken down by: dimensions, then pairs of them, named `a × b` with levels `x × y`.

    Dimensions that no exposure carries are left out.
    """
    position = {name: i for i, (name, _) in enumerate(dimensions)}
    found = [single(dimensions, position[name]) for name in names if name in position]
    for first, second in pairs:
        if first in position and second in position:
            both = (position[first], position[second])
            found.append(
                crossed(count, dimensions, both, name=f"{first} × {second}", label=" × ".join, most=MAX_LEVELS)
            )
    return tuple(found)
