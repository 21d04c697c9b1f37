"""Curves by days since exposure, and the warning that an effect wears off (METHODS E6)."""

import numpy as np
import pytest

from experiments.result import Check, ExperimentResult
from stats.moments import Moments
from tests.experiments.evidence_cases import document, moment_set, plan_of, planned, spec, variants

N = 20_000


def world(lift: np.ndarray, arms: int = 2, base: float = 5.0, n: int = N) -> ExperimentResult:
    rng = np.random.default_rng(1)
    arm = np.arange(n) % arms
    level = base + rng.normal(0, 1, (n, 1))
    days = level * (1 + lift * (arm > 0)[:, None]) + rng.normal(0, 1, (n, len(lift)))
    plan = plan_of([planned(spec("m"), "primary")], variants(arms), planned_units=n)
    by_age = {"m": Moments.from_rows(days, arm, arms)}
    return document(plan, moment_set(plan, days.sum(axis=1, keepdims=True), arm, by_age=by_age))


def novelty(result: ExperimentResult) -> Check:
    return next(check for check in result.checks if check.name == "novelty")


def test_a_curve_has_a_point_per_day_and_a_slope():
    result = world(np.linspace(0.08, 0.02, 7))
    (curve,) = result.age_curves
    assert [point.age_days for point in curve.points] == list(range(7))
    assert all(point.ci_lower < point.difference < point.ci_upper for point in curve.points)
    assert all(point.lift_ci_lower < point.lift < point.lift_ci_upper for point in curve.points)
    assert curve.slope == pytest.approx(-0.01, abs=0.002) and curve.slope_standard_error < 0.001
    assert curve.p_value < 1e-6 and curve.reason is None and "E6" in result.methods


@pytest.mark.parametrize(
    ("lift", "word"),
    [(0.02 + 0.08 * np.exp(-np.arange(10) / 3), "wears off"), (np.linspace(0.01, 0.08, 10), "grows")],
)
def test_a_moving_effect_is_a_warning_that_says_what_the_curve_does(lift, word):
    check = novelty(world(lift))
    assert check.status == "warn" and word in check.detail and "lift of m in v1" in check.detail
    assert "Do not project the average" in check.remedy


def test_an_effect_that_turns_around_is_called_that():
    assert "turns around" in novelty(world(np.linspace(0.06, -0.04, 8))).detail


def test_a_lasting_effect_passes():
    result = world(np.full(7, 0.05), arms=3)
    assert [curve.variant_key for curve in result.age_curves] == ["v1", "v2"]
    assert novelty(result).status == "pass"


def test_a_metric_around_zero_has_differences_by_day_and_a_reason():
    (curve,) = world(np.zeros(4), base=0.0).age_curves
    assert curve.reason == "baseline_not_distinguishable_from_zero" and curve.slope is None
    assert curve.points[0].difference is not None and curve.points[0].lift is None


def test_without_daily_moments_there_is_no_curve_and_no_check():
    plan = plan_of([planned(spec("m"), "primary")])
    result = document(plan, moment_set(plan, np.random.default_rng(1).normal(5, 1, (2000, 1)), np.arange(2000) % 2))
    assert result.age_curves == [] and "novelty" not in {check.name for check in result.checks}
