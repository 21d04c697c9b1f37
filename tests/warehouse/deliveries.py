"""Rows that arrive in batches: late, out of order, some of them twice; and what is in the store as of a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from stats.moment_set import MomentSet
from stats.moments import Moments
from tests.warehouse.cases import DAY, START, Exposure, Fact, assert_same, write_exposures, write_facts
from tests.warehouse.plain import ARMS
from warehouse import parquet
from warehouse.data_slice import Arrival, DataSlice
from warehouse.engine import epoch_us

EVENTS = {"orders": "order", "visits": "visit"}


@dataclass
class Store:
    """Batches of exposures and facts on disk, each recorded at a time."""

    folder: Path
    exposures: list[Arrival] = field(default_factory=list)
    events: dict[str, list[Arrival]] = field(default_factory=lambda: {event: [] for event in EVENTS.values()})
    compacted: dict[str, list[Path]] = field(default_factory=dict)

    def expose(self, rows: Sequence[Exposure], at: datetime) -> None:
        """A batch of exposures."""
        if rows:
            self.exposures.append(self._arrival(write_exposures(self.folder, rows), rows, at))

    def happen(self, source: str, rows: Sequence[Fact], at: datetime) -> None:
        """A batch of facts."""
        if rows:
            event = EVENTS[source]
            self.events[event].append(self._arrival(write_facts(self.folder, rows, event), rows, at))

    def compact(self) -> None:
        """Put all loose batches of each subject together, by unit."""
        self.exposures = self._compact("", self.exposures)
        for event, arrivals in self.events.items():
            self.events[event] = self._compact(event, arrivals)

    def _compact(self, subject: str, arrivals: list[Arrival]) -> list[Arrival]:
        loose = [one for one in arrivals if one.path is not None]
        found = self.compacted.setdefault(subject, [])
        if not loose:
            return arrivals
        folder = self.folder / f"{subject} {len(found)}"
        folder.mkdir()
        with duckdb.connect() as connection:
            rows = " UNION ALL BY NAME ".join(
                f"SELECT *, {one.recorded_us}::BIGINT AS recorded_us FROM '{one.path}'" for one in loose
            )
            connection.execute(f"CREATE TABLE rows AS SELECT * FROM ({rows})")
            for bucket in range(parquet.BUCKETS):
                path = folder / parquet.bucket_file_name(bucket)
                of_bucket = f"{parquet.bucket_expression('unit_id')} = {bucket}"
                connection.execute(f"COPY (FROM rows WHERE {of_bucket}) TO '{path}' (FORMAT parquet)")
                found.append(path)
        for one in loose:
            assert one.path is not None
            one.path.unlink()
        return [replace(one, path=None) for one in arrivals]

    def as_of(self, at: datetime, **changes: Any) -> DataSlice:
        """What was recorded by a time."""
        until = epoch_us(at)
        exposures = tuple(one for one in self.exposures if one.recorded_us <= until)
        events = {name: tuple(one for one in ones if one.recorded_us <= until) for name, ones in self.events.items()}
        data = DataSlice(
            exposure_files=self._files("", exposures),
            event_files={name: self._files(name, ones) for name, ones in events.items()},
            started_at=START,
            ended_at=None,
            data_as_of=at,
            exposure_arrivals=exposures,
            event_arrivals=events,
            recorded_before_us=until,
            data_dir=self.folder / "data",
        )
        return replace(data, **changes)

    def _files(self, subject: str, arrivals: Sequence[Arrival]) -> tuple[Path, ...]:
        together = self.compacted.get(subject, []) if any(one.path is None for one in arrivals) else []
        return (*together, *(one.path for one in arrivals if one.path is not None))

    @staticmethod
    def _arrival(path: Path, rows: Sequence[Exposure] | Sequence[Fact], at: datetime) -> Arrival:
        times = [epoch_us(row.at) for row in rows]
        return Arrival(path.stem, epoch_us(at), min(times), max(times), path)


@dataclass(frozen=True)
class Row:
    """A row of a source (exposures have none), and when it arrives."""

    row: Exposure | Fact
    source: str
    at: datetime


def random_rows(seed: int, *, units: int = 60, days: float = 12, levels: int = 3) -> list[Row]:
    """What units do over some days, with exposures again and in the other arm, most of it delivered at once."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []

    def deliver(row: Exposure | Fact, source: str = "") -> None:
        delay = rng.exponential(0.05) if rng.random() < 0.85 else rng.uniform(0, 8)
        # A clock may be a little ahead.
        rows.append(Row(row, source, row.at + (float(delay) - 0.003 * (rng.random() < 0.1)) * DAY))
        if rng.random() < 0.03:
            rows.append(Row(row, source, row.at + float(rng.uniform(0, 6)) * DAY))

    for i in range(units):
        arm = int(rng.integers(2))
        segments = {"platform": f"platform {int(rng.integers(levels))}"}
        if rng.random() < 0.8:
            segments["country"] = str(rng.choice(["DE", "US", "FR"], p=[0.6, 0.3, 0.1]))
        first = START + float(rng.uniform(-0.05, days)) * DAY
        if rng.random() < 0.2:
            first = START + int(rng.integers(int(days))) * DAY
        for at in (first, *(first + float(rng.uniform(0, 4)) * DAY for _ in range(int(rng.integers(3))))):
            crossed = rng.random() < 0.04
            deliver(Exposure(f"unit {i}", ARMS[1 - arm if crossed else arm], at, segments))
        for source in EVENTS:
            for _ in range(int(rng.poisson(5 if source == "visits" else 3))):
                value = None if rng.random() < 0.1 else float(np.round(rng.lognormal(2, 1), 2))
                deliver(Fact(f"unit {i}", first + float(rng.uniform(-6, 6)) * DAY, value), source)
    return sorted(rows, key=lambda row: row.at)


def deliver(store: Store, rows: Sequence[Row], at: datetime, rng: np.random.Generator) -> None:
    """Rows as batches that were recorded by a time, in any order."""
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row)
    for source, own in by_source.items():
        shuffled = [own[i].row for i in rng.permutation(len(own))]
        cut = int(rng.integers(len(shuffled) + 1))
        for i, part in enumerate((shuffled[:cut], shuffled[cut:])):
            recorded = at - timedelta(seconds=i + int(rng.integers(100)))
            if source:
                store.happen(source, [row for row in part if isinstance(row, Fact)], recorded)
            else:
                store.expose([row for row in part if isinstance(row, Exposure)], recorded)


def assert_same_moments(found: MomentSet, wanted: MomentSet, *, exactly: bool = False) -> None:
    """Two sets of moments are equal in every field, to 1e-9 or to the last bit."""
    for item in fields(MomentSet):
        _same(getattr(found, item.name), getattr(wanted, item.name), item.name, exactly)


def _same(found: Any, wanted: Any, where: str, exactly: bool) -> None:
    if isinstance(wanted, Moments) and not exactly:
        assert_same(found, wanted)
    elif isinstance(wanted, np.ndarray):
        assert found.shape == wanted.shape, where
        # Sums of what cancels are compared by the size of what was added.
        size = float(np.abs(wanted).max(initial=0.0)) if wanted.dtype.kind == "f" and not exactly else 0.0
        np.testing.assert_allclose(found, wanted, rtol=0 if exactly else 1e-9, atol=1e-12 * size, err_msg=where)
    elif isinstance(wanted, Mapping):
        assert set(found) == set(wanted), where
        for key, value in wanted.items():
            _same(found[key], value, f"{where}[{key}]", exactly)
    elif is_dataclass(wanted):
        for item in fields(wanted):
            _same(getattr(found, item.name), getattr(wanted, item.name), f"{where}.{item.name}", exactly)
    elif isinstance(wanted, float) and not exactly:
        assert np.isclose(found, wanted, rtol=1e-9, atol=0), where
    else:
        assert found == wanted, where
