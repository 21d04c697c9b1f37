"""Links: what a move in an input has been worth, without the noise that both metrics share (METHODS E9)."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as hs

from stats.programme import effect_pairs
from stats.programme.effect_pairs import Array, Covariances, pair, scales
from stats.programme.links import (
    LinkReason,
    link,
    moment_slope,
    naive_slope,
    proxy,
    slopes,
    total_covariance,
    typical_error,
    without_each,
)
from tests.bayes.stories.effect_covariance import drawn_question

TRUE_SLOPE, USER_CORRELATION = 0.3, 0.8
NORTH_STAR_SD = 1.1
"""Of true effects, the input's being 1: METHODS E9 is silent about it, and its naive slopes say so."""


def history(rng: np.random.Generator, experiments: int, noise: float) -> tuple[Array, Array]:
    """Estimates and error covariances: error variances are `noise` times those of true effects, slope 0.3."""
    moved = rng.normal(size=experiments)
    rest = np.sqrt(NORTH_STAR_SD**2 - TRUE_SLOPE**2)
    effects = np.stack([TRUE_SLOPE * moved + rest * rng.normal(size=experiments), moved], axis=1)
    sd = np.sqrt(noise) * np.array([NORTH_STAR_SD, 1.0])
    error = np.outer(sd, sd) * np.array([[1, USER_CORRELATION], [USER_CORRELATION, 1]])
    noisy = effects + rng.standard_normal((experiments, 2)) @ np.linalg.cholesky(error).T
    return noisy, np.broadcast_to(error, (experiments, 2, 2))


def a_history(seed: int = 1, experiments: int = 40) -> tuple[Array, Array]:
    question = drawn_question(np.random.default_rng(seed), experiments, np.array([[1.0, 0.7], [0.7, 1.0]]))
    return question.estimate, question.covariance


def mean_and_sd(believed: Covariances, values: Array) -> tuple[float, float]:
    mean = float(believed.weight @ values)
    return mean, float(np.sqrt(believed.weight @ (values - mean) ** 2))


def test_the_naive_slope_is_least_squares_of_the_scatter() -> None:
    estimate, _ = a_history()
    oracle = sm.OLS(estimate[:, 0], sm.add_constant(estimate[:, 1])).fit().params[1]
    assert naive_slope(estimate) == pytest.approx(oracle, rel=1e-10)
    assert naive_slope(estimate[:1]) is None and naive_slope(np.ones((9, 2))) is None


def test_the_total_covariance_is_what_errors_leave_and_never_negative() -> None:
    estimate, covariance = a_history()
    expected = np.cov(estimate.T) - covariance.mean(axis=0)
    np.testing.assert_allclose(total_covariance(estimate, covariance), expected, rtol=1e-10)
    noise = total_covariance(estimate * 0.3, covariance)
    assert np.linalg.eigvalsh(noise).min() >= -1e-18


def test_the_jackknife_leaves_out_every_experiment_once() -> None:
    estimate, covariance = a_history(3, experiments=12)
    slope, error = moment_slope(estimate, covariance)
    whole = total_covariance(estimate, covariance)
    parts = [total_covariance(np.delete(estimate, k, 0), np.delete(covariance, k, 0)) for k in range(12)]
    found = np.array([part[0, 1] / part[1, 1] for part in parts])
    assert slope == pytest.approx(whole[0, 1] / whole[1, 1])
    assert error == pytest.approx(np.sqrt(11 / 12 * ((found - found.mean()) ** 2).sum()))


def test_an_input_that_only_noise_moved_has_no_slope_by_moments() -> None:
    estimate, covariance = a_history()
    quiet = estimate * [1.0, 0.05]
    assert moment_slope(quiet, covariance) == (None, None)
    assert link(quiet, covariance).slope is not None  # what is believed is wide, and is not usable
    assert not link(quiet, covariance).usable


def test_the_grid_is_fine_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for experiments in (8, 15):
        estimate, covariance = a_history(experiments=experiments)
        found = slopes(pair(estimate, covariance, scales(estimate, covariance)))[0]
        with monkeypatch.context() as finer:
            finer.setattr(effect_pairs, "_FINAL", (36, 36, 36))
            exact = slopes(pair(estimate, covariance, scales(estimate, covariance)))[0]
        width = exact.upper_95 - exact.lower_95
        for name in ("median", "lower_80", "upper_80", "lower_95", "upper_95"):
            assert abs(getattr(found, name) - getattr(exact, name)) < 0.01 * width


def test_common_means_are_integrated_out() -> None:
    """Beside a sum over a plane of means, at two covariances."""
    rng = np.random.default_rng(2)
    x, errors = a_history(5, 12)
    x, errors = x / 0.01, errors / 1e-4
    spread = np.array([[0.6, 0.8, 0.3], [1.5, 0.4, -0.2]])
    start = np.median(x, axis=0) + 0.1 * rng.normal(size=2)
    found = (
        effect_pairs._log_likelihood(spread, x - start, errors) + effect_pairs._of_means(spread, x, errors, start)[0]
    )
    axis = np.linspace(-2.5, 2.5, 51)
    plane = np.array([
        effect_pairs._log_likelihood(spread, x - np.array([a, b]), errors) - (a * a + b * b) / 2
        for a in axis for b in axis
    ])  # fmt: skip
    whole = np.log(np.exp(plane).sum(axis=0) * 0.01 / (2 * np.pi))
    np.testing.assert_allclose(found, whole, atol=0.05)


def test_with_precise_experiments_true_effects_are_what_was_estimated() -> None:
    estimate, covariance = a_history(experiments=100)
    found = link(estimate, covariance * 1e-4)
    assert found.slope is not None and found.moment_standard_error is not None
    assert found.slope.median == pytest.approx(naive_slope(estimate), rel=0.06)  # large effects count less
    assert found.moment_slope == pytest.approx(naive_slope(estimate), rel=0.01)
    assert found.usable and found.chance == pytest.approx(1.0)


@settings(max_examples=2, deadline=None)
@given(units=hs.floats(0.01, 100), seed=hs.integers(0, 1000))
def test_slopes_follow_the_units_and_not_the_order_of_experiments(units: float, seed: int) -> None:
    estimate, covariance = a_history(seed, 15)
    scaled, errors = estimate * [1, units], covariance * np.outer([1, units], [1, units])
    order = np.random.default_rng(seed).permutation(15)
    first, second = link(estimate, covariance), link(scaled[order], errors[order])
    assert first.slope is not None and second.slope is not None
    assert second.slope.median * units == pytest.approx(first.slope.median, rel=1e-3, abs=1e-4)
    assert second.chance == pytest.approx(first.chance, abs=1e-4)
    assert first.moment_slope is None or second.moment_slope is not None
    turned = link(estimate * [1, -1], covariance * np.array([[1, -1], [-1, 1]]))
    assert turned.slope is not None and turned.chance == pytest.approx(first.chance, abs=1e-4)
    assert turned.slope.median == pytest.approx(-first.slope.median, rel=1e-3, abs=1e-4)


def test_fewer_than_eight_experiments_say_nothing() -> None:
    estimate, covariance = a_history()
    few = link(estimate[:7], covariance[:7])
    assert (few.slope, few.chance, few.usable, few.reason) == (None, None, False, LinkReason.TOO_FEW_EXPERIMENTS)
    assert few.naive_slope is not None
    none = link(estimate[:0], covariance[:0])
    assert none.naive_slope is None and none.reason == LinkReason.TOO_FEW_EXPERIMENTS


def test_noise_that_two_metrics_share_is_no_link() -> None:
    """Users who buy more also listen more: the scatter leans steeply, and nothing is known to be worth anything."""
    rng = np.random.default_rng(3)
    error = 1e-4 * np.array([[1, 0.9], [0.9, 1]])
    estimate = rng.standard_normal((60, 2)) @ np.linalg.cholesky(error).T
    found = link(estimate, np.broadcast_to(error, (60, 2, 2)))
    assert found.naive_slope is not None and found.naive_slope > 0.7
    assert found.slope is not None and found.slope.lower_80 < 0.2
    assert not found.usable and found.reason == LinkReason.CORRELATION_UNCERTAIN


def test_a_link_of_one_team_is_seen_without_it() -> None:
    """One surface moves both metrics together; all others move the input and leave the North Star alone."""
    rng = np.random.default_rng(6)
    moved = rng.normal(size=60)
    teams = ["player"] * 20 + ["search"] * 20 + [None] * 20
    guide = np.where(np.arange(60) < 20, moved, 0) + 0.1 * rng.normal(size=60)
    estimate = np.stack([guide, moved], axis=1) + 0.1 * rng.normal(size=(60, 2))
    covariance = np.broadcast_to(0.01 * np.eye(2), (60, 2, 2))
    found = without_each(estimate, covariance, teams)
    assert set(found) == {"player", "search"}
    assert found["search"] > 0.35 and abs(found["player"]) < 0.1
    assert without_each(estimate[:9], covariance[:9], teams[:9]) == {}


def test_a_proxy_is_the_best_prediction_of_the_true_effect() -> None:
    """Its weights are the regression of true effects on what is measured, here from 200,000 experiments."""
    rng = np.random.default_rng(9)
    spread = np.array([[1.0, 0.5, 0.3], [0.5, 1.0, 0.4], [0.3, 0.4, 0.6]])
    error = np.array([[0.5, 0.2], [0.2, 2.0]])
    effects = rng.multivariate_normal(np.zeros(3), spread, 200_000)
    seen = effects[:, 1:] + rng.multivariate_normal(np.zeros(2), error, 200_000)
    found = proxy(Covariances.drawn(spread[None]), error)
    np.testing.assert_allclose(found.weight, np.linalg.lstsq(seen, effects[:, 0])[0], atol=0.01)
    assert found.correlation == pytest.approx(np.corrcoef(seen @ found.weight, effects[:, 0])[0, 1], abs=0.01)
    exact = slopes(Covariances.drawn(np.stack([spread, spread])))
    np.testing.assert_allclose([each.median for each in exact], np.linalg.solve(spread[1:, 1:], spread[1:, 0]))
    assert (np.abs(found.weight) < [each.median for each in exact]).all()


def test_the_typical_error_is_that_of_an_experiment_whatever_the_units() -> None:
    rng = np.random.default_rng(4)
    size = np.exp(rng.normal(size=9))
    covariance = size[:, None, None] * np.array([[1e-6, 1e-4], [1e-4, 4.0]])
    assert (typical_error(covariance) == covariance[np.argsort(size)[4]]).all()


@pytest.mark.simulation
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("experiments", "noise", "naive", "lowest", "highest"),
    [
        (60, 0.5, 0.50, 0.16, 0.26),
        (200, 0.5, 0.50, 0.08, 0.13),
        (60, 2.0, 0.68, 0.35, 0.9),
        (200, 2.0, 0.68, 0.17, 0.33),
    ],
)
def test_the_table_of_slopes(experiments: int, noise: float, naive: float, lowest: float, highest: float) -> None:
    """METHODS E9: the raw scatter is wrong whatever the number of experiments; moments are right and noisy.

    `noise` is the ratio of error to effect variance. Moments are judged by their median and quartiles: their tails
    are those of a ratio. What is believed covers the truth; where experiments are weak it is drawn to no link at all.
    """
    raw, moments, covered, median = [], [], [], []
    for child in np.random.SeedSequence(5).spawn(150):
        estimate, covariance = history(np.random.default_rng(child), experiments, noise)
        raw.append(naive_slope(estimate))
        moments.append(moment_slope(estimate, covariance)[0])
        if len(covered) < 40:
            found = link(estimate, covariance).slope
            assert found is not None
            covered.append(found.lower_95 <= TRUE_SLOPE <= found.upper_95)
            median.append(found.median)
    assert np.mean([each for each in raw if each is not None]) == pytest.approx(naive, abs=0.025)
    known = np.array([each for each in moments if each is not None])
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    assert lowest < (high - low) / 1.349 < highest
    assert middle == pytest.approx(TRUE_SLOPE, abs=4 * 1.25 * highest / np.sqrt(150))
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 40)
    assert -0.1 < np.mean(median) < 0.35
