"""Hand-written densities of counts: the rows' own log likelihood, their gradients, and arms that are not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps

from stats.bayes.models.count_densities import (
    binomial_density,
    negative_binomial_density,
    poisson_density,
    rising_factorials,
)
from stats.bayes.models.lift_prior import components, density_and_slope, local_normal, log_density
from stats.bayes.models.negative_binomial import from_counts
from stats.bayes.prior import Family, Prior
from tests.bayes.stories import beta_binomial, gamma_poisson, negative_binomial

LEARNED = gamma_poisson.PRIOR
PRIORS = [Prior.default(), Prior(Family.STUDENT_T4, 0.01, 0.05, "stated"), LEARNED]
ORDER = {
    "binomial": ("centre", "pull", "width", "units", "successes", "real", "treated", "baseline", "lift_prior"),
    "poisson": ("centre", "pull", "width", "units", "total", "real", "treated", "baseline", "lift_prior"),
    "negative_binomial": (
        *("centre", "pull", "width", "units", "total", "above", "large", "large_units"),
        *("real", "treated", "own", "baseline", "dispersion_prior", "lift_prior"),
    ),
}


def plain(function: Any) -> Any:
    """Compilation leaves what a function computes alone, so here nothing is compiled."""
    return function


DENSITIES = {
    "binomial": binomial_density(plain),
    "poisson": poisson_density(plain),
    "negative_binomial": negative_binomial_density(plain),
}


def written(model: str, data: Mapping[str, np.ndarray]) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    return lambda z: DENSITIES[model](z, *(np.asarray(data[name]) for name in ORDER[model]))


def normal(x: float, at: tuple[float, float]) -> float:
    return float(sps.norm.logpdf(x, *at))


def of_lift(prior: Prior, lift: float) -> float:
    """The log density of a prior, from the textbook."""
    if prior.family is Family.STUDENT_T4:
        return float(sps.t.logpdf(lift, 4, prior.mean, prior.scale))
    weight, mean, sd = np.array(prior.components or [(1.0, prior.mean, prior.scale)]).T
    return float(np.log((weight * sps.norm.pdf(lift, mean, sd)).sum()))


def case(model: str, prior: Prior, own: bool = False) -> tuple[Mapping[str, np.ndarray], Callable[[np.ndarray], float]]:
    """Data of two arms of rows in a class of three, and their log density from rows and textbooks."""
    rng = np.random.default_rng(8)
    if model == "binomial":
        flips = beta_binomial.make_rows(rng, 150, arms=2)
        data = beta_binomial.question_of(flips, prior).data()

        def of_rows(z: np.ndarray) -> float:
            logit = data["centre"] + data["pull"] * z[0] + data["width"] * z
            rate = sc.expit(logit)
            total = sps.bernoulli.logpmf(flips.converted, rate[flips.arm]).sum() + np.log1p(-rate[:2]).sum()
            lift = float(np.log(rate[1] / rate[0]))
            empty = normal(z[2], (0, 1))
            return float(total) + normal(np.log(rate[0]), beta_binomial.BASELINE) + of_lift(prior, lift) + empty

        return data, of_rows
    if model == "poisson":
        rows = gamma_poisson.make_rows(rng, 150, arms=2)
        data = gamma_poisson.question_of(rows, prior).data()

        def of_rows(z: np.ndarray) -> float:
            log_mean = data["centre"] + data["pull"] * z[0] + data["width"] * z
            total = float(sps.poisson.logpmf(rows.count, np.exp(log_mean)[rows.arm]).sum()) + normal(z[2], (0, 1))
            return total + normal(log_mean[0], gamma_poisson.BASELINE) + of_lift(prior, log_mean[1] - log_mean[0])

        return data, of_rows
    rows = negative_binomial.make_rows(rng, 150, arms=2)
    data = negative_binomial.question_of(rows, prior, shared_dispersion=not own).data()

    def of_rows(z: np.ndarray) -> float:
        log_mean = data["centre"][0] + data["pull"][0] * z[0, 0] + data["width"][0] * z[0]
        spread = data["centre"][1] + data["pull"][1] * z[1, 0] + data["own"] * data["width"][1] * z[1]
        size, mean = np.exp(-spread)[rows.arm], np.exp(log_mean)[rows.arm]
        total = float(sps.nbinom.logpmf(rows.count, size, size / (size + mean)).sum())
        total += normal(log_mean[0], negative_binomial.BASELINE) + of_lift(prior, log_mean[1] - log_mean[0])
        total += normal(spread[0], (0.0, 1.5)) + (normal(spread[1] - spread[0], (0.0, 0.5)) if own else 0.0)
        return total + float(sps.norm.logpdf([z[0, 2], z[1, 2], *([] if own else [z[1, 1]])]).sum())

    return data, of_rows


CASES = [(model, prior, False) for model in DENSITIES for prior in PRIORS] + [("negative_binomial", PRIORS[0], True)]


@pytest.mark.parametrize(("model", "prior", "own"), CASES)
def test_sufficient_statistics_give_the_log_density_of_the_rows(model: str, prior: Prior, own: bool) -> None:
    data, of_rows = case(model, prior, own)
    density = written(model, data)
    shape = data["centre"].shape
    points = np.random.default_rng(1).normal(0, 2, (6, *shape))
    found, expected = (np.array([f(z) for z in points]) for f in (lambda z: density(z)[0], of_rows))
    # Up to one constant.
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize(("model", "prior", "own"), CASES)
def test_gradients_equal_finite_differences(model: str, prior: Prior, own: bool) -> None:
    data, _ = case(model, prior, own)
    density = written(model, data)
    for z in np.random.default_rng(2).normal(0, 1.5, (3, *data["centre"].shape)):
        _, gradient = density(z)
        for place in np.ndindex(z.shape):
            step = np.zeros_like(z)
            step[place] = 1e-5
            difference = (density(z + step)[0] - density(z - step)[0]) / 2e-5
            assert gradient[place] == pytest.approx(difference, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("model", DENSITIES)
def test_the_posterior_is_nearly_round_in_the_coordinates_of_the_sampler(model: str) -> None:
    data, _ = case(model, PRIORS[0])
    density = written(model, data)
    shape = data["centre"].shape
    size = int(np.prod(shape))
    hessian = np.empty((size, size))
    for i in range(size):
        step = np.zeros(size)
        step[i] = 1e-4
        up, down = density(step.reshape(shape))[1], density(-step.reshape(shape))[1]
        hessian[i] = -((up - down) / 2e-4).ravel()
    eigenvalues = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    assert 0.7 < eigenvalues.min() < eigenvalues.max() < 1.4
    assert np.abs(density(np.zeros(shape))[1]).max() < 0.3  # and the start is near the mode


@pytest.mark.parametrize("model", DENSITIES)
def test_arms_that_are_not_there_are_standard_normal_and_touch_nothing(model: str) -> None:
    data, _ = case(model, PRIORS[1])
    density = written(model, data)
    z = np.random.default_rng(3).normal(size=data["centre"].shape)
    moved = z.copy()
    moved[..., 2] += 3.0
    (value, gradient), (other, other_gradient) = density(z), density(moved)
    assert other - value == pytest.approx(0.5 * (z[..., 2] ** 2 - moved[..., 2] ** 2).sum())
    np.testing.assert_array_equal(gradient[..., :2], other_gradient[..., :2])


@pytest.mark.parametrize("prior", PRIORS)
def test_the_prior_of_a_lift_is_its_textbook_density_with_its_slope(prior: Prior) -> None:
    lifts, parts = np.linspace(-0.9, 1.1, 41), components(prior)
    expected = [of_lift(prior, lift) for lift in lifts]
    np.testing.assert_allclose(log_density(lifts, parts), expected, rtol=1e-12)
    value, slope = density_and_slope(lifts, parts)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    step = 1e-6
    difference = (log_density(lifts + step, parts) - log_density(lifts - step, parts)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-4)
    precision, mean = local_normal(lifts, parts)
    np.testing.assert_allclose(precision * (mean - lifts), slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [0.05, 0.8, 30.0])
@pytest.mark.parametrize("counts", [[0, 3, 62, 63], [1, 70, 70, 70], [64, 100, 400]])
def test_sums_of_logarithms_replace_the_gamma_function(size: float, counts: list[int]) -> None:
    values = np.array(counts)
    above = np.array([float((values > j).sum()) for j in range(63)])
    large, number = np.unique(values[values >= 63], return_counts=True)
    value, slope = rising_factorials(size, above, large.astype(float), number.astype(float))
    np.testing.assert_allclose(value, (sc.gammaln(values + size) - sc.gammaln(size)).sum(), rtol=1e-12)
    np.testing.assert_allclose(slope, (sc.digamma(values + size) - sc.digamma(size)).sum(), rtol=1e-10)


@pytest.mark.parametrize(("mean", "dispersion"), [(10.0, 2.0), (40.0, 1.4), (80.0, 0.5)])
def test_a_gamma_distribution_stands_for_large_counts(mean: float, dispersion: float) -> None:
    counts = negative_binomial.drawn_counts(np.random.default_rng(4), np.full(20_000, mean), dispersion)
    question = from_counts([counts, counts], Prior.default())
    large, units = question.large()
    share = units[0].sum() / len(counts)
    assert 0.01 < share < 0.6
    for size in np.array([0.8, 1.0, 1.25]) / dispersion:
        _, slope = rising_factorials(size, question.above[0], large[0], units[0])
        exact = (sc.digamma(counts + size) - sc.digamma(size)).sum()
        # The information of a unit about the log dispersion is about a half here: a shift of less than 1 %.
        assert abs(size * (slope - exact)) / len(counts) < 0.004
