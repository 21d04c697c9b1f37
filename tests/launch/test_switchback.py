"""Switchbacks: blocks of time drawn by lot, with a burn-in after every change (METHODS D5)."""

import itertools
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.launch.contract import Estimated
from stats.launch.switchback import switchback

HOURS = 24


def drawn(
    seed: int,
    *,
    blocks: int = 40,
    length: int = 6,
    effect: float = 0.0,
    carry: float = 0.0,
    persistence: float = 0.5,
    noise: float = 0.05,
) -> dict[str, Any]:
    """Hourly log outcomes with a daily shape, a trend, AR(1) noise, and an effect that wears in by `carry`."""
    rng = np.random.default_rng(seed)
    states = rng.permutation(np.repeat([True, False], blocks // 2))
    on = np.repeat(states, length)
    block = np.repeat(np.arange(blocks), length)
    size = on.size
    shape = np.sin(2 * np.pi * np.arange(size) / HOURS)
    error = np.zeros(size)
    for t in range(1, size):
        error[t] = persistence * error[t - 1] + noise * rng.standard_normal()
    acting = np.zeros(size)
    level = 0.0
    for t in range(size):
        level = carry * level + (1 - carry) * on[t]
        acting[t] = level
    y = 3.0 + 0.3 * shape + 0.0005 * np.arange(size) + effect * acting + error
    return {"y": y, "on": on, "block": block, "stratum": np.arange(size) % HOURS, "usable": np.ones(size, dtype=bool)}


def run(data: dict[str, Any], *, carry_over: int = 0, draws: int = 199, **changes: Any) -> Estimated:
    return switchback(**(data | changes), carry_over=carry_over, seed=7, draws=draws)


def test_without_burn_in_it_is_least_squares_on_the_state_strata_and_a_trend() -> None:
    data = drawn(3, effect=0.1)
    found = run(data)
    size = data["y"].size
    strata = (data["stratum"][:, None] == np.arange(HOURS)).astype(float)
    design = np.column_stack([data["on"].astype(float), np.arange(size) / size, strata])
    oracle = sm.OLS(data["y"], design).fit()
    assert found.effect == pytest.approx(oracle.params[0], abs=1e-10)


def test_its_p_value_counts_arrangements_of_blocks() -> None:
    """All 70 arrangements of eight blocks, by brute force."""
    data = drawn(6, blocks=8, length=3, effect=0.2)
    data["stratum"] = np.zeros(24, dtype=int)
    time = np.arange(24) / 24
    y = data["y"] - np.polyval(np.polyfit(time, data["y"], 1), time)
    on = data["on"]
    extremes = []
    for chosen in itertools.combinations(range(8), 4):
        other = np.isin(data["block"], chosen)
        extremes.append(abs(y[other].mean() - y[~other].mean()))
    exact = np.mean(np.array(extremes) >= abs(y[on].mean() - y[~on].mean()) - 1e-12)
    draws = 4000
    found = run(data, draws=draws).p_value
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / draws) + 1 / draws)


def test_the_interval_holds_what_the_test_does_not_reject() -> None:
    data = drawn(8, effect=0.1)
    found = run(data, draws=499)
    step = 0.02 * found.standard_error
    inside, outside = found.upper - step, found.upper + step
    assert run(data, draws=499, y=data["y"] - inside * data["on"]).p_value > 0.05
    assert run(data, draws=499, y=data["y"] - outside * data["on"]).p_value <= 0.055


def test_an_effect_is_found_and_its_interval_holds_it() -> None:
    found = run(drawn(5, effect=0.15, blocks=60), draws=999)
    assert found.lower < 0.15 < found.upper
    assert found.p_value < 0.01
    assert found.periods.size == 180


def test_burning_in_removes_what_carries_over() -> None:
    effects = {m: np.mean([run(drawn(s, effect=0.2, carry=0.6, blocks=80), carry_over=m, draws=49).effect
                           for s in range(12)]) for m in (0, 4)}  # fmt: skip
    assert effects[0] < 0.185, "without a burn-in the former state dilutes the effect"
    assert effects[4] == pytest.approx(0.2, abs=0.02)
    assert "without_burn_in" in run(drawn(0, effect=0.2, carry=0.6), carry_over=4, draws=49).hyper


def test_few_blocks_are_not_enough() -> None:
    found = run(drawn(1, blocks=6))
    assert (found.reason, np.isnan(found.effect)) == ("too_few_blocks", True)


def test_a_constant_outcome_says_nothing() -> None:
    data = drawn(1)
    assert run(data, y=np.zeros(data["y"].size)).reason == "constant_series"


def test_gaps_take_no_part() -> None:
    data = drawn(4, effect=0.1)
    hole = data["y"].copy()
    hole[10:13] = np.nan
    usable = data["usable"].copy()
    usable[10:13] = False
    with_gap, left_out = run(data, y=hole), run(data, usable=usable)
    assert with_gap.effect == left_out.effect
    assert with_gap.p_value == left_out.p_value


@given(st.floats(-2, 2), st.floats(-1, 1), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_a_shift_of_everything_changes_nothing_and_one_of_the_state_moves_the_effect(
    shift: float, more: float, carry_over: int
) -> None:
    data = drawn(9, blocks=16, length=5)
    before = run(data, carry_over=carry_over, draws=19)
    moved = run(data, carry_over=carry_over, draws=19, y=data["y"] + shift + more * data["on"])
    assert moved.effect == pytest.approx(before.effect + more, abs=1e-9)
    assert moved.standard_error == pytest.approx(before.standard_error, rel=1e-6)


def size_and_coverage(replications: int, **story: Any) -> tuple[float, float, float]:
    effect = story.get("effect", 0.0)
    found = [run(drawn(seed, **story), draws=199) for seed in range(replications)]
    found = [item for item in found if not item.reason]  # with few blocks some hours see one state only
    assert len(found) > 0.95 * replications
    covered = np.mean([item.lower <= effect <= item.upper for item in found])
    rejected = np.mean([item.p_value <= 0.05 for item in found])
    return float(covered), float(rejected), float(np.mean([item.effect for item in found]))


def test_the_randomisation_test_holds_its_size_and_the_interval_covers_in_short() -> None:
    covered, rejected, _ = size_and_coverage(60, blocks=12, length=4)
    assert covered > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 60)
    assert rejected < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 60)


@pytest.mark.simulation
@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("blocks", [12, 40])
def test_size_and_coverage_with_noise_that_outlasts_blocks(persistence: float, blocks: int) -> None:
    replications = 600
    covered, rejected, mean = size_and_coverage(replications, blocks=blocks, persistence=persistence, effect=0.0)
    error = np.sqrt(0.05 * 0.95 / replications)
    assert rejected < 0.05 + 4 * error
    assert covered > 0.95 - 4 * error
    assert abs(mean) < 0.02
