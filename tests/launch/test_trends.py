"""Trends that parted before a launch are found, and an effect is worth what a parting could not explain."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.launch.contract import Panel
from stats.launch.imputation import imputation
from stats.launch.reasons import LaunchReason
from stats.launch.trends import CAP, pre_trend, relative_magnitudes
from tests.launch.rollout_panels import rollout


def parting(panel: Panel, slope: float) -> Panel:
    """Treated units that leave the others by `slope` per period, launch or not."""
    return replace(panel, y=panel.y + slope * np.arange(panel.y.shape[1]) * panel.treated[:, None])


def test_the_slope_is_that_of_a_regression_with_dummies():
    panel, _ = rollout(np.random.default_rng(1), starts=(20,))
    found = pre_trend(panel)
    y, time = panel.y[:, :20], np.tile(np.arange(20), 30)
    unit, own = np.repeat(np.arange(30), 20), np.repeat(panel.treated, 20)
    x = np.column_stack([own * time, np.eye(30)[unit], np.eye(20)[time][:, 1:]])
    fit = sm.OLS(y.ravel(), x).fit(cov_type="cluster", cov_kwds={"groups": unit})
    assert found.slope == pytest.approx(fit.params[0], abs=1e-12)
    assert (found.slope_upper - found.slope_lower) / 2 == pytest.approx(2.1 * fit.bse[0], rel=0.2)
    assert found.periods == 10


@pytest.mark.parametrize("treated", [1, 3, 9])
def test_a_steady_parting_is_found(treated: int):
    panel, _ = rollout(np.random.default_rng(3), treated=treated)
    slope = 0.01
    found = pre_trend(parting(panel, slope))
    assert found.p_value < 0.05
    assert found.slope_lower < slope < found.slope_upper


def test_few_units_are_tested_by_their_slope():
    panel, _ = rollout(np.random.default_rng(3), units=5, treated=1)
    found = pre_trend(parting(panel, 0.05))
    assert found.p_value < 0.05 and found.slope_lower > 0


def test_everybody_launching_in_the_end_has_no_slope_but_a_test():
    panel, _ = rollout(np.random.default_rng(4), units=20, treated=20, starts=(15, 20, 25, 30))
    found = pre_trend(panel)
    assert np.isnan(found.slope) and 0 <= found.p_value <= 1 and not found.reason


def test_what_cannot_be_tested_has_a_reason():
    panel, _ = rollout(np.random.default_rng(5))
    alone = replace(panel, coverage=np.tile(panel.coverage[:1], (30, 1)))
    assert pre_trend(alone).reason == LaunchReason.NO_COMPARISON_UNITS
    assert pre_trend(replace(panel, coverage=0 * panel.coverage)).reason == LaunchReason.NO_COVERAGE
    at_once, _ = rollout(np.random.default_rng(5), starts=(1,))
    short = relative_magnitudes(at_once, imputation(at_once, seed=1))
    assert short.reason == LaunchReason.TOO_LITTLE_HISTORY and np.isnan(short.lower).all()
    unanswered = imputation(alone, seed=1)
    assert relative_magnitudes(panel, unanswered).reason == unanswered.reason


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), slope=st.floats(0.01, 0.1), start=st.integers(9, 30))
def test_once_the_trend_of_before_explains_an_effect_that_is_nothing_else(seed: int, slope: float, start: int):
    panel, _ = rollout(np.random.default_rng(seed), starts=(start, start + 3), noise=1e-7)
    panel = parting(panel, slope)
    found = imputation(panel, seed=1)
    bounds = relative_magnitudes(panel, found, m=(0, 0.5, 1))
    bias = found.effect
    assert bounds.lower[:2].min() > 0
    assert bounds.lower[2] == pytest.approx(0, abs=0.06 * bias)
    assert bounds.breakdown == pytest.approx(1, abs=0.06)
    assert bounds.upper[2] - bounds.upper[0] == pytest.approx(bias, rel=0.06)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_breakdown_is_where_the_interval_reaches_zero(sign: int):
    panel, _ = rollout(np.random.default_rng(6), effect=0.1 * sign)
    found = imputation(panel, seed=1)
    bounds = relative_magnitudes(panel, found)
    assert bounds.lower[0] == found.lower and bounds.upper[0] == found.upper
    at = relative_magnitudes(panel, found, m=(bounds.breakdown,))
    assert min(abs(at.lower[0]), abs(at.upper[0])) == pytest.approx(0, abs=1e-12)
    assert (np.diff(bounds.upper - bounds.lower) > 0).all()


def test_no_effect_has_no_breakdown_and_a_clear_one_is_capped():
    panel, _ = rollout(np.random.default_rng(7))
    found = imputation(panel, seed=1)
    around = replace(found, lower=found.effect - 1, upper=found.effect + 1)
    assert np.isnan(relative_magnitudes(panel, around).breakdown)
    clear = replace(found, effect=100.0, lower=99.0, upper=101.0)
    assert relative_magnitudes(panel, clear).breakdown == CAP


@pytest.mark.simulation
@pytest.mark.parametrize(
    "case",
    [{}, {"treated": 3}, {"units": 20, "treated": 5}, {"units": 5, "treated": 1}, {"drift": 0.01}, {"uneven": 1.0}],
    ids=str,
)
def test_parallel_trends_fail_as_often_as_promised(case: dict[str, float]):
    tests = [pre_trend(rollout(np.random.default_rng([8, seed]), **case)[0]) for seed in range(500)]  # type: ignore[arg-type]  # cases as data
    failed = np.mean([test.p_value < 0.05 for test in tests])
    inside = np.mean([test.slope_lower <= 0 <= test.slope_upper for test in tests])
    error = 3 * np.sqrt(0.05 * 0.95 / 500)
    assert failed <= 0.06 + error
    assert inside >= 0.94 - error
