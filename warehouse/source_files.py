"""Files that fact sources name: where they may be, and how the engine reads them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import duckdb

from experiments.definitions import DuckDBSource
from experiments.errors import SourceUnreadable
from warehouse.data_slice import DataSlice
from warehouse.engine import identifier
from warehouse.engines.messages import of_duckdb
from warehouse.rows import TIME_FIELD
from warehouse.scratch import STAGING

_PATTERN: Final = frozenset("*?[]")

READER_OPTIONS: Final[Mapping[str, Mapping[str, int]]] = {"read_parquet": {}, "read_csv": {"sample_size": -1}}
"""What a reader is told. Types of a CSV file are what all its rows are: of the first rows alone, an id `007` that comes
late would be read as 7, which is another unit. Asking all rows costs the time of reading them twice more."""


def source_path(folder: Path | None, relative: str, key: str) -> Path:
    """The file a definition names, which must be a regular file inside the configured folder (links resolved)."""
    if folder is None:
        raise SourceUnreadable(
            f"fact source {key!r} names a file, but no folder for files is configured",
            remedy="set NORTHLIFT_FILE_SOURCE_DIR to the folder that holds such files",
        )
    root = folder.resolve()
    outside = SourceUnreadable(
        f"fact source {key!r} names a path outside the configured folder",
        remedy="give a path relative to the configured folder, without `..`",
    )
    if "\x00" in relative or Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise outside
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise outside
    if _PATTERN.intersection(relative):
        raise SourceUnreadable(
            f"fact source {key!r}: to the engine {relative!r} is a pattern that other files match",
            remedy="rename the file: without *, ?, [ and ]",
        )
    if not path.is_file():
        raise SourceUnreadable(
            f"fact source {key!r}: there is no file {relative!r}", remedy="put the file there or correct the path"
        )
    return path


def reader_of(path: Path, key: str) -> str:
    """The function that reads a file of facts, by the ending of its name."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".parquet"]:
        return "read_parquet"
    if ".csv" in suffixes[-2:] and suffixes[-1] in (".csv", ".gz"):
        return "read_csv"
    raise SourceUnreadable(
        f"fact source {key!r}: {path.name!r} is neither CSV nor Parquet", remedy="name a .csv, .csv.gz or .parquet file"
    )


def catalogue_of(spec: DuckDBSource) -> str:
    """What a source's database is called on a connection: plans that share one may know a source in other databases."""
    return f"{Path(spec.path).stem} {hashlib.sha256(spec.path.encode()).hexdigest()[:8]}"


def attach(connection: duckdb.DuckDBPyConnection, path: Path, spec: DuckDBSource, data: DataSlice | None = None) -> str:
    """Open the DuckDB database of a source as its catalogue, which this gives. Raises `SourceUnreadable`.

    From then on the connection reads what belongs to the slice and nothing else: a view of the database may name any
    file that the service can read. Without a slice nothing of the database may be read.
    """
    catalogue = catalogue_of(spec)
    try:
        if data is not None:
            _confine(connection, data)
        connection.execute(f"ATTACH IF NOT EXISTS {_quoted(path)} AS {identifier(catalogue)} (READ_ONLY)")
    except duckdb.Error as error:
        raise SourceUnreadable(
            f"fact source {spec.key!r}: {path.name!r} cannot be opened as a DuckDB database: {of_duckdb(error)}",
            remedy="name a DuckDB database file that no other process has open for writing",
        ) from error
    return catalogue


def _confine(connection: duckdb.DuckDBPyConnection, data: DataSlice) -> None:
    """Whoever shares the connection has the same folders; it can be confined once."""
    ((is_free,),) = connection.execute("SELECT current_setting('enable_external_access')").fetchall()
    if not is_free:
        return
    others = [path for other in data.concurrent for path in other.exposure_files]
    files = [*data.exposure_files, *(path for paths in data.event_files.values() for path in paths), *others]
    folders = {path.parent for path in files}
    if data.file_source_dir is not None:
        folders.add(data.file_source_dir)
    if data.data_dir is not None:
        folders |= {data.data_dir / name for name in (*TIME_FIELD, STAGING)}
    connection.execute(f"SET allowed_directories = [{', '.join(map(_quoted, sorted(folders)))}]")
    connection.execute("SET enable_external_access = false")


def _quoted(path: Path) -> str:
    """ATTACH and SET take no parameters; inside a string literal only the quote needs doubling."""
    return "'" + str(path).replace("'", "''") + "'"
