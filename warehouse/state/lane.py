"""The folder of what is kept for one plan: files that never change, and one manifest that names those that count.

`<data_dir>/state/<experiment>/<lane>/`. A lane is everything that decides on the facts and values of units; another
plan, another version of the code or of the engine is another lane. The manifest is replaced last and at once, so that
a pass that dies on the way leaves the one before in force; whatever it does not name is swept by the next pass.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import duckdb
from pydantic import BaseModel

from experiments.plan import AnalysisPlan
from stats.moments import Floats, Moments
from stats.unit_summary import FrequencyTable
from warehouse import kept
from warehouse.answers import Respondents
from warehouse.caps import Top
from warehouse.cells import OverLooks
from warehouse.clusters import ClusterTotals
from warehouse.data_slice import DataSlice
from warehouse.engine import epoch_us
from warehouse.experiment_moments import Parts
from warehouse.hash_buckets import BucketSums
from warehouse.likelihoods import UnitParts
from warehouse.one_pass import Pass
from warehouse.planned_pass import attributes_of
from warehouse.populations import Counts
from warehouse.products import Products
from warehouse.quantiles import Groups, Rows
from warehouse.state.arrivals import Seen
from warehouse.state.cohort_facts import CohortFacts, SourceFacts
from warehouse.state.known_units import KnownUnits
from warehouse.state.placing import CohortParts, Grouping
from warehouse.state.unusable import Unusable
from warehouse.wanted import Caps

FOLDER: Final = "state"
MANIFEST: Final = "manifest.npz"
_LOCK: Final = "lock"


@dataclass(frozen=True, slots=True, eq=False)
class KeptValues:
    """The values (k, n) of a cohort's units by ascending hash, as they are analysed."""

    values: Floats


@dataclass(frozen=True, slots=True)
class KeptCohort:
    """A cohort whose windows are complete: the files of its facts, of its parts, and of what caps need.

    And of its values, where other experiments run beside.
    """

    index: int
    facts: str
    parts: str
    tops: str
    values: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was kept: as of when, from which batches, and where it lies.

    `types` are the columns of each source; `levels` the names behind the codes of each dimension.
    """

    as_of_us: int
    ended_us: int | None
    erasures: int
    seen: Seen
    types: dict[str, dict[str, str]]
    levels: dict[str, tuple[str, ...]]
    units: str
    cohorts: tuple[KeptCohort, ...]


_KNOWN: Final[Mapping[str, type]] = {
    kind.__name__: kind
    for kind in (
        BucketSums, Caps, ClusterTotals, CohortFacts, CohortParts, Counts, FrequencyTable, Grouping, Groups, KeptCohort,
        KeptValues, KnownUnits, Manifest, Moments, OverLooks, Parts, Products, Respondents, Rows, Seen, SourceFacts,
        Top, UnitParts,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lane:
    """A folder that this process alone may change."""

    folder: Path

    def manifest(self) -> Manifest | None:
        """What is in force; None without anything that can be read."""
        try:
            return kept.read(self.folder / MANIFEST, Manifest, _KNOWN)
        except (FileNotFoundError, kept.Unreadable):
            return None

    def read[T](self, name: str, kind: type[T]) -> T:
        """A file that the manifest names. Raises `Unusable` if it is damaged or gone."""
        try:
            return kept.read(self.folder / name, kind, _KNOWN)
        except (FileNotFoundError, kept.Unreadable) as error:
            raise Unusable(f"what was kept cannot be read: {error}") from error

    def keep(self, thing: object) -> str:
        """Write a file under a name of its own; it counts once a manifest names it."""
        name = f"{uuid.uuid4().hex}.npz"
        kept.keep(self.folder / name, thing)
        return name

    def put_in_force(self, manifest: Manifest) -> None:
        """Replace the manifest, and remove the files that are in it no more."""
        named = {manifest.units}
        for one in manifest.cohorts:
            named |= {one.facts, one.parts, one.tops, one.values}
        self.replace(manifest, named)

    def replace(self, manifest: object, named: Collection[str]) -> None:
        """Replace a manifest of any kind, which names these files."""
        _sync(self.folder)
        kept.keep(self.folder / MANIFEST, manifest)
        _sync(self.folder)
        self.sweep(named)

    def sweep(self, named: Collection[str] = ()) -> None:
        """Remove every file but these, the manifest and the lock."""
        for path in self.folder.iterdir():
            if path.name not in named and path.name not in (MANIFEST, _LOCK):
                path.unlink(missing_ok=True)

    @classmethod
    @contextmanager
    def held(cls, folder: Path) -> Iterator[Self | None]:
        """The lane while nobody else uses it; None where somebody does."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            # Whoever removes lanes may have removed this one between its making and its lock.
            yield cls(folder) if _is_there(folder, lock.fileno()) else None


def _is_there(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), (folder / _LOCK).stat())
    except FileNotFoundError:
        return False


def lane_folder(plan: AnalysisPlan, data: DataSlice, work: Pass) -> Path:
    """Where the state of a plan lies. `data` has a `data_dir` and a start."""
    assert data.data_dir is not None and data.started_at is not None
    about = {
        "code": code_fingerprint(),
        "engine": duckdb.__version__,
        "columns": plain(work.columns),
        "wanted": plain((work.wanted.quantiles, work.wanted.surveys, work.wanted.ages, work.wanted.modelled)),
        "sources": plain(plan.fact_sources),
        "variants": list(work.variants),
        "trigger": plain(plan.trigger),
        "exposures": plain(plan.exposures),
        "dimensions": attributes_of(plan),
        "started_us": epoch_us(data.started_at),
        "longest_us": work.longest_us,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    return experiment_folder(data.data_dir, plan.experiment_key) / digest


def experiment_folder(data_dir: Path, experiment_key: str) -> Path:
    """The lanes of an experiment. Keys are slugs, but a name is taken that cannot lead elsewhere whatever they are."""
    return data_dir / FOLDER / hashlib.sha256(experiment_key.encode()).hexdigest()[:32]


def forget_lanes(data_dir: Path, experiment_key: str | None = None) -> int:
    """Remove what is kept for an experiment (None: for all of them); the next pass computes everything. How many."""
    every = experiment_key is None
    experiments = _folders(data_dir / FOLDER) if every else [experiment_folder(data_dir, experiment_key or "")]
    return sum(_remove(lane) for experiment in experiments for lane in _folders(experiment))


def forget_unused_lanes(data_dir: Path, *, days: float, now: float | None = None) -> int:
    """Remove the lanes that no pass has used for so long (seconds since 1970 `now`: the present). How many."""
    before = (time.time() if now is None else now) - days * 86_400
    removed = 0
    for experiment in _folders(data_dir / FOLDER):
        for lane in _folders(experiment):
            lock = lane / _LOCK
            if not lock.exists() or lock.stat().st_mtime < before:
                removed += _remove(lane)
        if not any(experiment.iterdir()):
            experiment.rmdir()
    return removed


def _remove(folder: Path) -> bool:
    """Remove a lane that nobody uses right now."""
    with Lane.held(folder) as lane:
        if lane is None:
            return False
        (folder / MANIFEST).unlink(missing_ok=True)
        lane.sweep()
        shutil.rmtree(folder)
    return True


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


@cache
def code_fingerprint() -> str:
    """A hash of the code that makes values of facts: what another version kept is void."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for folder in ("warehouse", "experiments/columns", "stats"):
        for path in sorted((root / folder).glob("**/*.py" if folder != "stats" else "*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def plain(thing: object) -> Any:
    """Definitions as JSON, every field by its name."""
    match thing:
        case None | bool() | int() | float() | str():
            return thing
        case BaseModel():
            return thing.model_dump(mode="json")
        case Mapping():
            return {str(key): plain(value) for key, value in thing.items()}
        case tuple() | list():
            return [plain(item) for item in thing]
    if is_dataclass(thing) and not isinstance(thing, type):
        return {item.name: plain(getattr(thing, item.name)) for item in fields(thing)}
    raise TypeError(f"a {type(thing).__name__} in a plan")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
