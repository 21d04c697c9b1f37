"""Small counts of proportions: published intervals, an exact test, and no certainty from an arm without successes."""

import numpy as np
import pytest
import scipy.optimize as so
import scipy.special as sc
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from stats.boschloo import CONFIDENCE, FULL_SEARCH, boschloo_exact
from stats.difference import difference
from stats.estimate import MetricShape, estimate
from stats.lift import lift
from stats.moments import Moments
from stats.proportion import (
    miettinen_nurminen,
    newcombe,
    refine_small_counts,
    score_p,
    small_counts,
    unadjusted_where,
    wilson,
)
from stats.reasons import CovariateNote, Reason
from tests.shared_data import golden
from tests.stats.moment_cases import from_summary, within

BOUGHT = MetricShape("bought", "proportion", 0)


def shares(*arms: tuple[int, int]) -> Moments:
    """Moments of 0/1 columns with (successes, units) per arm, control first."""
    n = np.array([units for _, units in arms])
    x = np.array([successes for successes, _ in arms])
    squares = x * (n - x) / np.maximum(n, 1)
    third = squares * (n - 2 * x) / np.maximum(n, 1)
    return Moments(n, (x / np.maximum(n, 1))[:, None], squares[:, None, None], third[:, None])


def refined(moments: Moments, *shapes: MetricShape, level: float = 0.95):
    chosen = shapes or (BOUGHT,)
    return refine_small_counts(difference(estimate(moments, chosen), level), moments, chosen, level)


def counts(case: dict) -> tuple[int, int, int, int]:
    i = case["inputs"]
    return i["count_treatment"], i["n_treatment"], i["count_control"], i["n_control"]


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("prop_diff_ci_methods", newcombe, "newcomb"),
        ("prop_diff_ci_methods", miettinen_nurminen, "score_MN"),
        ("prop_diff_ci_newcombe_1998", newcombe, "newcombe_hybrid"),
        ("prop_diff_ci_newcombe_1998", miettinen_nurminen, "score_MN"),
        ("prop_zero_cell_ci", newcombe, "newcomb_diff"),
        ("prop_zero_cell_ci", miettinen_nurminen, "score_MN_diff"),
    ],
)
def test_intervals_are_the_published_ones(name, ours, theirs):
    case = golden("libraries", name)
    assert ours(*counts(case)) == pytest.approx(case["expected"][theirs], rel=1e-8)


def test_wilson_is_the_interval_of_one_proportion():
    case = golden("libraries", "prop_one_sample_ci")
    assert wilson(17, 140) == pytest.approx(case["expected"]["wilson"], rel=1e-8)
    for x, n in ((0, 5), (3, 8), (8, 8)):
        assert wilson(x, n, 0.9) == pytest.approx(proportion_confint(x, n, 0.1, "wilson"), abs=1e-14)


def test_the_exact_test_is_boschloo_s():
    case = golden("libraries", "prop_exact_and_chi2")
    (a, b), (c, d) = case["inputs"]["table"]
    p, exact = boschloo_exact(a, a + c, b, b + d)
    assert exact
    assert p == pytest.approx(case["expected"]["boschloo"], rel=1e-8)


def test_large_samples_give_welch_on_zeros_and_ones():
    case = golden("libraries", "prop_ztest")
    x_t, n_t, x_c, n_c = counts(case)
    per_arm = [{"type": "proportion", "n": n, "sum": x} for x, n in ((x_c, n_c), (x_t, n_t))]
    plain = difference(estimate(from_summary(*per_arm), (BOUGHT,)))
    z, p = case["expected"]["wald_unpooled"]
    assert plain.value[0, 0] / plain.standard_error[0, 0] == pytest.approx(z, rel=1e-8)
    # The z-test of the library is our t-test with infinitely many degrees of freedom.
    assert 2 * sc.ndtr(-abs(z)) == pytest.approx(p, rel=1e-8)
    assert plain.p_value[0, 0] == pytest.approx(p, rel=3e-3)
    same, replaced = refine_small_counts(plain, from_summary(*per_arm), (BOUGHT,), 0.95)
    assert not replaced.any()
    assert same.ci_lower[0, 0] == plain.ci_lower[0, 0]


def test_the_log_interval_of_a_risk_ratio_is_our_lift_s():
    case = golden("libraries", "prop_ratio_ci_methods")
    x_t, n_t, x_c, n_c = counts(case)
    per_arm = [{"type": "proportion", "n": n, "sum": x} for x, n in ((x_c, n_c), (x_t, n_t))]
    got = lift(estimate(from_summary(*per_arm), (BOUGHT,)))
    assert [1 + got.ci_lower[0, 0], 1 + got.ci_upper[0, 0]] == pytest.approx(case["expected"]["log"], rel=1e-8)


def test_the_score_test_is_the_pooled_z_test_up_to_one_unit():
    x2, p = golden("libraries", "r_prop_test")["expected"]["uncorrected"][:2]
    got, log10 = score_p(151, 1010, 120, 1000)
    assert sc.chdtri(1, got) == pytest.approx(x2 * 2009 / 2010, rel=1e-8)
    assert got == pytest.approx(p, rel=2e-3)
    assert log10 == pytest.approx(np.log10(got))


def test_zero_of_n_and_n_of_n_have_intervals_and_no_false_certainty():
    """Torture case 19."""
    got, replaced = refined(shares((0, 40), (3, 42)))
    assert replaced.all()
    assert [got.ci_lower[0, 0], got.ci_upper[0, 0]] == pytest.approx([-0.0279, 0.1901], abs=5e-5)
    assert got.p_value[0, 0] == pytest.approx(sps.boschloo_exact([[3, 0], [39, 40]]).pvalue, rel=1e-8)
    for x in (0, 1):
        got, _ = refined(shares((40 * x, 40), (42 * x, 42)))
        assert got.estimable.all()
        assert (got.reason == "").all()
        assert got.value[0, 0] == 0
        assert got.p_value[0, 0] == 1
        assert got.log10_p[0, 0] == 0
        assert got.ci_lower[0, 0] < -0.08
        assert got.ci_upper[0, 0] > 0.08
        assert got.standard_error[0, 0] > 0.04
        assert got.df[0, 0] == 80
    got, _ = refined(shares((0, 40), (42, 42)))
    assert 0 < got.p_value[0, 0] < 1e-8
    assert got.ci_upper[0, 0] == 1
    assert got.ci_lower[0, 0] < 0.9


def test_one_unit_is_still_too_few():
    got, replaced = refined(shares((3, 40), (1, 1), (0, 0)))
    assert not replaced.any()
    assert (got.reason == Reason.TOO_FEW_UNITS).all()
    assert np.isnan(got.ci_lower).all()


def test_only_small_counts_of_plain_shares_are_replaced():
    rng = np.random.default_rng(5)
    n = 400
    before = rng.random(2 * n) < 0.3
    rows = np.column_stack([rng.random(2 * n) < 0.01, rng.random(2 * n) < 0.5, before, 5 * (rng.random(2 * n) < 0.01)])
    moments = Moments.from_rows(rows, np.repeat([0, 1], n), 2)
    shapes = (
        MetricShape("rare", "proportion", 0),
        MetricShape("common", "proportion", 1),
        MetricShape("rare_adjusted", "proportion", 0, covariates=(2,)),
        MetricShape("not_binary", "proportion", 3),
        MetricShape("mean", "mean", 0),
    )
    assert small_counts(moments, shapes).any(axis=0).tolist() == [True, False, True, False, False]
    estimates = estimate(moments, shapes)
    _, replaced = refine_small_counts(difference(estimates), moments, shapes, 0.95)
    assert replaced[0].tolist() == [True, False, False, False, False]

    plain = unadjusted_where(estimates, small_counts(moments, shapes).any(axis=-2))
    assert plain.note[2] == CovariateNote.SMALL_COUNTS
    assert not plain.adjusted[2]
    got, replaced = refine_small_counts(difference(plain), moments, shapes, 0.95)
    assert replaced[0].tolist() == [True, False, True, False, False]
    for field in ("value", "ci_lower", "ci_upper", "p_value", "standard_error"):
        assert getattr(got, field)[0, 2] == getattr(got, field)[0, 0]
    ordinary = estimate(moments, shapes, adjust=False)
    for field in ("value", "variance", "cross", "slope", "residual_gradient"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(ordinary, field))


def test_cells_of_any_shape_are_replaced_as_if_they_were_alone():
    tables = [((0, 40), (3, 42), (15, 41)), ((30, 300), (25, 290), (2, 8)), ((5, 1000), (0, 900), (7, 1100))]
    single = [refined(shares(*table), level=0.9) for table in tables]
    joined = [shares(*table) for table in tables]
    stacked = Moments(*(np.stack([getattr(m, f) for m in joined]) for f in ("count", "mean", "comoment", "third")))
    got, replaced = refined(stacked, level=0.9)
    for i, (alone, mask) in enumerate(single):
        assert replaced[i].tolist() == mask.tolist()
        for field in ("ci_lower", "ci_upper", "p_value", "log10_p", "standard_error"):
            np.testing.assert_array_equal(getattr(got, field)[i], getattr(alone, field))


def test_a_one_percent_ramp_is_not_judged_by_a_normal_approximation():
    """2 of 1,000 against 20 of 99,000: the score test says 0.0002, the truth is 0.02."""
    got, replaced = refined(shares((20, 99_000), (2, 1000)))
    assert replaced.all()
    assert score_p(2, 1000, 20, 99_000)[0] < 0.0003
    fisher = 2 * sps.hypergeom.sf(1, 100_000, 22, 1000)
    assert fisher / 2 < got.p_value[0, 0] < fisher


def test_a_table_too_large_to_enumerate_gets_the_score_test():
    p, exact = boschloo_exact([9, 9], [500, 20], [60_000, 8], [500_000, 30])
    assert exact.tolist() == [False, True]
    assert np.isnan(p[0])
    got, _ = refined(shares((60_000, 500_000), (9, 500)))
    assert got.p_value[0, 0] == score_p(9, 500, 60_000, 500_000)[0]


def test_a_thousand_different_tables_do_not_hold_up_an_analysis():
    import time

    rng = np.random.default_rng(3)
    n = rng.integers(100, 5000, (1000, 2))
    start = time.process_time()
    boschloo_exact(rng.integers(0, 10, 1000), n[:, 0], rng.integers(0, 25, 1000), n[:, 1])
    first = time.process_time() - start
    assert first < 10
    start = time.process_time()
    boschloo_exact(np.full((100, 1000), 3), 1000, 5, 1200)
    assert time.process_time() - start < 1


tables = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda n: st.tuples(st.integers(0, n[0]), st.just(n[0]), st.integers(0, n[1]), st.just(n[1]))
)


@settings(max_examples=25, deadline=None)
@given(tables)
def test_exact_p_is_scipy_s(table):
    x, n, y, m = table
    got, exact = boschloo_exact(*table)
    assert exact
    if x + y in (0, n + m):
        assert got == 1
    else:
        # More starting points than its default, which may miss the highest of several peaks.
        assert got == pytest.approx(sps.boschloo_exact([[x, y], [n - x, m - y]], n=64).pvalue, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(tables, st.sampled_from([0.8, 0.95, 0.99]))
def test_intervals_have_width_hold_the_estimate_and_mirror(table, level):
    x, n, y, m = table
    for interval in (newcombe, miettinen_nurminen):
        low, high = interval(x, n, y, m, level)
        assert -1 <= low <= x / n - y / m + 1e-12
        assert x / n - y / m - 1e-12 <= high <= 1
        assert high - low > 0.01
        assert interval(y, m, x, n, level) == pytest.approx((-high, -low), abs=1e-9)
        assert interval(n - x, n, m - y, m, level) == pytest.approx((-high, -low), abs=1e-9)
    ours, theirs = newcombe(x, n, y, m, level), confint_proportions_2indep(x, n, y, m, "newcomb", alpha=1 - level)
    assert ours == pytest.approx(theirs, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(tables)
def test_score_limits_solve_the_constrained_likelihood(table):
    x, n, y, m = table

    def statistic(change: float) -> float:
        low, high = max(0.0, -change), min(1.0, 1 - change)

        def loss(p: float) -> float:
            q = min(max(p + change, 0.0), 1.0)
            return -float(sc.xlogy(x, q) + sc.xlog1py(n - x, -q) + sc.xlogy(y, p) + sc.xlog1py(m - y, -p))

        p = so.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        variance = ((p + change) * (1 - p - change) / n + p * (1 - p) / m) * (n + m) / (n + m - 1)
        return (x / n - y / m - change) / np.sqrt(variance)

    low, high = (float(end) for end in miettinen_nurminen(*table))
    if low > -0.999:
        assert statistic(low) == pytest.approx(1.959964, abs=2e-3)
    if high < 0.999:
        assert statistic(high) == pytest.approx(-1.959964, abs=2e-3)


def test_searching_less_costs_next_to_nothing(monkeypatch):
    """Restricting the nuisance parameter (Berger & Boos) changes p by the excluded least favourable values only."""
    table = (4, 230, 14, 230)
    restricted = boschloo_exact(*table)[0]
    assert sum(table[1::2]) > FULL_SEARCH
    full = sps.boschloo_exact([[4, 14], [226, 216]]).pvalue
    assert restricted <= full + 2 * CONFIDENCE
    # At the estimated common rate the test really rejects this often: p cannot be much smaller than that.
    assert restricted > 0.7 * full


@pytest.mark.parametrize("bad", [(-1, 3, 0, 3), (4, 3, 0, 3), (0, 0, 0, 3)])
def test_impossible_counts_are_refused(bad):
    with pytest.raises(ValueError, match="between 0 and the units"):
        newcombe(*bad)


def _exact_coverage(rate_t: float, rate_c: float, n_t: int, n_c: int) -> tuple[float, float]:
    """(coverage of the interval, size of the p-value when rates are equal), over all tables with their probability."""
    x_t, x_c = np.arange(n_t + 1)[:, None], np.arange(n_c + 1)
    weight = sps.binom.pmf(x_t, n_t, rate_t) * sps.binom.pmf(x_c, n_c, rate_c)
    low, high = newcombe(x_t, n_t, x_c, n_c)
    covered = (low <= rate_t - rate_c) & (rate_t - rate_c <= high)
    p, _ = boschloo_exact(x_t, n_t, x_c, n_c)
    return float((weight * covered).sum()), float((weight * (p <= 0.05)).sum())


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_the_exact_test_never_rejects_more_than_it_says_and_intervals_cover(rate):
    coverage, size = _exact_coverage(rate, rate, 30, 24)
    assert size <= 0.05
    assert coverage >= 0.93


@pytest.mark.simulation
@pytest.mark.parametrize(("n_t", "n_c"), [(200, 200), (20_000, 200), (500, 5000)])
@pytest.mark.parametrize("expected", [1.5, 5.0])
def test_small_counts_of_large_arms_keep_size_and_coverage(n_t, n_c, expected):
    rng, replications = np.random.default_rng([n_t, n_c, int(10 * expected)]), 20_000
    rate = expected / min(n_t, n_c)
    x_t, x_c = rng.binomial(n_t, rate, replications), rng.binomial(n_c, rate, replications)
    p, exact = boschloo_exact(x_t, n_t, x_c, n_c)
    assert exact.all()
    size = float((p <= 0.05).mean())
    assert size <= 0.05 or within(size, 0.05, replications, 0.0)
    low, high = newcombe(x_t, n_t, x_c, n_c)
    assert float(((low <= 0) & (high >= 0)).mean()) >= 0.94
