"""Chance to be best and the loss of every choice, against draws from the same model and the two-arm closed form."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.bayes.best_of_many import best_of_many
from stats.bayes.normal import posterior
from stats.bayes.prior import Family, Prior

NORMAL = Prior(Family.NORMAL, 0.002, 0.02, "stated")
FAT = Prior(Family.STUDENT_T4, 0.0, 0.01, "stated")
LEARNED = Prior(Family.LEARNED, 0.0, 0.013, "learned", ((0.7, 0.0, 0.0005), (0.3, 0.003, 0.023)))
PRIORS = [NORMAL, FAT, LEARNED, Prior.flat()]
DRAWS = 200_000


def weighted_draws(m, s, prior, seed=1):
    """Lifts over control with weights. Mixtures: exactly, every combination of components being a joint normal.

    Student-t: draws of arms from the likelihood, weighted by the prior of their lifts.
    """
    rng = np.random.default_rng(seed)
    m, s = np.asarray(m), np.asarray(s)
    if prior.family is Family.STUDENT_T4:
        arms = m + s * rng.standard_normal((DRAWS, len(m)))
        lifts = arms[:, 1:] - arms[:, :1]
        weight = ((1 + ((lifts - prior.mean) / prior.scale) ** 2 / 4) ** -2.5).prod(axis=1)
        return lifts, weight / weight.sum()
    treatments = len(m) - 1
    gap, spread = m[1:] - m[0], np.diag(s[1:] ** 2) + s[0] ** 2
    combinations = list(product(prior.components or ((1.0, prior.mean, prior.scale),), repeat=treatments))
    each, found, weights = DRAWS // len(combinations), [], []
    for combination in combinations:
        share, mean, sd = np.array(combination).T
        total = spread + np.diag(sd**2)
        gain = np.linalg.solve(total, np.diag(sd**2)).T
        left = np.diag(sd**2) - gain @ np.diag(sd**2)
        off = gap - mean
        log_evidence = -0.5 * (off @ np.linalg.solve(total, off) + np.linalg.slogdet(total)[1])
        found.append(rng.multivariate_normal(mean + gain @ off, left, size=each, method="cholesky"))
        weights.append(np.full(each, np.log(share).sum() + log_evidence))
    weight = np.exp(np.concatenate(weights) - max(w[0] for w in weights))
    return np.concatenate(found), weight / weight.sum()


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.family.value)
@pytest.mark.parametrize(
    ("m", "s"),
    [
        ([2.0, 2.012, 2.02], [0.01, 0.012, 0.009]),
        ([0.0, 0.02, 0.02, -0.01, 0.005], [0.004, 0.01, 0.02, 0.01, 0.006]),
        ([0.0, 0.015, 0.018, 0.01], [0.02, 0.004, 0.004, 0.004]),
    ],
)
def test_chances_and_losses_are_those_of_the_joint_posterior(prior, m, s):
    found = best_of_many(np.array(m), np.array(s), prior)
    lifts, weight = weighted_draws(m, s, prior)
    arms = np.concatenate([np.zeros((len(lifts), 1)), lifts], axis=1)
    size = 1 / (weight**2).sum()
    best = np.bincount(arms.argmax(axis=1), weights=weight, minlength=len(m))
    np.testing.assert_allclose(found.chance_to_be_best, best, atol=4 * 0.5 / np.sqrt(size))
    forgone = arms.max(axis=1, keepdims=True) - arms
    loss = weight @ forgone
    error = np.sqrt((weight[:, None] ** 2 * (forgone - loss) ** 2).sum(axis=0))
    assert (np.abs(found.expected_loss - loss) < 4 * error + 1e-9).all()
    assert found.chance_to_be_best.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.family.value)
@pytest.mark.parametrize("direction", ["increase", "decrease"])
@pytest.mark.parametrize(("lift", "parts"), [(0.01, (0.01, 0.01)), (-0.004, (0.002, 0.03)), (0.08, (0.03, 0.002))])
def test_with_one_treatment_it_is_the_chance_to_win(prior, direction, lift, parts):
    alone = posterior(np.array(lift), np.array(np.hypot(*parts)), prior, direction=direction)
    found = best_of_many(np.array([3.0, 3.0 + lift]), np.array(parts), prior, direction=direction)
    expected = [1 - float(alone.chance_to_win), float(alone.chance_to_win)]
    np.testing.assert_allclose(found.chance_to_be_best, expected, atol=1e-4)
    losses = [float(alone.expected_loss_of_not_shipping), float(alone.expected_loss)]
    np.testing.assert_allclose(found.expected_loss, losses, atol=1e-6, rtol=1e-3)


def test_equal_arms_under_no_prior_are_equally_likely_to_be_best():
    found = best_of_many(np.zeros(5), np.full(5, 0.01), Prior.flat())
    np.testing.assert_allclose(found.chance_to_be_best, 0.2, atol=1e-5)
    expected = 0.01 * 1.1629644736  # the mean of the largest of five standard normals
    np.testing.assert_allclose(found.expected_loss, expected, rtol=1e-5)


def test_an_unlucky_control_is_seen_through_when_all_arms_agree():
    """Ten treatments that are all 2 % above control say that control was unlucky, which no pair alone can say."""
    prior = Prior(Family.NORMAL, 0.0, 0.005, "stated")
    many = best_of_many(np.array([0.0, *[0.02] * 10]), np.full(11, 0.01), prior)
    alone = best_of_many(np.array([0.0, 0.02]), np.full(2, 0.01), prior)
    assert many.expected_loss[0] - many.expected_loss[1] < alone.expected_loss[0] - alone.expected_loss[1]


def test_arms_without_an_estimate_are_left_out():
    whole = best_of_many(np.array([0.0, 0.01, 0.02]), np.array([0.01, 0.01, 0.01]), NORMAL)
    padded = best_of_many(
        np.array([[0.0, 0.01, np.nan, 0.02], [np.nan, 0.0, 0.0, 0.0]]), np.array([0.01, 0.01, 0.01, 0.01]), NORMAL
    )
    np.testing.assert_allclose(padded.chance_to_be_best[0, [0, 1, 3]], whole.chance_to_be_best)
    assert np.isnan(padded.chance_to_be_best[0, 2]) and padded.reason[0, 2] == "effect_not_estimable"
    assert not padded.estimable[1].any() and np.isnan(padded.expected_loss[1]).all()
    with pytest.raises(ValueError, match="at least one treatment"):
        best_of_many(np.array([1.0]), np.array([1.0]), NORMAL)


@settings(max_examples=10, deadline=None)
@given(
    arms=st.lists(st.tuples(st.floats(-0.2, 0.2), st.floats(1e-4, 0.2)), min_size=2, max_size=4),
    prior=st.sampled_from(PRIORS),
    shift=st.floats(-5, 5),
)
def test_chances_add_up_the_best_choice_loses_least_and_levels_do_not_matter(arms, prior, shift):
    m, s = np.array(arms).T
    found = best_of_many(m, s, prior)
    assert found.chance_to_be_best.sum() == pytest.approx(1.0)
    assert (found.chance_to_be_best >= 0).all() and (found.expected_loss >= 0).all()
    moved = best_of_many(m + shift, s, prior)
    np.testing.assert_allclose(moved.chance_to_be_best, found.chance_to_be_best, atol=1e-4)
    mirrored = Prior(
        prior.family, -prior.mean, prior.scale, "", tuple((w, -mean, sd) for w, mean, sd in prior.components)
    )
    down = best_of_many(-m, s, mirrored, direction="decrease")
    np.testing.assert_allclose(down.chance_to_be_best, found.chance_to_be_best, atol=1e-9)
