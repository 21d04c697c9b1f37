"""Units' means before and after a launch against units without it: the published answers, and no guesses."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.launch.contract import at_full_coverage
from stats.launch.did import did
from stats.launch.reasons import LaunchReason
from tests.launch.donor_panels import california
from tests.launch.rollout_panels import NOISE, average, fast_food, full_time_share, rollout
from tests.shared_data import manifest_entry


def test_card_and_kruegers_restaurants():
    found = did(fast_food())
    reference = manifest_entry("quasi/card_krueger_fastfood_full.csv")["computed_reference"]
    assert found.effect == pytest.approx(reference["DiD_balanced"], abs=1e-12)
    assert found.standard_error == pytest.approx(reference["DiD_balanced_se_unequal"], rel=1e-12)
    assert "cells_without_comparison_left_out" in found.notes
    panel = fast_food()
    change = panel.y[:, 1] - panel.y[:, 0]
    welch = sps.ttest_ind(*(change[panel.treated == own] for own in (True, False)), equal_var=False, nan_policy="omit")
    assert found.p_value == pytest.approx(welch.pvalue, rel=1e-9)


def test_the_share_of_full_time_staff():
    reference = manifest_entry("quasi/card_krueger_minwage_qss.csv")["computed_reference"]
    assert did(full_time_share()).effect == pytest.approx(reference["did"], abs=1e-12)


def test_california_has_the_spread_of_the_other_states():
    panel = california()
    found = did(panel)
    assert found.effect == pytest.approx(-27.349111083614964, abs=1e-9)
    change = panel.y[:, 19:].mean(axis=1) - panel.y[:, :19].mean(axis=1)
    others = change[~panel.treated]
    assert found.standard_error == pytest.approx(others.std(ddof=1) * np.sqrt(1 + 1 / 38), rel=1e-9)
    assert found.p_value == pytest.approx(2 * sps.t.sf(abs(found.effect) / found.standard_error, 37), rel=1e-9)
    assert found.notes == ("one_treated_unit",)
    assert found.by_period.mean() == pytest.approx(found.effect)
    path = panel.y[panel.treated][0, found.periods]
    assert path - found.fitted[found.periods] == pytest.approx(found.by_period)


def test_one_unit_that_was_louder_before_is_not_taken_to_be_as_quiet_as_the_others():
    panel, _ = rollout(np.random.default_rng(3), treated=1, starts=(20,), persistence=0.0)
    loud = panel.y.copy()
    loud[0] += 6 * NOISE * np.random.default_rng(4).standard_normal(40)
    assert did(replace(panel, y=loud)).standard_error > 3 * did(panel).standard_error


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), treated=st.integers(5, 20), start=st.integers(1, 11))
def test_with_one_date_it_is_welchs_comparison_of_changes(seed: int, treated: int, start: int):
    panel, _ = rollout(np.random.default_rng(seed), treated=treated, periods=12, starts=(start,))
    found = did(panel)
    change = panel.y[:, start:].mean(axis=1) - panel.y[:, :start].mean(axis=1)
    welch = sps.ttest_ind(change[:treated], change[treated:], equal_var=False)
    assert found.effect == pytest.approx(change[:treated].mean() - change[treated:].mean(), abs=1e-12)
    assert found.standard_error == pytest.approx(abs(found.effect / welch.statistic), rel=1e-9)
    assert found.p_value >= welch.pvalue * (1 - 1e-9)
    own = at_full_coverage(found.by_period, found.covariance, np.ones(12 - start))
    assert own == pytest.approx((found.effect, found.standard_error), rel=1e-9)


def test_a_ramp_is_measured_at_full_coverage_and_shown_as_it_was():
    panel, true = rollout(np.random.default_rng(5), starts=(20,), effect=0.2, noise=1e-6)
    ramp = np.where(panel.coverage > 0, np.minimum((np.arange(40) - 19) / 10, 1.0), 0.0)
    found = did(replace(panel, coverage=ramp, y=panel.y - true + 0.2 * ramp))
    assert found.effect == pytest.approx(0.2, abs=1e-5)
    assert found.by_period == pytest.approx(0.2 * ramp[0, 20:], abs=1e-5)


def test_large_units_count_for_more_and_steps_are_averaged_over_all_that_launch():
    panel, true = rollout(np.random.default_rng(6), effect=0.1, differing=0.5, growth=0.01, uneven=1.0, noise=1e-6)
    found = did(panel)
    assert found.effect == pytest.approx(average(panel, true), abs=1e-5)
    share = panel.weight[:9] / panel.weight[:9].sum()
    assert found.by_period == pytest.approx(share @ true[:9, 20:], abs=1e-5)


def test_what_cannot_be_said_has_a_reason():
    panel, _ = rollout(np.random.default_rng(7), units=8, treated=5)
    nothing_after = replace(panel, y=np.where(panel.coverage > 0, np.nan, panel.y))
    nothing_before = replace(panel, y=np.where((panel.coverage == 0) & panel.treated[:, None], np.nan, panel.y))
    keep = slice(0, 6)
    one_left = replace(
        panel,
        units=panel.units[keep],
        y=panel.y[keep],
        coverage=panel.coverage[keep],
        excluded=panel.excluded[keep],
        weight=panel.weight[keep],
    )
    cases = {
        LaunchReason.NO_COVERAGE: replace(panel, coverage=np.zeros_like(panel.coverage)),
        LaunchReason.NO_PERIOD_AFTER_LAUNCH: nothing_after,
        LaunchReason.TOO_LITTLE_HISTORY: nothing_before,
        LaunchReason.NO_COMPARISON_UNITS: replace(panel, coverage=np.tile(panel.coverage[:1], (8, 1))),
        LaunchReason.TOO_FEW_COMPARISON_UNITS: one_left,
        LaunchReason.CONSTANT_SERIES: replace(panel, y=np.full_like(panel.y, 3.0)),
    }
    for reason, case in cases.items():
        found = did(case)
        assert found.reason == reason
        assert np.isnan(found.effect) and np.isnan(found.standard_error) and found.by_period.size == 0
