"""Rows on their way in: chunks of a body, and single rows with what was received, whatever the format."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that could not even be parsed."""

    detail: str


@dataclass(frozen=True, slots=True)
class Record:
    """One row: what it says, and as it was `received` (a line of text, or the fields of a table's row)."""

    content: object | Malformed
    received: object


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive rows. `table` has them as they came, or is None when they do not fit one; `untyped` tells that

    everything in it is text. `records` gives the same rows one by one.
    """

    table: pa.Table | None
    records: Callable[[], Iterable[Record]]
    untyped: bool = False
