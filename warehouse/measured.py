"""A bucket of units in its order of summation, with everything that was measured on them."""

from dataclasses import dataclass

import numpy as np

from stats.moments import Bools, Floats, Ints
from warehouse.cells import order_of_units
from warehouse.one_pass import Pass
from warehouse.units import Units


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """n units: `entry` (n,) the look at which each enters, `cell` (n,) its (entry, variant) or -1 where it is in none.

    `variant` (n,) is the arm of those that entered by the last look, -1 for the others.
    """

    units: Units
    entry: Ints
    cell: Ints
    variant: Ints

    @property
    def entered(self) -> Bools:
        """(n,) whether a unit's values count at the last look."""
        return self.cell >= 0


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Units with their values (k, n) at the last look."""

    work: Pass
    placed: Placed
    values: Floats

    @property
    def arms(self) -> int:
        return len(self.work.variants)


def in_order(units: Units, looks_us: Ints, longest_us: int, arms: int) -> Placed:
    """The units in their order of summation: by cell, and by hash within."""

    def place(these: Units) -> tuple[Ints, Ints]:
        entry: Ints = np.searchsorted(looks_us, these.at_us + longest_us, side="left")
        inside = (these.variant >= 0) & (entry < len(looks_us))
        return entry, np.where(inside, entry * arms + these.variant, -1)

    ordered = units.take(order_of_units(place(units)[1], len(looks_us) * arms, units.unit_hash))
    entry, cell = place(ordered)
    return Placed(ordered, entry, cell, np.where(cell >= 0, ordered.variant, -1))
