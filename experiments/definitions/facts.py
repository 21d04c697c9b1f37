"""Fact sources: where rows with a unit and a time are read."""

from typing import Annotated, Literal

from pydantic import Field

from experiments.definitions.elements import Definition, Key
from experiments.definitions.filters import Filter

Column = Annotated[str, Field(min_length=1, max_length=200)]


class UnitMapping(Definition):
    """Whose a fact is, where its source knows units by another id (a device, a cookie, a card).

    The unit column of the source then holds the other id. Each row of `fact_source` says that the id in its `id_column`
    belongs to its unit. Facts of an id without a unit count for nobody, and so do those of an id with several: nobody
    can say whose they are. Both are counted.
    """

    fact_source: Key
    id_column: Column


class _Source(Definition):
    """What all sources have. `filters`: only rows that pass all of them exist for any metric."""

    key: Key
    name: str = Field(default="", max_length=200)
    unit_type: str = Field(default="user", min_length=1, max_length=64)
    filters: list[Filter] = Field(default_factory=list, max_length=20)
    unit_mapping: UnitMapping | None = None


class EventSource(_Source):
    """Rows of one ingested event name."""

    kind: Literal["events"] = "events"
    event: str = Field(min_length=1, max_length=200)


class FileSource(_Source):
    """A CSV or Parquet file below the configured folder."""

    kind: Literal["file"]
    path: str = Field(min_length=1, max_length=1000)
    unit_column: Column
    timestamp_column: Column


class DuckDBSource(_Source):
    """A table or view in a DuckDB database file below the configured folder."""

    kind: Literal["duckdb"]
    path: str = Field(min_length=1, max_length=1000)
    table: str = Field(min_length=1, max_length=200)
    unit_column: Column
    timestamp_column: Column


class TableSource(_Source):
    """A table or view of a connected warehouse (`connection` is a key of /v1/connections); rows stay there.

    `table` may be qualified (`schema.table`, `catalog.schema.table`). `day_column` is a DATE that is the UTC day of the
    timestamp: where the table is partitioned by it, the engine reads only the days that a plan needs.
    """

    kind: Literal["table"]
    connection: Key
    table: str = Field(min_length=1, max_length=400)
    unit_column: Column
    timestamp_column: Column
    day_column: Column | None = None


FactSourceSpec = Annotated[EventSource | FileSource | DuckDBSource | TableSource, Field(discriminator="kind")]

type Place = str | None
"""Where facts are: the key of a connection; None is Northlift itself, with files and DuckDB databases."""


def place_of(source: FactSourceSpec) -> Place:
    """Where a source's facts are."""
    return source.connection if isinstance(source, TableSource) else None
