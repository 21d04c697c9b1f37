"""What one pass over an experiment's data knows before it reads a bucket of units."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from experiments.columns import Column
from experiments.definitions import FactSourceSpec
from stats.moment_set import UnmappedFacts
from warehouse.crossings import Crossing
from warehouse.data_slice import DataSlice
from warehouse.strata import Strata
from warehouse.wanted import Wanted


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Everything about an extraction that does not depend on the bucket.

    `levels` are all dimensions that units carry, `segments` what is broken down, `strata` groups for adjustment. With
    `clustered` randomisation moments are over clusters. `wanted` says what else the pass makes. `unmapped` are facts of
    sources with a unit mapping that nobody can be found for.
    """

    connection: duckdb.DuckDBPyConnection
    data: DataSlice
    sources: Mapping[str, FactSourceSpec]
    columns: tuple[Column, ...]
    longest_us: int
    looks: tuple[datetime, ...]
    variants: tuple[str, ...]
    levels: tuple[tuple[str, Sequence[str]], ...]
    exposed_us: tuple[int, int]
    pool: Executor
    segments: tuple[Crossing, ...] = ()
    strata: Strata | None = None
    clustered: bool = False
    wanted: Wanted = field(default_factory=Wanted)
    unmapped: Mapping[str, UnmappedFacts] = field(default_factory=dict)

    @property
    def has_open_columns(self) -> bool:
        """Whether some values change with the look."""
        return any(is_open(column) for column in self.columns)


def is_open(column: Column) -> bool:
    """Whether a column's values change with the look."""
    return column.period == "outcome" and column.window_days is None
