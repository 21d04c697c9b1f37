"""Effects by days since exposure: equal, wearing off, or growing (METHODS E6)."""

import numpy as np
import pytest
import scipy.special as sc

from stats.exposure_age import age_effects
from stats.moments import Moments
from stats.reasons import Reason
from tests.stats.moment_cases import within


def days(
    rng: np.random.Generator, n: int, lift: np.ndarray, base: float = 5.0, arms: int = 2, own: float = 1.0
) -> Moments:
    """Units with a level of their own on every day; treatment multiplies day a by 1 + lift[a]."""
    rows = []
    for arm in range(arms):
        level = base + rng.normal(0, own, (n, 1))
        mean = level * (1 + (lift if arm else 0 * lift))
        rows.append(mean + rng.normal(0, 1, (n, len(lift))))
    return Moments.from_rows(np.vstack(rows), np.repeat(np.arange(arms), n), arms)


def test_the_joint_covariance_of_lifts_is_that_of_simulated_lifts():
    rng = np.random.default_rng(1)
    lift = np.array([0.1, 0.05, 0.0])
    found = [age_effects(days(rng, 300, lift)) for _ in range(800)]
    got = np.mean([f.covariance[0] for f in found], axis=0)
    empirical = np.cov([f.lift.value[0] for f in found], rowvar=False)
    assert np.allclose(got, empirical, rtol=0.2)
    assert got[0, 2] > 0.3 * got[0, 0]


def test_the_slope_is_generalised_least_squares():
    rng = np.random.default_rng(2)
    got = age_effects(days(rng, 5000, np.linspace(0.08, 0.02, 7)))
    weight = np.linalg.inv(got.covariance[0])
    design = np.column_stack([np.ones(7), np.arange(7.0)])
    spread = np.linalg.inv(design.T @ weight @ design)
    beta = spread @ design.T @ weight @ got.lift.value[0]
    assert float(got.slope[0]) == pytest.approx(beta[1], rel=1e-8)
    correction = np.sqrt(4998 / (4998 - 5))
    assert float(got.slope_error[0]) == pytest.approx(np.sqrt(spread[1, 1]) * correction, rel=1e-8)
    assert float(got.slope[0]) == pytest.approx(-0.01, abs=0.002) and float(got.slope_p_value[0]) < 1e-6


def test_the_test_of_equal_effects_is_walds_with_hotellings_correction():
    rng = np.random.default_rng(3)
    got = age_effects(days(rng, 400, np.full(5, 0.03)))
    contrast = np.eye(4, 5) - np.eye(4, 5, k=1)
    gap = contrast @ got.lift.value[0]
    wald = gap @ np.linalg.solve(contrast @ got.covariance[0] @ contrast.T, gap)
    assert float(got.statistic[0]) == pytest.approx(wald, rel=1e-8)
    assert float(got.df[0]) == 4
    assert float(got.p_value[0]) == pytest.approx(float(sc.fdtrc(4, 396, wald * 396 / (399 * 4))), rel=1e-9)


def test_a_novelty_is_seen_and_a_lasting_effect_is_not_called_one():
    rng = np.random.default_rng(4)
    fading = age_effects(days(rng, 20_000, 0.02 + 0.06 * np.exp(-np.arange(14) / 4)))
    lasting = age_effects(days(rng, 20_000, np.full(14, 0.04)))
    assert float(fading.p_value[0]) < 1e-6 and float(fading.slope[0]) < 0
    assert float(lasting.p_value[0]) > 0.01 and float(lasting.slope_p_value[0]) > 0.01


def test_days_without_a_clear_baseline_are_shown_but_do_not_enter_the_test():
    rng = np.random.default_rng(5)
    moments = days(rng, 2000, np.full(4, 0.05))
    nothing = Moments(moments.count, moments.mean * [1, 1, 1, 0], moments.comoment, moments.third)
    got = age_effects(nothing)
    assert got.used[0].tolist() == [True, True, True, False]
    assert float(got.df[0]) == 2 and np.isfinite(got.difference.value[0, 3]) and np.isnan(got.lift.value[0, 3])
    none = age_effects(Moments(moments.count, moments.mean * 0, moments.comoment, moments.third))
    assert none.reason.tolist() == [Reason.BASELINE_NOT_DISTINGUISHABLE_FROM_ZERO]
    assert np.isnan([none.slope[0], none.p_value[0]]).all()


def test_few_units_give_points_but_no_test():
    got = age_effects(days(np.random.default_rng(6), 60, np.full(3, 0.05)))
    assert got.reason.tolist() == [Reason.TOO_FEW_UNITS] and np.isnan(got.p_value[0])
    assert np.isfinite(got.difference.ci_lower).all()


def test_two_days_have_a_slope_and_identical_days_have_none():
    rng = np.random.default_rng(7)
    two = age_effects(days(rng, 3000, np.array([0.1, 0.0])))
    assert float(two.slope[0]) == pytest.approx(float(two.lift.value[0, 1] - two.lift.value[0, 0]))
    values = rng.normal(5, 1, (4000, 1))
    same = age_effects(Moments.from_rows(np.hstack([values, values]), np.arange(4000) % 2, 2))
    assert float(same.p_value[0]) == 1 and np.isnan(same.slope[0])


def test_each_treatment_has_its_own_curve():
    got = age_effects(days(np.random.default_rng(8), 3000, np.linspace(0.1, 0, 5), arms=3))
    assert got.slope.shape == (2,) and (got.slope < 0).all() and (got.slope_p_value < 0.01).all()


def test_constant_effects_are_rejected_as_often_as_promised():
    rng = np.random.default_rng(9)
    found = [age_effects(days(rng, 150, np.full(10, 0.05))) for _ in range(500)]
    assert within(float(np.mean([float(f.p_value[0]) < 0.05 for f in found])), 0.05, 500)
    assert within(float(np.mean([float(f.slope_p_value[0]) < 0.05 for f in found])), 0.05, 500)


@pytest.mark.simulation
def test_slopes_of_skewed_daily_metrics_keep_their_size():
    rng = np.random.default_rng(10)
    hits, runs, n = [], 1500, 1000
    for _ in range(runs):
        rate = rng.gamma(1.0, 0.5, (2 * n, 1))
        rows = rng.poisson(rate * np.linspace(1, 0.6, 14))
        got = age_effects(Moments.from_rows(rows, np.arange(2 * n) % 2, 2))
        hits.append([float(got.p_value[0]) < 0.05, float(got.slope_p_value[0]) < 0.05])
    share = np.mean(hits, axis=0)
    assert within(float(share[0]), 0.05, runs, 0.01) and within(float(share[1]), 0.05, runs, 0.01)
