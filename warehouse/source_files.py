"""Files that fact sources name: where they may be, and how the engine reads them."""

import hashlib
from pathlib import Path

import duckdb

from experiments.definitions import DuckDBSource
from experiments.errors import SourceUnreadable
from warehouse.engine import identifier


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


def attach(connection: duckdb.DuckDBPyConnection, path: Path, spec: DuckDBSource) -> str:
    """Open the DuckDB database of a source as its catalogue, which this gives. Raises `SourceUnreadable`."""
    catalogue = catalogue_of(spec)
    # ATTACH takes no parameters; inside a string literal only the quote needs doubling.
    quoted = "'" + str(path).replace("'", "''") + "'"
    try:
        connection.execute(f"ATTACH IF NOT EXISTS {quoted} AS {identifier(catalogue)} (READ_ONLY)")
    except duckdb.Error as error:
        why = str(error).splitlines()[0][:300]
        raise SourceUnreadable(
            f"fact source {spec.key!r}: {path.name!r} cannot be opened as a DuckDB database: {why}",
            remedy="name a DuckDB database file that no other process has open for writing",
        ) from error
    return catalogue
