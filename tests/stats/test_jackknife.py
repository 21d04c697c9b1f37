"""Ratios with an uncertain denominator: the jackknife over hash buckets answers where the delta method must not."""

from dataclasses import replace

import numpy as np
import pytest

from stats.difference import difference
from stats.estimate import Estimates, MetricShape, estimate
from stats.jackknife import with_jackknife
from stats.lift import lift
from stats.moment_set import HashBuckets
from stats.moments import Moments
from stats.reasons import Reason
from tests.stats.moment_cases import within

RATIO = (MetricShape("r", "ratio", 0, 1),)


def rare(rng: np.random.Generator, n: int, share: float = 0.05, rate: float = 0.5) -> np.ndarray:
    """Columns (numerator, denominator, before) of units of whom few have a denominator at all, and then several."""
    bottom = rng.poisson(4, n) * (rng.random(n) < share)
    return np.column_stack([rng.binomial(bottom, rate), bottom, bottom + rng.normal(0, 1, n)]).astype(float)


def data(blocks: list[np.ndarray], buckets: int, rng: np.random.Generator) -> tuple[Moments, HashBuckets]:
    rows, arm = np.vstack(blocks), np.repeat(np.arange(len(blocks)), [len(b) for b in blocks])
    moments = Moments.from_rows(rows, arm, len(blocks))
    bucket = rng.integers(0, buckets, len(rows))
    by_bucket = Moments.from_rows(rows, bucket * len(blocks) + arm, (buckets, len(blocks)))
    return moments, HashBuckets(by_bucket.count, by_bucket.mean)


def both(blocks: list[np.ndarray], seed: int, buckets: int = 100) -> tuple[Estimates, Estimates]:
    moments, hashed = data(blocks, buckets, np.random.default_rng(seed))
    plain = estimate(moments, RATIO)
    return plain, with_jackknife(plain, hashed, RATIO)


def test_buckets_of_one_unit_are_the_textbook_jackknife():
    rng = np.random.default_rng(1)
    rows = rare(rng, 200, share=0.2)
    moments = Moments.from_rows(np.vstack([rows, rows]), np.repeat([0, 1], 200), 2)
    hashed = HashBuckets(np.ones((200, 2), dtype=np.int64), np.repeat(rows[:, None], 2, axis=1))
    plain = estimate(moments, RATIO)
    assert set(plain.reason[:, 0]) == {Reason.DENOMINATOR_NEAR_ZERO}
    got = with_jackknife(plain, hashed, RATIO)
    out = np.array([np.delete(rows[:, 0], i).sum() / np.delete(rows[:, 1], i).sum() for i in range(200)])
    whole = rows[:, 0].sum() / rows[:, 1].sum()
    assert got.reason.tolist() == [[""], [""]]
    assert got.value[0, 0] == pytest.approx(200 * whole - 199 * out.mean(), rel=1e-10)
    assert got.variance[0, 0] == pytest.approx(199 / 200 * ((out - out.mean()) ** 2).sum(), rel=1e-10)


def test_ratios_that_the_delta_method_may_do_stay_as_they_were():
    rng = np.random.default_rng(2)
    plain, after = both([rare(rng, 20_000), rare(rng, 20_000)], 3)
    assert after is plain


def test_a_refused_ratio_gets_a_value_an_interval_and_fewer_degrees_of_freedom():
    rng = np.random.default_rng(3)
    blocks = [rare(rng, 1200), rare(rng, 1200), rare(rng, 20_000)]
    moments, hashed = data(blocks, 100, rng)
    shapes = (MetricShape("m", "mean", 1), MetricShape("r", "ratio", 0, 1, covariates=(2,)))
    plain = estimate(moments, shapes)
    got = with_jackknife(plain, hashed, shapes)
    assert plain.reason[:, 1].tolist() == [Reason.DENOMINATOR_NEAR_ZERO] * 2 + [""]
    assert plain.adjusted[1]
    assert (got.reason == "").all() and not got.adjusted[1]
    np.testing.assert_array_equal(got.value[:, 0], plain.value[:, 0])
    np.testing.assert_array_equal(got.freedom[:, 1], [99.0] * 3)
    np.testing.assert_allclose(got.value[:, 1], plain.unadjusted[:, 1], rtol=0.02)
    np.testing.assert_allclose(got.variance[:, 1], plain.raw_variance[:, 1], rtol=0.5)
    assert difference(got).estimable.all() and (difference(got).df[:, 1] < 200).all()
    assert lift(got).estimable.all()
    # Estimates that say how control covaries with the differences (clusters, strata) are told anew.
    spelled = replace(plain, freedom=plain.arm_freedom, baseline_covariance=plain.control_covariance.copy())
    again = with_jackknife(spelled, hashed, shapes)
    np.testing.assert_allclose(lift(again).ci_lower, lift(got).ci_lower, rtol=1e-12)
    ratio = got.value[:, 1]
    variance = (got.variance[1:, 1] + (ratio[1:] / ratio[0]) ** 2 * got.variance[0, 1]) / ratio[0] ** 2
    np.testing.assert_allclose(lift(got).standard_error[:, 1] ** 2, variance, rtol=1e-10)


def test_a_denominator_that_may_be_zero_stays_refused():
    rng = np.random.default_rng(4)
    few = rare(rng, 1000, share=0.0)
    few[:3, 1], few[:3, 0] = 5.0, 2.0
    nothing = rare(rng, 1000, share=0.0)
    _, got = both([few, nothing], 5)
    assert got.reason[:, 0].tolist() == [Reason.DENOMINATOR_NEAR_ZERO] * 2
    crossing = np.column_stack([np.ones(1000), rng.normal(0.05, 1, 1000)])
    _, got = both([crossing, crossing], 6)
    assert got.reason[0, 0] == Reason.DENOMINATOR_NEAR_ZERO


def test_few_buckets_with_units_are_a_reason():
    rng = np.random.default_rng(5)
    _, got = both([rare(rng, 40, share=0.5), rare(rng, 1200)], 7)
    assert got.reason[:, 0].tolist() == [Reason.TOO_FEW_BUCKETS, ""]
    assert difference(got).reason[0, 0] == Reason.TOO_FEW_BUCKETS


def test_invalid_columns_stay_invalid():
    rng = np.random.default_rng(6)
    moments, hashed = data([rare(rng, 1200), rare(rng, 1200)], 100, rng)
    plain = estimate(moments, RATIO, invalid={0: "non_finite_values"})
    assert with_jackknife(plain, hashed, RATIO).reason.tolist() == [["non_finite_values"]] * 2


def coverage(replications: int, n: int, seed: int) -> tuple[float, int]:
    """How often the interval of a difference of 0 covers it, among the jackknifed."""
    rng = np.random.default_rng(seed)
    covered = []
    for _ in range(replications):
        plain, got = both([rare(rng, n), rare(rng, n)], int(rng.integers(2**31)))
        if (plain.reason == Reason.DENOMINATOR_NEAR_ZERO).any() and (got.reason == "").all():
            d = difference(got)
            covered.append(bool((d.ci_lower <= 0).all() and (d.ci_upper >= 0).all()))
    return float(np.mean(covered)), len(covered)


@pytest.mark.simulation
@pytest.mark.parametrize("n", [400, 1000])
def test_jackknife_intervals_cover(n: int):
    share, used = coverage(3000, n, n)
    assert used > 2000
    assert within(share, 0.95, used, tolerance=0.01)
