"""Which data an analysis reads: named files and times, so that the same slice always gives the same moments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from experiments.definitions import ExposureSource, FactSourceSpec


@dataclass(frozen=True, slots=True)
class ConcurrentExposures:
    """The exposures of another experiment on the same units (METHODS A16), in [`started_at`, `ended_at`).

    `variants` are its arms, control first. `exposures` and `fact_sources` are there where they are rows of a fact
    source; `exposure_table` is then the table that a pass made of them, or `unreadable` why it could not.
    """

    key: str
    variants: tuple[str, ...]
    exposure_files: tuple[Path, ...]
    started_at: datetime
    ended_at: datetime
    exposures: ExposureSource | None = None
    fact_sources: tuple[FactSourceSpec, ...] = ()
    exposure_table: str | None = None
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A recorded batch of one subject: its name, when it was recorded, and the times of its rows (microseconds).

    `path` is its loose file; None where it was compacted (its rows then carry `recorded_us`).
    """

    name: str
    recorded_us: int
    first_us: int
    last_us: int
    path: Path | None


@dataclass(frozen=True, slots=True)
class DataSlice:
    """Recorded files and the period that counts; picklable, so that it can be sent to a worker's child.

    `exposure_files` and `event_files` (by event name) are Parquet files of recorded batches, loose or compacted
    (`warehouse.parquet`). `recorded_before_us` is there where compacted files also hold batches recorded later, whose
    rows do not count. `exposure_arrivals` and `event_arrivals` are the batches themselves, oldest first; `erasures`
    counts units whose rows were erased: what was derived from rows before it changed is void. Ingested events before
    `events_since_us` do not count: they may be deleted by now (`experiments.retention`). Exposures count in
    [`started_at`, `ended_at` or `data_as_of`). Slices of company-wide analyses have no `started_at` and no exposures.
    File and DuckDB sources are only read below `file_source_dir`; what a pass keeps for the
    next one is below `data_dir`. All times are timezone-aware.

    `allocation`: from when on which share of the units each variant of the plan got, ascending; neighbours differ, so
    that each entry is a stage of the ramp (METHODS A8). `concurrent`: other experiments on the same units.

    `exposure_table` and `mapping_tables` (by fact source) are tables that a pass makes on its own connection
    (`warehouse.exposures.with_tables`): exposures that are rows of a fact source, and whose the ids of a source are.
    The files of a source with a mapping are sorted by the other id, not by the unit.
    """

    exposure_files: tuple[Path, ...]
    event_files: Mapping[str, tuple[Path, ...]]
    started_at: datetime | None
    ended_at: datetime | None
    data_as_of: datetime
    file_source_dir: Path | None = None
    allocation: tuple[tuple[datetime, tuple[float, ...]], ...] = ()
    concurrent: tuple[ConcurrentExposures, ...] = ()
    recorded_before_us: int | None = None
    exposure_arrivals: tuple[Arrival, ...] = ()
    event_arrivals: Mapping[str, tuple[Arrival, ...]] = field(default_factory=dict)
    erasures: int = 0
    data_dir: Path | None = None
    exposure_table: str | None = None
    mapping_tables: Mapping[str, str] = field(default_factory=dict)
    events_since_us: int | None = None
