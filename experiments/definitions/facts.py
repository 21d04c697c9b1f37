"""Fact sources: where rows with a unit and a time are read."""

from typing import Annotated, Literal

from pydantic import Field

from experiments.definitions.elements import Definition, Key


class EventSource(Definition):
    """Rows of one ingested event name."""

    kind: Literal["events"] = "events"
    key: Key
    name: str = Field(default="", max_length=200)
    unit_type: str = Field(default="user", min_length=1, max_length=64)
    event: str = Field(min_length=1, max_length=200)


class FileSource(Definition):
    """A CSV or Parquet file below the configured folder."""

    kind: Literal["file"]
    key: Key
    name: str = Field(default="", max_length=200)
    unit_type: str = Field(default="user", min_length=1, max_length=64)
    path: str = Field(min_length=1, max_length=1000)
    unit_column: str = Field(min_length=1, max_length=200)
    timestamp_column: str = Field(min_length=1, max_length=200)


class DuckDBSource(Definition):
    """A table or view in a DuckDB database file below the configured folder."""

    kind: Literal["duckdb"]
    key: Key
    name: str = Field(default="", max_length=200)
    unit_type: str = Field(default="user", min_length=1, max_length=64)
    path: str = Field(min_length=1, max_length=1000)
    table: str = Field(min_length=1, max_length=200)
    unit_column: str = Field(min_length=1, max_length=200)
    timestamp_column: str = Field(min_length=1, max_length=200)


FactSourceSpec = Annotated[EventSource | FileSource | DuckDBSource, Field(discriminator="kind")]
