"""What a compiled statement needs of an engine, whatever it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray
from sqlglot import exp

type Kind = Literal["text", "number", "boolean", "timestamp", "timestamptz", "date", "other"]
"""What a column holds. `timestamp` has no zone and is read as UTC; `timestamptz` is a moment."""

type Table = Mapping[str, NDArray[Any]]
"""Columns (rows,) of a result by name; names are in lower case.

A whole number that may not be null is int64. Every other number is float64, null being NaN. Text is an object array of
str or None. An array of numbers is an object array of sequences of float, in which null is None or NaN.
"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a statement will read, before it runs; None where the engine cannot say. `basis` is where that is from."""

    rows: int | None
    bytes: int | None
    basis: str


class Engine(Protocol):
    """A place where tables are. Sessions are read-only where the engine knows such, and their time zone is UTC.

    Statements are expressions of sqlglot, rendered by the engine in its own dialect: names quoted, values literals of
    the generator. Errors of the engine are `SourceUnreadable`, without credentials and without values of rows.
    """

    @property
    def dialect(self) -> Literal["duckdb", "postgres", "spark"]:
        """The name by which sqlglot knows the engine's language."""
        ...

    def columns(self, table: exp.Table) -> Mapping[str, Kind]:
        """The columns of a table and what they hold, by their names as stored. Raises `SourceUnreadable`."""
        ...

    def run(self, statement: exp.Expression) -> Table:
        """The whole result, which is small. Raises `SourceUnreadable`."""
        ...

    def estimate(self, statement: exp.Expression) -> Estimate:
        """What `run` would read; nothing is read. Raises `SourceUnreadable`."""
        ...

    def close(self) -> None:
        """Give back the connection."""
        ...
