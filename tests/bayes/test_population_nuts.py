"""The population model of the library: NUTS agrees with the grid and with every effect as a parameter of its own."""

import numpy as np
import pytest
import scipy.special as sc

from stats.bayes.diagnostics import ess_bulk
from stats.bayes.effect_grid import HyperPriors
from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.fit import ModelFit, fit
from stats.bayes.models.population import DEFINITION, PopulationQuestion
from stats.bayes.population import Population, population
from stats.bayes.sampling.contract import Draws, Sampling
from tests.bayes.conftest import ProgramOf
from tests.bayes.stories.population import make_rows, question_of, row_level, simulate

SAMPLING = Sampling(draws=2000)


def nuts(question: PopulationQuestion, program_of: ProgramOf) -> ModelFit:
    """A fit that must succeed."""
    found = fit(question, program_of, SAMPLING, seed=1)
    assert found.status == "ok", found.reason
    return found


def grid(question: PopulationQuestion) -> Population:
    """The same by the grid."""
    return population(question.estimate, question.error, hyper=question.hyper, shape=question.shape)


def test_data_that_say_nothing_are_refused_with_a_reason() -> None:
    for estimate, error, words in (
        ([], [], "one estimate"),
        ([0.1], [0.1, 0.2], "one estimate"),
        ([np.nan], [0.1], "finite"),
        ([0.1], [0.0], "positive"),
    ):
        question = PopulationQuestion(np.array(estimate), np.array(error))
        with pytest.raises(ImpossibleData, match=words):
            question.data()
    with pytest.raises(ImpossibleData, match="half-Cauchy"):
        PopulationQuestion(np.ones(9), np.ones(9), HyperPriors(tau_shape="half_normal")).data()
    refused = fit(PopulationQuestion(np.array([np.inf]), np.ones(1)), lambda definition, size: None, SAMPLING, seed=1)  # type: ignore[arg-type, return-value]  # never asked
    assert (refused.status, refused.effects) == ("not_estimable", None)


def test_a_summary_of_exact_draws_is_the_grids() -> None:
    """Draws taken from the grid's posterior stand for a sampler's: effects, hyper-parameters and checks follow."""
    _, question = simulate(np.random.default_rng(5))
    exact = grid(question)
    draws = _draws_from_grid(question, 4000)
    found = question.summarise(draws, seed=3)
    assert found.status == "ok" and found.effects is not None and exact.tau is not None
    error = exact.shrunk_sd / np.sqrt(2000)
    assert np.abs((found.effects.log_mean - exact.shrunk_mean) / error).max() < 4.5
    assert found.effects.log_sd / exact.shrunk_sd == pytest.approx(1, abs=0.1)
    assert found.hyper["tau"][0] == pytest.approx(exact.tau.mean, rel=0.05)
    assert all(check.passed for check in found.checks)
    assert found.prior_sensitivity is not None and found.prior_sensitivity >= 0


def test_the_check_fails_for_estimates_that_no_population_of_this_shape_gives() -> None:
    _, question = simulate(np.random.default_rng(4))
    spiked = question.estimate * 0.02  # far closer together than their errors allow
    narrow = PopulationQuestion(spiked, question.error)
    found = narrow.summarise(_draws_from_grid(narrow, 4000), seed=3)
    assert not all(check.passed for check in found.checks)


def _draws_from_grid(question: PopulationQuestion, number: int) -> Draws:
    from stats.bayes.effect_grid import effect_grid

    points = effect_grid(question.estimate, question.error, question.hyper, question.shape)
    weights = points.posterior()
    rng = np.random.default_rng(1)
    picked = rng.choice(weights.size, size=number, p=weights.ravel())
    mean, tau = points.mean.ravel()[picked], points.tau[picked % points.tau.size]
    return Draws({"mean": mean.reshape(4, -1), "tau": tau.reshape(4, -1)}, 0)


@pytest.mark.simulation
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("pymc")
@pytest.mark.parametrize("seed", [0, 2, 5])
def test_nuts_equals_the_grid(seed: int, program_of: ProgramOf) -> None:
    _, question = simulate(np.random.default_rng(seed))
    found, exact = nuts(question, program_of), grid(question)
    assert exact.mean is not None and exact.tau is not None and found.effects is not None
    assert found.diagnostics is not None
    for name, belief in (("mean", exact.mean), ("tau", exact.tau)):
        spread = (belief.upper - belief.lower) / 3.9
        assert abs(found.hyper[name][0] - belief.mean) < 4 * spread / np.sqrt(found.diagnostics.ess_bulk)
    assert np.abs((found.effects.log_mean - exact.shrunk_mean) / found.effects.mcse).max() < 4.5
    assert found.effects.log_sd / exact.shrunk_sd == pytest.approx(1, abs=0.1)


@pytest.mark.simulation
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("pymc")
def test_a_normal_population_is_the_same_model_with_other_nodes(program_of: ProgramOf) -> None:
    """A t4 has 33 nodes and a normal one: data may change their length without a new compilation."""
    rows = make_rows(np.random.default_rng(6), 15)
    question = PopulationQuestion(rows.estimate, rows.error, shape="normal")
    found, exact = nuts(question, program_of), grid(question)
    assert exact.tau is not None and found.effects is not None
    assert found.hyper["tau"][0] == pytest.approx(exact.tau.mean, rel=0.05)
    assert np.abs((found.effects.log_mean - exact.shrunk_mean) / found.effects.mcse).max() < 4.5


@pytest.mark.simulation
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("pymc")
def test_effects_as_parameters_give_the_same_posterior() -> None:
    """The third voice: PyMC's own Student-t for every effect, nothing marginalised."""
    import nutpie

    rows = make_rows(np.random.default_rng(3), 20)
    exact = grid(question_of(rows))
    trace = nutpie.sample(
        nutpie.compile_pymc_model(row_level(rows)),
        draws=3000, tune=2000, chains=4, seed=3, target_accept=0.97, progress_bar=False,
    )  # fmt: skip
    effects, tau = trace.posterior["effect"].to_numpy(), trace.posterior["tau"].to_numpy()
    assert exact.tau is not None
    assert abs(tau.mean() - exact.tau.mean) < 4 * tau.std() / np.sqrt(ess_bulk(tau))
    for k in range(20):
        error = effects[..., k].std() / np.sqrt(ess_bulk(effects[..., k]))
        assert abs(effects[..., k].mean() - exact.shrunk_mean[k]) < 4.5 * error
        assert effects[..., k].std() == pytest.approx(exact.shrunk_sd[k], rel=0.08)


@pytest.mark.simulation
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("pymc")
def test_ranks_of_the_truth_are_uniform_under_nuts(program_of: ProgramOf) -> None:
    """Simulation-based calibration: 120 fits, 99 thinned draws each, chi² on 10 bins."""
    program, sampling = program_of(DEFINITION, 1), Sampling(chains=2, tune=300, draws=500)
    places = []
    for seed in range(120):
        truth, question = simulate(np.random.default_rng(1000 + seed))
        draws = question.monitored(program.sample(question.data(), sampling, seed=seed))
        places.append([(draws[name].ravel()[::10][:99] < truth[name]).sum() for name in ("mean", "tau")])
    for column in np.array(places).T:
        counts, _ = np.histogram(column, np.linspace(-0.5, 99.5, 11))
        assert sc.chdtrc(9, ((counts - 12) ** 2 / 12).sum()) > 0.001
