"""Surveys: net promoter scores are means, and unequal response rates leave bounds instead of a difference."""

import numpy as np
import pytest
import scipy.special as sc
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.difference import difference
from stats.estimate import MetricShape, estimate
from stats.moments import Moments
from stats.proportion import newcombe, score_p
from stats.reasons import Reason
from stats.survey import lee_bounds, nps_variance
from tests.stats.moment_cases import within

NPS = np.array([-1.0, 0.0, 1.0])


def brute_force(scores, respondents, asked, copies: int) -> tuple[float, float]:
    """Lee's bounds of one treatment from rows: `copies` of every answer, so that the surplus is a whole number."""
    rows = [np.repeat(scores, np.asarray(counts) * copies) for counts in respondents]
    rate = [len(r) / copies / n for r, n in zip(rows, asked, strict=True)]
    larger = int(rate[1] > rate[0])
    drop = (rate[larger] - rate[1 - larger]) / rate[larger] * len(rows[larger])
    assert abs(drop - round(drop)) < 1e-6
    ascending = np.sort(rows[larger])
    keep = len(ascending) - round(drop)
    low, high = ascending[:keep].mean(), ascending[len(ascending) - keep :].mean()
    other = rows[1 - larger].mean()
    return (low - other, high - other) if larger else (other - high, other - low)


def test_bounds_trim_the_arm_that_answered_more():
    # Control: 40 of 100; treatment: 50 of 100. A fifth of the treatment's answers goes: ten of them.
    got = lee_bounds(NPS, np.array([[10, 10, 20], [10, 15, 25]]), np.array([100, 100]))
    assert got.trimmed[0] == pytest.approx(0.2)
    assert got.difference[0] == pytest.approx(0.3 - 0.25)
    assert got.lower[0] == pytest.approx((15 - 10) / 40 - 0.25)
    assert got.upper[0] == pytest.approx(25 / 40 - 0.25)
    assert [got.control_rate[0], got.treatment_rate[0]] == pytest.approx([0.4, 0.5])
    assert got.rate_p_value[0] == pytest.approx(score_p(50, 100, 40, 100)[0])
    assert [got.rate_ci_lower[0], got.rate_ci_upper[0]] == pytest.approx(newcombe(50, 100, 40, 100))
    assert got.ci_lower[0] < got.lower[0] < got.difference[0] < got.upper[0] < got.ci_upper[0]


def test_a_tied_score_is_trimmed_by_the_fraction_that_is_due():
    got = lee_bounds([1.0, 2.0], np.array([[3, 3], [4, 6]]), np.array([20, 20]))
    # 40 % of ten answers go: four of the six twos, or all the ones.
    assert got.lower[0] == pytest.approx((4 * 1 + 2 * 2) / 6 - 1.5)
    assert got.upper[0] == pytest.approx(2 - 1.5)


def test_equal_rates_have_no_room_for_selection():
    got = lee_bounds(NPS, np.array([[20, 30, 50], [12, 10, 28], [30, 80, 90]]), np.array([200, 100, 400]))
    assert got.lower == pytest.approx(got.difference, abs=1e-12)
    assert got.upper == pytest.approx(got.difference, abs=1e-12)
    assert got.trimmed == pytest.approx([0, 0])
    assert got.rate_p_value == pytest.approx([1, 1])


def test_everybody_answering_is_an_ordinary_comparison():
    counts = np.array([[200, 300, 500], [260, 240, 600]])
    got = lee_bounds(NPS, counts, counts.sum(axis=1))
    rows = np.concatenate([np.repeat(NPS, c) for c in counts])
    moments = Moments.from_rows(rows[:, None], np.repeat([0, 1], counts.sum(axis=1)), 2)
    plain = difference(estimate(moments, (MetricShape("nps", "mean", 0),)))
    assert got.difference[0] == pytest.approx(plain.value[0, 0])
    half = sc.ndtri(0.975) * plain.standard_error[0, 0]
    assert got.ci_upper[0] - got.difference[0] == pytest.approx(half, rel=1e-6)


def test_arms_without_answers_have_rates_but_no_bounds():
    got = lee_bounds(NPS, np.array([[0, 5, 9], [0, 0, 0], [0, 1, 0], [0, 0, 0]]), np.array([30, 40, 50, 0]))
    assert (got.reason == Reason.TOO_FEW_UNITS).all()
    assert got.treatment_rate[:2] == pytest.approx([0, 0.02])
    assert np.isnan(got.treatment_rate[2])
    assert np.isnan(got.rate_p_value[2])
    assert got.rate_p_value[0] == pytest.approx(sps.boschloo_exact([[0, 14], [40, 16]]).pvalue, rel=1e-6)
    for numbers in (got.lower, got.upper, got.ci_lower, got.difference):
        assert np.isnan(numbers).all()
    nobody = lee_bounds([], np.zeros((2, 0), int), np.array([10, 10]))
    assert nobody.reason[0] == Reason.TOO_FEW_UNITS
    assert nobody.rate_p_value[0] == 1


def test_more_answers_than_questions_are_refused():
    with pytest.raises(ValueError, match="more units answered"):
        lee_bounds(NPS, np.array([[1, 1, 1], [1, 1, 1]]), np.array([3, 2]))
    with pytest.raises(ValueError, match="ascending"):
        lee_bounds([1.0, 1.0], np.array([[1, 1], [1, 1]]), np.array([3, 2]))


tables = st.lists(st.integers(0, 9), min_size=2, max_size=6).flatmap(
    lambda first: st.tuples(
        st.just(first),
        st.lists(st.integers(0, 9), min_size=len(first), max_size=len(first)),
        st.integers(0, 30),
        st.integers(0, 30),
    )
)


@settings(max_examples=150, deadline=None)
@given(tables)
def test_bounds_are_those_of_trimming_rows_one_by_one(case):
    control, treatment, silent_c, silent_t = case
    respondents = np.array([control, treatment])
    asked = respondents.sum(axis=1) + np.array([silent_c, silent_t])
    scores = np.cumsum(1.0 + np.arange(len(control)) % 3)
    got = lee_bounds(scores, respondents, asked)
    if respondents.sum(axis=1).min() < 2:
        assert got.reason[0] == Reason.TOO_FEW_UNITS
        return
    # The surplus is a whole number of rows if every answer is there as often as both arms were asked, multiplied.
    expected = brute_force(scores, respondents, asked, int(asked[0] * asked[1]))
    assert (got.lower[0], got.upper[0]) == pytest.approx(expected, abs=1e-9)
    assert got.lower[0] <= got.difference[0] + 1e-12
    assert got.upper[0] >= got.difference[0] - 1e-12
    assert got.ci_lower[0] <= got.lower[0] <= got.upper[0] <= got.ci_upper[0]
    mirrored = lee_bounds(-scores[::-1], respondents[:, ::-1], asked)
    assert (-mirrored.upper[0], -mirrored.lower[0]) == pytest.approx((got.lower[0], got.upper[0]), abs=1e-12)
    swapped = lee_bounds(scores, respondents[::-1], asked[::-1])
    assert (-swapped.upper[0], -swapped.lower[0]) == pytest.approx((got.lower[0], got.upper[0]), abs=1e-12)
    assert (-swapped.ci_upper[0], -swapped.ci_lower[0]) == pytest.approx((got.ci_lower[0], got.ci_upper[0]), abs=1e-9)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_net_promoter_score_is_a_mean_with_its_variance(detractors, passives, promoters):
    n = detractors + passives + promoters
    if n < 2:
        return
    answers = np.repeat(NPS, [detractors, passives, promoters])
    assert nps_variance(promoters / n, detractors / n) == pytest.approx(answers.var(), abs=1e-12)
    moments = Moments.from_rows(answers[:, None], np.zeros(n, int), 1)
    got = estimate(moments, (MetricShape("nps", "mean", 0),))
    assert got.variance[0, 0] == pytest.approx(nps_variance(promoters / n, detractors / n) / (n - 1), abs=1e-12)


def _surveys(rng, replications, asked, extra):
    """Scores 0..10; `extra` of those silent in control answer if treated, grumpily. True effect on the others: 0."""
    scores = np.arange(11.0)
    always = np.exp(-((scores - 7) ** 2) / 8)
    always /= always.sum()
    grumpy = always[::-1]
    c = rng.multinomial(asked, np.append(0.3 * always, 0.7), replications)[:, :11]
    t = rng.multinomial(asked, np.append(0.3 * always + extra * grumpy, 0.7 - extra), replications)[:, :11]
    return scores, np.stack([c, t], axis=1)


def _coverage(seed, replications, asked, extra) -> tuple[float, float]:
    """How often the interval of the bounds, and that of the plain difference, hold the true effect 0."""
    scores, tables = _surveys(np.random.default_rng(seed), replications, asked, extra)
    bounded = plain = 0
    for table in tables:
        got = lee_bounds(scores, table, np.array([asked, asked]))
        bounded += bool(got.ci_lower[0] <= 0 <= got.ci_upper[0])
        n = table.sum(axis=1)
        mean = table @ scores / n
        error = np.sqrt(sum(((scores - mean[a]) ** 2 @ table[a]) / n[a] ** 2 for a in (0, 1)))
        plain += bool(abs(mean[1] - mean[0]) <= 1.96 * error)
    return bounded / replications, plain / replications


def test_selection_fools_the_plain_difference_and_not_the_bounds():
    bounded, plain = _coverage(1, 300, 3000, 0.05)
    assert bounded >= 0.95
    assert plain < 0.5


@pytest.mark.simulation
def test_trimmed_means_vary_as_lee_says():
    """Over repeated surveys the ends of the bounds spread as the intervals assume (where q is clearly positive)."""
    scores, tables = _surveys(np.random.default_rng(2), 4000, 4000, 0.06)
    got = [lee_bounds(scores, table, np.array([4000, 4000]), level=0.9) for table in tables]
    lower, upper = np.array([g.lower[0] for g in got]), np.array([g.upper[0] for g in got])
    # The bounds are far apart, so each end is one-sided.
    for end, claimed in (
        (lower, lower - np.array([g.ci_lower[0] for g in got])),
        (upper, np.array([g.ci_upper[0] for g in got]) - upper),
    ):
        assert np.mean(claimed) / sc.ndtri(0.9) == pytest.approx(end.std(), rel=0.05)


@pytest.mark.simulation
@pytest.mark.parametrize("extra", [0.0, 0.01, 0.05])
def test_intervals_of_the_bounds_cover(extra):
    bounded, _ = _coverage(3, 3000, 2000, extra)
    assert bounded >= 0.95 or within(bounded, 0.95, 3000)
