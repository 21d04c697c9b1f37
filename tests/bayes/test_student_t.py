"""Heavy-tailed values in bins: the density, the reduction of rows, and where the model is refused (METHODS C2)."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.student_density import NU_MEAN, student_density
from stats.bayes.models.student_start import student_start
from stats.bayes.models.student_t import StudentTQuestion
from stats.bayes.normal import prior_mixture
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Draws
from tests.bayes.stories.student_t import BASELINE, Rows, make_rows, question_of

LEARNED = Prior(Family.LEARNED, 0.01, 0.03, "test", ((0.3, -0.01, 0.02), (0.7, 0.02, 0.03)))
PRIORS = [Prior.default(), Prior.default(Family.STUDENT_T4), LEARNED]


def row_log_density(rows: Rows, question: StudentTQuestion, z: np.ndarray) -> float:
    """Prior and likelihood as the story tells them, value by value, in the coordinates `z`."""
    data, arms, size = question.data(), len(question.counts), question.size
    centre, pull, width = data["centre"], data["pull"], data["width"]
    log_tail = centre[0, 0] + width[0, 0] * z[0]
    position = (centre[1] + pull[1] * z[1] + width[1] * z[1 : 1 + size])[:arms]
    log_scale = (centre[2] + pull[2] * z[0] + width[2] * z[1 + size :])[:arms]
    positive, origin, unit = data["scales"]
    location = np.exp(position) if positive else origin + unit * position
    total = sps.t(1 + np.exp(log_tail), location[rows.arm], np.exp(log_scale)[rows.arm]).logpdf(rows.value).sum()
    total += log_tail + sps.expon(scale=NU_MEAN).logpdf(np.exp(log_tail))
    control, scales = data["priors"]
    total += sps.norm(*control).logpdf(position[0]) + sps.norm(*scales).logpdf(log_scale).sum()
    mixture = prior_mixture(question.prior if positive else Prior(Family.NORMAL, 0.0, 1.0, "one scale"))
    for gap in position[1:] - position[0]:
        total += sc.logsumexp(sps.norm.logpdf(gap, mixture.mean, mixture.sd), b=mixture.weight)
    idle = np.append(z[1 + arms : 1 + size], z[1 + size + arms :])
    return float(total - 0.5 * (idle**2).sum())


@pytest.mark.parametrize("location", [5.0, 0.0], ids=["lifts", "differences"])
@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.family)
def test_bins_say_what_rows_say(prior: Prior, location: float) -> None:
    rows = make_rows(np.random.default_rng(1), 300, location=location, arms=2)
    question = question_of(rows, prior)
    data = question.data()
    points = np.random.default_rng(2).standard_normal((12, 1 + 2 * question.size)) * 1.5
    gaps = [student_density(z, **data)[0] - row_log_density(rows, question, z) for z in points]
    # Bins round values to a hundredth of a standard deviation. That moves each parameter by some hundredths of its
    # standard error, and a log density by that times its distance from the centre, here up to 4 standard errors.
    assert np.ptp(gaps) < 0.2


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    arms=st.integers(2, 4),
    prior=st.sampled_from([*PRIORS, Prior.flat()]),
    location=st.sampled_from([5.0, 0.0]),
    nu=st.floats(1.2, 60),
)
def test_the_gradient_is_that_of_the_density(seed: int, arms: int, prior: Prior, location: float, nu: float) -> None:
    rng = np.random.default_rng(seed)
    question = question_of(make_rows(rng, 100, arms=arms, location=location, nu=nu), prior)
    data = question.data()
    z = rng.standard_normal(1 + 2 * question.size) * 1.5
    _, gradient = student_density(z, **data)
    for i in range(len(z)):
        step = np.zeros_like(z)
        step[i] = 1e-5
        slope = (student_density(z + step, **data)[0] - student_density(z - step, **data)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-4)


def test_merging_bins_finer_than_the_scale_says_the_same() -> None:
    # Close together, so that bins are far finer than needed and dozens become one.
    rows = make_rows(np.random.default_rng(3), 20_000, arms=2, nu=200.0)
    question = question_of(rows, baseline=BASELINE)
    data = question.data()
    assert data["counts"].shape[1] < 200
    middle = (question.edges[1:] + question.edges[:-1]) / 2
    fine = data | {"middle": middle, "counts": np.vstack([question.counts, np.zeros((1, len(middle)))])}
    points = np.random.default_rng(4).standard_normal((6, 7))
    gaps = [student_density(z, **data)[0] - student_density(z, **fine)[0] for z in points]
    assert np.ptp(gaps) < 0.2  # a twentieth of a standard error, as above


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1e-6, 1e6))
def test_another_unit_of_measurement_changes_locations_and_nothing_else(seed: int, factor: float) -> None:
    rows = make_rows(np.random.default_rng(seed), 200, arms=2)
    one, other = question_of(rows), question_of(replace(rows, value=rows.value * factor))
    z = np.random.default_rng(seed + 1).standard_normal(7)
    (value, gradient), (scaled, gradient_of_scaled) = (student_density(z, **q.data()) for q in (one, other))
    assert scaled + len(rows.value) * np.log(factor) == pytest.approx(value, rel=1e-6, abs=1e-3)
    np.testing.assert_allclose(gradient_of_scaled, gradient, atol=1e-3)


@pytest.mark.parametrize("nu", [1.5, 4.0, 30.0])
def test_the_search_for_a_start_finds_the_maximum_of_the_likelihood(nu: float) -> None:
    rows = make_rows(np.random.default_rng(5), 3000, arms=2, nu=nu)
    question = question_of(rows)
    start = student_start((question.edges[1:] + question.edges[:-1]) / 2, question.counts)
    for a in range(2):
        values = rows.value[rows.arm == a]
        _, location, scale = sps.t.fit(values, f0=start.nu)
        assert start.location[a] == pytest.approx(location, abs=0.1 * scale / np.sqrt(3000))
        assert start.log_scale[a] == pytest.approx(np.log(scale), abs=0.01)
    assert abs(start.log_tail - np.log(nu - 1)) < 4 * start.log_tail_sd


def drawn(question: StudentTQuestion, seed: int) -> Draws:
    """Draws (4, 1000) of the posterior's normal approximation, the parameters independent standard normal in `z`."""
    data, size = question.data(), question.size
    z = np.random.default_rng(seed).standard_normal((4, 1000, 1 + 2 * size))
    centre, pull, width = data["centre"], data["pull"], data["width"]
    position = centre[1] + pull[1] * z[..., 1:2] + width[1] * z[..., 1 : 1 + size]
    positive, origin, unit = data["scales"]
    return Draws(
        {
            "location": np.exp(position) if positive else origin + unit * position,
            "log_scale": centre[2] + pull[2] * z[..., :1] + width[2] * z[..., 1 + size :],
            "log_tail": centre[0, 0] + width[0, 0] * z[..., 0],
        },
        0,
    )


def test_symmetric_values_pass_the_checks_and_skewed_ones_fail_them() -> None:
    rng = np.random.default_rng(6)
    passed = []
    for nu in (1.5, 3.0, 8.0, 50.0):
        question = question_of(make_rows(rng, 2000, nu=nu))
        passed += [check.passed for check in question.summarise(drawn(question, 7), 7).checks]
    assert np.sum(~np.array(passed)) <= 5  # of 24 at a level of 5 %: more have a probability of 0.1 %
    arm = np.repeat(np.arange(3), 2000)
    question = question_of(Rows(arm, np.exp(2 + 0.5 * rng.standard_normal(len(arm)))))
    fit = question.summarise(drawn(question, 8), 8)
    assert not any(check.passed for check in fit.checks if check.statistic == "quantile_skewness")
    assert sum(not check.passed for check in fit.checks if check.statistic == "percentile_99") >= 2
    # The location is the middle of the bulk, and the mean is seen to lie above it.
    assert all(fit.hyper[f"mean_minus_location[{a}]"][1] > 0 for a in range(3))


def test_locations_around_zero_have_differences_and_no_lifts() -> None:
    question = question_of(make_rows(np.random.default_rng(9), 500, location=0.0))
    assert not question.has_lifts
    fit = question.summarise(drawn(question, 10), 10)
    assert np.isnan(fit.effects.lift).all()
    assert np.isfinite(fit.effects.difference).all()
    assert np.isfinite(fit.effects.chance_to_win).all()
    assert fit.densities is None
    assert fit.prior_sensitivity is None
    assert set(question.monitored(drawn(question, 10))) >= {"difference[1]", "difference[2]"}
    positive = question_of(make_rows(np.random.default_rng(9), 500))
    assert positive.has_lifts
    assert np.isfinite(positive.summarise(drawn(positive, 10), 10).effects.lift).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.append(np.full(900, 5.0), np.linspace(0, 900, 100)), "too coarse"),
        (np.full(1000, 5.0), "all but the same"),
        (np.linspace(1, 2, 8), "fewer than 10 units"),
    ],
)
def test_values_that_bins_cannot_tell_are_refused_with_a_reason(values: np.ndarray, reason: str) -> None:
    arm = np.arange(len(values)) % 2
    with pytest.raises(ImpossibleData, match=reason):
        question_of(Rows(arm, values)).data()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda q: {"counts": -q.counts}, "fewer than no units"),
        (lambda q: {"counts": q.counts * np.nan}, "missing"),
        (lambda q: {"edges": q.edges[::-1]}, "ascend"),
        (lambda q: {"counts": q.counts[:1]}, "no two arms"),
    ],
)
def test_counts_of_no_values_are_refused_with_a_reason(change, reason: str) -> None:  # type: ignore[no-untyped-def]
    question = question_of(make_rows(np.random.default_rng(11), 300))
    with pytest.raises(ImpossibleData, match=reason):
        replace(question, **change(question)).data()


def test_questions_travel_between_processes() -> None:
    question = question_of(make_rows(np.random.default_rng(12), 300))
    arrived = pickle.loads(pickle.dumps(question))
    assert all(np.array_equal(arrived.data()[name], values) for name, values in question.data().items())
