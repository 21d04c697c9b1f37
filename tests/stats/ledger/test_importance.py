"""Proposals, weights and their diagnostic."""

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy.stats import multivariate_t

from stats.ledger.importance import Elliptical, Proposal, effective, mode, resampled, smoothed


def test_smoothed_weights_and_their_shape_are_those_of_arviz():
    log_weight = np.random.default_rng(1).standard_normal(2000)
    expected, shape = array_stats.psislw(-log_weight)  # of log likelihoods left out
    got, k = smoothed(log_weight)
    assert k == pytest.approx(float(shape), abs=0.02)
    assert np.log(got) == pytest.approx(np.asarray(expected), abs=0.02)


@pytest.mark.parametrize(("power", "trusted"), [(0.3, True), (1.2, False)])
def test_the_shape_says_whether_weights_can_be_trusted(power, trusted):
    """exp(power * exponential) is Pareto with just that shape."""
    _, shape = smoothed(power * np.random.default_rng(2).exponential(size=4000))
    assert shape == pytest.approx(power, abs=0.15)
    assert (shape < 0.7) == trusted


def test_equal_weights_stay_equal():
    weight, shape = smoothed(np.zeros(100))
    assert effective(weight) == pytest.approx(100)
    assert shape == -np.inf


def test_a_proposals_density_is_the_mixture_of_its_parts():
    root = np.array([[1.0, 0.0], [0.5, 2.0]])
    part, wide = Elliptical(np.array([1.0, -1.0]), root, 6.0), Elliptical(np.zeros(2), np.eye(2), np.inf)
    at = np.random.default_rng(3).standard_normal((5, 2))
    density = np.exp(Proposal((part, wide), np.array([0.7, 0.3])).log_density(at))
    t = multivariate_t(np.array([1.0, -1.0]), root @ root.T, df=6).pdf(at)
    normal = np.exp(-0.5 * (at**2).sum(axis=1)) / (2 * np.pi)
    assert density == pytest.approx(0.7 * t + 0.3 * normal)


def test_weighted_draws_have_the_targets_moments():
    """A skewed target: independent ln Gamma(3)."""
    rng = np.random.default_rng(4)
    proposal = Proposal((Elliptical(np.ones(3), np.eye(3), 6.0),), np.ones(1))
    at = proposal.draw(20_000, rng)
    weight, shape = smoothed((3 * at - np.exp(at)).sum(axis=1) - proposal.log_density(at))
    mean = weight @ np.exp(at)
    assert shape < 0.7
    assert mean == pytest.approx(np.full(3, 3.0), abs=4 * np.sqrt(3 / effective(weight)))
    again = np.exp(at[resampled(weight, 5000, rng)]).mean(axis=0)
    assert again == pytest.approx(mean, abs=4 * np.sqrt(3 / 5000))


def test_newton_finds_the_mode_of_a_skewed_target_from_afar():
    def log_density(at):
        return (3 * at - np.exp(at)).sum(axis=1) - 0.25 * (at[:, 0] - at[:, 1]) ** 2

    centre, covariance = mode(log_density, np.array([-6.0, 4.0]))
    assert centre == pytest.approx(np.log([3.0, 3.0]), abs=0.01)
    assert np.linalg.inv(covariance) == pytest.approx(np.array([[3.5, -0.5], [-0.5, 3.5]]), abs=0.05)
