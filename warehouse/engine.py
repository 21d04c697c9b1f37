"""DuckDB connections, and the two ways in which names and values reach SQL: quoted identifiers, bound parameters."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

type Value = str | float | int | bool | list[str]

MICROSECONDS_A_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@contextmanager
def connect(*, threads: int, memory_limit: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database that spills to a private folder and never fetches extensions; all times are UTC."""
    with TemporaryDirectory(prefix="northlift-duckdb-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": max(1, threads),
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            # Every sum is over a group's own rows and rows are put in order afterwards, so input order is no matter.
            "preserve_insertion_order": False,
        }
        if memory_limit is not None:
            config["memory_limit"] = memory_limit
        connection = duckdb.connect(":memory:", config=config)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            with suppress(duckdb.Error):
                detach_all(connection)
            connection.close()


def detach_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Give attached files back before closing.

    DuckDB 2.0 keeps, for all databases of a process, who has which file, by where each is in memory, and a database
    that is closed stays on that list. The next one at its place would take the file for its own, and wait in ATTACH
    for ever until that is there.
    """
    found = connection.execute("SELECT database_name FROM duckdb_databases() WHERE path IS NOT NULL").fetchall()
    for (attached,) in found:
        connection.execute(f"DETACH {identifier(attached)}")


def identifier(name: str) -> str:
    """A quoted SQL identifier. A double quote is doubled: DuckDB knows no other escape inside quotes."""
    if "\x00" in name:
        raise ValueError("a name cannot contain the character NUL")
    return '"' + name.replace('"', '""') + '"'


def epoch_us(at: datetime) -> int:
    """Microseconds since 1970 (UTC), exactly; the engine compares times as integers."""
    gap = at - _EPOCH
    return (gap.days * 86_400 + gap.seconds) * 1_000_000 + gap.microseconds


def from_epoch_us(microseconds: int) -> datetime:
    """The time behind `epoch_us`."""
    return _EPOCH + timedelta(microseconds=microseconds)


def days_us(days: float) -> int:
    """A length in days as microseconds."""
    return round(days * MICROSECONDS_A_DAY)


class Parameters:
    """Values bound to a statement: `add` gives the placeholder that stands for the value."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}

    def add(self, value: Value) -> str:
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"${name}"

    def add_paths(self, paths: tuple[Path, ...]) -> str:
        return self.add([str(path) for path in paths])
