"""Exchangeable effects by the grid: brute force agrees, and shrinkage does what it promises (METHODS A15, C4)."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.special as sc
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.bayes.hierarchy import TAU_SHARE, Hierarchy, between_scale
from stats.bayes.models import exchangeable
from stats.bayes.models.exchangeable import pool_questions
from stats.bayes.models.exchangeable_density import density
from stats.bayes.models.lift_prior import components
from stats.bayes.models.replications import ReplicationsQuestion
from stats.bayes.models.segments import SegmentsQuestion
from stats.bayes.pooling import pooled
from stats.bayes.prior import Family, Prior
from tests.bayes.brute_force import BruteForce, by_grid
from tests.bayes.stories.exchangeable import LEARNED, PRIOR, T4, drawn_family

ESTIMATES, ERRORS = np.array([0.05, -0.02, 0.03]), np.array([0.02, 0.03, 0.01])


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
    (means, noise), (other_means, other_noise) = (
        ((offset + slope * joint.centre) @ joint.weight, sd**2 @ joint.weight)
        for joint, (offset, slope, sd) in ((one, direct.given_tau(one.tau)), (other, turned.given_tau(other.tau)))
    )
    np.testing.assert_allclose(other_means, means, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(other_noise, noise, rtol=1e-7)


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


def test_one_segment_cannot_be_pooled_and_says_so() -> None:
    found = by_grid(SegmentsQuestion(np.array([0.02, np.nan]), np.array([0.01, 0.01]), PRIOR))
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
