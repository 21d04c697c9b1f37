"""Every case of gbstats and GrowthBook about an experiment is ours, or differs by a known amount for a reason."""

import pytest

from tests.golden import gbstats_designs, gbstats_effects, gbstats_quantiles
from tests.golden.gbstats_source import CASES

MODULES = (gbstats_effects, gbstats_quantiles, gbstats_designs)


@pytest.mark.parametrize("name", CASES.checks)
def test_case_of_gbstats(name: str) -> None:
    CASES.check(name)


def test_every_case_of_gbstats_is_compared_or_belongs_elsewhere() -> None:
    CASES.check_complete()
