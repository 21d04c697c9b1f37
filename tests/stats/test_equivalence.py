"""Safe means that the harm of the margin was ruled out, never that nothing was seen."""

import numpy as np
import pytest
import scipy.stats as sps
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from stats.equivalence import equivalence, log_margin, non_inferiority
from tests.shared_data import golden
from tests.stats.moment_cases import within


def test_equivalence_of_proportions_is_that_of_statsmodels():
    case = golden("libraries", "tost_proportions")
    i = case["inputs"]
    p_c, p_t = i["count_control"] / i["n_control"], i["count_treatment"] / i["n_treatment"]
    error = np.sqrt(p_c * (1 - p_c) / i["n_control"] + p_t * (1 - p_t) / i["n_treatment"])
    got = equivalence(p_t - p_c, error, np.inf, 0.02, 0.06)
    assert float(got) == pytest.approx(case["expected"]["pvalue"], rel=1e-12)


def test_equivalence_of_means_is_that_of_statsmodels():
    rng = np.random.default_rng(3)
    t, c = rng.normal(0.1, 1, 60), rng.normal(0, 2, 80)
    theirs = CompareMeans(DescrStatsW(t), DescrStatsW(c)).ttost_ind(-0.7, 0.9, usevar="unequal")
    v_t, v_c = t.var(ddof=1) / 60, c.var(ddof=1) / 80
    df = (v_t + v_c) ** 2 / (v_t**2 / 59 + v_c**2 / 79)
    got = equivalence(t.mean() - c.mean(), np.sqrt(v_t + v_c), df, 0.7, 0.9)
    assert float(got) == pytest.approx(theirs[0], rel=1e-10)
    lower = non_inferiority(t.mean() - c.mean(), np.sqrt(v_t + v_c), df, 0.7)
    upper = non_inferiority(t.mean() - c.mean(), np.sqrt(v_t + v_c), df, 0.9, direction=-1)
    assert max(float(lower), float(upper)) == pytest.approx(theirs[0], rel=1e-10)


def test_it_is_safe_exactly_when_the_bound_clears_the_margin():
    value, error, df = np.array([-0.6, -0.3, 0.0, 0.4]), 0.3, np.array([5.0, 30.0, 500.0, np.inf])
    for direction in (1, -1):
        p = non_inferiority(value, error, df, 0.5, direction)
        bound = direction * value - sps.t.ppf(0.95, df) * error
        assert ((p < 0.05) == (bound > -0.5)).all()
    same = equivalence(value, error, df, 0.9)
    half = sps.t.ppf(0.95, df) * error
    assert ((same < 0.05) == ((value - half > -0.9) & (value + half < 0.9))).all()
    np.testing.assert_allclose(non_inferiority(value, error, df, 0.0), sps.t.sf(value / error, df))


def test_a_relative_margin_means_the_same_harm_on_the_log_scale():
    np.testing.assert_allclose(np.exp(-log_margin(0.1)), 0.9)
    np.testing.assert_allclose(np.exp(log_margin(0.1, -1)), 1.1)
    np.testing.assert_allclose(log_margin([0.1, 0.1], [1, -1]), [-np.log(0.9), np.log(1.1)])
    assert float(log_margin(1.5, -1)) == pytest.approx(np.log(2.5))
    for wrong in ((0.0, 1), (1.0, 1), (0.1, 0)):
        with pytest.raises(ValueError):
            log_margin(*wrong)


def test_what_has_no_standard_error_has_no_p_value():
    got = non_inferiority([0.1, np.nan, 0.1], [0.0, 1.0, np.nan], 10, 0.5)
    assert np.isnan(got).all()
    assert np.isnan(equivalence([0.1, np.nan], [0.0, 1.0], 10, 0.5)).all()
    with pytest.raises(ValueError, match="negative"):
        non_inferiority(0.0, 1.0, 10, -0.1)
    with pytest.raises(ValueError, match="positive"):
        equivalence(0.0, 1.0, 10, 0.0)


@pytest.mark.parametrize(("standard_errors", "not_worse"), [(1.0, 0.83), (2.0, 0.48), (3.0, 0.15)])
def test_a_harm_as_large_as_the_margin_is_cleared_at_most_at_alpha(standard_errors, not_worse):
    """Where "not significantly worse" clears it far more often."""
    rng = np.random.default_rng(int(standard_errors))
    value = rng.normal(-standard_errors, 1, 20_000)
    assert within(float((sps.norm.sf(-value) > 0.025).mean()), not_worse, 20_000, 0.01)
    cleared = non_inferiority(value, 1.0, np.inf, standard_errors) < 0.05
    assert within(float(cleared.mean()), 0.05, 20_000, 0.0)
    both = (equivalence(value, 1.0, np.inf, standard_errors) < 0.05).mean()
    assert both <= 0.05 + 0.004
