"""One suite for all engines: the embedded road, the compiled one in DuckDB, PostgreSQL and Spark, and plain loops."""

from collections.abc import Callable, Sequence

import pytest

from experiments.definitions import MetricSpec
from stats.moment_set import MomentSet
from tests.engines.cases import WORLDS
from tests.engines.comparing import assert_buckets_by_md5, assert_engines_agree, assert_is_what_loops_find
from tests.engines.plain_pass import Found

type Road = Callable[[str], MomentSet]
type Specs = Callable[[str], Sequence[MetricSpec]]
COMPILED = ("duckdb_road", "postgres_road", pytest.param("spark_road", marks=pytest.mark.engines))


@pytest.mark.parametrize("world", WORLDS)
def test_the_embedded_road_finds_what_loops_find(world: str, embedded: Road, plain: Callable[[str], Found]) -> None:
    found = embedded(world)
    found.validate()
    assert found.last.count.all(), "every arm has units"
    assert_is_what_loops_find(found, plain(world))


@pytest.mark.parametrize("road", COMPILED)
@pytest.mark.parametrize("world", WORLDS)
def test_every_engine_finds_what_the_embedded_road_and_loops_find(
    world: str, road: str, embedded: Road, plain: Callable[[str], Found], specs: Specs, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(road)(world)
    found.validate()
    assert_engines_agree(found, embedded(world), specs(world))
    assert_is_what_loops_find(found, plain(world))
    assert_buckets_by_md5(found, plain(world))
