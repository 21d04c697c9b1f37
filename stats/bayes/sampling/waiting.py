"""Waiting for a sampler without being at its mercy: progress, cancellation, an end to patience."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from stats.bayes.sampling.contract import FitCancelled, Sampling, SamplingFailed

POLL_SECONDS: Final = 0.05


class Watched:
    """How far a sampler is. Its callback runs on a thread of the sampler, so it only remembers."""

    every_milliseconds: Final = 50

    def __init__(self) -> None:
        self.fraction = 0.0

    def note(self, chains: Any) -> None:
        """nutpie's `progress_callback`."""
        self.fraction = sum(c.finished_draws for c in chains) / max(sum(c.total_draws for c in chains), 1)


def finished_trace(
    sampler: Any,
    watched: Watched,
    sampling: Sampling,
    should_cancel: Callable[[], bool],
    progress: Callable[[float], None],
) -> Any:
    """The raw trace of a sampler that runs in the background; it ends finished or cancelled, whatever happens."""
    finished = False
    try:
        for _ in range(max(1, round(sampling.patience_seconds / POLL_SECONDS))):
            try:
                trace = sampler.wait(timeout=POLL_SECONDS)
            except TimeoutError:
                if should_cancel():
                    raise FitCancelled from None
                progress(watched.fraction)
                continue
            except RuntimeError as error:
                raise SamplingFailed(_said(error)) from error
            finished = True
            return trace
        raise SamplingFailed(f"no result within {sampling.patience_seconds:g} s")
    finally:
        # An abandoned sampler keeps its threads and can bring the interpreter down at exit.
        if not finished:
            sampler.cancel()


def _said(error: RuntimeError) -> str:
    """What nutpie says, in a line and without its stack of addresses."""
    text = str(error).partition("Stack backtrace")[0]
    return " ".join(text.replace("Caused by:", "because:").split())
