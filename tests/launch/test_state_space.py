"""A wandering level seen with noise: its filter and smoother, and what is left with the variances integrated out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.statespace.structural import UnobservedComponents

from stats.bayes.mixture import Mixture
from stats.launch.state_space import Filtered, Posterior, equal_tails, filtered, posterior, ratios, smoothed, two_sided
from tests.launch.dense_series import errors, fits, weights

PERIODS = 36


def wandering(seed: int, periods: int = PERIODS, *, noise: float = 1.0, step: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.cumsum(step * rng.standard_normal(periods)) + noise * rng.standard_normal(periods)


def columns_of(seed: int, periods: int = PERIODS) -> np.ndarray:
    """A constant, a launch in the last third, and an outcome."""
    after = (np.arange(periods) >= 2 * periods // 3).astype(float)
    return np.column_stack([np.ones(periods), after, 3.0 + wandering(seed, periods)])


def of_columns(columns: np.ndarray, ratio: np.ndarray) -> tuple[Filtered, Posterior]:
    seen = filtered(columns, np.ones(len(columns), dtype=bool), ratio, [len(columns)])
    one = np.ones(1)
    found = posterior(
        seen.cross,
        seen.log_determinant,
        seen.count,
        ratio,
        precision=np.array([[0.0, 0.04]]),
        noise=1.5 * one,
        step=0.6 * one,
    )
    return seen, found


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), ratio=st.floats(0.02, 8.0), stop=st.integers(3, PERIODS - 1))
def test_the_filter_whitens_by_the_dense_covariance_of_the_periods_seen(seed: int, ratio: float, stop: int) -> None:
    columns = columns_of(seed)
    usable = np.random.default_rng(seed).random(PERIODS) > 0.2
    seen = filtered(columns, usable, np.array([ratio]), [stop, PERIODS])
    for place, end in enumerate((stop, PERIODS)):
        known = np.flatnonzero(usable[:end])
        covariance = errors(end, 1.0, ratio)[np.ix_(known, known)]
        expected = columns[known].T @ np.linalg.solve(covariance, columns[known])
        assert seen.cross[place, 0] == pytest.approx(expected, rel=1e-8, abs=1e-8)
        assert seen.log_determinant[place, 0] == pytest.approx(np.linalg.slogdet(covariance)[1], abs=1e-8)
        assert seen.count[place] == known.size
        walk = ratio**2 * np.minimum(end, known + 1.0)
        level = walk @ np.linalg.solve(covariance, columns[known])
        assert seen.level[place, 0] == pytest.approx(level, rel=1e-7, abs=1e-7)
        assert seen.variance[place, 0] == pytest.approx(
            ratio**2 * end - walk @ np.linalg.solve(covariance, walk), rel=1e-6, abs=1e-8
        )


@pytest.mark.parametrize(("noise", "step"), [(1.0, 0.5), (0.7, 0.05), (0.2, 1.4)])
def test_likelihood_and_levels_are_those_of_statsmodels(noise: float, step: float) -> None:
    y = wandering(5)
    y[[7, 8, 20]] = np.nan
    usable = np.isfinite(y)
    model = UnobservedComponents(y, "llevel", loglikelihood_burn=0)
    model.ssm.initialize_known(np.zeros(1), np.array([[step**2]]))
    theirs = model.smooth([noise**2, step**2])
    column, ratio = np.where(usable, y, 0.0)[:, None], np.array([step / noise])
    seen = filtered(column, usable, ratio, [y.size])
    scale = noise**2
    log_likelihood = -0.5 * (
        seen.count[0] * np.log(2 * np.pi * scale) + seen.log_determinant[0, 0] + seen.cross[0, 0, 0, 0] / scale
    )
    assert log_likelihood == pytest.approx(theirs.llf, abs=1e-8)
    assert seen.level[0, 0, 0] == pytest.approx(theirs.filtered_state[0, -1], abs=1e-9)
    assert smoothed(column, usable, float(ratio[0]))[:, 0] == pytest.approx(theirs.smoothed_state[0], abs=1e-8)


def test_the_likelihood_is_highest_where_statsmodels_finds_its_maximum() -> None:
    y = wandering(2, 120)
    theirs = UnobservedComponents(y, "llevel").fit(disp=False).params
    ratio = np.exp(np.linspace(-3, 1.5, 300))
    seen = filtered(np.column_stack([np.ones(y.size), y]), np.ones(y.size, dtype=bool), ratio, [y.size])
    flat, own, cross = seen.cross[0, :, 0, 0], seen.cross[0, :, 1, 1], seen.cross[0, :, 0, 1]
    variance = (own - cross**2 / flat) / (y.size - 1)
    best = np.argmax(-(y.size - 1) * np.log(variance) - seen.log_determinant[0] - np.log(flat))
    assert np.sqrt(variance[best]) == pytest.approx(np.sqrt(theirs[0]), rel=0.01)
    assert ratio[best] == pytest.approx(np.sqrt(theirs[1] / theirs[0]), rel=0.02)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_posterior_is_that_of_dense_normals_on_a_fine_grid(seed: int) -> None:
    columns = columns_of(seed, 18)
    _, found = of_columns(columns, ratios(18))
    dense = fits(columns[:, -1], columns[:, :-1], np.array([0.0, 0.04]), noise=1.5, step=0.6, points=40)
    weight = weights(dense)
    mean = weight @ [item.mean[1] for item in dense]
    variance = weight @ [item.covariance[1, 1] + (item.mean[1] - mean) ** 2 for item in dense]
    effect, error = found.of_last()
    assert effect[0] == pytest.approx(mean, abs=0.01 * np.sqrt(variance))
    assert error[0] == pytest.approx(np.sqrt(variance), rel=0.01)
    noise, step = (float((found.weight * part).sum()) for part in (found.noise, found.step))
    assert noise == pytest.approx(weight @ [item.noise for item in dense], rel=0.01)
    assert step == pytest.approx(weight @ [item.step for item in dense], rel=0.02)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), step=st.sampled_from([0.0, 0.1, 0.5, 3.0]), periods=st.sampled_from([24, 80, 300]))
def test_a_grid_of_half_the_step_says_the_same(seed: int, step: float, periods: int) -> None:
    columns = columns_of(seed, periods)
    columns[:, -1] = wandering(seed, periods, step=step)
    coarse = ratios(periods)
    fine = np.exp(np.linspace(np.log(coarse[0]), np.log(coarse[-1]), 2 * coarse.size - 1))
    (effect, error), (expected, spread) = (of_columns(columns, grid)[1].of_last() for grid in (coarse, fine))
    assert abs(effect - expected) / spread < 0.01
    assert error / spread == pytest.approx(1, abs=0.01)


def test_one_coefficient_and_all_of_them_agree() -> None:
    _, found = of_columns(columns_of(3), ratios(PERIODS))
    mean, covariance = found.all()
    last_mean, last_variance = found.last()
    assert mean[..., -1] == pytest.approx(last_mean)
    assert covariance[..., -1, -1] == pytest.approx(last_variance)
    contrast = np.tile([2.0, -1.0], (found.place.size, 1))
    weighted_mean, weighted_variance = found.of(contrast)
    assert weighted_mean == pytest.approx(mean @ contrast[0])
    assert weighted_variance == pytest.approx(np.einsum("j,qsjk,k->qs", contrast[0], covariance, contrast[0]))


def test_intervals_and_p_values_of_one_normal_are_the_textbooks() -> None:
    normal = Mixture(np.ones(1), np.array([1.0]), np.array([0.5]))
    assert equal_tails(normal, 0.9) == pytest.approx(sps.norm(1.0, 0.5).interval(0.9))
    assert two_sided(normal) == pytest.approx(2 * sps.norm.sf(2.0))
    assert two_sided(Mixture(np.ones(1), np.array([30.0]), np.ones(1))) == pytest.approx(2 * sps.norm.sf(30.0))
