"""What a compiled model is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type Data = Mapping[str, Array]
"""The data of a model by name. Floats only: integers would truncate what later fits pass in."""


class FitCancelled(Exception):
    """`should_cancel` asked for the end; sampling was aborted and its threads end within milliseconds."""


class SamplingFailed(Exception):
    """The sampler found no place to start, ran into non-finite numbers, or did not end in time."""


class BundleRejected(Exception):
    """Compiled code that cannot be kept, or kept code that must not run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How hard to sample. A failed first attempt is repeated once, twice as long and with smaller steps.

    In `stats.bayes.models.fit` the model says what `target_accept` of the first attempt is.
    """

    chains: int = 4
    tune: int = 500
    draws: int = 1000
    target_accept: float = 0.9
    cores: int = 2
    patience_seconds: float = 30.0

    def harder(self) -> Sampling:
        """The second attempt."""
        return Sampling(self.chains, 2 * self.tune, 2 * self.draws, 0.99, self.cores, self.patience_seconds)


@dataclass(frozen=True, slots=True)
class Draws:
    """Draws after warm-up: `values` by quantity, each (chains, draws, *shape of the quantity)."""

    values: Mapping[str, Array]
    divergences: int


class Program(Protocol):
    """A model compiled for one size class. Sampling the same data with the same seed gives the same draws."""

    def sample(
        self,
        data: Data,
        sampling: Sampling,
        *,
        seed: int,
        should_cancel: Callable[[], bool] = ...,
        progress: Callable[[float], None] = ...,
    ) -> Draws:
        """Draws from the posterior. Raises `FitCancelled` or `SamplingFailed`; no thread goes on sampling then."""
        ...
