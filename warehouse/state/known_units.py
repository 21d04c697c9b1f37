"""Everybody who was exposed, as arrays in order of the hash of their ids; ids themselves are not kept.

A unit is known by two hashes of 64 bits, of which the second one only confirms the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from stats.moments import Bools, Ints
from warehouse.engine import Parameters
from warehouse.state.unusable import Unusable
from warehouse.units import NO_LEVEL, OTHER_LEVELS, UNITS, Units

type Hashes = NDArray[np.uint64]
type Dictionary = dict[str, tuple[str, ...]]
"""By dimension the levels that units have or had; their positions are their codes."""

_CHECK = "md5_number_lower(unit_id)"


@dataclass(frozen=True, slots=True, eq=False)
class KnownUnits:
    """n units by ascending `hash`, with their first exposure `assigned_us` and where their windows begin, `at_us`.

    `arm` and `last_arm` (n,) are equal where the unit was seen in one variant only; the number of variants stands for
    any that is not in the plan. `level` (dimensions, n) are codes of the lane's dictionary.
    """

    hash: Hashes
    check: Hashes
    at_us: Ints
    assigned_us: Ints
    arm: NDArray[np.uint8]
    last_arm: NDArray[np.uint8]
    level: NDArray[np.int32]

    @classmethod
    def nobody(cls, dimensions: int) -> "KnownUnits":
        none, arm = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint8)
        at = np.zeros(0, dtype=np.int64)
        return cls(none, none, at, at, arm, arm, np.zeros((dimensions, 0), dtype=np.int32))

    def __len__(self) -> int:
        return len(self.hash)

    def variant(self, arms: int) -> Ints:
        """(n,) the position of the arm, or -1 where a unit is in none."""
        return np.where((self.arm == self.last_arm) & (self.arm < arms), self.arm.astype(np.int64), -1)

    def take(self, rows: Ints | Bools) -> "KnownUnits":
        """Some of the units, in this order."""
        return KnownUnits(
            self.hash[rows],
            self.check[rows],
            self.at_us[rows],
            self.assigned_us[rows],
            self.arm[rows],
            self.last_arm[rows],
            self.level[:, rows],
        )

    def units(self, arms: int, codes: Ints) -> Units:
        """As a pass knows units; `codes` (dimensions of the pass, n) are positions of levels, rows are their own."""
        return Units(
            at_us=self.at_us,
            variant=self.variant(arms),
            unit_hash=self.hash,
            segment=codes,
            rowid=np.arange(len(self), dtype=np.int64),
            crossover=int((self.arm != self.last_arm).sum()),
            assigned_us=self.assigned_us,
        )


def place_of(hashes: Hashes, among: Hashes) -> tuple[Ints, Bools]:
    """(n,) where each of `hashes` is, or would be, in the ascending `among`, and whether it is there."""
    place: Ints = np.searchsorted(among, hashes).astype(np.int64)
    if not len(among):
        return place, np.zeros(len(hashes), dtype=np.bool_)
    return place, among[np.minimum(place, len(among) - 1)] == hashes


def from_table(
    connection: duckdb.DuckDBPyConnection, dimensions: Sequence[str], present: Sequence[str], levels: Dictionary
) -> tuple[KnownUnits, Dictionary]:
    """The units of the table `UNITS` (`units.exposed_units`), and the dictionary with the levels that are new.

    `dimensions` are those of the lane, `present` those that the table has, in its order.
    """
    levels = dict(levels)
    parameters = Parameters()
    chosen, joins = "", ""
    for i, name in enumerate(present):
        column = f"level_{i}"
        found = [str(row[0]) for row in connection.execute(f"SELECT DISTINCT {column} FROM {UNITS}").fetchall()]
        known = levels.get(name, ())
        levels[name] = (*known, *sorted(set(found).difference(known)))
        names, size = parameters.add(list(levels[name])), parameters.add(len(levels[name]))
        joins += f" JOIN (SELECT unnest({names}) AS name, unnest(range({size})) AS code) d{i} ON {column} = d{i}.name"
        chosen += f", d{i}.code::INTEGER AS {column}"
    for name in dimensions:
        levels.setdefault(name, (NO_LEVEL,))
    columns = connection.execute(f"SELECT name FROM pragma_table_info('{UNITS}')").fetchall()
    begin = "triggered_us" if ("triggered_us",) in columns else "at_us"
    table = connection.sql(
        f"SELECT hash(unit_id) AS h, {_CHECK} AS c, at_us, {begin} AS begin_us,"
        f" arm, last_arm{chosen} FROM {UNITS}{joins}",
        params=parameters.values,
    ).fetchnumpy()
    hashes = np.asarray(table["h"], dtype=np.uint64)
    order = np.argsort(hashes)
    hashes = hashes[order]
    if (hashes[1:] == hashes[:-1]).any():
        raise Unusable("two units share a hash")
    level = np.empty((len(dimensions), len(hashes)), dtype=np.int32)
    for row, name in zip(level, dimensions, strict=True):
        if name in present:
            row[:] = np.asarray(table[f"level_{present.index(name)}"])[order]
        else:
            row[:] = levels[name].index(NO_LEVEL) if NO_LEVEL in levels[name] else _refuse(name)
    return KnownUnits(
        hash=hashes,
        check=np.asarray(table["c"], dtype=np.uint64)[order],
        at_us=np.asarray(table["begin_us"], dtype=np.int64)[order],
        assigned_us=np.asarray(table["at_us"], dtype=np.int64)[order],
        arm=np.asarray(table["arm"], dtype=np.uint8)[order],
        last_arm=np.asarray(table["last_arm"], dtype=np.uint8)[order],
        level=level,
    ), levels


def _refuse(name: str) -> int:
    raise Unusable(f"the dimension {name!r} is gone")


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What became of the units: `fresh` rows of now that are new or begin elsewhere, `moved_from` rows before that are

    gone or begin elsewhere now, and `regrouped` rows of now that begin where they did but with another arm or level.
    """

    fresh: Ints
    moved_from: Ints
    regrouped: Ints


def union(known: KnownUnits, new: KnownUnits, levels: Sequence[Sequence[str]]) -> tuple[KnownUnits, Changes]:
    """Everybody after more exposures: first exposures may be earlier, and arms more. Windows begin at first exposures.

    `levels` are the names behind the codes of each dimension. The same exposures again change nothing.
    """
    place, there = place_of(new.hash, known.hash)
    old, again = place[there], new.take(there)
    if (known.check[old] != again.check).any():
        raise Unusable("two units share a hash")
    before = known.take(old)
    sooner, same = again.at_us < before.at_us, again.at_us == before.at_us
    level = known.level.copy()
    for row, of_again, names in zip(level, again.level, levels, strict=True):
        rank = np.empty(len(names), dtype=np.int64)
        rank[np.argsort(np.array(names, dtype=object), kind="stable")] = np.arange(len(names))
        smaller = same & (rank[of_again] < rank[row[old]])
        row[old] = np.where(sooner | smaller, of_again, row[old])
    arm, last_arm = np.minimum(before.arm, again.arm), np.maximum(before.last_arm, again.last_arm)
    grouped = (arm == before.arm) & (last_arm == before.last_arm) & (level[:, old] == before.level).all(axis=0)
    where, first = place[~there], new.take(~there)
    # What is inserted at one place keeps its order, so that hashes stay ascending.
    inserted = where + np.arange(len(where))
    moved_to = np.ones(len(known) + len(where), dtype=np.bool_)
    moved_to[inserted] = False
    kept = np.flatnonzero(moved_to)

    def put[T: np.generic](values: NDArray[T], at_old: NDArray[T], at_new: NDArray[T]) -> NDArray[T]:
        found = np.empty(len(moved_to), dtype=values.dtype)
        found[kept] = values
        found[kept[old]] = at_old
        found[inserted] = at_new
        return found

    at_us = put(known.at_us, np.minimum(before.at_us, again.at_us), first.at_us)
    after = KnownUnits(
        hash=put(known.hash, before.hash, first.hash),
        check=put(known.check, before.check, first.check),
        at_us=at_us,
        assigned_us=at_us,
        arm=put(known.arm, arm, first.arm),
        last_arm=put(known.last_arm, last_arm, first.last_arm),
        level=np.array(
            [put(row, row[old], more) for row, more in zip(level, first.level, strict=True)], dtype=np.int32
        ).reshape(len(level), len(moved_to)),
    )
    fresh = np.sort(np.concatenate([inserted, kept[old[sooner]]]))
    return after, Changes(fresh, old[sooner], kept[old[~sooner & ~grouped]])


def changes(before: KnownUnits, now: KnownUnits) -> Changes:
    """What is different about the units."""
    fresh = np.ones(len(now), dtype=np.bool_)
    place, there = place_of(before.hash, now.hash)
    rows, at = np.flatnonzero(there), place[there]
    if (before.check[rows] != now.check[at]).any():
        raise Unusable("two units share a hash")
    same = (before.at_us[rows] == now.at_us[at]) & (before.assigned_us[rows] == now.assigned_us[at])
    fresh[at[same]] = False
    grouped = (before.arm[rows] == now.arm[at]) & (before.last_arm[rows] == now.last_arm[at])
    grouped &= (before.level[:, rows] == now.level[:, at]).all(axis=0)
    gone = np.concatenate([np.flatnonzero(~there), rows[~same]])
    return Changes(np.flatnonzero(fresh), gone, at[same & ~grouped])


def codes_of(
    known: KnownUnits, dimensions: Sequence[str], levels: Dictionary, wanted: Mapping[str, Sequence[str]]
) -> Ints:
    """(wanted dimensions, n) the positions of the units' levels in the lists that a pass has."""
    codes = np.empty((len(wanted), len(known)), dtype=np.int64)
    for row, (name, names) in zip(codes, wanted.items(), strict=True):
        named = names[:-1] if names and names[-1] == OTHER_LEVELS else names
        place = {level: i for i, level in enumerate(named)}
        of_code = np.array([place.get(level, len(named)) for level in levels[name]], dtype=np.int64)
        row[:] = of_code[known.level[dimensions.index(name)]] if named else 0
    return codes
