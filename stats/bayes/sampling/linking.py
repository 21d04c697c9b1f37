"""From machine code on disk to addresses, with llvmlite alone.

Numba's code calls a few C functions of its runtime (memory of arrays, errors). They come from Numba's two C extensions,
loaded without the package around them, whose import alone takes a second and 50 MB. The same holds for nutpie, whose
Python layer imports ArviZ and pandas.
"""

from __future__ import annotations

import builtins
import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Iterable
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from stats.bayes.sampling.contract import BundleRejected

_LOADING = threading.RLock()


def nutpie_core() -> Any:
    """nutpie's sampler in Rust, `nutpie._lib`, without `import nutpie`; a later import finds this one."""
    return _extension("nutpie", "_lib", keep=True)


def link(code: bytes, entry: str, needs: Iterable[str]) -> tuple[Any, int]:
    """The engine that owns the linked code, and the address of `entry`, good for as long as the engine lives.

    `needs` are the symbols the code calls. LLVM ends the process over a symbol it cannot find, so they are looked up
    first; `BundleRejected` names the missing ones. LLVM does not survive bytes that are no object file either: whole
    code is what the checksum of a bundle is for.
    """
    from llvmlite import binding

    with _LOADING:
        _initialise()
        module = binding.parse_assembly("")
        target = binding.Target.from_triple(binding.get_process_triple()).create_target_machine()
        engine = binding.create_mcjit_compiler(module, target)  # makes the symbols of this process visible to LLVM
        missing = [name for name in needs if not _provided(name)]
        if missing:
            raise BundleRejected(f"this process has no {', '.join(missing)}")
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = engine.get_function_address(entry)
    if not address:
        raise BundleRejected("its code lacks the function it was made for")
    return engine, int(address)


@functools.cache
def _initialise() -> None:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()


def _provided(name: str) -> bool:
    """Whether the linker finds a symbol, telling it of Numba's own first, as Numba does (numba/core/base.py)."""
    from llvmlite import binding

    own = _numba_symbols().get(name)
    if own is not None:
        binding.add_symbol(name, own)
        return True
    return binding.address_of_symbol(name) is not None


@functools.cache
def _numba_symbols() -> dict[str, int]:
    helpers = _extension("numba", "_helperlib").c_helpers
    runtime = _extension("numba", "core.runtime._nrt_python").c_helpers
    raised = {
        f"PyExc_{kind.__name__}": id(kind)
        for kind in vars(builtins).values()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    return {
        **helpers,  # C's mathematics, under its own names
        **{f"numba_{name}": address for name, address in helpers.items()},
        **{name if name.startswith("_") else f"NRT_{name}": address for name, address in runtime.items()},
        **raised,
        "_Py_NoneStruct": id(None),
    }


def _extension(package: str, name: str, *, keep: bool = False) -> ModuleType:
    """A C extension inside a package, without running the package."""
    full = f"{package}.{name}"
    with _LOADING:
        if full in sys.modules:
            return sys.modules[full]
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise BundleRejected(f"{package} is not installed")
        *folders, last = name.split(".")
        spec = PathFinder.find_spec(full, [os.path.join(path, *folders) for path in found.submodule_search_locations])
        if spec is None or spec.loader is None:
            raise BundleRejected(f"{package} has no {last}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if keep:
            sys.modules[full] = module
        else:
            sys.modules.pop(full, None)  # old-style extensions enter themselves
        return module
