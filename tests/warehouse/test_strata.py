"""Strata from attributes and ramp stages, against loops."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.allocation import Allocation
from experiments.definitions import MetricSpec
from tests.warehouse.cases import DAY, START, Exposure, assert_same, slice_of, write_exposures
from tests.warehouse.plain import (
    ARMS,
    AS_OF,
    CLOSED,
    OPEN,
    UnitRow,
    moments_of,
    plan_with,
    random_world,
    unit_rows,
)
from tests.warehouse.test_triggers import BIG, is_big
from warehouse.extract import extract_experiment
from warehouse.strata import MAX_STRATA

RAMP = ((START, (0.9, 0.1)), (START + 3 * DAY, (0.7, 0.3)), (START + 6 * DAY, (0.5, 0.5)))


def stratum_of(row: UnitRow, attributes: list[str], ramp: Allocation) -> str:
    stage = sum(row.assigned >= since for since, _ in RAMP)
    named = [f"{name}={row.levels[name]}" for name in attributes]
    return ", ".join([*named, f"stage {stage}"] if ramp else named)


@pytest.mark.parametrize("triggered", [False, True])
@pytest.mark.parametrize("metrics", [CLOSED, (*CLOSED, OPEN)])
@pytest.mark.parametrize(
    ("attributes", "ramp"), [([], RAMP), (["country"], ()), (["country", "platform"], ()), (["country"], RAMP)]
)
def test_strata_equal_loops_at_the_first_a_middle_and_the_last_look(
    tmp_path: Path, attributes: list[str], ramp: Allocation, metrics: tuple[MetricSpec, ...], triggered: bool
) -> None:
    world = random_world(tmp_path, 31, units=90, allocation=ramp)
    plan = plan_with(metrics, stratify_by=attributes, trigger=BIG if triggered else None)
    found = extract_experiment(plan, world.data)
    assert found.by_stratum is not None
    assert found.segments == (), "what is stratified by need not be broken down by"
    last = len(found.looks) - 1
    for i in (0, last // 2, last):
        rows = unit_rows(
            metrics,
            world.exposures, world.facts, look=found.looks[i], data_as_of=AS_OF, dimensions=attributes,
            triggers=is_big if triggered else None, source="orders",
        )  # fmt: skip
        for s, stratum in enumerate(found.strata):
            inside = [row for row in rows if stratum_of(row, attributes, ramp) == stratum]
            assert_same(found.by_stratum[i, s], moments_of(inside, len(found.columns)))
        np.testing.assert_array_equal(found.by_stratum.count[i].sum(axis=0), found.overall.count[i])
    assert set(found.strata) == {stratum_of(row, attributes, ramp) for row in rows if row.entered}


def test_rare_strata_share_one_and_stages_of_a_ramp_never_do(tmp_path: Path) -> None:
    exposures = [
        Exposure(f"u{i}", ARMS[i % 2], START + (i % 10) * DAY, {"city": f"c{int(np.sqrt(i))}"}) for i in range(961)
    ]
    data = slice_of([write_exposures(tmp_path, exposures)], {}, data_as_of=AS_OF)
    plain = extract_experiment(plan_with(stratify_by=["city"]), data)
    assert plain.strata == (*(f"city=c{i}" for i in range(30, 1, -1)), "(other)")
    assert len(plain.strata) == MAX_STRATA
    ramped = extract_experiment(plan_with(stratify_by=["city"]), replace(data, allocation=RAMP))
    assert len(ramped.strata) == MAX_STRATA
    assert ramped.strata[:3] == ("city=c30, stage 1", "city=c30, stage 2", "city=c30, stage 3")
    assert ramped.strata[-3:] == ("(other), stage 1", "(other), stage 2", "(other), stage 3")
    assert ramped.by_stratum is not None
    assert ramped.by_stratum.count[-1].sum() == ramped.last.count.sum() == 961


def test_there_are_no_strata_where_everybody_would_be_in_one(tmp_path: Path) -> None:
    world = random_world(tmp_path, 32, units=40, allocation=RAMP[:1])
    for attributes in ([], ["never sent"]):
        found = extract_experiment(plan_with(stratify_by=attributes), world.data)
        assert found.strata == () and found.by_stratum is None
    same = [Exposure(f"u{i}", ARMS[i % 2], START + DAY, {"country": "DE"}) for i in range(9)]
    data = slice_of([write_exposures(tmp_path, same)], {}, data_as_of=AS_OF)
    found = extract_experiment(plan_with(stratify_by=["country"]), replace(data, allocation=RAMP))
    assert found.strata == () and found.by_stratum is None, "all came in the first stage, from one country"
