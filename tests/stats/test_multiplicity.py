"""Corrections keep their promise for families with gaps, ties and probabilities too small for a float."""

import numpy as np
import pytest
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from stats.multiplicity import (
    adjusted,
    adjusted_log10,
    decision_errors,
    dunnett,
    e_bh,
    fcr_level,
    simultaneous_level,
)
from tests.shared_data import golden
from tests.stats.moment_cases import within

THEIRS = {
    "bonferroni": "bonferroni",
    "holm": "holm",
    "benjamini_hochberg": "fdr_bh",
    "benjamini_yekutieli": "fdr_by",
}


@pytest.mark.parametrize("method", THEIRS)
def test_adjusted_p_values_are_those_of_statsmodels(method):
    case = golden("libraries", "multiple_testing_adjusted_p")
    np.testing.assert_allclose(
        adjusted(case["inputs"]["pvalues"], method), case["expected"][THEIRS[method]], rtol=1e-12
    )


@pytest.mark.parametrize("method", ["holm", "benjamini_hochberg", "benjamini_yekutieli"])
def test_zero_one_and_ties_are_adjusted_like_statsmodels_in_the_order_given(method):
    case = golden("libraries", "multiple_testing_edge")
    expected = case["expected"][THEIRS[method]]
    got = adjusted(case["inputs"]["pvalues"], method)
    np.testing.assert_allclose(got, expected["p_adj"], rtol=1e-12)
    assert (got <= 0.05).tolist() == expected["reject"]


def test_adjusted_p_values_are_those_of_growthbook():
    case = golden("gbstats", "pcorr_holm_basic")
    np.testing.assert_allclose(adjusted(case["inputs"]["p_values"], "holm"), case["expected"]["adjusted"], rtol=1e-12)


def test_a_test_that_was_not_made_does_not_count_into_the_family():
    for method in ("holm", "benjamini_hochberg"):
        np.testing.assert_allclose(adjusted([0.01, np.nan, 0.04], method), [0.02, np.nan, 0.04])
    np.testing.assert_allclose(adjusted([0.01, np.nan, 0.04], "bonferroni"), [0.02, np.nan, 0.08])
    assert np.isnan(adjusted([np.nan, np.nan], "benjamini_yekutieli")).all()


@pytest.mark.parametrize("method", [*THEIRS, "none"])
def test_one_test_stays_as_it_is_and_no_test_stays_empty(method):
    assert adjusted([0.03], method).tolist() == [0.03]
    assert adjusted([], method).shape == (0,)
    assert adjusted(np.empty((3, 0)), method).shape == (3, 0)


@settings(max_examples=40)
@given(
    st.lists(
        st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1)), min_size=4, max_size=4), min_size=1, max_size=5
    ),
    st.sampled_from(sorted(THEIRS)),
)
def test_many_families_at_once_are_each_adjusted_like_statsmodels(families, method):
    together = adjusted(families, method)
    for family, got in zip(families, together, strict=True):
        p = np.array(family)
        known = ~np.isnan(p)
        assert (np.isnan(got) == ~known).all()
        if known.any():
            np.testing.assert_allclose(
                got[known], multipletests(p[known], method=THEIRS[method])[1], rtol=1e-12, atol=1e-300
            )
            assert (got[known] >= p[known]).all()
            # The same order in logarithms.
            with np.errstate(divide="ignore"):
                logs = adjusted_log10(np.log10(p), method)
            np.testing.assert_allclose(10 ** logs[known], got[known], rtol=1e-9, atol=1e-300)


def test_p_values_below_every_float_are_still_ordered():
    got = adjusted_log10([-8689.6, -9000.0, -1.5, np.nan], "benjamini_hochberg")
    np.testing.assert_allclose(got, [-8689.6 + np.log10(1.5), -9000 + np.log10(3), -1.5, np.nan])
    assert adjusted([0.0, 0.0, 0.04, np.nan], "benjamini_hochberg").tolist()[:3] == [0.0, 0.0, 0.04]


def test_bad_families_and_methods_are_refused():
    for wrong in ([-0.1], [1.1]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            adjusted(wrong, "holm")
    with pytest.raises(ValueError, match="positive"):
        adjusted_log10([0.1], "holm")
    with pytest.raises(ValueError, match="unknown"):
        adjusted([0.1, 0.2], "sidak")


def test_the_k_largest_e_values_are_rejected_when_the_k_th_is_large_enough():
    e = np.array([30.0, 200.0, np.nan, 45.0, 1.0, 0.5])
    rejected, logs = e_bh(np.log(e), 0.05)
    # m = 5: thresholds 100, 50, 33.3, 25, 20. Only the largest passes its own.
    assert rejected.tolist() == [False, True, False, False, False, False]
    np.testing.assert_allclose(np.exp(logs), [18, 40, np.nan, 18, 0.8, 0.5])
    rejected, _ = e_bh(np.log([34.0, 200.0, np.nan, 45.0, 1.0, 0.5]), 0.05)
    assert rejected.tolist() == [True, True, False, True, False, False]
    rejected, logs = e_bh(np.array([5000.0, -np.inf, 4000.0]), 0.05)
    assert rejected.tolist() == [True, False, True] and np.isfinite(logs[[0, 2]]).all()
    assert e_bh([], 0.05)[0].shape == (0,)
    assert e_bh(np.log([20.0]), 0.05)[0].tolist() == [True]
    with pytest.raises(ValueError, match="alpha"):
        e_bh([1.0], 0.0)


def test_selected_parameters_get_wider_intervals_by_the_share_selected():
    rejected = np.array([[True, False, True, False], [True] * 4, [False] * 4])
    np.testing.assert_allclose(fcr_level(rejected), [0.975, 0.95, 0.9875])
    np.testing.assert_allclose(fcr_level(rejected, 0.9, [2, 8, 4]), [0.9, 0.95, 0.975])
    np.testing.assert_allclose(simultaneous_level(np.array([1, 5])), [0.95, 0.99])
    with pytest.raises(ValueError, match="level"):
        fcr_level(rejected, 1.0)


@pytest.mark.parametrize(
    ("treatments", "df", "published"),
    [(2, 10, 2.57), (3, 20, 2.54), (2, 1e9, 2.21), (9, 1e9, 2.69), (5, 10, 2.99), (4, 60, 2.51)],
)
def test_the_shared_critical_value_is_dunnett_s(treatments, df, published):
    _, critical = dunnett(np.zeros(treatments), df, np.ones(treatments + 1))
    assert float(critical) == pytest.approx(published, abs=0.0051)


def test_adjusted_p_values_of_many_arms_are_those_of_scipy():
    rng = np.random.default_rng(0)
    arms = [rng.normal(m, 1, n) for n, m in ((12, 0.0), (15, 0.8), (9, 1.2), (20, 0.3))]
    theirs = sps.dunnett(*arms[1:], control=arms[0], rng=np.random.default_rng(1))
    sizes = [len(arm) for arm in arms]
    got, critical = dunnett(theirs.statistic, sum(sizes) - 4, sizes)
    np.testing.assert_allclose(got, theirs.pvalue, atol=2e-4)  # theirs is a Monte Carlo integral
    at_critical, _ = dunnett(np.full(3, float(critical)), sum(sizes) - 4, sizes)
    np.testing.assert_allclose(at_critical, 0.05, rtol=1e-6)


def test_dunnett_of_one_treatment_is_its_t_test_and_of_many_lies_between_that_and_bonferroni():
    t = np.array([[2.0, -3.5, 9.0, 40.0, np.nan]])
    df = np.array([7.0, 350.0, 5000.0, 1e7, 10.0])
    p, critical = dunnett(t, df, [100, 100])
    np.testing.assert_allclose(p[0, :4], 2 * sps.t.sf(np.abs(t[0, :4]), df[:4]), rtol=1e-9)
    np.testing.assert_allclose(critical[:4], sps.t.ppf(0.975, df[:4]), rtol=1e-8)
    assert np.isnan(p[0, 4]) and np.isnan(critical[4])
    many, critical = dunnett(np.vstack([t, 0.9 * t, 0.5 * t]), df, [300, 100, 100, 50])
    assert (many[0, :4] >= p[0, :4]).all() and (many[0, :4] <= 3 * p[0, :4]).all()
    assert (critical[:4] < sps.t.ppf(1 - 0.05 / 6, df[:4])).all()
    # A comparison that was not made does not count.
    alone, _ = dunnett(np.array([2.2, np.nan]), 50.0, [10, 10, 10])
    assert alone[0] == pytest.approx(2 * sps.t.sf(2.2, 50), rel=1e-9)


def test_dunnett_follows_the_variances_of_the_arms():
    rng = np.random.default_rng(5)
    error = np.sqrt(np.array([4.0, 0.5, 2.0]))
    draws = rng.normal(size=(200_000, 3)) * error
    t = (draws[:, 1:] - draws[:, :1]) / np.sqrt(error[1:] ** 2 + error[0] ** 2)
    _, critical = dunnett(np.zeros(2), 1e9, [1, 1, 1], variance=error**2)
    assert within(float((np.abs(t).max(axis=1) > float(critical)).mean()), 0.05, 200_000, 0.0)
    with pytest.raises(ValueError, match="every arm"):
        dunnett([1.0, 2.0], 10, [5, 5])


def test_each_test_gets_its_part_of_the_errors_of_the_decision():
    alone, guarded = decision_errors(0.05, 0.8, 1, 0), decision_errors(0.05, 0.8, 2, 3)
    assert (alone.alpha_per_success_test, alone.power_per_test) == pytest.approx((0.05, 0.8))
    assert (guarded.alpha_per_success_test, guarded.power_per_test) == pytest.approx((0.025, 0.95))
    spent = decision_errors(0.05, 0.8, 1, 3, deterioration_alpha=0.04, quality_alpha=0.01)
    assert spent.power_per_test == pytest.approx(1 - 0.15 / 4)
    assert decision_errors(0.05, 0.8, 0, 4).power_per_test == pytest.approx(0.95)
    with pytest.raises(ValueError, match="alone"):
        decision_errors(0.05, 0.8, 1, 0, deterioration_alpha=0.2)
    with pytest.raises(ValueError, match="negative"):
        decision_errors(0.05, 0.8, -1, 0)


def shipped(replications: int, seed: int, guardrails: int, effect: float, harm: float, power_per_test: float) -> float:
    """Share of experiments that ship: one success test and guardrails, each with its own share of the errors."""
    rng = np.random.default_rng(seed)
    need = sps.norm.ppf([0.975, 0.95]) + sps.norm.ppf(power_per_test)
    success = rng.normal(effect * need[0], 1, replications) > sps.norm.ppf(0.975)
    safe = rng.normal((1 - harm) * need[1], 1, (replications, guardrails)) > sps.norm.ppf(0.95)
    return float((success & safe.all(axis=1)).mean())


def test_a_decision_over_several_tests_has_the_power_and_the_errors_that_were_planned():
    per_test = decision_errors(0.05, 0.8, 1, 3).power_per_test
    assert shipped(20_000, 1, 3, 1.0, 0.0, per_test) >= 0.8
    assert shipped(20_000, 1, 3, 1.0, 0.0, 0.8) == pytest.approx(0.41, abs=0.01)
    assert shipped(20_000, 2, 3, 0.0, 0.0, per_test) <= 0.05
    assert shipped(20_000, 3, 1, 1.0, 1.0, per_test) <= 0.05 + 0.005


def false_shares(replications: int, seed: int, dependence: float, null_share: float) -> dict[str, float]:
    """False discovery rates at q = 0.1 (family-wise for Holm) of 20 tests with a common factor."""
    rng = np.random.default_rng(seed)
    m, q = 20, 0.1
    true = np.arange(m) >= round(m * null_share)
    z = np.sqrt(dependence) * rng.normal(size=(replications, 1)) + np.sqrt(1 - dependence) * rng.normal(
        size=(replications, m)
    )
    z = z + 3.0 * true
    p = 2 * sps.norm.sf(np.abs(z))
    # The mixture e-value of `stats.always_valid` with r = 1.
    e, _ = e_bh(z**2 / 4 - np.log(2) / 2, q)
    rejected = {name: adjusted(p, name) <= q for name in ("benjamini_hochberg", "benjamini_yekutieli", "holm")} | {
        "e_bh": e
    }
    rates = {}
    for name, chosen in rejected.items():
        false = (chosen & ~true).sum(axis=1)
        rates[name] = float(
            (false > 0).mean() if name == "holm" else (false / np.maximum(chosen.sum(axis=1), 1)).mean()
        )
    return rates


@pytest.mark.parametrize("dependence", [0.0, 0.5, 0.9])
def test_false_discoveries_stay_below_what_was_promised(dependence):
    for null_share in (0.5, 0.9, 1.0):
        for name, rate in false_shares(2000, 7, dependence, null_share).items():
            assert rate <= 0.1 + 0.01 + 3 * np.sqrt(0.09 / 2000), (name, null_share)
