"""What other experiments gave the units (METHODS A16): that changes every day for all of them, what they did does not.

So the values of complete cohorts are kept, and grouped anew by the arms that the units have elsewhere by now.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stats.moments import Floats, Ints, Moments
from warehouse.caps import apply_caps
from warehouse.cells import moments_by_cell, regroup, reshape
from warehouse.engine import epoch_us
from warehouse.entered import of_entered
from warehouse.one_pass import Pass
from warehouse.other_experiments import arms_of
from warehouse.state.known_units import KnownUnits
from warehouse.units import Units
from warehouse.values import AllFacts, Values
from warehouse.wanted import Caps

type Arms = NDArray[np.int16]


def arms_elsewhere(work: Pass, known: KnownUnits) -> Arms:
    """(others, n) as `other_experiments.variants_elsewhere`, of units that are known by their hashes."""
    who = {"h": known.hash, "c": known.check, "r": np.arange(len(known), dtype=np.int32)}
    work.connection.register("known_units", who)
    same = "hash(shown.unit_id) = k.h AND md5_number_lower(shown.unit_id) = k.c"
    found = arms_of(work.connection, work.data, len(known), f"known_units k ON {same}", "k.r")
    work.connection.unregister("known_units")
    return found


def values_of(work: Pass, units: Units, facts: AllFacts, caps: Caps) -> Floats:
    """(k, n) the values of units whose windows are complete, as they are analysed; what is withdrawn is zero."""
    inside = units.variant >= 0
    table = Values.empty(len(work.columns), len(units))
    table.fill(work.columns, of_entered(facts, inside), epoch_us(work.looks[-1]))
    apply_caps(table, caps)
    return table.values


def cells_of(work: Pass, values: Floats, variant: Ints, elsewhere: Arms) -> tuple[Moments, ...]:
    """Cells (other variants, V) of complete units for each concurrent experiment."""
    arms, found = len(work.variants), []
    for other, given in zip(work.data.concurrent, elsewhere.astype(np.int64), strict=True):
        cells = len(other.variants) * arms
        cell = np.where((variant >= 0) & (given >= 0), given * arms + variant, -1)
        moments = moments_by_cell(values, cell, cells, work.pool, regroup(cell, cells))
        found.append(reshape(moments, (len(other.variants), arms)))
    return tuple(found)


def union_of(cohorts: Sequence[tuple[Moments, ...]]) -> tuple[Moments, ...]:
    """The cells of all cohorts."""
    return tuple(_merged(parts) for parts in zip(*cohorts, strict=True))


def _merged(parts: Sequence[Moments]) -> Moments:
    stacked = Moments(
        np.stack([part.count for part in parts]),
        np.stack([part.mean for part in parts]),
        np.stack([part.comoment for part in parts]),
        np.stack([part.third for part in parts]),
    )
    return stacked.merge_axis(0)
