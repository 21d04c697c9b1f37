"""Concurrent experiments are screened for interactions, and dependent assignments are noticed (METHODS A16)."""

import numpy as np
import pytest

from experiments.definitions import Estimation
from experiments.result import Check, ExperimentResult
from stats.moment_set import ConcurrentCells
from stats.moments import Moments
from tests.experiments.evidence_cases import document, moment_set, plan_of, planned, spec

N = 40_000


def world(effects: dict[str, float], *, shared_salt: bool = False, screen: bool = True, n: int = N) -> ExperimentResult:
    """Other experiments by name, each with an interaction with ours, which is worth +0.5 on its own."""
    rng = np.random.default_rng(1)
    arm = rng.integers(0, 2, n)
    others = {key: arm.copy() if shared_salt else rng.integers(0, 2, n) for key in effects}
    if shared_salt:
        for other in others.values():
            moved = rng.random(n) < 0.8
            other[moved] = rng.integers(0, 2, int(moved.sum()))
    values = 10 + 0.5 * arm + rng.normal(0, 2, n)
    for key, size in effects.items():
        values = values + 0.5 * others[key] + size * others[key] * arm
    plan = plan_of(
        [planned(spec("m"), "primary"), planned(spec("second"), "secondary")],
        planned_units=n,
        estimation=Estimation(cuped=False, screen_interactions=screen),
    )
    rows = np.column_stack([values, rng.normal(5, 1, n)])
    concurrent = {
        key: ConcurrentCells(("off", "on"), Moments.from_rows(rows, other * 2 + arm, (2, 2)))
        for key, other in others.items()
    }
    return document(plan, moment_set(plan, rows, arm, concurrent=concurrent))


def found(result: ExperimentResult, name: str) -> Check:
    return next(check for check in result.checks if check.name == name)


def test_an_interfering_experiment_is_reported_and_the_others_are_not():
    result = world({"banner": 0.6, "colour": 0.0, "price": 0.0})
    by_key = {item.experiment_key: item for item in result.interactions}
    assert {key: item.reported for key, item in by_key.items()} == {"banner": True, "colour": False, "price": False}
    banner = by_key["banner"]
    assert (banner.metric_key, banner.variant_key, banner.other_variant_key) == ("m", "v1", "on")
    assert banner.interaction == pytest.approx(0.6, abs=0.2)
    assert banner.ci_lower > 0 and banner.ci_lower < banner.interaction < banner.ci_upper
    check = found(result, "interactions")
    assert check.status == "warn" and "banner" in check.detail and "going live" in check.remedy and "16" in check.detail
    assert "A16" in result.methods


def test_intervals_and_corrected_p_values_say_the_same():
    result = world({f"e{i}": size for i, size in enumerate([0.3, 0.2, 0.1, 0.05, 0.0, 0.0])})
    for item in result.interactions:
        assert (item.p_value_adjusted <= 0.1) == (item.ci_lower > 0 or item.ci_upper < 0)


def test_without_interference_nothing_is_reported_and_the_power_is_said():
    result = world({"colour": 0.0})
    check = found(result, "interactions")
    assert check.status == "pass" and "16 times" in check.detail
    assert found(result, "concurrent_assignment").status == "pass"


def test_assignments_that_share_their_hash_are_noticed():
    check = found(world({"banner": 0.0}, shared_salt=True), "concurrent_assignment")
    assert check.status == "warn" and "banner" in check.detail and "salt" in check.remedy


def test_a_plan_that_does_not_screen_and_one_without_neighbours_have_no_interactions():
    for result in (world({"banner": 0.6}, screen=False), world({})):
        assert result.interactions == []
        assert not {"interactions", "concurrent_assignment"} & {check.name for check in result.checks}


def test_overlaps_too_small_to_tell_have_a_reason():
    result = world({"banner": 0.6}, n=80)
    item = result.interactions[0]
    assert item.reason == "too_few_units" and not item.reported
    assert (item.interaction, item.standard_error, item.ci_lower, item.p_value, item.p_value_adjusted) == (None,) * 5
