"""Inside the process that keeps PyMC's compiled segment model (see `model_process`): fits what it is sent."""

import contextlib
import importlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from experiments.evidence import SegmentRequest, model_without_numbers, segment_model
from experiments.result import SegmentModel
from workers.processes import die_with_parent


@dataclass(frozen=True, slots=True)
class Fit:
    """Fit one family; `number` grows with every request."""

    number: int
    request: SegmentRequest
    seed: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Whoever asked for this fit no longer waits."""

    number: int


@dataclass(frozen=True, slots=True)
class Ready:
    """Imported and compiled, after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """The document; None when the fit was cancelled."""

    number: int
    model: SegmentModel | None


def run(connection: Connection, cache_dir: str, entry: str) -> None:
    """The process: compile, say so, then fit what is asked until the worker is gone."""
    die_with_parent()
    os.environ["PYTENSOR_FLAGS"] = ",".join(
        filter(None, [os.environ.get("PYTENSOR_FLAGS"), f"base_compiledir={cache_dir}"])
    )
    begun = time.monotonic()
    fit = _fitter(entry)
    connection.send(Ready(time.monotonic() - begun))
    work: queue.SimpleQueue[Fit | None] = queue.SimpleQueue()
    cancelled = [0]
    threading.Thread(target=_receive, args=(connection, work, cancelled), daemon=True).start()
    while (job := work.get()) is not None:
        connection.send(Fitted(job.number, _fit_one(fit, job, cancelled)))


def _fitter(entry: str) -> Callable[..., SegmentModel]:
    """The fitting function, with everything imported and compiled that it needs."""
    if entry:
        module, _, function = entry.partition(":")
        named: Callable[..., SegmentModel] = getattr(importlib.import_module(module), function)
        return named
    import numpy as np

    from stats.bayes.prior import Prior
    from stats.bayes.segment_model import Sampling
    from stats.bayes.segment_model import SegmentModel as Sampler

    # A fit compiles what it needs; nobody looks at the numbers of this one.
    shortest = Sampler(Sampling(chains=1, tune=10, draws=10, cores=1))
    shortest.fit(np.array([[0.0, 0.01]]), np.array([[0.01, 0.01]]), Prior.default(), seed=0)
    sampler = Sampler(Sampling(cores=1))

    def fit(request: SegmentRequest, *, seed: int, should_cancel: Callable[[], bool]) -> SegmentModel:
        posterior = sampler.fit(
            request.log_lifts[None, :],
            request.standard_errors[None, :],
            request.prior,
            seed=seed,
            level=request.ci_level,
            should_cancel=should_cancel,
        )
        return segment_model(request, posterior)

    return fit


def _receive(connection: Connection, work: "queue.SimpleQueue[Fit | None]", cancelled: list[int]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            message = connection.recv()
            if isinstance(message, Cancel):
                cancelled[0] = message.number
            else:
                work.put(message)
    work.put(None)


def _fit_one(fit: Callable[..., SegmentModel], job: Fit, cancelled: Sequence[int]) -> SegmentModel | None:
    from stats.bayes.segment_model import FitCancelled

    try:
        return fit(job.request, seed=job.seed, should_cancel=lambda: cancelled[0] >= job.number)
    except FitCancelled:
        return None
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        traceback.print_exc()
        return model_without_numbers(job.request, "unreliable", f"{type(error).__name__}: {error}"[:200])
