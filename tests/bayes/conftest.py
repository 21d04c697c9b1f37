"""Compiled models for tests: the bundles that workers of this machine use, made where they are missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stats.bayes.models.definition import ModelDefinition
from stats.bayes.sampling.contract import Program
from stats.bayes.sampling.frozen import load
from workers.models.catalogue import bundle_folder
from workers.models.compiling import compile_into, make_bundle
from workers.models.folder import key_of
from workers.models.messages import SizedModel

type ProgramOf = Callable[[ModelDefinition, int], Program]


@pytest.fixture(scope="session")
def program_of() -> ProgramOf:
    """`program_of(definition, size)`, as `stats.bayes.models.fit.fit` takes it.

    A compilation costs ten to twenty CPU seconds. Bundles are kept under a fingerprint of everything they depend on, so
    that a model is compiled once by whoever comes first, however many processes run the tests.
    """
    folder = bundle_folder(None)
    programs: dict[SizedModel, Program] = {}

    def program(definition: ModelDefinition, size: int) -> Program:
        model = SizedModel(definition, size)
        if model not in programs:
            made: Program | None = None
            if folder.size(key_of(model)) is None:
                compile_into(folder)
                made, _ = make_bundle(folder, model)
            programs[model] = made or load(folder.read(key_of(model)))
        return programs[model]

    return program
