"""The process that compiles: the only one that imports PyMC, there when needed and gone when idle.

Machine code that cannot be frozen is sampled here: slower to get back after a pause, the same numbers.
"""

from __future__ import annotations

import os
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, Final

from stats.bayes.models.fit import fit
from stats.bayes.sampling.contract import BundleRejected, Program, Sampling
from workers.models.catalogue import library
from workers.models.folder import BundleFolder, key_of
from workers.models.messages import Compile, Compiled, Fit, Fitted, Memory, SizedModel
from workers.models.serving import Line, resident_bytes, serve
from workers.processes import die_with_parent

IDLE_SECONDS: Final = 60.0
SERVING_IDLE_SECONDS: Final = 900.0
"""How long it stays when it samples itself: the next question would wait for another compilation."""
_LARGE_BYTES: Final = 1536 * 1024 * 1024
"""Compilations leave memory behind; beyond this the process goes as soon as it is idle."""


def run(connection: Connection, folder: BundleFolder, idle_seconds: float) -> None:
    """The process: compile, and fit what could not be frozen, until it is idle or the worker is gone."""
    die_with_parent()
    compile_into(folder)
    workshop = Workshop(folder, idle_seconds)
    serve(connection, workshop.answer, patience_seconds=workshop.patience_seconds)


def compile_into(folder: BundleFolder) -> None:
    """Let PyTensor keep its kernels in the folder too. Call before anything imports PyMC."""
    flags = [os.environ.get("PYTENSOR_FLAGS"), f"base_compiledir={folder.path / 'pytensor'}"]
    os.environ["PYTENSOR_FLAGS"] = ",".join(filter(None, flags))


def make_bundle(folder: BundleFolder, model: SizedModel) -> tuple[Program | None, str]:
    """Compile and store, unless it is there; the program, and the reason, where it cannot be stored."""
    from stats.bayes.sampling.compiled import compile_program
    from stats.bayes.sampling.frozen import freeze

    key = key_of(model)
    with folder.alone(key):
        if folder.size(key) is not None:
            return None, ""
        program = compile_program(model.definition, model.size)
        try:
            folder.write(key, freeze(program, model.definition, model.size))
        except BundleRejected as error:
            return program, str(error)
        except OSError as error:
            return program, f"it cannot be stored: {error}"
    folder.tidy({key_of(each) for each in library()})
    return None, ""


class Workshop:
    """Compiles one model at a time and keeps the programs that are no bundles."""

    def __init__(self, folder: BundleFolder, idle_seconds: float) -> None:
        self._folder = folder
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._kept: dict[SizedModel, tuple[Program, str]] = {}

    def patience_seconds(self) -> float:
        """How long to stay idle."""
        if resident_bytes() > _LARGE_BYTES:
            return 1.0
        return max(self._idle_seconds, SERVING_IDLE_SECONDS) if self._kept else self._idle_seconds

    def answer(self, work: Any, line: Line) -> Any:
        """See `serve`."""
        match work:
            case Compile(model):
                line.begin()
                return self._compile(model)
            case Fit():
                return self._fit(work, line)
        raise TypeError(f"a {type(work).__name__} is no work for this process")

    def _compile(self, model: SizedModel) -> Compiled:
        with self._lock:
            if model in self._kept:
                return Compiled(0.0, self._kept[model][1])
            begun = time.monotonic()
            program, reason = make_bundle(self._folder, model)
            if program is not None:
                self._kept[model] = (program, reason)
            return Compiled(time.monotonic() - begun, reason)

    def _fit(self, work: Fit, line: Line) -> Fitted:
        program = self._program(SizedModel(work.question.definition, work.question.size))
        line.begin()
        found = fit(
            work.question,
            lambda definition, size: program,
            Sampling(cores=work.cores, patience_seconds=work.patience_seconds),
            seed=work.seed,
            should_cancel=line.cancelled,
            progress=line.progress,
        )
        return Fitted(found, Memory(len(self._kept), 0, resident_bytes()))

    def _program(self, model: SizedModel) -> Program:
        from stats.bayes.sampling.compiled import compile_program

        with self._lock:
            if model not in self._kept:
                self._kept[model] = (compile_program(model.definition, model.size), "its bundle cannot be used")
            return self._kept[model][0]
