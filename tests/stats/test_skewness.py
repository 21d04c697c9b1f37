"""How skewed a difference of means is, and when that is worth a warning."""

import numpy as np
import pytest

from stats.difference import difference
from stats.estimate import MetricShape, estimate
from stats.moments import Moments
from stats.skewness import difference_skewness, ratio_skewness, too_skewed
from tests.stats.moment_cases import arms

MEAN = (MetricShape("m", "mean", 0),)


def test_skewness_is_the_third_moment_of_the_difference_over_its_variance():
    rng = np.random.default_rng(1)
    control, treatment = rng.lognormal(0, 1, 900), rng.lognormal(0, 1, 100)

    def third(x: np.ndarray) -> float:
        return float(((x - x.mean()) ** 3).mean())

    expected = (third(treatment) / 100**2 - third(control) / 900**2) / (
        control.var(ddof=1) / 900 + treatment.var(ddof=1) / 100
    ) ** 1.5
    got = difference_skewness(arms([control], [treatment]), MEAN)
    assert got[0, 0] == pytest.approx(expected, rel=1e-10)


def test_equal_arms_cancel_and_unequal_ones_do_not():
    x = np.random.default_rng(2).lognormal(0, 1.5, 2000)
    equal = difference_skewness(arms([x], [x]), MEAN)
    unequal = difference_skewness(arms([x], [x[:200]]), MEAN)
    assert abs(equal[0, 0]) < 1e-12 and not too_skewed(equal)[0, 0]
    assert unequal[0, 0] > 0.1 and too_skewed(unequal)[0, 0]


def test_one_arm_with_355_skewness_squared_units_has_the_threshold_of_the_rule_of_thumb():
    """Kohavi et al. 2014: n >= 355 skew^2; alone against an endless control that is 1 / sqrt(355) = 0.053."""
    n = 355
    one = Moments(
        np.array([10**12, n]),
        np.zeros((2, 1)),
        np.array([1e12 - 1, n - 1.0])[:, None, None],
        np.array([1e12, float(n)])[:, None],
    )
    assert difference_skewness(one, MEAN)[0, 0] == pytest.approx(1 / np.sqrt(355), rel=1e-4)


def test_unknown_skewness_is_not_a_warning():
    rng = np.random.default_rng(3)
    rows = [rng.poisson(3, 50), rng.poisson(5, 50) + 1]
    shapes = (MetricShape("r", "ratio", 0, 1), MetricShape("m", "mean", 0))
    got = difference_skewness(arms(rows, rows), shapes)
    assert np.isnan(got[0, 0]) and np.isfinite(got[0, 1])
    assert not too_skewed(got).any()
    constant = difference_skewness(arms([np.ones(5)], [np.ones(5)]), MEAN)
    single = difference_skewness(arms([[1.0]], [[2.0]]), MEAN)
    assert np.isnan(constant).all() and np.isnan(single).all()


def test_the_warning_is_there_where_skew_and_unequal_arms_break_the_level():
    """Lognormal with sigma 1.5, 200 against 1800, no effect: false positives near 9 % instead of 5 %, in one tail."""
    replications, sizes = 400, (1800, 200)
    rng = np.random.default_rng(4)
    cell = np.arange(replications).repeat(sum(sizes)) * 2 + np.tile(np.repeat([0, 1], sizes), replications)
    moments = Moments.from_rows(rng.lognormal(0, 1.5, (cell.size, 1)), cell, (replications, 2))
    got = difference(estimate(moments, MEAN))
    low, high = (got.ci_upper < 0).mean(), (got.ci_lower > 0).mean()
    assert low > 0.05 and high < 0.02
    assert too_skewed(difference_skewness(moments, MEAN)).mean() > 0.9


RATIO = (MetricShape("r", "ratio", 0, 1), MetricShape("m", "mean", 0))


def ratio_with_truth(top: np.ndarray, bottom: np.ndarray, sizes: tuple[int, int]) -> tuple[float, float]:
    """Approximate and true skewness of the difference of ratios, for arms of these sizes with the rows' moments."""
    influence = top - top.sum() / bottom.sum() * bottom
    n_c, n_t = sizes
    third, spread = (influence**3).mean(), influence.var()
    truth = third * (n_t**-2 - n_c**-2) / (spread * (1 / n_t + 1 / n_c)) ** 1.5
    one = Moments.from_rows(np.column_stack([top, bottom]), np.zeros(len(top), dtype=int), (1,))
    part = np.array(sizes) / len(top)
    pair = Moments(
        np.array(sizes), one.mean.repeat(2, 0), one.comoment * part[:, None, None], one.third * part[:, None]
    )
    got = ratio_skewness(pair, RATIO)
    assert np.isnan(got[0, 1])
    return float(got[0, 0]), float(truth)


def test_skewness_of_a_ratio_is_that_of_its_influence_if_the_rest_is_shared_or_the_denominator_constant():
    rng = np.random.default_rng(7)
    sessions, value = rng.integers(1, 6, 100_000).astype(float), rng.lognormal(0, 1, 100_000)
    for top, bottom in ((value * sessions, sessions), (value, np.full(value.shape, 3.0))):
        got, truth = ratio_with_truth(top, bottom, (1900, 100))
        assert got == pytest.approx(truth, rel=0.05) and truth > 0.3


def test_a_skewed_denominator_alone_makes_no_ratio_skewed():
    rng = np.random.default_rng(8)
    sessions = rng.negative_binomial(0.5, 1 / 7, 100_000) + 1.0
    for top in (rng.poisson(4 * sessions).astype(float), sessions * (2 + rng.normal(size=sessions.shape))):
        got, truth = ratio_with_truth(top, sessions, (1900, 100))
        assert abs(truth) < 0.1 and not too_skewed(np.array([got]))[0]
