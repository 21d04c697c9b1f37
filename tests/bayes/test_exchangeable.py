"""Exchangeable effects: grid, sampler and brute force agree, and shrinkage does what it promises (METHODS C4)."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.bayes.diagnostics import ess_bulk
from stats.bayes.hierarchy import TAU_SHARE, Hierarchy, between_scale
from stats.bayes.models import exchangeable
from stats.bayes.models.arms import ArmsQuestion
from stats.bayes.models.exchangeable import Exchangeable, pool_questions
from stats.bayes.models.exchangeable_density import density
from stats.bayes.models.fit import ModelFit, fit
from stats.bayes.models.lift_prior import components
from stats.bayes.models.metrics import MetricsQuestion
from stats.bayes.models.replications import ReplicationsQuestion
from stats.bayes.models.segments import SegmentsQuestion
from stats.bayes.normal import prior_mixture
from stats.bayes.pooling import pooled
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Sampling
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


def by_grid(question: Exchangeable) -> ModelFit:
    (found,) = pool_questions([question])
    return found


@dataclass(frozen=True)
class BruteForce:
    """Weights of a fine lattice of (mu, tau), and every effect's mean and sd (E, nodes) there."""

    mu: np.ndarray
    tau: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(
        cls, estimates: np.ndarray, covariance: np.ndarray, scales: np.ndarray, prior: Prior, between: float
    ) -> BruteForce:
        """In the original coordinates: multivariate normals, no rotation, no conjugacy."""
        reach = 8 * max((prior.scale * 1.5, *(sd for _, _, sd in prior.components)))
        reach += abs(prior.mean)
        mu = np.linspace(-reach, reach, 700)  # zero lies between two nodes, so that signs are clear
        tau = between * 5 * ((np.arange(120) + 0.5) / 120) ** 2  # denser where it is small
        log_prior = (
            sps.t.logpdf(mu, 4, prior.mean, prior.scale)
            if prior.family is Family.STUDENT_T4
            else np.log(prior_mixture(prior).density(mu))
        )
        log_weight, means, sds = [], [], []
        for t, step in zip(tau, np.gradient(tau), strict=True):
            spread = np.diag((t * scales) ** 2)
            total = spread + covariance
            gain = spread @ np.linalg.inv(total)
            residual = estimates - mu[:, None] * scales
            quadratic = np.einsum("ni,ij,nj->n", residual, np.linalg.inv(total), residual)
            log_weight.append(
                log_prior
                - 0.5 * quadratic
                - 0.5 * np.linalg.slogdet(total)[1]
                - 0.5 * (t / between) ** 2
                + np.log(step)
            )
            means.append(mu[:, None] * scales + residual @ gain.T)
            sds.append(np.broadcast_to(np.sqrt(np.diag(spread - gain @ spread)), residual.shape))
        flat = np.concatenate(log_weight)
        weight = np.exp(flat - flat.max())
        return cls(
            np.tile(mu, len(tau)), np.repeat(tau, len(mu)), weight / weight.sum(),
            np.concatenate(means).T, np.concatenate(sds).T,
        )  # fmt: skip

    def check(self, found: ModelFit, scales: np.ndarray, rope: float) -> None:
        """Everything that is told of the effects and of both parameters."""
        effects = found.effects
        assert effects is not None
        mean = self.mean @ self.weight
        sd = np.sqrt((self.sd**2 + (self.mean - mean[:, None]) ** 2) @ self.weight)
        np.testing.assert_allclose(effects.log_mean, mean, atol=2e-3 * sd.min())
        np.testing.assert_allclose(effects.log_sd, sd, rtol=2e-3)
        above = sc.ndtr(self.mean / self.sd)
        win = above @ self.weight
        np.testing.assert_allclose(effects.chance_to_win, np.where(scales > 0, win, 1 - win), atol=1e-3)
        gain = (self.sd * sps.norm.pdf(self.mean / self.sd) + self.mean * above) @ self.weight
        better = np.where(scales > 0, effects.expected_loss_of_not_shipping, effects.expected_loss)
        np.testing.assert_allclose(better, gain, rtol=4e-3, atol=1e-3 * sd.min())
        ends = sc.ndtr((rope - self.mean) / self.sd) - sc.ndtr((-rope - self.mean) / self.sd)
        np.testing.assert_allclose(effects.rope_probability, ends @ self.weight, atol=1e-3)
        along = np.sign(scales)[:, None] * np.sign(self.mu)
        against = sc.ndtr(-along * self.mean / self.sd) @ self.weight
        np.testing.assert_allclose(effects.sign_differs, against, atol=2e-3)
        inside = sc.ndtr((np.log1p(effects.hdi_upper)[:, None] - self.mean) / self.sd)
        outside = sc.ndtr((np.log1p(effects.hdi_lower)[:, None] - self.mean) / self.sd)
        np.testing.assert_allclose((inside - outside) @ self.weight, 0.95, atol=3e-3)
        for name, values in (("mean", self.mu), ("between", self.tau)):
            nodes, place = np.unique(values, return_inverse=True)
            weight = np.bincount(place, self.weight)
            low, high = np.interp([0.025, 0.975], np.cumsum(weight) - weight / 2, nodes)
            np.testing.assert_allclose(found.hyper[name], (values @ self.weight, low, high), atol=0.01 * (high - low))


@pytest.mark.parametrize("prior", [PRIOR, T4, LEARNED], ids=lambda prior: str(prior.family))
def test_the_grid_equals_brute_force_over_mu_and_tau_under_every_family_of_prior(prior: Prior) -> None:
    brute = BruteForce.of(ESTIMATES, np.diag(ERRORS**2), np.ones(3), prior, between_scale(prior))
    brute.check(by_grid(SegmentsQuestion(ESTIMATES, ERRORS, prior, rope=0.02)), np.ones(3), 0.02)


@pytest.mark.parametrize("error", [0.0004, 0.4])
def test_the_grid_follows_families_that_are_much_sharper_or_much_vaguer_than_the_prior(error: float) -> None:
    errors = error * np.array([1.0, 1.5, 0.7, 1.2])
    estimates = 0.004 + errors * np.array([0.3, -1.0, 0.8, 0.1])
    brute = BruteForce.of(estimates, np.diag(errors**2), np.ones(4), Prior(Family.NORMAL, 0.0, 0.002, "narrow"), 0.001)
    narrow = SegmentsQuestion(estimates, errors, Prior(Family.NORMAL, 0.0, 0.002, "narrow"), rope=0.002)
    brute.check(by_grid(narrow), np.ones(4), 0.002)


def test_a_flat_prior_leaves_the_mean_to_the_data_and_keeps_the_default_between() -> None:
    wide = by_grid(SegmentsQuestion(ESTIMATES, ERRORS, Prior.flat()))
    brute = BruteForce.of(
        ESTIMATES, np.diag(ERRORS**2), np.ones(3), Prior(Family.NORMAL, 0.0, 0.4, "wide"), TAU_SHARE * PRIOR.scale
    )
    assert wide.effects is not None
    np.testing.assert_allclose(wide.effects.log_mean, brute.mean @ brute.weight, atol=1e-4)
    assert wide.hyper["mean"][0] == pytest.approx(brute.mu @ brute.weight, abs=2e-4)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 9),
    unit=st.sampled_from([1e-3, 1.0, 40.0]),
    prior=st.sampled_from([PRIOR, T4, LEARNED]),
)
def test_pooling_knows_no_order_no_padding_and_no_unit(seed: int, count: int, unit: float, prior: Prior) -> None:
    rng = np.random.default_rng(seed)
    question = drawn_family(rng, count)[0]
    question = replace(question, prior=prior)
    plain = by_grid(question).effects
    assert plain is not None
    order = rng.permutation(count)
    estimates, errors = np.append(question.estimates[order], np.nan), np.append(question.errors[order], 0.01)
    estimates, errors = np.append(estimates, 0.1), np.append(errors, 0.0)
    padded = by_grid(replace(question, estimates=estimates, errors=errors)).effects
    assert padded is not None
    np.testing.assert_allclose(padded.log_mean[:-2], plain.log_mean[order], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(padded.sign_differs[:-2], plain.sign_differs[order], atol=1e-6)
    assert all(np.isnan(getattr(padded, field.name)[-2:]).all() for field in fields(padded))
    scaled = replace(
        prior,
        mean=prior.mean * unit,
        scale=prior.scale * unit,
        components=tuple((w, m * unit, s * unit) for w, m, s in prior.components),
    )
    if scaled.is_flat:
        return
    other = by_grid(
        replace(question, estimates=question.estimates * unit, errors=question.errors * unit, prior=scaled)
    ).effects
    assert other is not None
    np.testing.assert_allclose(other.log_mean, plain.log_mean * unit, rtol=1e-6, atol=1e-9 * unit)
    np.testing.assert_allclose(other.chance_to_win, plain.chance_to_win, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 9))
def test_rotating_independent_errors_changes_nothing(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    question = drawn_family(rng, count)[0]
    scales = rng.uniform(0.5, 2.0, count) * rng.choice([-1.0, 1.0], count)
    direct = Hierarchy(
        question.estimates / scales, np.ones(count), (question.errors / scales) ** 2, None, scales, PRIOR, 0.025
    )
    turned = Hierarchy.correlated(question.estimates, np.diag(question.errors**2), scales, PRIOR, 0.025)
    one, other = pooled(direct), pooled(turned)
    offset, slope, noise = direct.given_tau(one.tau)
    offset2, slope2, noise2 = turned.given_tau(other.tau)
    np.testing.assert_allclose((offset2 + slope2 * other.centre) @ other.weight, (offset + slope * one.centre) @ one.weight, rtol=1e-7, atol=1e-10)  # fmt: skip  # noqa: E501
    np.testing.assert_allclose(noise2**2 @ other.weight, noise**2 @ one.weight, rtol=1e-7)


def test_alike_segments_are_pulled_together_and_a_true_outlier_is_left_standing() -> None:
    errors = np.full(6, 0.02)
    alike, outlier = np.array([0.03, 0.01, 0.02, 0.0, 0.04, 0.02]), np.array([0.0, 0.01, 0.0, -0.01, 0.0, 0.3])
    one, other = pool_questions([SegmentsQuestion(alike, errors, PRIOR), SegmentsQuestion(outlier, errors, PRIOR)])
    assert one.effects is not None
    assert other.effects is not None
    assert np.ptp(one.effects.log_mean) < 0.5 * np.ptp(alike)
    assert other.effects.log_mean[5] > 0.2
    assert other.hyper["between"][0] > 2 * one.hyper["between"][0]
    assert (one.effects.hdi_lower < one.effects.lift).all()
    assert (one.effects.lift < one.effects.hdi_upper).all()


def test_a_decrease_can_be_the_good_direction() -> None:
    up, down = pool_questions(
        [SegmentsQuestion(ESTIMATES, ERRORS, PRIOR), SegmentsQuestion(ESTIMATES, ERRORS, PRIOR, direction="decrease")]
    )
    assert up.effects is not None
    assert down.effects is not None
    np.testing.assert_allclose(down.effects.chance_to_win, 1 - up.effects.chance_to_win, atol=1e-12)
    np.testing.assert_allclose(down.effects.expected_loss, up.effects.expected_loss_of_not_shipping, atol=1e-12)
    np.testing.assert_array_equal(down.effects.sign_differs, up.effects.sign_differs)


def test_an_outlier_fails_the_predictive_check_and_the_models_own_data_rarely_do() -> None:
    lone = SegmentsQuestion(np.append(np.zeros(15), 0.5), np.full(16, 0.005), PRIOR)
    (check,) = by_grid(lone).checks
    assert not check.passed
    assert check.observed > check.expected
    rng = np.random.default_rng(8)
    own = [found.checks[0] for found in pool_questions([drawn_family(rng, 6)[0] for _ in range(60)])]
    # Parameters are fitted to the same data, so that fewer than the nominal 5 % fail.
    assert sum(not check.passed for check in own) <= 6
    assert 0.4 < np.mean([check.p_value for check in own]) < 0.7


def test_the_prior_matters_to_few_vague_segments_and_not_to_many_sharp_ones() -> None:
    rng = np.random.default_rng(5)
    vague, sharp = pool_questions(
        [drawn_family(rng, 3, PRIOR, 0.1, 0.2)[0], drawn_family(rng, 60, PRIOR, 0.002, 0.004)[0]]
    )
    assert (vague.prior_sensitivity or 0.0) > 0.05 > (sharp.prior_sensitivity or 1.0)


def test_one_segment_cannot_be_pooled_and_says_so(program_of: ProgramOf) -> None:
    lonely = SegmentsQuestion(np.array([0.02, np.nan]), np.array([0.01, 0.01]), PRIOR)
    for found in (by_grid(lonely), fit(lonely, program_of, Sampling(), seed=1)):
        assert (found.status, found.reason, found.effects) == ("not_estimable", "too_few_segments", None)


def test_simulation_based_calibration_of_the_grid() -> None:
    rng = np.random.default_rng(3)
    families = 200
    drawn = [drawn_family(rng, 6) for _ in range(families)]
    found = pool_questions([question for question, *_ in drawn])
    inside, covered, errors = [], [], []
    for (_, effects, _, tau), one in zip(drawn, found, strict=True):
        assert one.effects is not None
        inside.append(
            ((np.log1p(one.effects.hdi_lower) <= effects) & (effects <= np.log1p(one.effects.hdi_upper))).mean()
        )
        covered.append(one.hyper["between"][1] <= tau <= one.hyper["between"][2])
        errors.append(one.effects.sign_differs)
    # Segments of one family are correlated: judge coverage with families as the independent unit.
    assert abs(np.mean(inside) - 0.95) < 3 * np.std(inside) / np.sqrt(families) + 0.003
    assert abs(np.mean(covered) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / families) + 0.003
    below = []
    for question, _, mu, _ in drawn:
        joint = pooled(question.hierarchy())
        below.append(joint.weight @ sc.ndtr((mu - joint.centre) / joint.spread))
    counts = np.histogram(below, bins=10, range=(0, 1))[0]
    assert sc.chdtrc(9, ((counts - families / 10) ** 2 / (families / 10)).sum()) > 0.001
    opposite = [effects * mu < 0 for _, effects, mu, _ in drawn]
    gap = np.asarray(opposite, dtype=np.float64).mean(1) - np.asarray(errors).mean(1)
    assert abs(gap.mean()) < 3 * gap.std() / np.sqrt(families)


@settings(max_examples=60, deadline=None)
@given(
    z=st.floats(-6, 6),
    u=st.floats(-9, 6),
    seed=st.integers(0, 1000),
    prior=st.sampled_from([PRIOR, T4, LEARNED]),
)
def test_the_written_gradient_is_that_of_the_written_density(z: float, u: float, seed: int, prior: Prior) -> None:
    rng = np.random.default_rng(seed)
    data = (rng.normal(0, 0.05, 5), rng.normal(1, 0.3, 5), rng.uniform(1e-4, 1e-2, 5), components(prior))
    constants = np.array([prior.mean, 400.0, 0.025])

    def at(one: float, two: float) -> float:
        return density(np.array([one, two]), *data, constants)[0]

    step = 1e-5
    slopes = (at(z + step, u) - at(z - step, u)) / (2 * step), (at(z, u + step) - at(z, u - step)) / (2 * step)
    gradient = density(np.array([z, u]), *data, constants)[1]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-5)


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
            draws = program_of(exchangeable.DEFINITION, 1).sample(asked.data(), Sampling(cores=1), seed=2)
            assert draws.divergences == 0


def test_questions_travel_between_processes() -> None:
    question = ReplicationsQuestion(ESTIMATES, ERRORS, LEARNED, direction="decrease")
    again = pickle.loads(pickle.dumps(question))
    one, other = by_grid(question), by_grid(again)
    assert one.hyper == other.hyper


def test_importing_the_models_does_not_import_pymc() -> None:
    modules = "arms, exchangeable, metrics, replications, segments"
    code = f"import sys; from stats.bayes.models import {modules}; raise SystemExit('pymc' in sys.modules)"
    root = Path(exchangeable.__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


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


SHORT = Sampling(chains=2, tune=300, draws=500, cores=1)


def uniform(ranks: list[float]) -> bool:
    """Chi-square of 20 bins; 0.001 is the tolerance of METHODS I1."""
    counts = np.histogram(ranks, bins=20, range=(0, 1 + 1e-9))[0]
    expected = len(ranks) / 20
    return bool(sc.chdtrc(19, ((counts - expected) ** 2 / expected).sum()) > 0.001)


@pytest.mark.simulation
def test_simulation_based_calibration_of_the_sampler(program_of: ProgramOf) -> None:
    """1,000 families of users as rows, reduced and fitted: ranks are uniform, intervals cover (METHODS I1)."""
    rng = np.random.default_rng(2026)
    ranks: dict[str, list[float]] = {"mean": [], "between": []}
    covered: dict[str, list[bool]] = {"mean": [], "between": []}
    reliable, families = 0, 1000
    for seed in range(families):
        truth, question = simulate(rng)
        draws = program_of(exchangeable.DEFINITION, 1).sample(question.data(), SHORT, seed=seed)
        reliable += draws.divergences == 0
        for name, values in question.monitored(draws).items():
            ranks[name].append(float((values[:, ::5] < truth[name]).mean()))  # draws that know each other are thinned
            low, high = np.quantile(values, [0.05, 0.95])
            covered[name].append(bool(low <= truth[name] <= high))
    assert reliable > 0.99 * families
    assert all(uniform(values) for values in ranks.values())
    for inside in covered.values():
        assert abs(np.mean(inside) - 0.9) < 3 * np.sqrt(0.09 / families) + 0.005


@pytest.mark.simulation
@pytest.mark.parametrize("drawn", [drawn_arms, drawn_metrics, drawn_replications])
def test_simulation_based_calibration_of_families(program_of: ProgramOf, drawn: Callable[..., Any]) -> None:
    """Other families under other priors, their effects included: 400 fits each."""
    rng = np.random.default_rng(77)
    ranks: list[list[float]] = []
    for seed in range(400):
        question, effects, mu, tau = drawn(rng)
        draws = program_of(exchangeable.DEFINITION, 1).sample(question.data(), SHORT, seed=seed)
        shared, between = (draws.values[name][:, ::5].ravel() for name in ("mu", "tau"))
        found = question.hierarchy().drawn(shared, between, rng)
        ranks.append([(shared < mu).mean(), (between < tau).mean(), *(found < effects).mean(axis=0)])
    assert all(uniform(list(column)) for column in np.array(ranks).T)
