"""Compiled models that outlive their process (METHODS I3): PyMC makes them, nothing of PyMC is needed to run them.

`freeze` takes the machine code of a compiled program; `load` links it in a process that has only numpy, llvmlite and
nutpie's Rust core, in milliseconds instead of the 10-20 CPU seconds of PyMC, after computing again what the code
computed where it was made. It rests on private names of nutpie 0.16.11 and Numba 0.68.0, which is why their versions
are pinned and a bundle of any other version is rejected; `stats.bayes.sampling.compiled` is the way without them.

A loaded program computes the same to the last bit in every process. The compiled one may differ from it in the last
digit, which draws of long chains show, in a process that compiled other models before: Numba links all models of a
process together. So make results with the loaded program, also where it was just compiled.

A bundle is code: load only what this service has written itself. The checksum finds damage, not malice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.sampling.bundle import Bundle, of_arrays, packed, unpacked
from stats.bayes.sampling.compiled import CompiledProgram
from stats.bayes.sampling.contract import BundleRejected, Data, Draws, FitCancelled, Sampling, SamplingFailed
from stats.bayes.sampling.fingerprint import fingerprint
from stats.bayes.sampling.functions import Functions
from stats.bayes.sampling.inputs import Inputs, Record
from stats.bayes.sampling.linking import link, nutpie_core
from stats.bayes.sampling.machine import machine
from stats.bayes.sampling.self_test import check, references
from stats.bayes.sampling.starts import Starts
from stats.bayes.sampling.traces import read
from stats.bayes.sampling.waiting import Token, Watched, sampled

__all__ = ["FrozenProgram", "fingerprint", "freeze", "load"]

_ABSOLUTE: Final = re.compile(r"inttoptr \(i64 \d{5,}")
"""An address of this process in the code, as LLVM writes it."""


class FrozenProgram:
    """`stats.bayes.sampling.contract.Program` from a bundle.

    `made_for` is the model's name, version and size class, `stored` the shapes of what nutpie keeps per draw in its
    order (parameters first), and `kept` those of the quantities that draws hold. `engines` own the machine code.
    """

    def __init__(
        self,
        made_for: tuple[str, int, int],
        functions: Functions,
        inputs: Inputs,
        starts: Starts,
        stored: Mapping[str, tuple[int, ...]],
        kept: Mapping[str, tuple[int, ...]],
        engines: tuple[Any, ...],
    ) -> None:
        self.made_for = made_for
        self.functions = functions
        self.inputs = inputs
        self.starts = starts
        self.kept = kept
        self._stored = stored
        self._engines = engines

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
            lambda watched, token: self._started(Record(arrays), sampling, seed, watched, token),
            sampling,
            should_cancel,
            progress,
        )
        return read(trace, self.kept, sampling.tune)

    def _started(self, record: Record, sampling: Sampling, seed: int, watched: Watched, token: Token) -> _Running:
        """What `nutpie.sample` does with a compiled PyMC model, without its Python layer."""
        core = nutpie_core()
        settings = core.PyNutsSettings.Diag(seed % 2**63)
        settings.update(
            {
                "num_tune": sampling.tune,
                "num_draws": sampling.draws,
                "num_chains": sampling.chains,
                "target_accept": sampling.target_accept,
            }
        )
        functions, alive = self.functions, (record, self._engines, token)
        names = list(self._stored)
        shapes = [list(shape) for shape in self._stored.values()]
        dimensions: dict[str, int] = {}  # `new_variables` enters the ones it makes up, the model reads them
        model = core.PyMcModel(
            core.LogpFunc(functions.logp_address, record.address, alive),
            core.ExpandFunc(functions.parameters, functions.expanded, functions.expand_address, record.address, alive),
            core.PyVariable.new_variables(names, ["float64"] * len(names), shapes, dimensions, {}),
            functions.parameters,
            dimensions,
            {},
            self.starts.holding(token),
            None,
        )
        return _Running(
            core.PySampler.from_pymc(
                settings,
                sampling.cores,
                model,
                core.ProgressType.none(),
                watched.note,
                watched.every_milliseconds,
                core.PyStorage.arrow(),
            )
        )


class _Running:
    """nutpie's Rust sampler behind the two methods of its Python one that are used."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def wait(self, *, timeout: float) -> Any:
        """The raw trace. Raises `TimeoutError` while sampling and `RuntimeError` where it failed."""
        self._sampler.wait(timeout)
        return self._sampler.take_results()

    def cancel(self) -> None:
        """End sampling; its threads end with the draw they are at."""
        self._sampler.abort()


def freeze(program: CompiledProgram, definition: ModelDefinition, size: int) -> bytes:
    """The program as bytes for `load`, with points to test it on.

    Raises `BundleRejected` for code that only runs in the process that made it: where PyTensor reaches
    `scipy.special` or BLAS, Numba calls back into Python objects of that process.
    """
    try:
        bundle = packed(_content(program, definition, size))
    except SamplingFailed as error:
        raise BundleRejected(f"the example's data do not fit: {error}") from error
    except AttributeError as error:
        raise BundleRejected(f"nutpie or Numba keep their code elsewhere: {error}") from error
    load(bundle)
    return bundle


def load(bundle: bytes) -> FrozenProgram:
    """The program of a bundle, tested here. Raises `BundleRejected` for one that is damaged, foreign or wrong."""
    content = unpacked(bundle)
    _same_machine(content.header.get("machine", {}))
    try:
        return _linked(content)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRejected(f"its header is not understood: {error!r}") from error


def _content(program: CompiledProgram, definition: ModelDefinition, size: int) -> Bundle:
    compiled = program.compiled
    functions = {"logp": compiled.compiled_logp_func, "expand": compiled.compiled_expand_func}
    needs = sorted({name for function in functions.values() for name in _symbols(definition.name, function)})
    _known_layout(compiled)
    inputs = program.inputs
    example = inputs.checked(definition.example(size))
    names, arrays = references(program.functions, program.starts, example)
    header = {
        "model": [definition.name, definition.version, size],
        "machine": machine(),
        "entries": {name: function._wrapper_name for name, function in functions.items()},
        "needs": needs,
        "inputs": [[name, list(shape), list(inputs.example[name])] for name, shape in inputs.built.items()],
        "parameter_lengths": sorted(inputs.parameters),
        "parameters": program.functions.parameters,
        "expanded": program.functions.expanded,
        "shapes": [[name, list(shape)] for name, shape in program.stored.items()],
        "kept": list(definition.kept),
        "references": names,
    }
    code = {name: function._library._get_compiled_object() for name, function in functions.items()}
    return Bundle(header, {**code, **of_arrays({"centre": program.starts.centre, **arrays})})


def _linked(content: Bundle) -> FrozenProgram:
    header = content.header
    engines, addresses = [], {}
    for name, entry in header["entries"].items():
        engine, addresses[name] = link(content.parts[name], entry, header["needs"])
        engines.append(engine)
    parameters = int(header["parameters"])
    functions = Functions(addresses["logp"], addresses["expand"], parameters, int(header["expanded"]))
    inputs = Inputs(
        {name: tuple(shape) for name, shape, _ in header["inputs"]},
        {name: tuple(shape) for name, _, shape in header["inputs"]},
        frozenset(header["parameter_lengths"]),
    )
    check(functions, inputs, header["references"], content)
    model, version, size = header["model"]
    stored = {name: tuple(shape) for name, shape in header["shapes"]}
    return FrozenProgram(
        (model, version, size),
        functions,
        inputs,
        Starts(content.array("centre", (parameters,))),
        stored,
        {name: stored[name] for name in header["kept"]},
        tuple(engines),
    )


def _symbols(model: str, function: Any) -> Iterator[str]:
    """The outside symbols a compiled function calls. Raises `BundleRejected` for what ties it to its process."""
    library = function._library
    module = library._final_module
    text = str(module)
    if library._dynamic_globals or "objmode" in text or _ABSOLUTE.search(text):
        raise BundleRejected(
            f"{model} calls back into the process that compiled it (scipy.special or BLAS in its graph)"
        )
    from numba.core.intrinsics import INTR_MATH

    for symbol in (*module.functions, *module.global_variables):
        family, _, rest = symbol.name.partition(".")
        operation = rest.partition(".")[0]
        if symbol.is_declaration and family != "llvm":
            yield symbol.name
        elif symbol.is_declaration and operation in INTR_MATH:  # an operation of LLVM that becomes a call
            yield operation


def _known_layout(compiled: Any) -> None:
    """Raise `BundleRejected` where nutpie's record of its data is not what `Record` makes."""
    arrays = {var.name: compiled.shared_data[key] for var, key in compiled.shared_var_keys.items()}
    if compiled.user_data.tobytes() != Record(arrays).words.tobytes():
        raise BundleRejected("nutpie lays its data out differently from what is known")


def _same_machine(made_on: Mapping[str, str]) -> None:
    here = machine()
    for name in sorted({*here, *made_on}):
        if here.get(name) != made_on.get(name):
            raise BundleRejected(f"it was made with another {name}: {made_on.get(name)}, here {here.get(name)}")
