"""The process that samples: frozen programs in memory, as many as fit, and no PyMC (METHODS C4, I3)."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections import OrderedDict
from multiprocessing.connection import Connection
from typing import Any, Final

from stats.bayes.models.fit import fit
from stats.bayes.sampling.contract import BundleRejected, Program, Sampling
from workers.models.folder import BundleFolder, key_of
from workers.models.messages import Fit, Fitted, Load, Loaded, Memory, NotThere, SizedModel, Unusable
from workers.models.serving import Line, resident_bytes, serve
from workers.processes import die_with_parent

# A program in memory takes about four times the bytes of its bundle, so that all together may take a quarter.
_CODE_SHARE: Final = 1 / 16


def run(connection: Connection, folder: BundleFolder, memory_bytes: int) -> None:
    """The process: fit what is asked until the worker is gone."""
    die_with_parent()
    serve(connection, Library(folder, memory_bytes).answer)


class Library:
    """The programs in memory, the least recently used evicted first."""

    def __init__(self, folder: BundleFolder, memory_bytes: int) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._programs: OrderedDict[SizedModel, tuple[Program, int]] = OrderedDict()

    @property
    def loaded(self) -> tuple[SizedModel, ...]:
        """What is in memory, the longest unused first."""
        return tuple(self._programs)

    def answer(self, work: Any, line: Line) -> Any:
        """See `serve`."""
        match work:
            case Fit():
                return self._fit(work, line)
            case Load(models):
                return self._load(models, line)
        raise TypeError(f"a {type(work).__name__} is no work for this process")

    def _fit(self, work: Fit, line: Line) -> Any:
        line.begin()
        try:
            found = fit(
                work.question,
                lambda definition, size: self.program(SizedModel(definition, size)),
                Sampling(cores=work.cores, patience_seconds=work.patience_seconds),
                seed=work.seed,
                should_cancel=line.cancelled,
                progress=line.progress,
            )
        except FileNotFoundError:
            return NotThere()
        except BundleRejected as error:
            return Unusable(str(error))
        return Fitted(found, self._within_bounds())

    def _load(self, models: tuple[SizedModel, ...], line: Line) -> Loaded:
        line.begin()
        loaded = []
        for model in models:
            try:
                self.program(model)
            except (OSError, BundleRejected):
                continue  # whoever asks for it has it compiled
            loaded.append(model)
        return Loaded(tuple(loaded), self._within_bounds())

    def program(self, model: SizedModel) -> Program:
        """The program of a bundle. Raises `FileNotFoundError`, `BundleRejected`; a rejected one is removed."""
        from stats.bayes.sampling.frozen import load

        with self._lock:
            if model not in self._programs:
                key = key_of(model)
                try:
                    bundle = self._folder.read(key)
                    self._programs[model] = (load(bundle), len(bundle))
                except BundleRejected:
                    self._folder.remove(key)
                    raise
                self._evict()
            self._programs.move_to_end(model)
            return self._programs[model][0]

    def _evict(self) -> None:
        """Drop the least recently used while the code is too much; the newest stays."""
        while len(self._programs) > 1 and self._code_bytes() > self._memory_bytes * _CODE_SHARE:
            self._programs.popitem(last=False)

    def _within_bounds(self) -> Memory:
        """Drop more where the process as a whole is too large, and say what is left."""
        with self._lock:
            resident = resident_bytes()
            if resident > self._memory_bytes:
                while len(self._programs) > 1:
                    self._programs.popitem(last=False)
                gc.collect()
                if sys.platform == "linux":
                    ctypes.CDLL(None).malloc_trim(0)
                resident = resident_bytes()
            return Memory(len(self._programs), self._code_bytes(), resident)

    def _code_bytes(self) -> int:
        return sum(size for _, size in self._programs.values())
