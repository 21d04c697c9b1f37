"""Exact posteriors of rates and Poisson means: against brute force, against themselves, and calibrated (METHODS C2)."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps

from stats.bayes.models.arm_lattice import LatticeTooLarge, arm_lattice
from stats.bayes.models.beta_binomial import BetaBinomialQuestion
from stats.bayes.models.gamma_poisson import GammaPoissonQuestion
from stats.bayes.models.lattice_fit import Curve, exact
from stats.bayes.models.lift_prior import components, log_density
from stats.bayes.prior import Family, Prior
from tests.bayes.stories import beta_binomial, gamma_poisson
from tests.bayes.stories.lifts import drawn_lifts

NORMAL, STUDENT = Prior.default(), Prior(Family.STUDENT_T4, 0.01, 0.1, "stated")
LEARNED = gamma_poisson.PRIOR


def rates(units: list[float], successes: list[float], prior: Prior, **options: Any) -> BetaBinomialQuestion:
    return BetaBinomialQuestion(np.array(units), np.array(successes), prior, **options)


def counts(units: list[float], total: list[float], prior: Prior, **options: Any) -> GammaPoissonQuestion:
    return GammaPoissonQuestion(np.array(units), np.array(total), np.array(total), prior, **options)


TWO_ARMS = {
    "ordinary rates": rates([900.0, 1000.0], [90.0, 125.0], NORMAL),
    "few units": rates([12.0, 15.0], [1.0, 4.0], STUDENT, baseline=(-1.5, 0.4)),
    "nearly everybody": rates([300.0, 280.0], [290.0, 277.0], STUDENT),
    "everybody": rates([80.0, 80.0], [80.0, 80.0], STUDENT),
    "learned": rates([2000.0, 2000.0], [200.0, 240.0], LEARNED),
    "counts": counts([500.0, 400.0], [700.0, 650.0], LEARNED),
    "no events": counts([30.0, 40.0], [5.0, 0.0], NORMAL),
    "flat": counts([500.0, 400.0], [700.0, 650.0], Prior.flat()),
    "fewer is better": counts([500.0, 400.0], [700.0, 540.0], STUDENT, direction="decrease"),
}


def brute_force(question: BetaBinomialQuestion | GammaPoissonQuestion) -> dict[str, float]:
    """The control's log mean and the lift on a plain grid, every cell weighted by its textbook density.

    `rope` lies halfway between two lifts of the grid, and zero on one: it counts half.
    """
    around = question.coordinates()
    step = question.rope / 10.5
    lift = step * np.arange(-1500, 1501)
    x = around.centre[0] + around.spread[0] * np.linspace(-11, 11, 401)
    location, scale = question.control_prior
    if isinstance(question, BetaBinomialQuestion):
        jacobian, x = sc.log_expit(-x), sc.log_expit(x)
        y = x[:, None] + lift
        successes, units = question.successes, question.units
        control = sps.binom.logpmf(successes[0], units[0], np.exp(x)) + jacobian
        arm = np.where(y < 0, sps.binom.logpmf(successes[1], units[1], np.exp(np.minimum(y, 0))), -np.inf)
    else:
        y = x[:, None] + lift
        control = sps.poisson.logpmf(question.total[0], question.units[0] * np.exp(x))
        arm = sps.poisson.logpmf(question.total[1], question.units[1] * np.exp(y))
    prior = sps.norm.logpdf(x, location, scale)[:, None] + log_density(lift, components(question.prior))
    log_weight = control[:, None] + arm + prior
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = (weight * lift).sum()
    gain = lift if question.direction == "increase" else -lift
    return {
        "log_mean": mean,
        "log_sd": np.sqrt((weight * (lift - mean) ** 2).sum()),
        "chance_to_win": (weight * (0.5 * (gain > 0) + 0.5 * (gain >= 0))).sum(),
        "expected_loss": (weight * np.maximum(-gain, 0)).sum(),
        "expected_loss_of_not_shipping": (weight * np.maximum(gain, 0)).sum(),
        "rope_probability": (weight * (np.abs(lift) < question.rope)).sum(),
        "difference": (weight * (np.exp(y) - np.exp(x)[:, None])).sum(),
    }


def answer(question: Any) -> Any:
    """The fit, as `Any`: its effects and arms are there."""
    fit = exact(question)
    assert (fit.status, fit.method) == ("ok", "grid")
    return fit


@pytest.mark.parametrize("name", TWO_ARMS)
def test_two_arms_equal_brute_force(name: str) -> None:
    sd = answer(TWO_ARMS[name]).effects.log_sd[0]
    question = replace(TWO_ARMS[name], rope=10.5 * (abs(answer(TWO_ARMS[name]).effects.log_mean[0]) + 15 * sd) / 1500)
    effects = answer(question).effects
    # The plain grid leaves out what lies beyond 15 sd, and is coarse where everybody converts: the density is cut off
    # at its highest.
    near = 1e-3 if name != "everybody" else 1e-2
    for key, value in brute_force(question).items():
        scale = 1.0 if key in ("chance_to_win", "rope_probability") else sd
        assert getattr(effects, key)[0] == pytest.approx(value, rel=near, abs=near * scale), key


def test_more_arms_equal_a_million_draws_of_the_prior_weighted_by_their_likelihood() -> None:
    question = rates([60.0, 50.0, 70.0], [12.0, 14.0, 10.0], STUDENT, baseline=(-1.5, 0.3))
    rng = np.random.default_rng(1)
    size = 400_000
    log_rate = rng.normal(-1.5, 0.3, size)[:, None] + np.column_stack(
        [np.zeros(size), drawn_lifts(rng, STUDENT, 2 * size).reshape(size, 2)]
    )
    possible = (log_rate < 0).all(axis=1)
    log_rate = log_rate[possible]
    likelihood = np.exp(sps.binom.logpmf(question.successes, question.units, np.exp(log_rate)).sum(axis=1))
    weight = likelihood / likelihood.sum()
    error = 5 / np.sqrt(1 / (weight**2).sum())
    fit = answer(question)
    lifts = log_rate[:, 1:] - log_rate[:, :1]
    mean = weight @ lifts
    sd = np.sqrt(weight @ (lifts - mean) ** 2)
    np.testing.assert_array_less(np.abs(fit.effects.log_mean - mean), error * sd)
    np.testing.assert_allclose(fit.effects.log_sd, sd, rtol=2 * error)
    np.testing.assert_allclose(fit.effects.chance_to_win, weight @ (lifts > 0), atol=error)
    best = np.bincount(log_rate.argmax(axis=1), weights=weight)
    np.testing.assert_allclose(fit.arms.chance_to_be_best, best, atol=error)
    differences = np.exp(log_rate[:, 1]) - np.exp(log_rate[:, 0])
    low, high = fit.effects.difference_hdi_lower[0], fit.effects.difference_hdi_upper[0]
    assert weight @ ((differences > low) & (differences < high)) == pytest.approx(0.95, abs=error)


def test_intervals_hold_their_level_and_are_the_shortest() -> None:
    question = TWO_ARMS["few units"]
    curve = Curve(*arm_lattice(question).lift(0))
    low, high = curve.shortest(0.9)
    inside = np.diff(curve.cdf(np.array([low, high])))[0]
    ends = curve.density(np.array([low, high]))
    assert inside == pytest.approx(0.9, abs=1e-5)
    assert ends[0] == pytest.approx(ends[1], rel=0.02)  # the shortest interval has equal densities at its ends


def test_arms_without_information_keep_their_prior() -> None:
    # One unit says next to nothing about a rate that is known to be about a tenth.
    effects = answer(rates([1e6, 1.0], [1e5, 0.0], NORMAL)).effects
    assert effects.log_mean[0] == pytest.approx(NORMAL.mean, abs=0.001)
    assert effects.log_sd[0] == pytest.approx(NORMAL.scale, rel=0.01)


def test_the_order_of_arms_does_not_matter_and_a_twin_of_an_arm_says_the_same() -> None:
    first = answer(counts([500.0, 400.0, 450.0], [700.0, 650.0, 640.0], LEARNED))
    second = answer(counts([500.0, 450.0, 400.0], [700.0, 640.0, 650.0], LEARNED))
    np.testing.assert_allclose(first.effects.log_mean, second.effects.log_mean[::-1], rtol=1e-8)
    twins = answer(counts([500.0, 400.0, 400.0], [700.0, 650.0, 650.0], LEARNED))
    assert twins.effects.log_mean[0] == pytest.approx(twins.effects.log_mean[1])
    assert twins.arms.chance_to_be_best[1] == pytest.approx(twins.arms.chance_to_be_best[2])


def test_widths_too_different_for_one_lattice_are_refused() -> None:
    spike = Prior(Family.NORMAL, 0.0, 1e-5, "nothing ever changes")
    with pytest.raises(LatticeTooLarge):
        exact(rates([20.0, 20.0], [3.0, 4.0], spike))


def test_impossible_data_are_not_estimable_with_the_reason() -> None:
    fit = exact(rates([20.0, 20.0], [3.0, 24.0], NORMAL))
    assert (fit.status, fit.reason) == ("not_estimable", "an arm has more conversions than units")
    assert fit.effects is None


@pytest.mark.parametrize("story", [beta_binomial, gamma_poisson])
def test_ranks_of_the_truth_are_uniform(story: ModuleType) -> None:
    # Calibration without a sampler: where the truth lies in its exact posterior.
    ranks = []
    for child in np.random.SeedSequence(11).spawn(150):
        truth, question = story.simulate(np.random.default_rng(child))
        curve = Curve(*arm_lattice(question).lift(1))
        ranks.append(float(curve.cdf(np.array([truth["log_lift[2]"]]))[0]))
    counted = np.histogram(ranks, 10, (0, 1))[0]
    assert sc.chdtrc(9, ((counted - 15) ** 2 / 15).sum()) > 0.001
