"""Random worlds, metrics and options: the compiled road in DuckDB, the embedded one and loops say the same."""

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.definitions import MetricSpec
from tests.engines.comparing import assert_buckets_by_md5, assert_engines_agree, assert_is_what_loops_find
from tests.engines.plain_pass import plainly
from tests.engines.torture import FILTERED, KINDS, NUMBERS, OPEN, TRIGGER, torture
from tests.engines.worlds import World, write_files
from tests.warehouse.cases import DAY, START
from warehouse.engines.embedded import DuckDBEngine
from warehouse.extract import extract_experiment
from warehouse.relational_moments import extract_relational

EVERY: dict[str, MetricSpec] = {one.key: one for one in (*NUMBERS, *FILTERED, *OPEN[1:], *KINDS)}
OPTIONS: dict[str, dict[str, Any]] = {
    "segments": {"segments": ["country"]},
    "strata": {"stratify_by": ["platform"]},
    "trigger": {"trigger": TRIGGER},
    "ramp": {"allocation": ((START, (0.9, 0.1)), (START + 3 * DAY, (0.5, 0.5)))},
    "ended": {"ended_at": START + 6 * DAY},
    "clusters": {"cluster": "account", "clustered": True},
}
some: Any = settings(deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Few units and metrics, any options; seen some time after the beginning."""
    keys = draw(st.lists(st.sampled_from(sorted(EVERY)), min_size=1, max_size=4, unique=True))
    chosen = draw(st.sets(st.sampled_from(sorted(OPTIONS)), max_size=3))
    options: dict[str, Any] = {}
    for name in sorted(chosen):
        options |= OPTIONS[name]
    return torture(
        [EVERY[key] for key in keys],
        seed=draw(st.integers(0, 2**32 - 1)),
        units=draw(st.integers(0, 30)),
        as_of=START + draw(st.integers(0, 60)) * DAY / 4,
        **options,
    )


def check(world: World) -> None:
    with tempfile.TemporaryDirectory() as name, closing(DuckDBEngine(threads=1)) as engine:
        folder = Path(name)
        write_files(world, folder)
        wanted = extract_experiment(world.plan(), world.slice(folder), threads=1)
        found = extract_relational(world.plan(), world.slice(folder), engine)
    loops = plainly(world, wanted.looks)
    assert_engines_agree(found, wanted, world.metrics)
    assert_is_what_loops_find(wanted, loops)
    assert_is_what_loops_find(found, loops)
    assert_buckets_by_md5(found, loops)


@given(world=worlds())
@settings(some, max_examples=3)
def test_both_roads_find_what_loops_find_in_any_world(world: World) -> None:
    check(world)


@pytest.mark.engines
@given(world=worlds())
@settings(some, max_examples=60)
def test_both_roads_find_what_loops_find_in_many_worlds(world: World) -> None:
    check(world)
