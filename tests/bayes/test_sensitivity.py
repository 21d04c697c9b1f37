"""Power-scaling: how much a prior matters (METHODS C3)."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as sps
from arviz_stats.base import array_stats
from scipy.integrate import quad

from stats.bayes.normal import prior_mixture
from stats.bayes.prior import Family, Prior
from stats.bayes.sensitivity import MATTERS, prior_log_density, prior_sensitivity

LEARNED = Prior(Family.LEARNED, 0.01, 0.03, "test", ((0.3, -0.01, 0.02), (0.7, 0.02, 0.03)))


def conjugate(estimate: float, error: float, prior: Prior, power: float = 1.0) -> tuple[float, float]:
    """Mean and sd of the posterior of a normal mean when the prior is raised to a power: a normal again."""
    precision = power / prior.scale**2 + 1 / error**2
    return (estimate / error**2 + power * prior.mean / prior.scale**2) / precision, precision**-0.5


def exact_gradient(estimate: float, error: float, prior: Prior, low: float, high: float) -> float:
    """The sensitivity by quadrature over the exact distribution functions, between the ends of the draws."""
    here = sps.norm(*conjugate(estimate, error, prior))

    def distance(power: float) -> float:
        there = sps.norm(*conjugate(estimate, error, prior, power))

        def one_way(tail: str) -> float:
            p, q = getattr(here, tail), getattr(there, tail)

            def density(x: float) -> float:
                middle = (p(x) + q(x)) / 2
                return float(p(x) * np.log2(p(x) / middle) + q(x) * np.log2(q(x) / middle))

            gap = quad(density, low, high, epsabs=1e-13, limit=200)[0]
            return float(np.sqrt(gap / quad(lambda x: p(x) + q(x), low, high)[0]))

        return max(one_way("cdf"), one_way("sf"))

    return (distance(0.99) / -np.log2(0.99) + distance(1.01) / np.log2(1.01)) / 2


@pytest.mark.parametrize("estimate", [0.0, 0.04, 0.2])
@pytest.mark.parametrize("error", [0.005, 0.05])
def test_weighting_draws_equals_scaling_a_conjugate_prior_exactly(estimate: float, error: float) -> None:
    prior = Prior.default()
    mean, sd = conjugate(estimate, error, prior)
    # Evenly spaced quantiles instead of random draws: what is left is the rule, without Monte-Carlo error.
    draws = sps.norm(mean, sd).ppf((np.arange(40_000) + 0.5) / 40_000).reshape(4, -1)
    found = prior_sensitivity(prior_log_density(prior, draws), {"lift": draws})
    assert found == pytest.approx(exact_gradient(estimate, error, prior, draws.min(), draws.max()), rel=0.01)


def test_it_is_what_arviz_computes_from_the_same_weights() -> None:
    rng = np.random.default_rng(4)
    draws = rng.gamma(3.0, 0.02, (4, 500))
    log_prior = prior_log_density(Prior.default(Family.STUDENT_T4), draws)
    weights = [np.exp(change * log_prior) for change in (-0.01, 0.01)]
    theirs = array_stats.power_scale_sense(
        draws, *(w / w.sum() for w in weights), lower_alpha=0.99, upper_alpha=1.01, chain_axis=0, draw_axis=1
    )
    assert prior_sensitivity(log_prior, {"lift": draws}) == pytest.approx(float(theirs), rel=1e-6)


def test_the_worst_quantity_counts_and_a_prior_that_says_nothing_moves_nothing() -> None:
    rng = np.random.default_rng(8)
    strong, other = rng.normal(0.05, 0.04, (4, 1000)), rng.normal(0.0, 0.04, (4, 1000))
    log_prior = prior_log_density(Prior.default(), strong)
    alone = prior_sensitivity(log_prior, {"strong": strong})
    assert alone > MATTERS > prior_sensitivity(log_prior, {"other": other})
    assert prior_sensitivity(log_prior, {"other": other, "strong": strong}) == alone
    assert prior_sensitivity(prior_log_density(Prior.flat(), strong), {"strong": strong}) < 1e-6
    assert prior_sensitivity(log_prior, {"constant": np.ones((4, 1000))}) == 0.0


def test_the_likelihood_matters_where_the_prior_does_not() -> None:
    prior, rng = Prior.default(), np.random.default_rng(5)
    for error, prior_matters, data_matter in ((0.002, False, True), (0.5, True, False)):
        mean, sd = conjugate(0.03, error, prior)
        draws = rng.normal(mean, sd, (4, 1000))
        log_likelihood = -0.5 * ((draws - 0.03) / error) ** 2
        assert (prior_sensitivity(prior_log_density(prior, draws), {"lift": draws}) > MATTERS) is prior_matters
        assert (prior_sensitivity(log_likelihood, {"lift": draws}) > MATTERS) is data_matter


@pytest.mark.parametrize("prior", [Prior.default(), Prior.default(Family.STUDENT_T4), LEARNED], ids=lambda p: p.family)
def test_the_log_density_of_a_prior_is_that_of_its_mixture(prior: Prior) -> None:
    at = np.linspace(-0.1, 0.12, 23)
    gap = prior_log_density(prior, at) - np.log(prior_mixture(prior).density(at))
    np.testing.assert_allclose(gap, gap[0], atol=1e-6)
    assert np.isfinite(prior_log_density(prior, np.array([-5.0, 5.0]))).all()


def test_a_log_prior_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        prior_sensitivity(np.array([[0.0, -np.inf]]), {"lift": np.zeros((1, 2))})
