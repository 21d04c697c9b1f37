"""Compiled models that outlive their process (BAYES pattern B): PyMC makes them, nothing of PyMC is needed to run them.

`freeze` takes the machine code of a compiled program; `load` links it in a process that has only numpy, llvmlite and
nutpie's Rust core, in milliseconds instead of the 10-20 CPU seconds of PyMC, after computing again what the code
computed where it was made. It rests on private names of nutpie 0.16.11 and Numba 0.68.0, which is why their versions
are pinned and a bundle of any other version is rejected; `stats.bayes.sampling.compiled` is the way without them.

A bundle is code: load only what this service has written itself. The checksum finds damage, not malice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.sampling.bundle import Bundle, of_arrays, packed, unpacked
from stats.bayes.sampling.compiled import CompiledProgram
from stats.bayes.sampling.contract import (
    Array,
    BundleRejected,
    Data,
    Draws,
    FitCancelled,
    Sampling,
    SamplingFailed,
)
from stats.bayes.sampling.fingerprint import fingerprint
from stats.bayes.sampling.functions import Functions
from stats.bayes.sampling.inputs import Inputs, Record
from stats.bayes.sampling.linking import link, nutpie_core
from stats.bayes.sampling.machine import machine
from stats.bayes.sampling.starts import Starts
from stats.bayes.sampling.traces import read
from stats.bayes.sampling.waiting import Token, Watched, sampled

__all__ = ["FrozenProgram", "fingerprint", "freeze", "load"]

_LOGP_TOLERANCE: Final = 1e-10
_GRADIENT_TOLERANCE: Final = 1e-8
_SHRUNK: Final = 0.75
"""The second data set is the example's times this: counts stay below their totals and indices within their range."""
_ABSOLUTE = re.compile(r"inttoptr \(i64 \d{5,}")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Names and shapes of what nutpie stores per draw: parameters first, then what was kept."""

    shapes: Mapping[str, tuple[int, ...]]
    kept: tuple[str, ...]


class FrozenProgram:
    """`stats.bayes.sampling.contract.Program` from a bundle. `made_for` is the model's name, version and size class."""

    def __init__(
        self,
        made_for: tuple[str, int, int],
        functions: Functions,
        inputs: Inputs,
        starts: Starts,
        layout: _Layout,
        engines: tuple[Any, ...],
    ) -> None:
        self.made_for = made_for
        self.functions = functions
        self.inputs = inputs
        self.starts = starts
        self.kept = {name: layout.shapes[name] for name in layout.kept}
        self._layout = layout
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
        names = list(self._layout.shapes)
        shapes = [list(shape) for shape in self._layout.shapes.values()]
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
    compiled = program.compiled
    functions = {"logp": compiled.compiled_logp_func, "expand": compiled.compiled_expand_func}
    needs = sorted({name for function in functions.values() for name in _symbols(definition.name, function)})
    record = Record({name: np.zeros(shape) for name, shape in program.inputs.shapes.items()})
    if compiled.user_data.nbytes != record.words.nbytes:
        raise BundleRejected("nutpie lays its data out differently from what is known")
    names, _, shapes = compiled.shape_info
    references, arrays = _references(program, program.inputs.checked(definition.example(size)))
    header = {
        "model": [definition.name, definition.version, size],
        "machine": machine(),
        "entries": {name: function._wrapper_name for name, function in functions.items()},
        "needs": needs,
        "inputs": {name: list(shape) for name, shape in program.inputs.shapes.items()},
        "input_order": list(program.inputs.shapes),
        "parameters": program.functions.parameters,
        "expanded": program.functions.expanded,
        "shapes": [[name, [int(n) for n in shape]] for name, shape in zip(names, shapes, strict=True)],
        "kept": list(definition.kept),
        "references": references,
    }
    code = {name: function._library._get_compiled_object() for name, function in functions.items()}
    bundle = packed(Bundle(header, {**code, **of_arrays({"centre": program.starts.centre, **arrays})}))
    load(bundle)
    return bundle


def load(bundle: bytes) -> FrozenProgram:
    """The program of a bundle, tested here. Raises `BundleRejected` for one that is damaged, foreign or wrong."""
    content = unpacked(bundle)
    header = content.header
    _same_machine(header["machine"])
    engines, addresses = [], {}
    for name, entry in header["entries"].items():
        engine, addresses[name] = link(content.parts[name], entry, header["needs"])
        engines.append(engine)
    parameters = int(header["parameters"])
    model, version, size = header["model"]
    program = FrozenProgram(
        (model, version, size),
        Functions(addresses["logp"], addresses["expand"], parameters, int(header["expanded"])),
        Inputs({name: tuple(header["inputs"][name]) for name in header["input_order"]}),
        Starts(content.array("centre", (parameters,))),
        _Layout({name: tuple(shape) for name, shape in header["shapes"]}, tuple(header["kept"])),
        tuple(engines),
    )
    _self_test(program, content)
    return program


def _symbols(model: str, function: Any) -> Iterator[str]:
    """The outside symbols a compiled function calls. Raises `BundleRejected` for what ties it to its process."""
    library = function._library
    module = library._final_module
    text = str(module)
    if library._dynamic_globals or "objmode" in text or _ABSOLUTE.search(text):
        raise BundleRejected(
            f"{model} calls back into the process that compiled it (scipy.special or BLAS in its graph)"
        )
    mathematics = _mathematics()
    for symbol in (*module.functions, *module.global_variables):
        if not symbol.is_declaration:
            continue
        family, _, rest = symbol.name.partition(".")
        if family != "llvm":
            yield symbol.name
        elif rest.partition(".")[0] in mathematics:  # an intrinsic that becomes a call
            yield rest.partition(".")[0]


def _mathematics() -> Iterable[str]:
    from numba.core.intrinsics import INTR_MATH

    return frozenset(INTR_MATH)


def _references(program: CompiledProgram, example: Mapping[str, Array]) -> tuple[list[str], dict[str, Array]]:
    """Densities, gradients and kept values at a few points, for the example's data and for other data."""
    points = [program.starts.centre, *(program.starts(seed) for seed in range(4))]
    arrays: dict[str, Array] = {}
    references = []
    for data_set, data in (("example", example), ("shrunk", {k: np.asarray(v * _SHRUNK) for k, v in example.items()})):
        record = Record(data)
        for k, point in enumerate(points):
            try:
                evaluated = program.functions.logp(point, record)
                expanded = program.functions.expand(point, record)
            except SamplingFailed as error:
                raise BundleRejected(f"the example's data do not fit the model: {error}") from error
            if evaluated is None or not np.isfinite(expanded).all():
                continue
            prefix = f"{data_set} {k} "
            references.append(prefix)
            arrays |= {
                f"{prefix}point": point,
                f"{prefix}logp": np.array(evaluated[0]),
                f"{prefix}gradient": evaluated[1],
                f"{prefix}expanded": expanded,
            }
        arrays |= {f"{data_set} data {name}": values for name, values in data.items()}
    if sum(reference.startswith("example") for reference in references) < 3:
        raise BundleRejected("the density of the example's data is finite at too few points to test the code")
    return references, arrays


def _self_test(program: FrozenProgram, content: Bundle) -> None:
    """Compute the stored references again. Raises `BundleRejected` where the code computes something else here."""
    for reference in content.header["references"]:
        data_set = reference.partition(" ")[0]
        record = Record(
            {name: content.array(f"{data_set} data {name}", shape) for name, shape in program.inputs.shapes.items()}
        )
        point = content.array(f"{reference}point", (program.functions.parameters,))
        try:
            evaluated = program.functions.logp(point, record)
            expanded = program.functions.expand(point, record)
        except SamplingFailed as error:
            raise BundleRejected(f"its self-test failed: {error}") from error
        if (
            evaluated is None
            or not _near(evaluated[0], content.array(f"{reference}logp", ()), _LOGP_TOLERANCE)
            or not _near(evaluated[1], content.array(f"{reference}gradient", point.shape), _GRADIENT_TOLERANCE)
            or not _near(expanded, content.array(f"{reference}expanded", expanded.shape), _LOGP_TOLERANCE)
        ):
            raise BundleRejected("its self-test failed: it computes other numbers here than where it was made")


def _near(value: Array | float, reference: Array, tolerance: float) -> bool:
    """Relative to the largest entry: a gradient's small entries are differences of large terms."""
    scale = max(float(np.max(np.abs(reference), initial=0.0)), 1e-300)
    return bool(np.all(np.abs(value - reference) <= tolerance * scale))


def _same_machine(made_on: Mapping[str, str]) -> None:
    here = machine()
    for name in sorted({*here, *made_on}):
        if here.get(name) != made_on.get(name):
            raise BundleRejected(f"it was made with another {name}: {made_on.get(name)}, here {here.get(name)}")
