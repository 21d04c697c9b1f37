"""Exchangeable effects as sampled: the grid, the models a user would write, calibration (METHODS C4, I1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from stats.bayes.diagnostics import ess_bulk
from stats.bayes.models.arms import ArmsQuestion
from stats.bayes.models.exchangeable import DEFINITION, Exchangeable
from stats.bayes.models.fit import ModelFit, fit
from stats.bayes.models.metrics import MetricsQuestion
from stats.bayes.models.replications import ReplicationsQuestion
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Sampling
from tests.bayes.brute_force import by_grid
from tests.bayes.calibration import QUICK, Calibration, calibrate
from tests.bayes.conftest import ProgramOf
from tests.bayes.stories.exchangeable import (
    LEARNED,
    PRIOR,
    T4,
    drawn_arms,
    drawn_family,
    drawn_metrics,
    drawn_replications,
    make_rows,
    metrics_level,
    question_of,
    row_level,
    simulate,
)

pytestmark = pytest.mark.xdist_group("pymc")

ESTIMATES, ERRORS = np.array([0.05, -0.02, 0.03]), np.array([0.02, 0.03, 0.01])
COVARIANCE = np.outer(ERRORS, ERRORS) * (0.6 + 0.4 * np.eye(3))
CASES = [
    (2, PRIOR, 0.005, 0.05),
    (3, PRIOR, 0.0002, 0.0003),
    (10, T4, 0.005, 0.05),
    (10, LEARNED, 0.005, 0.05),
    (10, Prior.flat(), 0.02, 0.05),
    (128, PRIOR, 0.005, 0.05),
]


@pytest.mark.parametrize(("count", "prior", "smallest", "largest"), CASES)
def test_sampling_equals_the_grid_within_monte_carlo_error(
    program_of: ProgramOf, count: int, prior: Prior, smallest: float, largest: float
) -> None:
    question = replace(drawn_family(np.random.default_rng(count), count, PRIOR, smallest, largest)[0], prior=prior)
    exact, sampled = by_grid(question), fit(question, program_of, Sampling(), seed=5)
    assert sampled.status == "ok"
    agree(sampled, exact)


@pytest.mark.parametrize(
    "question",
    [
        ArmsQuestion(np.array([1.0, 1.02, 1.05, 0.99]), np.array([0.012, 0.01, 0.015, 0.01]), LEARNED),
        MetricsQuestion(np.array([0.03, 0.01, -0.02]), COVARIANCE, np.array([0.05, 0.02, -0.05])),
        ReplicationsQuestion(ESTIMATES, ERRORS, T4, direction="decrease"),
    ],
    ids=["arms", "metrics", "replications"],
)
def test_the_one_program_answers_every_family(program_of: ProgramOf, question: Exchangeable) -> None:
    exact, sampled = by_grid(question), fit(question, program_of, Sampling(), seed=3)
    assert sampled.status == "ok"
    agree(sampled, exact)
    for name in exact.hyper.keys() - {"mean", "between"}:
        # 4,000 draws beside an effective sample size that is never below 700 here, tails of skewed quantities included.
        low, high = exact.hyper[name][1:]
        np.testing.assert_allclose(sampled.hyper[name], exact.hyper[name], atol=0.15 * (high - low), err_msg=name)
    if exact.arms is not None and sampled.arms is not None:
        np.testing.assert_allclose(sampled.arms.mean, exact.arms.mean, rtol=4 * 0.015 / np.sqrt(700))
        np.testing.assert_allclose(sampled.arms.chance_to_be_best, exact.arms.chance_to_be_best, atol=2 / np.sqrt(700))


def agree(sampled: ModelFit, exact: ModelFit) -> None:
    """Everything told by chains within four Monte Carlo standard errors of the truth."""
    one, other, found = sampled.effects, exact.effects, sampled.diagnostics
    assert one is not None
    assert other is not None
    assert found is not None
    assert found.divergences == 0
    # In posterior standard deviations; tail quantities vary on a scale of 0.3 of them and are not judged harder.
    error = 4 / np.sqrt(min(found.ess_bulk, found.ess_tail))
    # The estimate of the Monte Carlo error has an error of its own of some 11 %: many effects, many chances.
    np.testing.assert_array_less(np.abs(one.log_mean - other.log_mean), 5 * one.mcse + 1e-9)
    np.testing.assert_array_less(np.abs(one.log_mean - other.log_mean), error * other.log_sd)
    np.testing.assert_allclose(one.log_sd, other.log_sd, rtol=error)
    for name in ("chance_to_win", "sign_differs", "rope_probability"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=error / 2, err_msg=name)
    for name in ("expected_loss", "expected_loss_of_not_shipping"):
        np.testing.assert_array_less(np.abs(getattr(one, name) - getattr(other, name)), error * other.log_sd)
    width = np.log1p(other.hdi_upper) - np.log1p(other.hdi_lower)
    for name in ("hdi_lower", "hdi_upper"):
        gap = np.log1p(getattr(one, name)) - np.log1p(getattr(other, name))
        np.testing.assert_array_less(np.abs(gap), error * width)
    for name in ("mean", "between"):
        reach = exact.hyper[name][2] - exact.hyper[name][1]
        np.testing.assert_allclose(sampled.hyper[name], exact.hyper[name], atol=error * reach)


def test_the_same_seed_gives_the_same_bits_whatever_the_cores(program_of: ProgramOf) -> None:
    question = drawn_family(np.random.default_rng(9), 5)[0]
    one, two = (fit(question, program_of, Sampling(cores=cores), seed=7).effects for cores in (1, 2))
    other = fit(question, program_of, Sampling(), seed=8).effects
    assert one is not None
    assert two is not None
    assert other is not None
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name), err_msg=field.name)
    assert not np.array_equal(one.log_mean, other.log_mean)


def test_chains_too_short_to_trust_hide_the_numbers_and_name_the_reason(program_of: ProgramOf) -> None:
    found = fit(drawn_family(np.random.default_rng(6), 5)[0], program_of, Sampling(tune=20, draws=30), seed=1)
    assert (found.status, found.effects) == ("unreliable", None)
    assert any(word in found.reason for word in ("effective sample size", "R-hat", "divergent"))
    assert found.diagnostics is not None


def test_where_tau_is_near_zero_chains_have_no_divergences(program_of: ProgramOf) -> None:
    """Families on which a plain logarithm of tau fails one time in five."""
    rng = np.random.default_rng(31)
    for _ in range(8):
        question = drawn_family(rng, 3)[0]
        alike = replace(question, estimates=0.01 + question.errors * rng.standard_normal(3))
        for asked in (question, alike):
            draws = program_of(DEFINITION, 1).sample(asked.data(), Sampling(cores=1), seed=2)
            assert draws.divergences == 0


def against_explicit(model: Any, question: Exchangeable) -> None:
    """Both parameters and every effect of a model with the effects as parameters, by its own draws."""
    import pymc as pm

    with model:
        trace = pm.sample(2000, tune=2000, chains=4, cores=1, random_seed=1, target_accept=0.99, progressbar=False)
    found = by_grid(question)
    assert found.effects is not None
    drawn = trace["posterior"]
    for name in ("mean", "between"):
        values = drawn[name].to_numpy()
        error = values.std() / np.sqrt(ess_bulk(values))
        assert abs(values.mean() - found.hyper[name][0]) < 4 * error
    for e in range(len(found.effects.log_mean)):
        values = drawn["effect"].to_numpy()[:, :, e]
        ess = ess_bulk(values)
        assert abs(values.mean() - found.effects.log_mean[e]) < 4 * values.std() / np.sqrt(ess)
        # The relative error of a standard deviation is one over the root of twice the effective sample size.
        assert abs(values.std() / found.effects.log_sd[e] - 1) < 4 / np.sqrt(2 * min(ess, 4000))
        assert abs((values > 0).mean() - positive(found, e)) < 4 * 0.5 / np.sqrt(ess)


def positive(found: ModelFit, e: int) -> float:
    """The chance that an effect is above zero, whatever the good direction."""
    assert found.effects is not None
    chance = found.effects.chance_to_win[e]
    gain, loss = found.effects.expected_loss_of_not_shipping[e], found.effects.expected_loss[e]
    return float(chance if (gain > loss) == (found.effects.log_mean[e] > 0) else 1 - chance)


@pytest.mark.simulation
def test_users_as_rows_and_effects_as_parameters_give_the_same_posterior() -> None:
    rows = make_rows(np.random.default_rng(4), 600)
    against_explicit(row_level(rows), question_of(rows))


@pytest.mark.simulation
def test_metrics_with_joint_errors_and_effects_as_parameters_give_the_same_posterior() -> None:
    question = MetricsQuestion(np.array([0.03, 0.01, -0.02]), COVARIANCE, np.array([0.05, 0.02, -0.05]))
    against_explicit(metrics_level(question), question)


@pytest.mark.simulation
def test_simulation_based_calibration_of_the_sampler(program_of: ProgramOf) -> None:
    """1,000 families of users as rows, reduced and fitted: ranks are uniform, intervals cover (METHODS I1)."""
    fits = 1000
    found = calibrate(simulate, program_of(DEFINITION, 1), fits, seed=2026, thin=5)
    assert found.divergent < 0.01 * fits
    assert min(found.p_values().values()) > 0.001
    for inside in found.coverage(0.9).values():
        assert abs(inside - 0.9) < 3 * np.sqrt(0.09 / fits) + 0.005


@pytest.mark.simulation
@pytest.mark.parametrize("drawn", [drawn_arms, drawn_metrics, drawn_replications])
def test_simulation_based_calibration_of_families(program_of: ProgramOf, drawn: Callable[..., Any]) -> None:
    """Other families under other priors, their effects included: 400 fits each."""
    rng = np.random.default_rng(77)
    ranks = []
    for seed in range(400):
        question, effects, mu, tau = drawn(rng)
        draws = program_of(DEFINITION, 1).sample(question.data(), QUICK, seed=seed)
        shared, between = (draws.values[name][:, ::5].ravel() for name in ("mu", "tau"))
        found = question.hierarchy().drawn(shared, between, rng)
        ranks.append([(shared < mu).mean(), (between < tau).mean(), *(found < effects).mean(axis=0)])
    quantities = {str(at): column for at, column in enumerate(np.array(ranks).T)}
    assert min(Calibration(quantities, 0).p_values().values()) > 0.001
