"""Every case of the libraries that concerns an experiment is ours, or differs by a known amount for a reason."""

import pytest

from tests.golden import libraries_designs, libraries_effects, libraries_proportions, libraries_sequential
from tests.golden.libraries_source import CASES

MODULES = (libraries_effects, libraries_proportions, libraries_designs, libraries_sequential)


@pytest.mark.parametrize("name", CASES.checks)
def test_case_of_a_library(name: str) -> None:
    CASES.check(name)


def test_every_case_of_the_libraries_is_compared_or_belongs_elsewhere() -> None:
    CASES.check_complete()
