"""Which stored files hold rows of units that are to be erased. Ids are bound values, and in no log and no problem."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Final

import duckdb

from warehouse.engine import Parameters
from warehouse.parquet import RECORDED, bucket_expression, bucket_of
from warehouse.rows import Stream
from warehouse.store import subject_folder

_FILES_AT_ONCE: Final = 512


@dataclass(frozen=True, slots=True)
class Found:
    """A file with so many rows of a unit."""

    path: Path
    unit_id: str
    rows: int


def files_of(data_dir: Path, stream: Stream, subject: str) -> list[Path]:
    """Every Parquet file of a subject on the disk, whether readers still use it or not."""
    folder = subject_folder(data_dir, stream, subject)
    return sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")])


def find(
    connection: duckdb.DuckDBPyConnection,
    files: Iterable[Path],
    units: Mapping[str, int],
    recorded_us: Mapping[str, int],
) -> list[Found]:
    """Rows of `units` that were recorded by the time (microseconds) that each unit has.

    `recorded_us`: when the batch of each loose file was recorded, by name; loose files that it lacks count as well.
    Of compacted files only those of the units' buckets are opened.
    """
    buckets = _buckets(connection, units)
    together = [path for path in files if bucket_of(path) in buckets]
    loose = [path for path in files if bucket_of(path) is None]
    found = []
    for some in batched(together, _FILES_AT_ONCE):
        found += _rows(connection, some, units, f"AND {RECORDED} <= until_us")
    for some in batched(loose, _FILES_AT_ONCE):
        found += [
            one for one in _rows(connection, some, units, "") if recorded_us.get(one.path.name, 0) <= units[one.unit_id]
        ]
    return found


def variants_of(
    connection: duckdb.DuckDBPyConnection,
    exposures: str,
    parameters: Parameters,
    units: Collection[str],
    period_us: tuple[int, int | None],
) -> dict[str, set[str]]:
    """The variants in which each of these units was exposed in [period). `exposures` is a relation (`parquet`)."""
    start, end = period_us
    until = "" if end is None else f" AND exposed_at < make_timestamptz({parameters.add(end)})"
    rows = connection.execute(
        f"SELECT unit_id, list(DISTINCT variant_key) FROM {exposures}"
        f" WHERE unit_id IN (SELECT unnest({parameters.add(sorted(units))}))"
        f" AND exposed_at >= make_timestamptz({parameters.add(start)}){until} GROUP BY unit_id",
        parameters.values,
    ).fetchall()
    return {str(unit): {str(variant) for variant in variants} for unit, variants in rows}


def _rows(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], units: Mapping[str, int], condition: str
) -> list[Found]:
    parameters = Parameters()
    read = f"read_parquet({parameters.add_paths(tuple(files))}, union_by_name = true, hive_partitioning = false)"
    ids = parameters.add(list(units))
    # As text: a list of numbers is no parameter.
    until = parameters.add([str(at) for at in units.values()])
    rows = connection.execute(
        f"SELECT filename, unit_id, count(*) FROM {read}"
        f" JOIN (SELECT unnest({ids}) AS unit_id, CAST(unnest({until}) AS BIGINT) AS until_us) USING (unit_id)"
        f" WHERE TRUE {condition} GROUP BY filename, unit_id",
        parameters.values,
    ).fetchall()
    return [Found(Path(name), str(unit), int(count)) for name, unit, count in rows]


def _buckets(connection: duckdb.DuckDBPyConnection, units: Collection[str]) -> set[int]:
    parameters = Parameters()
    ids = parameters.add(list(units))
    sql = f"SELECT DISTINCT {bucket_expression('unit_id')} FROM (SELECT unnest({ids}) AS unit_id)"
    return {int(bucket) for (bucket,) in connection.execute(sql, parameters.values).fetchall()}
