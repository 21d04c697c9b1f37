"""What one pass over an experiment's data knows before it reads a bucket of units."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime

import duckdb

from experiments.columns import Column
from experiments.definitions import FactSourceSpec
from warehouse.data_slice import DataSlice


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Everything about an extraction that does not depend on the bucket."""

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

    @property
    def has_open_columns(self) -> bool:
        """Whether some values change with the look."""
        return any(is_open(column) for column in self.columns)


def is_open(column: Column) -> bool:
    """Whether a column's values change with the look."""
    return column.period == "outcome" and column.window_days is None
