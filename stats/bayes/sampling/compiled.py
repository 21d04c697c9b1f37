"""A PyMC model compiled in this process and re-used with new data: the public road, and the oracle of the frozen one.

Importing this module does not import PyMC; `compile_program` does, and costs 10-20 CPU seconds for import and
compilation.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.sampling.contract import Array, Data, Draws, FitCancelled, Sampling
from stats.bayes.sampling.functions import Functions
from stats.bayes.sampling.inputs import Inputs
from stats.bayes.sampling.starts import Starts
from stats.bayes.sampling.traces import read
from stats.bayes.sampling.waiting import Sampler, Token, Watched, sampled

_ONE_COMPILATION = threading.Lock()


class CompiledProgram:
    """`stats.bayes.sampling.contract.Program` by nutpie on a model of this process.

    `compiled` is nutpie's model, `inputs` the data it reads, `functions` its machine code, `starts` where its chains
    start, `stored` the shapes of what nutpie stores per draw, `kept` those of the quantities that draws hold, `example`
    those of the example's data.
    """

    def __init__(
        self,
        compiled: Any,
        starts: Starts,
        kept: Mapping[str, tuple[int, ...]],
        example: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.compiled = compiled
        self.starts = starts
        self.kept = kept
        names, _, shapes = compiled.shape_info
        self.stored = {name: tuple(map(int, shape)) for name, shape in zip(names, shapes, strict=True)}
        built = {var.name: compiled.shared_data[key].shape for var, key in compiled.shared_var_keys.items()}
        self.inputs = Inputs(built, {**built, **example}, _lengths(self.stored, int(compiled.n_dim)))
        self.functions = Functions(
            compiled.compiled_logp_func.address,
            compiled.compiled_expand_func.address,
            int(compiled.n_dim),
            int(compiled.n_expanded),
        )

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
        arrays = self.inputs.checked(data)
        self.functions.check(self.starts.centre, arrays, self.inputs)
        trace = sampled(
            lambda watched, token: self._started(arrays, sampling, seed, watched, token),
            sampling,
            should_cancel,
            progress,
        )
        return read(trace, self.kept, sampling.tune)

    def _started(
        self, arrays: Mapping[str, Array], sampling: Sampling, seed: int, watched: Watched, token: Token
    ) -> Sampler:
        import nutpie

        started: Sampler = nutpie.sample(
            dataclasses.replace(self.compiled.with_data(**arrays), initial_point_func=self.starts.holding(token)),
            draws=sampling.draws,
            tune=sampling.tune,
            chains=sampling.chains,
            cores=sampling.cores,
            seed=seed % 2**63,
            target_accept=sampling.target_accept,
            progress_bar=False,
            progress_callback=watched.note,
            progress_rate=watched.every_milliseconds,
            return_raw_trace=True,
            blocking=False,
        )
        return started


def _lengths(stored: Mapping[str, tuple[int, ...]], parameters: int) -> frozenset[int]:
    """The lengths above one of the parameters: nutpie stores them first, `parameters` numbers in all."""
    lengths, seen = set[int](), 0
    for shape in stored.values():
        if seen == parameters:
            break
        seen += math.prod(shape)
        lengths.update(length for length in shape if length > 1)
    return frozenset(lengths)


def compile_program(definition: ModelDefinition, size: int) -> CompiledProgram:
    """Build and compile the model of this size class. Seconds of CPU; one compilation at a time.

    Raises `TypeError` for data that are not float64: integers would truncate what later fits pass in.
    """
    with _ONE_COMPILATION:
        import nutpie

        model = definition.build(size)
        for data in model.data_vars:
            if data.dtype != "float64":
                raise TypeError(f"{definition.name}: data {data.name} must be float64, not {data.dtype}")
        compiled = nutpie.compile_pymc_model(model, var_names=list(definition.kept), jitter_rvs=set())
    starts = Starts(np.asarray(compiled.initial_point_func(0), dtype=np.float64))
    kept = {name: tuple(int(length) for length in compiled.shapes[name]) for name in definition.kept}
    example = {name: np.shape(values) for name, values in definition.example(size).items()}
    return CompiledProgram(dataclasses.replace(compiled, initial_point_func=starts), starts, kept, example)
