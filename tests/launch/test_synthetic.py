"""What would have been is a weighted average of units without the launch, and how wrong it is they say themselves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from stats.launch.augmented import PENALTIES, augmented_weights
from stats.launch.contract import Panel
from stats.launch.donors import concurrent
from stats.launch.reasons import LaunchReason
from stats.launch.simplex import simplex_weights
from stats.launch.synthetic_control import (
    WEIGHTS,
    SyntheticMethod,
    leave_one_out,
    placebo_covariance,
    synthetic,
    synthetic_control_weights,
)
from tests.launch.donor_panels import california, factor_panel, panel_of

METHODS: tuple[SyntheticMethod, ...] = tuple(WEIGHTS)
QUICK: tuple[SyntheticMethod, ...] = ("synthetic_control", "synthetic_did")


def with_effect(panel: Panel, size: float, units: slice = slice(0, 1)) -> Panel:
    y = panel.y.copy()
    y[units, panel.pre :] += size
    return replace(panel, y=y)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 30),
    count=st.sampled_from([1, 2, 7, 30, 300]),
    ridge=st.sampled_from([0.0, 0.1, 30.0]),
    intercept=st.booleans(),
)
def test_no_exchange_between_two_weights_fits_better(seed: int, rows: int, count: int, ridge: float, intercept: bool):
    rng = np.random.default_rng(seed)
    columns, target = rng.standard_normal((rows, count)), 2 * rng.standard_normal(rows)
    weights = simplex_weights(columns, target, ridge=ridge, intercept=intercept)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1, abs=1e-12)
    error = columns @ weights - target
    gradient = columns.T @ (error - error.mean() * intercept) + ridge * weights
    assert gradient[weights > 0] == pytest.approx(gradient.min(), abs=1e-8 * (1 + np.abs(gradient).max()))


def test_weights_are_those_of_a_general_optimiser():
    rng = np.random.default_rng(4)
    columns, target = rng.standard_normal((30, 8)) + 3, rng.standard_normal(30) + 3
    got = simplex_weights(columns, target, ridge=2.0)
    general = minimize(
        lambda w: ((columns @ w - target) ** 2).sum() + 2 * w @ w,
        np.full(8, 1 / 8),
        jac=lambda w: 2 * columns.T @ (columns @ w - target) + 4 * w,
        bounds=[(0, 1)] * 8,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(8)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert got == pytest.approx(general.x, abs=1e-5)


def test_synthetic_control_of_proposition_99_is_the_published_one():
    panel = california()
    got = synthetic(panel, "synthetic_control")
    published = {
        "Utah": 0.394,
        "Montana": 0.232,
        "Nevada": 0.205,
        "Connecticut": 0.109,
        "New Hampshire": 0.045,
        "Colorado": 0.015,
    }
    used = {state: weight for state, weight in zip(panel.units, got.weights, strict=True) if weight > 1e-3}
    assert used == pytest.approx(published, abs=5e-4)
    # The reference stopped its optimiser at a fit of 1.656400210396, ours is 1.656400210334.
    assert got.pre_rmspe == pytest.approx(1.656400210396, abs=1e-9)
    assert got.estimated.effect == pytest.approx(-19.513666, abs=1e-4)
    assert got.estimated.by_period[-1] == pytest.approx(-26.596683, abs=1e-4)
    # Third of 39 by the ratio of errors: outcomes alone, without the predictors by which it came first in 2010.
    assert got.estimated.p_value == pytest.approx(3 / 39)
    assert got.estimated.notes == ()
    without = leave_one_out(panel, "synthetic_control")
    assert [panel.units[place] for place in without.unit] == list(published)
    assert np.abs(without.effect + 19.5).max() < 2


def test_synthetic_difference_in_differences_of_proposition_99_is_the_published_one():
    panel = california()
    got = synthetic(panel, "synthetic_did")
    assert got.estimated.effect == pytest.approx(-15.605397, abs=1e-5)
    weighty = {1970 + t: weight for t, weight in enumerate(got.time_weights) if weight > 1e-3}
    assert weighty == pytest.approx({1986: 0.366, 1987: 0.206, 1988: 0.427}, abs=6e-4)
    # Published placebo standard errors, by a hundred random draws each, lie between 8.4 and 9.9.
    assert 8.4 < np.sqrt(np.mean(got.placebos.effect**2)) < 9.9


def test_the_augmented_correction_is_the_ridge_regression_of_the_paper():
    """tau = y - w Y - (x - w X) b with b a ridge regression of later outcomes on earlier ones over donors."""
    case = concurrent(california()).case
    centre = case.donors[:, : case.before].mean(axis=0)
    past, x = case.donors[:, : case.before] - centre, case.outcome[: case.before] - centre
    later = case.donors[:, case.before :]
    plain, corrected = synthetic_control_weights(case).unit, augmented_weights(case).unit
    candidates = []
    for penalty in PENALTIES * np.linalg.norm(past, 2) ** 2:
        slopes = np.linalg.solve(past.T @ past + penalty * np.eye(case.before), past.T @ later)
        candidates.append(plain @ later + (x - plain @ past) @ slopes)
    distance = np.abs(np.array(candidates) - corrected @ later).max(axis=1)
    assert distance.min() < 1e-6
    assert corrected.sum() == pytest.approx(1)
    assert np.abs(x - corrected @ past).max() < np.abs(x - plain @ past).max()


@pytest.mark.parametrize(("method", "since"), [(QUICK[0], 0), ("augmented_synthetic_control", 0), (QUICK[1], 20)])
def test_what_all_units_share_is_not_an_effect(method: SyntheticMethod, since: int):
    """For synthetic difference in differences after the launch: before it, common changes widen its published ridge."""
    rng = np.random.default_rng(5)
    panel = factor_panel(rng, units=8, before=20, after=4)
    plain = synthetic(panel, method)
    shared = np.where(np.arange(24) >= since, 10 * rng.standard_normal(24), 0.0)
    moved = synthetic(replace(panel, y=panel.y + shared), method)
    assert moved.estimated.by_period == pytest.approx(plain.estimated.by_period, abs=1e-6)
    assert moved.estimated.standard_error == pytest.approx(plain.estimated.standard_error, abs=1e-6)
    assert moved.weights == pytest.approx(plain.weights, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_effect_is_found_in_addition_to_what_was_there(method: SyntheticMethod):
    panel = factor_panel(np.random.default_rng(6), units=8, treated=2, before=20, after=4)
    nothing, something = synthetic(panel, method), synthetic(with_effect(panel, 3.0, slice(0, 2)), method)
    assert something.estimated.by_period == pytest.approx(nothing.estimated.by_period + 3)
    assert something.estimated.standard_error == nothing.estimated.standard_error
    assert something.estimated.fitted == pytest.approx(nothing.estimated.fitted)
    average = with_effect(panel, 3.0, slice(0, 2)).y[:2].mean(axis=0)
    assert (average - something.estimated.fitted)[20:] == pytest.approx(something.estimated.by_period)


def test_a_level_of_its_own_is_nothing_to_synthetic_did_and_poor_fit_to_synthetic_control():
    panel = factor_panel(np.random.default_rng(7), units=10)
    y = panel.y.copy()
    y[0] += 40
    apart = replace(panel, y=y)
    assert synthetic(apart, "synthetic_did").estimated.effect == pytest.approx(
        synthetic(panel, "synthetic_did").estimated.effect
    )
    alone = synthetic(apart, "synthetic_control")
    assert "poor_donor_fit" in alone.estimated.notes
    # It is as far from its donors before as after, and its interval knows it.
    assert alone.estimated.p_value > 0.1 and alone.estimated.lower < 0 < alone.estimated.upper


def test_partial_coverage_is_carried_to_full_coverage():
    panel = factor_panel(np.random.default_rng(8), units=10)
    coverage = np.linspace(0.1, 0.8, 8)
    y = panel.y.copy()
    y[0, 52:] += 2 * coverage
    ramp = synthetic(panel_of(y, 1, 52, coverage=coverage), "synthetic_control").estimated
    none = synthetic(panel_of(panel.y, 1, 52, coverage=coverage), "synthetic_control").estimated
    assert ramp.effect - none.effect == pytest.approx(2)
    assert ramp.by_period - none.by_period == pytest.approx(2 * coverage)


def test_treated_units_count_by_size():
    panel = factor_panel(np.random.default_rng(9), units=10, treated=2)
    weight = np.array([0.6, 0.2, *np.full(8, 0.025)])
    big = replace(panel, weight=weight)
    y = panel.y.copy()
    y[0, 52:] += 4
    shift = synthetic(replace(big, y=y), "synthetic_control").estimated.effect
    assert shift - synthetic(big, "synthetic_control").estimated.effect == pytest.approx(3)


def test_announced_periods_are_neither_before_nor_after():
    panel = factor_panel(np.random.default_rng(10), units=10)
    excluded = np.zeros(panel.y.shape, dtype=np.bool_)
    excluded[0, 48:52] = True
    y = panel.y.copy()
    y[0, 48:52] += 100
    got = synthetic(replace(panel, y=y, excluded=excluded), "synthetic_did")
    assert got.estimated.effect == pytest.approx(
        synthetic(replace(panel, excluded=excluded), "synthetic_did").estimated.effect
    )
    assert got.time_weights[48:].max() == 0


def test_donors_with_gaps_are_left_out_and_named():
    panel = factor_panel(np.random.default_rng(11), units=10)
    y = panel.y.copy()
    y[3, 20] = np.nan
    y[:, 30] = np.nan
    got = synthetic(replace(panel, y=y), "synthetic_control")
    assert "donors_with_gaps" in got.estimated.notes and got.weights[3] == 0
    assert 3 not in got.placebos.place and len(got.placebos.place) == 8
    assert np.isnan(got.estimated.fitted[30]) and np.isfinite(got.estimated.fitted).sum() == 59


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: replace(p, coverage=np.zeros_like(p.coverage)), LaunchReason.NO_COVERAGE),
        (lambda p: panel_of(p.y, 10, 52), LaunchReason.NO_COMPARISON_UNITS),
        (lambda p: panel_of(p.y, 9, 52), LaunchReason.TOO_FEW_COMPARISON_UNITS),
        (lambda p: panel_of(p.y, 1, 9), LaunchReason.TOO_LITTLE_HISTORY),
        (lambda p: replace(p, coverage=np.tri(10, 60, 45)), LaunchReason.NO_COMPARISON_UNITS),
        (
            lambda p: replace(p, coverage=np.vstack([p.coverage[0], np.tri(1, 60, 45)[:, ::-1], p.coverage[2:]])),
            "not_concurrent",
        ),
        (lambda p: replace(p, y=np.where(np.arange(60) % 6, np.nan, p.y)), LaunchReason.GAPS_IN_SERIES),
        (lambda p: replace(p, y=np.where(np.arange(60) < 52, p.y, np.nan)), LaunchReason.NO_PERIOD_AFTER_LAUNCH),
        (lambda p: replace(p, y=np.where(np.arange(10)[:, None] == 0, 1.0, p.y)), LaunchReason.CONSTANT_SERIES),
    ],
)
def test_what_cannot_be_estimated_says_why(change, reason: LaunchReason):
    panel = change(factor_panel(np.random.default_rng(12), units=10))
    for method in METHODS:
        got = synthetic(panel, method)
        assert got.estimated.reason == reason
        assert np.isnan(got.estimated.effect) and np.isnan(got.placebos.p_value)


def test_few_donors_are_named_and_widen_the_interval():
    few = synthetic(factor_panel(np.random.default_rng(13), units=4), "synthetic_did").estimated
    assert "few_donors" in few.notes
    assert (few.upper - few.lower) / 2 > 4 * few.standard_error


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), runs=st.integers(2, 30), periods=st.integers(1, 30), full=st.booleans())
def test_no_path_of_effects_is_certain_and_the_average_is_as_uncertain_as_placebos(seed, runs, periods, full):
    rng = np.random.default_rng(seed)
    gaps = np.cumsum(rng.standard_normal((runs, periods)), axis=1)
    coverage = np.ones(periods) if full else rng.uniform(0.1, 1, periods)
    covariance = placebo_covariance(gaps, coverage)
    moments = (gaps**2).mean(axis=0)
    assert np.diag(covariance) == pytest.approx(moments)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9 * moments.max()
    share = coverage / (coverage @ coverage)
    assert share @ covariance @ share >= np.mean((gaps @ share) ** 2) * (1 - 1e-9)


def contaminated(rng: np.random.Generator, effect: float) -> Panel:
    """Two donors that resemble the treated unit have the effect too, though nobody says so."""
    panel = factor_panel(rng)
    y = panel.y.copy()
    y[1:3] = y[0] + 0.5 * rng.standard_normal((2, 60))
    return with_effect(replace(panel, y=y), effect, slice(0, 3))


def bias_of_contamination(method: SyntheticMethod, replications: int) -> tuple[float, float]:
    """(mean effect found where 2 is true, share of panels in which a contaminated donor's absence shows the most)."""
    rng = np.random.default_rng(14)
    found, shown = [], []
    for _ in range(replications):
        panel = contaminated(rng, 2.0)
        without = leave_one_out(panel, method)
        found.append(synthetic(panel, method).estimated.effect)
        shown.append(without.unit[np.argmax(without.effect)] in (1, 2))
    return float(np.mean(found)), float(np.mean(shown))


@pytest.mark.parametrize("method", QUICK)
def test_donors_that_caught_the_launch_hide_it_and_leaving_them_out_shows_it(method: SyntheticMethod):
    found, shown = bias_of_contamination(method, 20)
    assert found < 1.4
    assert shown > 0.8


@pytest.mark.simulation
@pytest.mark.parametrize(("method", "finds"), [("synthetic_control", 0.5), ("synthetic_did", 1.0)])
def test_how_much_contaminated_donors_hide(method: SyntheticMethod, finds: float):
    found, shown = bias_of_contamination(method, 400)
    assert found == pytest.approx(finds, abs=0.15)
    assert shown > 0.95


def null_panels(method: SyntheticMethod, replications: int, **options: float) -> tuple[float, float]:
    """(coverage of 95 % intervals, share of p-values at most 0.1) where there is no effect, 20 units."""
    rng = np.random.default_rng(15)
    got = [synthetic(factor_panel(rng, **options), method).estimated for _ in range(replications)]
    covered = float(np.mean([each.lower < 0 < each.upper for each in got]))
    return covered, float(np.mean([each.p_value <= 0.1 + 1e-9 for each in got]))


@pytest.mark.parametrize("method", QUICK)
def test_where_nothing_happened_intervals_hold_nothing_and_ranks_are_uniform(method: SyntheticMethod):
    covered, early = null_panels(method, 60, uneven=0.7)
    # Three standard errors of 60 replications about 0.95 and 0.10.
    assert covered > 0.95 - 0.085
    assert early < 0.1 + 0.117


@pytest.mark.simulation
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("treated", [1, 3])
@pytest.mark.parametrize("uneven", [0.0, 0.7])
def test_size_and_coverage_without_effect(method: SyntheticMethod, treated: int, uneven: float):
    replications = 200 if method == "augmented_synthetic_control" else 1_000
    covered, early = null_panels(method, replications, treated=treated, uneven=uneven)
    error = np.sqrt(0.95 * 0.05 / replications)
    assert 0.95 - 3 * error < covered
    # A treated unit has one donor more than its placebos, fits better before, and ranks a little too often first.
    assert early < 0.11 + 3 * np.sqrt(0.1 * 0.9 / replications)
