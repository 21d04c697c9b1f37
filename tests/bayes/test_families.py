"""Arms, metrics and replications: what each family adds to exchangeable effects (METHODS C4, C5, H5)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.special as sc
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.bayes.hierarchy import between_scale
from stats.bayes.models.arms import ArmsQuestion
from stats.bayes.models.exchangeable import Exchangeable
from stats.bayes.models.fit import ArmPosteriors, EffectPosteriors
from stats.bayes.models.metrics import MetricsQuestion
from stats.bayes.models.replications import ReplicationsQuestion
from stats.bayes.pooling import pooled
from stats.bayes.prior import Family, Prior
from tests.bayes.brute_force import BruteForce, by_grid
from tests.bayes.stories.exchangeable import PRIOR

MEANS, ERRORS = np.array([1.0, 1.02, 1.05, 0.99, 1.01]), np.array([0.012, 0.01, 0.015, 0.01, 0.02])
ARMS = ArmsQuestion(MEANS, ERRORS, PRIOR, rope=0.01)
SCALES = np.array([0.05, 0.02, -0.05])
METRICS = MetricsQuestion(
    np.array([0.03, 0.01, -0.02]),
    np.array([[4e-4, 1.5e-4, -1e-4], [1.5e-4, 1e-4, 0.0], [-1e-4, 0.0, 2.5e-4]]),
    SCALES,
    rope=0.01,
)


def effects_of(question: Exchangeable) -> EffectPosteriors:
    found = by_grid(question).effects
    assert found is not None
    return found


def arms_of(question: Exchangeable) -> ArmPosteriors:
    found = by_grid(question).arms
    assert found is not None
    return found


def contrasts(covariance: np.ndarray) -> np.ndarray:
    """Covariance of every other arm less the first."""
    less = np.hstack([-np.ones((len(covariance) - 1, 1)), np.eye(len(covariance) - 1)])
    return less @ covariance @ less.T


def test_effects_of_arms_are_those_of_brute_force_with_a_shared_control() -> None:
    brute = BruteForce.of(MEANS[1:] - MEANS[0], contrasts(np.diag(ERRORS**2)), np.ones(4), PRIOR, between_scale(PRIOR))
    brute.check(by_grid(ARMS), np.ones(4), 0.01)


def test_arms_adjusted_by_the_same_covariates_bring_their_covariance() -> None:
    covariance = np.outer(ERRORS, ERRORS) * (0.3 + 0.7 * np.eye(5))
    brute = BruteForce.of(MEANS[1:] - MEANS[0], contrasts(covariance), np.ones(4), PRIOR, between_scale(PRIOR))
    brute.check(by_grid(replace(ARMS, covariance=covariance)), np.ones(4), 0.01)
    plain, given = by_grid(ARMS), by_grid(replace(ARMS, covariance=np.diag(ERRORS**2)))
    assert plain.hyper == given.hyper


def test_every_arms_own_mean_follows_from_the_joint_posterior() -> None:
    """A linear model per node of (mu, tau): log means with a flat control and lifts around mu."""
    joint = pooled(ARMS.hierarchy())
    design = np.hstack([np.ones((5, 1)), np.vstack([np.zeros((1, 4)), np.eye(4)])])
    expected = np.zeros(5)
    for weight, centre, spread, tau in zip(joint.weight, joint.centre, joint.spread, joint.tau, strict=True):
        prior = np.linalg.inv(tau**2 * np.eye(4) + spread**2)  # mu integrated out
        precision = design.T @ np.diag(ERRORS**-2) @ design
        precision[1:, 1:] += prior
        right = design.T @ (MEANS / ERRORS**2)
        right[1:] += prior @ np.full(4, centre)
        cov = design @ np.linalg.inv(precision) @ design.T
        expected += weight * np.exp(design @ np.linalg.solve(precision, right) + np.diag(cov) / 2)
    # 4,000 draws of log means whose standard deviations are below the errors that went in.
    np.testing.assert_array_less(np.abs(np.log(arms_of(ARMS).mean / expected)), 4 * ERRORS / np.sqrt(4000))


def test_chances_to_be_best_sum_to_one_and_equal_arms_share_them() -> None:
    arms = arms_of(ARMS)
    assert arms.chance_to_be_best.sum() == pytest.approx(1.0)
    assert arms.chance_to_be_best.argmax() == 2
    # Treatments that look alike and differ from the control only by chance: each of four has the same chance.
    same = arms_of(ArmsQuestion(np.zeros(5), np.full(5, 0.01), PRIOR)).chance_to_be_best
    assert np.ptp(same[1:]) < 4 * np.sqrt(2 * same[1] / 4000)
    worst = arms_of(replace(ARMS, direction="decrease")).chance_to_be_best
    assert worst.argmax() == 3


def test_a_lucky_control_does_not_make_four_treatments_bad_four_times() -> None:
    """With independent errors four negative lifts would be four witnesses; with a shared control they are one."""
    shared = ArmsQuestion(np.array([0.03, 0.0, 0.0, 0.0, 0.0]), np.full(5, 0.02), PRIOR)
    witnesses = ReplicationsQuestion(np.full(4, -0.03), np.full(4, 0.02 * np.sqrt(2)), PRIOR)
    assert effects_of(shared).log_sd.min() > effects_of(witnesses).log_sd.max()
    assert by_grid(shared).hyper["mean"][0] > by_grid(witnesses).hyper["mean"][0]


def test_arms_without_an_estimate_are_left_out_and_without_a_control_nothing_is_comparable() -> None:
    means = MEANS.copy()
    means[3] = np.nan
    found = by_grid(replace(ARMS, log_means=means))
    assert found.arms is not None
    assert found.effects is not None
    assert np.isnan(found.arms.chance_to_be_best).tolist() == [False, False, False, True, False]
    assert np.isnan(found.effects.lift).tolist() == [False, False, True, False]
    fewer = ArmsQuestion(np.delete(MEANS, 3), np.delete(ERRORS, 3), PRIOR, rope=0.01)
    np.testing.assert_allclose(np.delete(found.effects.lift, 2), effects_of(fewer).lift, rtol=1e-9)
    means[0] = np.nan
    assert by_grid(replace(ARMS, log_means=means)).reason == "the control has no estimate"
    few = by_grid(ArmsQuestion(MEANS[:2], ERRORS[:2], PRIOR))
    assert (few.status, few.reason) == ("not_estimable", "fewer than two treatments have an estimate")


def test_effects_of_metrics_are_those_of_brute_force_with_joint_errors_and_their_own_scales() -> None:
    half = float(np.sqrt(0.5))
    brute = BruteForce.of(METRICS.estimates, METRICS.covariance, SCALES, Prior(Family.NORMAL, 0.0, half, "mu"), half)
    found = by_grid(METRICS)
    brute.check(found, SCALES, 0.01)
    share = brute.mu**2 / (brute.mu**2 + brute.tau**2)
    # 4,000 draws of a share, whose standard deviation is below a half.
    assert found.hyper["common"][0] == pytest.approx(share @ brute.weight, abs=4 * 0.5 / np.sqrt(4000))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 6))
def test_the_sign_of_a_metric_is_a_matter_of_orientation(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((count, count + 2)) * 0.01
    scales = rng.uniform(0.02, 0.1, count)
    question = MetricsQuestion(rng.normal(0, 0.05, count), root @ root.T, scales)
    turn = rng.choice([-1.0, 1.0], count)
    turned = MetricsQuestion(question.estimates * turn, question.covariance * np.outer(turn, turn), scales * turn)
    one, other = effects_of(question), effects_of(turned)
    np.testing.assert_allclose(other.log_mean, one.log_mean * turn, rtol=1e-6, atol=1e-9)
    for name in ("chance_to_win", "expected_loss", "expected_loss_of_not_shipping", "sign_differs", "rope_probability"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=1e-6, err_msg=name)


def test_metrics_whose_errors_go_together_are_not_so_many_witnesses() -> None:
    alone = replace(METRICS, estimates=np.full(3, 0.03), scales=np.full(3, 0.05), covariance=4e-4 * np.eye(3))
    together = replace(alone, covariance=4e-4 * (0.9 + 0.1 * np.eye(3)))
    one, other = by_grid(alone), by_grid(together)
    assert other.hyper["mean"][2] - other.hyper["mean"][1] > 1.1 * (one.hyper["mean"][2] - one.hyper["mean"][1])
    assert (effects_of(together).log_sd > effects_of(alone).log_sd).all()


def test_one_metric_keeps_its_own_prior_scale() -> None:
    """Far beyond what the data say, the prior of each effect has the standard deviation of that metric's scale."""
    found = by_grid(replace(METRICS, covariance=METRICS.covariance * 1e8))
    assert found.effects is not None
    np.testing.assert_allclose(found.effects.log_sd, np.abs(SCALES), rtol=0.01)
    assert found.densities is not None
    axis = np.log1p(found.densities.lift)
    variance = found.densities.prior * (1 + found.densities.lift) * axis**2
    # The axis shows 4.5 standard deviations: all but some 2.5 % of the variance of so fat a prior.
    np.testing.assert_allclose(np.trapezoid(variance, axis), SCALES**2, rtol=0.03)


@pytest.mark.parametrize(
    ("covariance", "reason"),
    [
        (np.array([[1e-4, 2e-4, 0], [2e-4, 1e-4, 0], [0, 0, 1e-4]]), "must not be negative"),
        (np.array([[1e-4, 1e-5, 0], [0, 1e-4, 0], [0, 0, 1e-4]]), "finite and symmetric"),
        (np.diag([1e-4, 0.0, 0.0]), "fewer than two metrics"),
    ],
)
def test_a_covariance_that_is_none_is_not_estimable(covariance: np.ndarray, reason: str) -> None:
    found = by_grid(replace(METRICS, covariance=covariance))
    assert found.status == "not_estimable"
    assert reason in found.reason


def test_the_next_replication_varies_more_than_what_they_share() -> None:
    question = ReplicationsQuestion(np.array([0.03, 0.01, 0.06]), np.array([0.01, 0.02, 0.015]), PRIOR)
    found = by_grid(question)
    brute = BruteForce.of(question.estimates, np.diag(question.errors**2), np.ones(3), PRIOR, between_scale(PRIOR))
    brute.check(found, np.ones(3), 0.005)
    mean, low, high = found.hyper["next"]
    assert low < found.hyper["mean"][1] < mean < found.hyper["mean"][2] < high
    spread = np.sqrt((brute.tau**2 + (brute.mu - brute.mu @ brute.weight) ** 2) @ brute.weight)
    assert mean == pytest.approx(brute.mu @ brute.weight, abs=4 * spread / np.sqrt(4000))
    same = sc.ndtr(np.abs(brute.mu) / brute.tau) @ brute.weight
    assert found.hyper["next_same_sign"][0] == pytest.approx(same, abs=4 * 0.25 / np.sqrt(4000))


def test_replications_that_contradict_each_other_say_so() -> None:
    agreeing = by_grid(ReplicationsQuestion(np.array([0.04, 0.045]), np.full(2, 0.01), PRIOR))
    apart = by_grid(ReplicationsQuestion(np.array([0.09, -0.005]), np.full(2, 0.01), PRIOR))
    assert agreeing.hyper["next_same_sign"][0] > apart.hyper["next_same_sign"][0]
    assert agreeing.hyper["between"][0] < apart.hyper["between"][0]
    alone = by_grid(ReplicationsQuestion(np.array([0.04]), np.array([0.01]), PRIOR))
    assert (alone.status, alone.reason) == ("not_estimable", "fewer than two replications have an estimate")


def test_densities_of_effects_integrate_to_one_and_sit_where_the_effects_are() -> None:
    found = by_grid(ReplicationsQuestion(np.array([0.03, 0.01]), np.array([0.01, 0.02]), PRIOR))
    assert found.densities is not None
    assert found.effects is not None
    lift, posterior = found.densities.lift, found.densities.posterior
    np.testing.assert_allclose(np.trapezoid(posterior, lift), 1.0, atol=2e-3)
    np.testing.assert_allclose(np.trapezoid(posterior * lift, lift), found.effects.lift, atol=1e-3)
