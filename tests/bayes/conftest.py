"""Compiled models for tests: a compilation costs ten to twenty CPU seconds, so every process compiles a model once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.sampling.compiled import CompiledProgram, compile_program

type ProgramOf = Callable[[ModelDefinition, int], CompiledProgram]


@pytest.fixture(scope="session")
def program_of() -> ProgramOf:
    """`program_of(definition, size)`, as `stats.bayes.models.fit.fit` takes it.

    The cache is one per process. `--dist loadscope` (the Makefile) keeps the tests of a module in one process; modules
    that share a model carry the same `pytestmark = pytest.mark.xdist_group("pymc")`, for runs with `--dist loadgroup`.
    """
    programs: dict[tuple[str, int], CompiledProgram] = {}

    def program(definition: ModelDefinition, size: int) -> CompiledProgram:
        key = (definition.name, size)
        if key not in programs:
            programs[key] = compile_program(definition, size)
        return programs[key]

    return program
