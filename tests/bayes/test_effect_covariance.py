"""The covariance of true effects: density and gradient, grid, the model a user would write, calibration (E9, I1)."""

import numpy as np
import pytest
import scipy.optimize as so
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as hs

from stats.bayes.diagnostics import ess_bulk
from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.effect_covariance import DEFINITION, EffectCovarianceQuestion
from stats.bayes.models.effect_covariance_density import LKJ, SHARE, VARIANCE, covariances_at, effect_density
from stats.bayes.models.fit import ModelFit, fit
from stats.bayes.sampling.contract import Array, Draws, Sampling
from stats.programme.effect_pairs import Covariances, pair
from stats.programme.links import slopes
from tests.bayes.calibration import calibrate
from tests.bayes.conftest import ProgramOf
from tests.bayes.stories.effect_covariance import at_random, drawn_question, row_level, simulate

SPREAD = np.array([[1.0, 0.5, 0.3], [0.5, 1.0, 0.4], [0.3, 0.4, 0.6]])


def data_of(rng: np.random.Generator, experiments: int, metrics: int) -> tuple[Array, Array]:
    root = rng.normal(size=(experiments, metrics, metrics))
    return rng.normal(size=(experiments, metrics)), root @ root.swapaxes(1, 2) + 0.1 * np.eye(metrics)


@settings(max_examples=8, deadline=None)
@given(metrics=hs.integers(2, 4), spare=hs.integers(0, 2), seed=hs.integers(0, 10_000))
def test_the_gradient_is_that_of_the_density(metrics: int, spare: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    estimate, error = data_of(rng, 5, metrics)
    room = np.array([float(metrics + spare)])
    z, _ = at_random(rng, metrics + spare, metrics)
    _, gradient = effect_density(z, estimate, error, room)
    numeric = so.approx_fprime(z, lambda at: effect_density(at, estimate, error, room)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, atol=1e-4 * (1 + np.abs(gradient).max()))


def test_the_density_is_a_mixture_of_normals_by_experiment_times_the_priors() -> None:
    rng = np.random.default_rng(3)
    metrics, experiments = 3, 6
    estimate, error = data_of(rng, experiments, metrics)

    def by_definition(z: Array, spread: Array) -> float:
        deviation = np.sqrt(np.diag(spread))
        correlation = spread / np.outer(deviation, deviation)
        lkj = (LKJ - 1) * np.linalg.slogdet(correlation)[1]
        # From correlations to the axes of the sampler, by differences.
        axes = so.approx_fprime(z[5:8], lambda u: upper(np.concatenate([z[:5], u, z[8:]])), 1e-7)
        jacobian = np.linalg.slogdet(axes)[1]
        seen = 0.0
        for k in range(experiments):
            parts = [
                share * sps.multivariate_normal.pdf(estimate[k], z[15:18], variance * spread + error[k])
                for variance, share in zip(VARIANCE, SHARE, strict=True)
            ]
            seen += np.log(sum(parts))
        return float(seen + lkj + jacobian - 0.5 * (z[:5] ** 2).sum() - 0.5 * (z[8:] ** 2).sum())

    def upper(z: Array) -> Array:
        spread = covariances_at(z, np.ones(metrics))
        deviation = np.sqrt(np.diag(spread)) * np.sign(z[:metrics])
        return (spread / np.outer(deviation, deviation))[np.triu_indices(metrics, 1)]

    # Room for five metrics: coordinates 3, 4, those from 8 to 14 and from 18 on are of metrics that the data lack.
    points = [at_random(rng, 5, metrics) for _ in range(4)]
    found = [effect_density(z, estimate, error, np.array([5.0]))[0] for z, _ in points]
    expected = [by_definition(z, spread) for z, spread in points]
    np.testing.assert_allclose(np.diff(found), np.diff(expected), atol=2e-5)


def test_the_effects_of_most_experiments_are_students() -> None:
    """Tail probabilities of five normals beside those of Student's t with 4 degrees of freedom, at the same scale."""
    shape = np.sqrt(VARIANCE / VARIANCE.min() / 2.4)
    away = np.array([0.5, 1.0, 2.0, 3.0])
    normals = (SHARE[:, None] * sps.norm.sf(away / shape[:, None])).sum(axis=0)
    np.testing.assert_allclose(normals, sps.t.sf(away, 4), rtol=0.03)
    assert SHARE.sum() == pytest.approx(1) and pytest.approx(1) == SHARE @ VARIANCE


def test_a_metric_turned_over_has_the_same_density_and_the_opposite_correlations() -> None:
    rng = np.random.default_rng(4)
    estimate, error = data_of(rng, 5, 2)
    z, room = np.array([0.7, -0.2, 0.9, 0.1, 0.4]), np.array([2.0])
    over = np.array([1.0, -1.0])
    flipped = effect_density(z * [1, 1, -1, 1, -1], estimate * over, error * np.outer(over, over), room)[0]
    assert effect_density(z, estimate, error, room)[0] == pytest.approx(flipped, rel=1e-12)


def test_data_that_say_nothing_are_refused_with_a_reason() -> None:
    rng = np.random.default_rng(5)
    estimate, error = data_of(rng, 9, 2)
    scale = np.ones(2)
    negative = np.broadcast_to(np.array([[1.0, 2.0], [2.0, 1.0]]), (9, 2, 2))
    for question, words in (
        (EffectCovarianceQuestion(estimate[:, :1], error[:, :1, :1], scale[:1]), "two metrics"),
        (EffectCovarianceQuestion(estimate, error[:4], scale), "error covariance"),
        (EffectCovarianceQuestion(estimate * np.nan, error, scale), "finite"),
        (EffectCovarianceQuestion(estimate, 0 * error, scale), "positive standard error"),
        (EffectCovarianceQuestion(estimate, negative, scale), "negative variance"),
    ):
        with pytest.raises(ImpossibleData, match=words):
            question.data()
    with pytest.raises(ImpossibleData, match="at most 6"):
        assert EffectCovarianceQuestion(*data_of(rng, 9, 7), np.ones(7)).size


def asked(question: EffectCovarianceQuestion, program_of: ProgramOf) -> ModelFit:
    found = fit(question, program_of, Sampling(draws=2000), seed=1)
    assert found.status == "ok", found.reason
    return found


@pytest.mark.simulation
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("pymc")
@pytest.mark.parametrize("experiments", [12, 60, 200])
def test_nuts_equals_the_grid_for_one_input(experiments: int, program_of: ProgramOf) -> None:
    question = drawn_question(np.random.default_rng(experiments), experiments, SPREAD[:2, :2])
    found = asked(question, program_of)
    exact = pair(question.estimate, question.covariance, question.scale)
    assert found.covariances is not None and found.diagnostics is not None
    draws = found.covariances
    for of in (
        lambda c: np.sqrt(c[:, 0, 0]),
        lambda c: np.sqrt(c[:, 1, 1]),
        lambda c: c[:, 0, 1] / np.sqrt(c[:, 0, 0] * c[:, 1, 1]),
    ):
        mean = exact.weight @ of(exact.matrix)
        sd = np.sqrt(exact.weight @ (of(exact.matrix) - mean) ** 2)
        # 2,000 of 8,000 draws are kept: no better than 2,000 independent ones, nor than the chains themselves.
        assert abs(of(draws).mean() - mean) < 4 * sd / np.sqrt(min(2000, found.diagnostics.ess_bulk))
        assert of(draws).std() == pytest.approx(sd, rel=0.1)


@pytest.mark.simulation
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("pymc")
def test_effects_as_parameters_give_the_same_posterior(program_of: ProgramOf) -> None:
    """The third voice: PyMC's own LKJ prior and every effect a parameter; three metrics."""
    import nutpie

    question = drawn_question(np.random.default_rng(8), 40, SPREAD)
    found = asked(question, program_of)
    trace = nutpie.sample(
        nutpie.compile_pymc_model(row_level(question)),
        draws=3000, tune=2000, chains=4, seed=3, target_accept=0.95, progress_bar=False,
    )  # fmt: skip
    assert found.covariances is not None
    ours = found.covariances / np.outer(question.scale, question.scale)
    theirs = trace.posterior["covariance"].to_numpy()
    for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
        one, other = ours[:, i, j], theirs[..., i, j]
        error = other.std() * np.sqrt(1 / 2000 + 1 / ess_bulk(other))
        assert abs(one.mean() - other.mean()) < 4.5 * error


@pytest.mark.simulation
@pytest.mark.timeout(2400)
@pytest.mark.xdist_group("pymc")
def test_ranks_of_the_truth_are_uniform_under_nuts(program_of: ProgramOf) -> None:
    found = calibrate(lambda rng: simulate(rng, metrics=3), program_of(DEFINITION, 3), 200, seed=7)
    assert found.divergent <= 6
    assert min(found.p_values(10).values()) > 0.001


@pytest.mark.simulation
@pytest.mark.timeout(1200)
def test_ranks_of_the_truth_are_uniform_on_the_grid() -> None:
    """Calibration without a sampler, slopes included: posterior probability below the truth is uniform."""
    ranks = []
    for child in np.random.SeedSequence(11).spawn(400):
        rng = np.random.default_rng(child)
        truth, question = simulate(rng)
        believed = pair(question.estimate, question.covariance, question.scale)
        deviation = np.sqrt(np.einsum("smm->sm", believed.matrix)) / question.scale
        correlation = believed.matrix[:, 0, 1] / deviation.prod(axis=1) / question.scale.prod()
        slope = correlation * deviation[:, 0] / deviation[:, 1]
        true_slope = truth["correlation 1"] * truth["standard deviation 0"] / truth["standard deviation 1"]
        values = [deviation[:, 0], deviation[:, 1], correlation, slope]
        ranks.append([believed.weight @ (v < t) for v, t in zip(values, [*truth.values(), true_slope], strict=True)])
    for column in np.array(ranks).T:
        assert sps.kstest(column, "uniform").pvalue > 0.001
    covered = np.abs(np.array(ranks)[:, 3] - 0.5) < 0.4
    assert covered.mean() == pytest.approx(0.8, abs=3.5 * np.sqrt(0.16 / 400))


def test_summaries_are_in_units_of_the_estimates() -> None:
    """Draws of the coordinates become covariances on the log lift; slopes of true effects follow."""
    question = drawn_question(np.random.default_rng(2), 40, SPREAD)
    rng = np.random.default_rng(1)
    draws = Draws({"score": rng.normal(size=(4, 50, 9))}, 0)
    found = question.summarise(draws, seed=1)
    assert found.covariances is not None and found.covariances.shape == (200, 3, 3)
    spread = np.sqrt(found.covariances[:, 0, 0]) / question.scale[0]
    np.testing.assert_allclose(spread, np.abs(draws.values["score"][..., 0]).ravel())
    assert set(question.monitored(draws)) == {
        *(f"standard deviation {m}" for m in range(3)), "correlation 1", "correlation 2",
    }  # fmt: skip
    assert len(slopes(Covariances.drawn(found.covariances))) == 2
