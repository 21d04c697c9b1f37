"""Strata for post-stratification: attributes of the exposures, crossed with the stages of a ramp (METHODS A8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import duckdb
import numpy as np

from stats.moments import Ints
from warehouse.crossings import CountCombinations, Crossing, Dimensions, crossed
from warehouse.data_slice import DataSlice
from warehouse.engine import epoch_us
from warehouse.units import Units, count_level_combinations

MAX_STRATA = 30
"""Rare combinations of attributes share a stratum; stages never do: their shares of the variants differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """Disjoint strata: `crossing` of attributes (None for none) times the stages that begin at `stages_us`."""

    names: tuple[str, ...]
    crossing: Crossing | None
    stages_us: Ints

    def of(self, units: Units) -> Ints:
        """(n,) the stratum of each unit; what counts for the stage is when it was assigned."""
        stage = np.searchsorted(self.stages_us, units.assigned_us, side="right") - 1
        stage = np.maximum(stage, 0)
        if self.crossing is None:
            return stage
        return self.crossing.of(units.segment) * len(self.stages_us) + stage


def strata_of(
    connection: duckdb.DuckDBPyConnection, data: DataSlice, dimensions: Dimensions, attributes: Sequence[str]
) -> Strata | None:
    """As `strata_with`, of the exposures of a slice."""
    return strata_with(partial(count_level_combinations, connection, data), data, dimensions, attributes)


def strata_with(
    count: CountCombinations, data: DataSlice, dimensions: Dimensions, attributes: Sequence[str]
) -> Strata | None:
    """The strata of an experiment, some of them perhaps empty; None where there would be a single one.

    Attributes that no exposure carries are left out.
    """
    stages = max(1, len(data.allocation))
    stages_us = np.array([epoch_us(since) for since, _ in data.allocation] or [0], dtype=np.int64)
    position = {name: i for i, (name, _) in enumerate(dimensions)}
    known = [name for name in dict.fromkeys(attributes) if name in position]
    most = MAX_STRATA // stages
    crossing = None
    if known and most > 1:
        crossing = crossed(
            count,
            dimensions,
            [position[name] for name in known],
            name="stratum",
            label=lambda levels: ", ".join(f"{name}={level}" for name, level in zip(known, levels, strict=True)),
            most=most,
        )
    groups = crossing.groups if crossing else ("",)
    names = [", ".join(filter(None, (group, _stage(i, stages)))) for group in groups for i in range(stages)]
    return Strata(tuple(names), crossing, stages_us) if len(names) > 1 else None


def _stage(index: int, stages: int) -> str:
    return f"stage {index + 1}" if stages > 1 else ""
