"""The per-unit table of one bucket of units: every column's value for every unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.columns import Column
from stats.moments import Bools, Floats, Ints
from warehouse.facts import Facts, read_facts
from warehouse.one_pass import Pass, is_open
from warehouse.units import Units

NON_FINITE = "non_finite_values"
LARGEST_VALUE = 1e90
"""Sums of cubes of larger values are not finite."""


def read_all(work: Pass, units: Units, look_us: int) -> dict[str, Facts | None]:
    """The facts of every source that the columns use."""
    position = units.position
    by_source: dict[str, list[Column]] = {}
    for read in (read for column in work.columns for read in column.reads):
        assert read.measure is not None
        by_source.setdefault(read.measure.fact_source, []).append(read)
    return {
        key: read_facts(
            work.connection,
            work.sources[key],
            columns,
            work.data,
            position=position,
            exposed_us=work.exposed_us,
            look_us=look_us,
        )
        for key, columns in by_source.items()
    }


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """The per-unit table: `values` (k, n), indicators applied; `invalid` (k,) had non-finite facts and are zeros."""

    values: Floats
    invalid: Bools

    def fill(
        self,
        columns: Sequence[Column],
        facts: Mapping[str, Facts | None],
        exposed_us: Ints,
        look_us: int,
        *,
        only_open: bool = False,
    ) -> None:
        """Compute the columns as of a look; `only_open` those whose values change with the look."""
        for i, column in enumerate(columns):
            if self.invalid[i] or (only_open and not is_open(column)):
                continue
            value = self.values[i]
            total = np.zeros(len(value))
            for read in column.reads:
                source = facts[read.measure.fact_source] if read.measure else None
                if source is not None:
                    source.measure(read, exposed_us, look_us, value)
                    total += value
            value[:] = total
            # Comparisons with NaN are false, so NaN is caught as well.
            if len(value) and not (value.min() >= -LARGEST_VALUE and value.max() <= LARGEST_VALUE):
                self.invalid[i] = True
                value[:] = 0.0
            if column.content == "indicator":
                value[:] = value > 0
            elif column.content == "no_history":
                value[:] = value == 0
