"""A name for a frozen program that changes with everything its machine code is made from."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
import types
from collections.abc import Callable, Iterator
from dis import get_instructions
from typing import Any

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.sampling.bundle import FORMAT
from stats.bayes.sampling.machine import machine


def fingerprint(definition: ModelDefinition, size: int) -> str:
    """64 hexadecimal digits: name, version and size class of the model, the sources its graph comes from, the machine.

    The sources are the module of `build` and, through the names its code uses, the modules of this project that help to
    build the graph. Nothing is compiled and PyMC is not imported.
    """
    said = {
        "format": FORMAT,
        "model": [definition.name, definition.version, size],
        "kept": list(definition.kept),
        "sources": sorted(_sources(definition.build)),
        "machine": machine(),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _sources(build: Callable[..., Any]) -> set[str]:
    """Digests of the sources behind a function: its module's, and those of what it refers to in the same project."""
    start = build.func if isinstance(build, functools.partial) else build
    project = start.__module__.partition(".")[0]
    found, seen, waiting = set[str](), set[Any](), [inspect.unwrap(start)]
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        found.add(_digest(function))
        for code in _codes(function.__code__):
            found.update(_constants(code, function.__globals__))
            for used in _used(code, function.__globals__, project):
                if isinstance(used, types.FunctionType):
                    waiting.append(used)
                else:
                    found.add(_digest(used))
    return found


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _constants(code: types.CodeType, names: dict[str, Any]) -> Iterator[str]:
    """Numbers and texts that code takes from its module, which may have imported them from another."""
    for name in code.co_names:
        value = names.get(name)
        if isinstance(value, (bool, int, float, str, tuple)):
            yield f"{name}={value!r}"


def _used(code: types.CodeType, names: dict[str, Any], project: str) -> Iterator[Any]:
    """Functions, classes and modules of the project that code names or imports."""
    values = [names[name] for name in code.co_names if name in names]
    module = None
    for instruction in get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            ours = instruction.argval.partition(".")[0] == project
            module = importlib.import_module(instruction.argval) if ours else None
            values.append(module)
        elif instruction.opname == "IMPORT_FROM":
            values.append(_imported(module, instruction.argval))
    for value in values:
        used = inspect.unwrap(value) if callable(value) else value
        home = used.__name__ if isinstance(used, types.ModuleType) else getattr(used, "__module__", None)
        known = isinstance(used, (types.ModuleType, types.FunctionType, type))
        if known and isinstance(home, str) and home.partition(".")[0] == project:
            yield used


def _imported(module: types.ModuleType | None, name: str) -> Any:
    """What `from module import name` gives: an attribute, or a module nobody has imported yet."""
    if module is None or hasattr(module, name):
        return getattr(module, name, None)
    return importlib.import_module(f"{module.__name__}.{name}")


def _digest(source: Any) -> str:
    """Of the whole module: constants beside a function count as well."""
    module = source if isinstance(source, types.ModuleType) else inspect.getmodule(source)
    try:
        text = inspect.getsource(module or source)
    except (OSError, TypeError):  # defined where there is no file: bytecode is the best there is
        text = repr((source.__code__.co_code, source.__code__.co_consts)) if hasattr(source, "__code__") else ""
    return hashlib.sha256(text.encode()).hexdigest()
