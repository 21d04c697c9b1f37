"""Which batches are new, and their rows alone as a slice of data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from warehouse import parquet
from warehouse.data_slice import Arrival, DataSlice
from warehouse.engine import Parameters, epoch_us
from warehouse.state.unusable import Unusable


@dataclass(frozen=True, slots=True)
class Seen:
    """The names of batches whose rows are all accounted for, of exposures and by event."""

    exposures: tuple[str, ...] = ()
    events: tuple[tuple[str, tuple[str, ...]], ...] = ()


def seen_in(data: DataSlice) -> Seen:
    """Every batch of a slice. Exposures of a later time than the slice's do not count yet, so they are not seen."""
    as_of = epoch_us(data.data_as_of)
    return Seen(
        tuple(sorted(one.name for one in data.exposure_arrivals if one.last_us < as_of)),
        tuple((event, tuple(sorted(one.name for one in ones))) for event, ones in sorted(data.event_arrivals.items())),
    )


def is_within(seen: Seen, data: DataSlice) -> bool:
    """Whether a slice has every batch that was seen."""
    events = {event: {one.name for one in ones} for event, ones in data.event_arrivals.items()}
    return {one.name for one in data.exposure_arrivals}.issuperset(seen.exposures) and all(
        events.get(event, set()).issuperset(names) for event, names in seen.events
    )


def new_exposures(seen: Seen, data: DataSlice) -> list[Arrival]:
    """The batches of exposures that were not seen."""
    known = set(seen.exposures)
    return [one for one in data.exposure_arrivals if one.name not in known]


def new_events(seen: Seen, data: DataSlice, before_us: int) -> dict[str, list[Arrival]]:
    """By event, the batches that were not seen and have a row before a time."""
    known = {event: set(names) for event, names in seen.events}
    found = {}
    for event, arrivals in data.event_arrivals.items():
        ones = [one for one in arrivals if one.name not in known.get(event, ()) and one.first_us < before_us]
        if ones:
            found[event] = ones
    return found


def only_exposures(
    connection: duckdb.DuckDBPyConnection, data: DataSlice, arrivals: Sequence[Arrival], folder: Path
) -> DataSlice:
    """The slice with the exposures of these batches alone; with the columns that all of them have."""
    return replace(
        data, exposure_files=_files(connection, data.exposure_files, arrivals, folder, "exposures", "exposed_at")
    )


def only_events(
    connection: duckdb.DuckDBPyConnection, data: DataSlice, arrivals: Mapping[str, Sequence[Arrival]], folder: Path
) -> DataSlice:
    """The slice with the facts of these batches alone."""
    return replace(
        data,
        event_files={
            event: _files(connection, data.event_files[event], ones, folder, f"event-{i}", "occurred_at")
            for i, (event, ones) in enumerate(sorted(arrivals.items()))
        },
    )


def _files(
    connection: duckdb.DuckDBPyConnection,
    every: tuple[Path, ...],
    arrivals: Iterable[Arrival],
    folder: Path,
    name: str,
    time: str,
) -> tuple[Path, ...]:
    """Files with the rows of these batches, and one without rows that has the columns and types of all files."""
    loose = [one.path for one in arrivals if one.path is not None]
    within = [one for one in arrivals if one.path is None]
    recorded = sorted({one.recorded_us for one in within})
    empty = folder / f"{name}-columns.parquet"
    _copy(connection, every, "FALSE", empty)
    if not recorded:
        return (empty, *loose)
    compacted = tuple(path for path in every if parquet.bucket_of(path) is not None)
    if not compacted:
        raise Unusable("new batches are gone")
    times = ", ".join(str(int(at)) for at in recorded)
    found = folder / f"{name}-rows.parquet"
    first, last = min(one.first_us for one in within), max(one.last_us for one in within)
    # Compacted rows lie by time: most of a file is not even read.
    when = f"{time} >= make_timestamptz({int(first)}) AND {time} <= make_timestamptz({int(last)})"
    _copy(connection, compacted, f"{when} AND {parquet.RECORDED} IN ({times})", found)
    return (empty, found, *loose)


def _copy(connection: duckdb.DuckDBPyConnection, files: tuple[Path, ...], condition: str, to: Path) -> None:
    parameters = Parameters()
    rows = f"SELECT * FROM {parquet.relation(files, parameters)} WHERE {condition}"
    connection.execute(f"COPY ({rows}) TO {parameters.add(str(to))} (FORMAT parquet)", parameters.values)


def shared_times(arrivals: Sequence[Arrival], every: Sequence[Arrival]) -> bool:
    """Whether a compacted new batch was recorded at the very moment of another one: they cannot be told apart."""
    new = {one.recorded_us for one in arrivals if one.path is None}
    names = {one.name for one in arrivals}
    return any(one.recorded_us in new for one in every if one.name not in names)
