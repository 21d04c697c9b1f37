"""Waiting for a sampler without being at its mercy: progress, cancellation, an end to patience, no threads left over.

nutpie samples on threads of its own that call back into Python. A process that ends while they live crashes (exit code
139), and a sampler that failed or was cancelled says so before its last thread is done. So every way out of here waits
until nutpie has let go of what it was given, and interpreters that end first cancel what still runs.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol

from stats.bayes.sampling.contract import FitCancelled, Sampling, SamplingFailed
from stats.bayes.sampling.linking import nutpie_core

POLL_SECONDS: Final = 0.05
_PARTING_SECONDS: Final = 5.0
_PARTING_POLL: Final = 0.001


class Sampler(Protocol):
    """A sampler that runs in the background."""

    def wait(self, *, timeout: float) -> Any:
        """The raw trace. Raises `TimeoutError` while sampling and `RuntimeError` where it failed."""
        ...

    def cancel(self) -> None:
        """Ask for the end; threads end with the draw they are at."""
        ...


class Watched:
    """How far a sampler is. Its callback runs on a thread of the sampler, so it only remembers."""

    every_milliseconds: Final = 50

    def __init__(self) -> None:
        self.fraction = 0.0

    def note(self, chains: Any) -> None:
        """nutpie's `progress_callback`."""
        self.fraction = sum(c.finished_draws for c in chains) / max(sum(c.total_draws for c in chains), 1)


class Token:
    """Given to a sampler and kept by nobody else: when it is gone, so are the sampler's threads."""

    __slots__ = ("__weakref__",)


class _Running:
    """A sampler, and whether it still holds its token."""

    def __init__(self, start: Callable[[Watched, Token], Sampler]) -> None:
        self.watched = Watched()
        token = Token()
        self._token = weakref.ref(token)
        self._sampler: Sampler | None = start(self.watched, token)

    def trace(self, timeout: float) -> Any | None:
        """The trace, or None where it takes longer than this. Raises `SamplingFailed`."""
        failure = ""
        assert self._sampler is not None, "waited for after its end"
        try:
            return self._sampler.wait(timeout=timeout)
        except TimeoutError:
            return None
        except RuntimeError as error:
            failure = _said(error)
        raise SamplingFailed(failure)  # outside: the error's traceback would hold the sampler, and so its token

    def end(self) -> None:
        """Cancel what still runs, and wait until its threads are done."""
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.cancel()
        del sampler
        deadline = time.monotonic() + _PARTING_SECONDS
        while self._token() is not None and time.monotonic() < deadline:
            time.sleep(_PARTING_POLL)
            nutpie_core().ProgressType.none()  # what nutpie let go of without the GIL is released on its next call


_RUNNING: Final[set[_Running]] = set()
_CLOSING: Final = threading.Event()


def sampled(
    start: Callable[[Watched, Token], Sampler],
    sampling: Sampling,
    should_cancel: Callable[[], bool],
    progress: Callable[[float], None],
) -> Any:
    """The raw trace of the sampler that `start` starts.

    It has ended when this returns or raises, whatever the reason. Raises `FitCancelled` and `SamplingFailed`.
    """
    running = _Running(start)
    _RUNNING.add(running)
    try:
        for _ in range(max(1, round(sampling.patience_seconds / POLL_SECONDS))):
            trace = running.trace(POLL_SECONDS)
            if trace is not None:
                return trace
            if should_cancel() or _CLOSING.is_set():
                raise FitCancelled
            progress(running.watched.fraction)
        raise SamplingFailed(f"no result within {sampling.patience_seconds:g} s")
    finally:
        running.end()
        _RUNNING.discard(running)


def _said(error: RuntimeError) -> str:
    """What nutpie says, in a line and without its stack of addresses."""
    text = str(error).partition("Stack backtrace")[0]
    return " ".join(text.replace("Caused by:", "because:").split())


@atexit.register
def _close() -> None:
    """Have the threads that wait for samplers end them: nutpie lets no second thread touch one."""
    _CLOSING.set()
    deadline = time.monotonic() + _PARTING_SECONDS
    while _RUNNING and time.monotonic() < deadline:
        time.sleep(_PARTING_POLL)
