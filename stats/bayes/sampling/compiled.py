"""A PyMC model compiled in this process and re-used with new data: the public road, and the oracle of the frozen one.

Importing this module does not import PyMC; `compile_program` does, and costs 10-20 CPU seconds for import and
compilation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.sampling.contract import Data, Draws, FitCancelled, Sampling
from stats.bayes.sampling.waiting import Watched, finished_trace

_ONE_COMPILATION = threading.Lock()


class CompiledProgram:
    """`stats.bayes.sampling.contract.Program` by nutpie on a model of this process."""

    def __init__(self, compiled: Any, kept: tuple[str, ...]) -> None:
        self.compiled = compiled
        self._kept = kept

    def sample(
        self,
        data: Data,
        sampling: Sampling,
        *,
        seed: int,
        should_cancel: Callable[[], bool] = lambda: False,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> Draws:
        """See `Program.sample`."""
        if should_cancel():
            raise FitCancelled
        import nutpie

        watched = Watched()
        sampler = nutpie.sample(
            self.compiled.with_data(**{k: np.ascontiguousarray(v, dtype=np.float64) for k, v in data.items()}),
            draws=sampling.draws,
            tune=sampling.tune,
            chains=sampling.chains,
            cores=sampling.cores,
            seed=seed % 2**63,
            target_accept=sampling.target_accept,
            progress_bar=False,
            progress_callback=watched.note,
            return_raw_trace=True,
            blocking=False,
        )
        trace = finished_trace(sampler, watched, sampling, should_cancel, progress)
        return read(trace, self._kept, sampling.tune)


def compile_program(definition: ModelDefinition, size: int) -> CompiledProgram:
    """Build and compile the model of this size class. Seconds of CPU; one compilation at a time."""
    with _ONE_COMPILATION:
        import nutpie

        model = definition.build(size)
        return CompiledProgram(nutpie.compile_pymc_model(model, var_names=list(definition.kept)), definition.kept)


def read(trace: Any, kept: tuple[str, ...], tune: int) -> Draws:
    """The draws after warm-up of a raw nutpie trace."""
    chains, statistics = trace.get_arrow_trace()
    return Draws(
        values={name: np.stack([_column(chain, name)[tune:] for chain in chains]) for name in kept},
        divergences=sum(int(np.sum(chain.column("diverging").to_numpy()[tune:])) for chain in statistics),
    )


def _column(chain: Any, name: str) -> Any:
    """(draws, *shape): a vector per draw arrives as a list of equal length."""
    column = chain.column(name)
    try:
        return np.asarray(column.to_numpy(), dtype=np.float64)
    except NotImplementedError:
        from arro3.core import list_flatten

        values = np.asarray(list_flatten(column).to_numpy(), dtype=np.float64)
        return values.reshape(len(column), -1)
