"""A launch by the forecast of its own series: density, forecast, sampling, and where it is refused (METHODS D4)."""

from __future__ import annotations

import functools
import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.bayes.models.fit import ModelFit, fit
from stats.bayes.models.launch_density import FIRST_DONOR, launch_density
from stats.bayes.models.launch_forecast import Parameters, average_effect, counterfactual
from stats.bayes.models.launch_history import history_of, rotated
from stats.bayes.models.launch_series import DEFINITION, LaunchSeriesQuestion
from stats.bayes.sampling.contract import Draws, Sampling
from stats.launch.bsts import bsts
from stats.launch.contract import Series
from stats.launch.state_space import filtered
from tests.bayes.conftest import ProgramOf
from tests.bayes.stories.launch_series import SCALES, make_series, simulate
from tests.shared_data import shared_path

pytestmark = pytest.mark.xdist_group("pymc")


def covariance_of_history(question: LaunchSeriesQuestion, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all T periods, coefficients included, in the outcome's unit; with the sds of noise and steps."""
    history, data = history_of(question.series, trend=question.trend, scales=question.scales), question.data()
    _, noise_scale, step_scale, reach, slab_scale = data["scales"]
    noise, step = noise_scale * np.exp(z[0]), step_scale * np.exp(z[1])
    own = z[FIRST_DONOR : FIRST_DONOR + history.donors.size]
    wide = (reach * sps.halfcauchy.ppf(sc.ndtr(z[2])) * sps.halfcauchy.ppf(sc.ndtr(own))) ** 2
    slab = slab_scale**2 * np.exp(z[3])
    variance = np.concatenate([np.ones(history.fixed), wide * slab / (wide + slab)])
    time = np.arange(1.0, question.series.y.size + 1)
    explained = history.explained[:, 1:]
    covariance = noise**2 * np.eye(time.size) + step**2 * np.minimum.outer(time, time)
    return covariance + (explained * variance) @ explained.T, np.array([noise, step]), variance


def direct_log_density(question: LaunchSeriesQuestion, z: np.ndarray) -> float:
    """Priors as the story tells them, and the changes of the outcome as one multivariate normal."""
    history, data = history_of(question.series, trend=question.trend, scales=question.scales), question.data()
    covariance, sds, _ = covariance_of_history(question, z)
    before = history.before
    change = np.diff(np.eye(before.size), axis=0)
    outcome = change @ history.design.outcome[before]
    normal = sps.multivariate_normal(np.zeros(outcome.size), change @ covariance[np.ix_(before, before)] @ change.T)
    slab = data["scales"][4] ** 2 * np.exp(z[3])
    return float(
        normal.logpdf(outcome)
        + (sps.halfnorm(scale=data["scales"][1:3]).logpdf(sds) + np.log(sds)).sum()
        + sps.invgamma(2, scale=2 * data["scales"][4] ** 2).logpdf(slab)
        + np.log(slab)
        + sps.norm.logpdf(z[2])
        + sps.norm.logpdf(z[FIRST_DONOR:]).sum()
    )


def test_the_density_is_that_of_one_multivariate_normal() -> None:
    """Trend, regressor, two donors, idle ones, and days without a value; constants aside."""
    _, question = simulate(np.random.default_rng(1))
    data = question.data()
    points = np.random.default_rng(2).standard_normal((12, FIRST_DONOR + 4)) * 1.5
    gaps = [launch_density(z, **data)[0] - direct_log_density(question, z) for z in points]
    assert np.ptp(gaps) < 1e-8


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), donors=st.integers(0, 3))
def test_the_gradient_is_that_of_the_density(seed: int, donors: int) -> None:
    rng = np.random.default_rng(seed)
    series = make_series(rng, periods=45, before=32, coefficients=tuple(rng.standard_normal(donors)))
    data = LaunchSeriesQuestion(series).data()
    z = rng.standard_normal(FIRST_DONOR + 4) * 1.5
    _, gradient = launch_density(z, **data)
    for i in range(len(z)):
        step = np.zeros_like(z)
        step[i] = 1e-5
        slope = (launch_density(z + step, **data)[0] - launch_density(z - step, **data)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_the_rotation_says_what_the_kalman_filter_says() -> None:
    """The engine of the grid and that of the sampler meet in sums of products and determinants, gaps included."""
    rng = np.random.default_rng(3)
    usable = rng.random(50) > 0.2
    columns = rng.standard_normal((50, 4))
    times = np.flatnonzero(usable).astype(np.float64)
    spun, roughness = rotated(columns[usable].T, times)
    ratio = np.array([0.05, 0.5, 3.0])
    with_level = np.column_stack([np.ones(50), columns])
    seen = filtered(with_level, usable, ratio, [50])
    for r, cross, log_determinant in zip(ratio, seen.cross[0], seen.log_determinant[0], strict=True):
        weight = 1 / (r**2 + roughness)
        projected = cross[1:, 1:] - np.outer(cross[1:, 0], cross[0, 1:]) / cross[0, 0]
        np.testing.assert_allclose((spun * weight) @ spun.T, projected, atol=1e-9)
        assert -np.log(weight).sum() + np.log(np.diff(times)).sum() == pytest.approx(
            log_determinant + np.log(cross[0, 0]), abs=1e-9
        )


def test_donors_that_are_not_there_touch_nothing() -> None:
    _, question = simulate(np.random.default_rng(4))
    data = question.data()
    z = np.random.default_rng(5).standard_normal(FIRST_DONOR + 8)
    padded, gradient = launch_density(z, **data)
    bare, bare_gradient = launch_density(z[: FIRST_DONOR + 2], **data)
    idle = z[FIRST_DONOR + 2 :]
    assert padded == pytest.approx(bare - 0.5 * (idle**2).sum(), abs=1e-10)
    np.testing.assert_allclose(gradient, np.append(bare_gradient, -idle), atol=1e-10)


def test_the_forecast_is_the_conditional_normal_of_all_periods() -> None:
    """Given parameters the whole series is one multivariate normal, its level flat: condition on the history."""
    _, question = simulate(np.random.default_rng(6))
    z = np.random.default_rng(7).standard_normal(FIRST_DONOR + 2) * 0.5
    history = history_of(question.series, trend=True, scales=SCALES)
    covariance, (noise, step), variance = covariance_of_history(question, z)
    covariance = covariance + 1e7
    known, ahead = history.before, history.design.treated
    gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, ahead)]).T
    mean = gain @ history.design.outcome[known]
    left = covariance[np.ix_(ahead, ahead)] - gain @ covariance[np.ix_(known, ahead)]
    one = Parameters(np.full(3, noise), np.full(3, step), np.tile(variance[history.fixed :], (3, 1)))
    coverage = question.series.coverage
    found = counterfactual(history, one, np.random.default_rng(1))
    # Ratios of steps to noise are rounded by up to 1 %.
    np.testing.assert_allclose(history.design.outcome[ahead] - found.by_period, mean, atol=0.02 * np.sqrt(left[0, 0]))
    np.testing.assert_allclose(found.covariance, left, rtol=0.02, atol=0.01 * left[0, 0])
    share = coverage[ahead] / (coverage[ahead] @ coverage[ahead])
    average = average_effect(history, one, coverage)
    np.testing.assert_allclose(average.mean, share @ found.by_period, atol=1e-9)
    np.testing.assert_allclose(average.sd, np.sqrt(share @ found.covariance @ share), rtol=1e-9)


def rough_draws(question: LaunchSeriesQuestion, seed: int) -> Draws:
    """Draws (4, 250) around the middle of the prior, for what holds whatever the draws."""
    score = 0.3 * np.random.default_rng(seed).standard_normal((4, 250, FIRST_DONOR + question.size))
    return Draws({"score": score}, 0)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_another_unit_and_origin_of_the_outcome_change_nothing_else(seed: int, factor: float, shift: float) -> None:
    series = make_series(np.random.default_rng(seed), periods=70, before=55)
    one, other = LaunchSeriesQuestion(series), LaunchSeriesQuestion(replace(series, y=factor * series.y + shift))
    draws = rough_draws(one, seed)
    for name, values in one.data().items():
        np.testing.assert_allclose(other.data()[name], values, atol=1e-6)
    path, scaled = one.summarise(draws, 1).path, other.summarise(draws, 1).path
    assert path is not None and scaled is not None
    np.testing.assert_allclose(scaled.mean, factor * path.mean, rtol=1e-6, atol=1e-6 * factor)
    np.testing.assert_allclose(scaled.fitted, factor * path.fitted + shift, rtol=1e-6, atol=1e-6 * factor)
    assert scaled.upper == pytest.approx(factor * path.upper, rel=1e-6, abs=1e-6 * factor)


def test_periods_and_donors_without_values_are_passed_over() -> None:
    series = make_series(np.random.default_rng(8), coefficients=(0.5, 0.3, 0.2))
    y, donors, excluded = series.y.copy(), series.donors.copy(), series.excluded.copy()
    y[[10, 160]], donors[20, 0], donors[:60, 1], donors[170, 0] = np.nan, np.nan, np.nan, np.nan
    excluded[140:150] = True
    regressors = np.where(np.arange(180)[:, None] == 175, np.nan, np.random.default_rng(2).standard_normal((180, 1)))
    question = LaunchSeriesQuestion(replace(series, y=y, donors=donors, excluded=excluded, regressors=regressors))
    found = question.summarise(rough_draws(question, 1), 1)
    assert found.path is not None
    assert question.data()["columns"].shape[1] == 150 - 10 - 2 - 1
    assert set(found.hyper) == {"sigma_obs", "sigma_level", "donor[0]", "donor[2]"}
    assert set(range(150, 180)) - set(found.path.periods) == {160, 170, 175}
    forecast = np.isfinite(found.path.fitted)
    assert forecast[160] and not forecast[[10, 20, 145, 170, 175]].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": np.full(180, np.nan)}, "no values"),
        ({"y": np.r_[np.ones(150), np.arange(30.0)]}, "did not move"),
        ({"coverage": np.zeros(180)}, "nobody has the change"),
        ({"coverage": (np.arange(180) >= 20).astype(float)}, "too few periods"),
        ({"excluded": np.arange(180) >= 150}, "no period with the change"),
        ({"donors": np.random.default_rng(1).standard_normal((180, 41))}, "41 donors"),
    ],
)  # fmt: skip
def test_series_that_say_nothing_are_refused_with_a_reason(change: dict[str, np.ndarray], words: str) -> None:
    series = replace(make_series(np.random.default_rng(9)), **change)
    refused = fit(LaunchSeriesQuestion(series), lambda definition, size: pytest.fail("asked"), Sampling(), seed=1)
    assert (refused.status, refused.path) == ("not_estimable", None)
    assert words in refused.reason


def test_the_outcome_itself_is_no_donor() -> None:
    series = make_series(np.random.default_rng(10))
    with_itself = replace(series, donors=np.column_stack([series.donors, 2 * series.y + 1, np.ones(180)]))
    history, without = (history_of(each, trend=True) for each in (with_itself, series))
    assert history.donors.tolist() == [0, 1]
    np.testing.assert_allclose(history.explained, without.explained)


def test_questions_travel_between_processes() -> None:
    question = LaunchSeriesQuestion(make_series(np.random.default_rng(11)))
    again = pickle.loads(pickle.dumps(question))
    np.testing.assert_array_equal(again.data()["columns"], question.data()["columns"])


@functools.cache
def fitted(program_of: ProgramOf, effect: float, donors: bool) -> tuple[Series, ModelFit]:
    series = make_series(np.random.default_rng(12), effect=effect)
    if not donors:
        series = replace(series, donors=np.empty((180, 0)))
    return series, fit(LaunchSeriesQuestion(series), program_of, Sampling(), seed=3)


def test_half_a_year_with_two_donors_is_sampled_without_divergences(program_of: ProgramOf) -> None:
    series, found = fitted(program_of, 3.0, True)
    assert found.status == "ok" and found.diagnostics is not None and found.path is not None
    assert found.diagnostics.divergences == 0 and found.diagnostics.r_hat < 1.01
    assert found.path.lower < 3.0 < found.path.upper and found.path.p_value < 0.01
    assert found.hyper["donor[0]"][1] < 0.5 < found.hyper["donor[0]"][2]
    assert found.hyper["donor[1]"][1] < 0.0 < found.hyper["donor[1]"][2]
    assert found.hyper["sigma_obs"][1] < 0.33 < found.hyper["sigma_obs"][2]
    assert found.hyper["sigma_level"][1] < 0.15 < found.hyper["sigma_level"][2]
    assert all(check.passed for check in found.checks)
    np.testing.assert_allclose(
        series.y[found.path.periods] - found.path.mean, found.path.fitted[found.path.periods], atol=1e-9
    )


def test_without_donors_the_posterior_is_that_of_the_grid(program_of: ProgramOf) -> None:
    """The same model by another road: a grid over both standard deviations, each point by the Kalman filter."""
    series, found = fitted(program_of, 0.0, False)
    exact = bsts(series)
    assert found.path is not None and found.diagnostics is not None
    error = exact.standard_error / np.sqrt(found.diagnostics.ess_bulk)
    assert found.path.effect == pytest.approx(exact.effect, abs=4 * error)
    assert found.path.standard_error == pytest.approx(exact.standard_error, rel=0.05)
    assert (found.path.lower, found.path.upper) == pytest.approx((exact.lower, exact.upper), abs=8 * error)
    np.testing.assert_allclose(found.path.mean, exact.by_period, atol=0.05 * exact.standard_error)
    np.testing.assert_allclose(np.diag(found.path.covariance), np.diag(exact.covariance), rtol=0.1)
    for name in ("sigma_obs", "sigma_level"):
        mean, lower, upper = exact.hyper[name]
        assert found.hyper[name] == pytest.approx((mean, lower, upper), abs=0.05 * (upper - lower))


def test_the_published_example_of_causal_impact_is_reproduced(program_of: ProgramOf) -> None:
    """R's CausalImpact has 0.89, and 5 more where 5 were added, with a standard deviation of 0.3 [0.27, 1.5].

    Its level may step by a hundredth of the outcome's standard deviation.
    """
    y, donor = np.loadtxt(shared_path("data", "quasi", "causalimpact_arma.csv"), delimiter=",", skiprows=1).T
    after = np.arange(100) >= 70
    steps = 0.01 * y[:70].std(ddof=1) / np.diff(y[:70]).std(ddof=1)
    series = Series(y + 5.0 * after, after * 1.0, np.zeros(100, dtype=bool), np.empty((100, 0)), donor[:, None])
    found = fit(LaunchSeriesQuestion(series, trend=False, steps=steps), program_of, Sampling(), seed=5)
    assert found.status == "ok" and found.path is not None
    assert 5.27 < found.path.effect < 6.5
    assert 0.2 < found.path.standard_error < 0.45
    assert found.path.p_value < 0.001


def test_a_history_that_bends_before_the_launch_fails_the_check_of_drift(program_of: ProgramOf) -> None:
    series = make_series(np.random.default_rng(13))
    bent = replace(series, y=series.y + np.maximum(np.arange(180) - 115, 0) * 0.25)
    found = fit(LaunchSeriesQuestion(bent), program_of, Sampling(), seed=4)
    assert found.status == "ok"
    assert {check.statistic for check in found.checks if not check.passed} >= {"recent_drift"}


@pytest.mark.simulation
@pytest.mark.timeout(900)
def test_useless_donors_are_shrunk_more_than_by_ridge(program_of: ProgramOf) -> None:
    """One donor of seven matters: the horseshoe leaves it alone, and takes the others further down than one width."""
    useless, useful, ridge_error, error = [], [], [], []
    for seed in range(10):
        series = make_series(np.random.default_rng(100 + seed), coefficients=(0.6, *[0.0] * 6), week=0.0)
        found = fit(LaunchSeriesQuestion(series), program_of, Sampling(), seed=seed)
        assert found.status == "ok", found.reason
        useful.append(found.hyper["donor[0]"][0])
        useless += [found.hyper[f"donor[{j}]"][0] for j in range(1, 7)]
        assert found.path is not None
        error.append(found.path.standard_error)
        ridge_error.append(bsts(series).standard_error)
    assert np.mean(useful) == pytest.approx(0.6, abs=0.03)
    assert np.sqrt(np.mean(np.square(useless))) < 0.02
    assert np.mean(error) < np.mean(ridge_error)


@pytest.mark.simulation
@pytest.mark.timeout(1800)
def test_simulation_based_calibration(program_of: ProgramOf) -> None:
    from tests.bayes.calibration import calibrate

    found = calibrate(simulate, program_of(DEFINITION, DEFINITION.sizes[0]), 200, seed=61)
    assert min(found.p_values(10).values()) > 0.001
    assert all(abs(share - 0.9) < 3 * np.sqrt(0.9 * 0.1 / 200) for share in found.coverage().values())
    assert found.divergent <= 4
