"""Moments that a shared pass made for other analyses than its own, until those are computed.

`<data_dir>/moments/<key>.npz`. The key says everything that moments depend on: plan, data, code. So a file is never
wrong, only missing: one that is damaged, or was written by another version, is as good as none. `<key>.lock` is locked
by who makes the moments right now; the kernel lets go of it when that process ends, however it ends.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb
from pydantic import BaseModel

from experiments.definitions import DuckDBSource, FileSource
from experiments.plan import AnalysisPlan
from stats.moment_set import (
    CappedColumn,
    ClusterTable,
    ConcurrentCells,
    HashBuckets,
    MomentSet,
    QuantileCells,
    Reach,
    ResponseTable,
    UnmappedFacts,
)
from stats.moments import Moments
from stats.quantile import QuantileSummary
from stats.unit_summary import FrequencyTable, Histogram, PositiveAmounts, UnitSummary
from warehouse import kept
from warehouse.data_slice import Arrival, DataSlice
from warehouse.state.lane import code_fingerprint

FOLDER: Final = "moments"
HOURS: Final = 1.0
"""Who has not come for moments after so long measures again."""
_GATE: Final = "gate"


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Moments, and the pass that made them: how many plans it was for, and how often it read a fact source."""

    moments: MomentSet
    plans: int
    readings: int


_KNOWN: Final[Mapping[str, type]] = {
    kind.__name__: kind
    for kind in (
        CappedColumn, ClusterTable, ConcurrentCells, FrequencyTable, HashBuckets, Histogram, Measured, Moments,
        MomentSet, PositiveAmounts, QuantileCells, QuantileSummary, Reach, ResponseTable, UnitSummary, UnmappedFacts,
    )
}  # fmt: skip


def key_of(plan: AnalysisPlan, data: DataSlice) -> str:
    """What the moments of a plan and a slice depend on, as a hash.

    Batches count by their names and not by the files that their rows are in by now. Files that people put somewhere
    count by when they were changed and their size.
    """
    about = {
        "code": code_fingerprint(),
        "engine": duckdb.__version__,
        "plan": plan,
        "exposures": _names(data.exposure_arrivals, data.exposure_files),
        "events": {
            event: _names(data.event_arrivals.get(event, ()), files) for event, files in data.event_files.items()
        },
        "files": _stamps(plan, data),
        "slice": {item.name: getattr(data, item.name) for item in fields(data) if item.name not in _BY_BATCH},
    }
    document = json.dumps(about, sort_keys=True, default=_plain)
    return hashlib.sha256(document.encode()).hexdigest()[:40]


_BY_BATCH: Final = frozenset(
    {"exposure_files", "exposure_arrivals", "event_files", "event_arrivals", "recorded_before_us", "data_dir"}
)
"""What compaction changes and is the same data, and the folder of all this."""


def _names(arrivals: tuple[Arrival, ...], files: tuple[Path, ...]) -> list[str]:
    return [arrival.name for arrival in arrivals] if arrivals else [str(path) for path in files]


def _stamps(plan: AnalysisPlan, data: DataSlice) -> list[tuple[str, int, int]]:
    found, folder = [], data.file_source_dir
    others = (source for other in data.concurrent for source in other.fact_sources)
    for source in (*plan.fact_sources, *others):
        if isinstance(source, FileSource | DuckDBSource) and folder is not None:
            try:
                status = (folder / source.path).stat()
            except (OSError, ValueError):
                continue  # Who reads it says so.
            found.append((source.path, status.st_mtime_ns, status.st_size))
    return found


def _plain(thing: object) -> Any:
    match thing:
        case BaseModel():
            return thing.model_dump(mode="json")
        case datetime():
            return thing.isoformat()
        case Path():
            return str(thing)
        case Mapping():
            return dict(thing)
    return asdict(thing)  # type: ignore[call-overload]  # raises TypeError where it is no dataclass, as `default` must


def is_kept(data_dir: Path, key: str) -> bool:
    """Whether there are moments, readable or not."""
    return _file(data_dir, key).exists()


def read_moments(data_dir: Path, key: str) -> Measured | None:
    """Moments that were kept; None where there are none that can be read."""
    try:
        return kept.read(_file(data_dir, key), Measured, _KNOWN)
    except (FileNotFoundError, kept.Unreadable):
        return None


def keep_moments(data_dir: Path, key: str, measured: Measured) -> None:
    """Keep moments; complete or not at all. Raises OSError."""
    kept.keep(_file(data_dir, key), measured)


@contextmanager
def claimed(data_dir: Path, own: str, others: Iterable[str] = ()) -> Iterator[frozenset[str]]:
    """The keys whose moments this process alone makes while the block runs: `own`, and those of `others` that nobody

    else makes. None at all where another process makes `own`.
    """
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    mine: list[str] = []
    with ExitStack() as held:
        # Locks are taken and given up one process at a time: of two that begin together one gets all of them.
        with _gate(folder):
            for key in (own, *others):
                handle = _locked(folder / f"{key}.lock")
                if handle is not None:
                    mine.append(key)
                    held.callback(os.close, handle)
                elif key == own:
                    break
        held.callback(partial(_give_up, folder, mine))
        yield frozenset(mine)


def _give_up(folder: Path, keys: Iterable[str]) -> None:
    with _gate(folder):
        for key in keys:
            (folder / f"{key}.lock").unlink(missing_ok=True)


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    with (folder / _GATE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _locked(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def forget_moments(data_dir: Path, *, older_than_hours: float = 0.0, now: float | None = None) -> int:
    """Remove what is older (seconds since 1970 `now`: the present), and what processes that died left. How many files.

    Safe beside processes at work: at worst something is measured again.
    """
    before = (time.time() if now is None else now) - older_than_hours * 3600
    removed = 0
    folder = data_dir / FOLDER
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):  # another process was faster
            if path.name != _GATE and path.stat().st_mtime <= before:
                path.unlink()
                removed += path.suffix == ".npz" and not path.name.startswith(".")
    return removed


def _file(data_dir: Path, key: str) -> Path:
    return data_dir / FOLDER / f"{key}.npz"
