"""Staged rollouts by a hash of the unit are stratified experiments (METHODS D6, A8, A12)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.launch.staged import Staged, Stages, staged


def one_stage(n_on: float = 1000, n_off: float = 9000, coverage: float = 0.1) -> Stages:
    each = np.ones(1)
    return Stages(n_on * each, 1.05 * each, 1.0 * each, n_off * each, 1.0 * each, 1.0 * each, coverage * each)


def rollout(seed: int, *, lift: float, stages: tuple[float, ...] = (0.1, 0.25, 0.5), units: int = 4000) -> Staged:
    """Units with habits of their own: who is on stays on, so that stages share units."""
    rng = np.random.default_rng(seed)
    place, habit = rng.random(units), rng.gamma(4.0, 0.25, units)
    moments = []
    for coverage in stages:
        on = place < coverage
        y = rng.poisson(5 * habit * np.where(on, 1 + lift, 1.0)).astype(float)
        moments.append([on.sum(), y[on].mean(), y[on].var(ddof=1), (~on).sum(), y[~on].mean(), y[~on].var(ddof=1)])
    columns = np.array(moments).T
    return staged(Stages(*columns, coverage=np.array(stages)))


def test_one_stage_is_the_log_lift_of_an_experiment() -> None:
    found = staged(one_stage()).estimated
    assert found.effect == pytest.approx(np.log(1.05))
    assert found.standard_error == pytest.approx(np.sqrt(1 / (1000 * 1.05**2) + 1 / 9000))
    assert found.notes == ()


def test_more_stages_of_the_same_units_do_not_pretend_to_be_more_units() -> None:
    single = one_stage()
    triple = Stages(*(np.repeat(getattr(single, name), 3) for name in Stages.__slots__))
    assert staged(triple).estimated.standard_error == pytest.approx(staged(single).estimated.standard_error)
    assert staged(triple).estimated.notes == ("stages_share_units",)


def test_a_split_that_is_off_is_seen() -> None:
    assert staged(one_stage()).sample_ratio_p == pytest.approx(1.0)
    assert staged(one_stage(n_on=1200)).sample_ratio_p < 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"coverage": np.zeros(1)},
        {"coverage": np.ones(1)},
        {"n_on": np.zeros(1)},
        {"mean_off": np.array([-1.0])},
        {"variance_off": np.array([1e9])},
    ],
)
def test_a_stage_without_a_comparison_says_nothing(changes: dict[str, np.ndarray]) -> None:
    found = staged(replace(one_stage(), **changes)).estimated
    assert (found.reason, np.isnan(found.effect)) == ("not_enough_units", True)


@given(st.floats(0.01, 100), st.permutations([0, 1, 2]))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_the_metric_and_the_order_of_stages_do_not_matter(scale: float, order: list[int]) -> None:
    stages = Stages(
        n_on=np.array([400.0, 1000.0, 2000.0]),
        mean_on=np.array([1.1, 1.05, 1.2]),
        variance_on=np.array([1.0, 2.0, 1.5]),
        n_off=np.array([3600.0, 3000.0, 2000.0]),
        mean_off=np.array([1.0, 1.02, 1.1]),
        variance_off=np.array([1.0, 1.0, 2.0]),
        coverage=np.array([0.1, 0.25, 0.5]),
    )
    other = Stages(
        *(
            getattr(stages, name)[order] * (scale if "mean" in name else scale**2 if "variance" in name else 1.0)
            for name in Stages.__slots__
        )
    )
    a, b = staged(stages).estimated, staged(other).estimated
    assert b.effect == pytest.approx(a.effect)
    assert b.standard_error == pytest.approx(a.standard_error)


def coverage(replications: int, lift: float) -> float:
    found = [rollout(seed, lift=lift).estimated for seed in range(replications)]
    return float(np.mean([item.lower <= np.log1p(lift) <= item.upper for item in found]))


def test_intervals_hold_the_truth_although_stages_share_units_in_short() -> None:
    assert coverage(60, 0.05) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 60)


@pytest.mark.simulation
@pytest.mark.parametrize("lift", [0.0, 0.1])
def test_intervals_hold_the_truth_although_stages_share_units(lift: float) -> None:
    replications = 1500
    assert coverage(replications, lift) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / replications)
