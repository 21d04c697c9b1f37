"""Evidence keeps its meaning when it is averaged, multiplied, or made from p-values."""

import numpy as np
import pytest
import scipy.integrate as si

from stats.always_valid import log_e_value, two_sided
from stats.e_values import average, calibrated, p_value, product


def test_averages_and_products_are_taken_in_logarithms():
    e = np.array([[2.0, 8.0, np.nan], [np.nan] * 3, [1.0, 1.0, 4.0]])
    np.testing.assert_allclose(np.exp(average(np.log(e))), [5.0, np.nan, 2.0])
    np.testing.assert_allclose(np.exp(product(np.log(e))), [16.0, np.nan, 4.0])
    np.testing.assert_allclose(np.exp(average(np.log(e[::2, :2]), [3, 1])), [3.5, 1.0])
    np.testing.assert_allclose(average([5000.0, -5000.0]), 5000 - np.log(2))
    np.testing.assert_allclose(average([800.0, 3.0], [0, 1]), 3.0)
    assert average([-np.inf, -np.inf]) == -np.inf and average([np.inf, 0.0]) == np.inf
    assert np.isnan(average([])) and np.isnan(product([]))
    np.testing.assert_allclose(average(np.log(e), axis=0).shape, (3,))
    with pytest.raises(ValueError, match="weights"):
        average([0.0, 1.0], [-1, 1])


@pytest.mark.parametrize("kappa", [None, 0.1, 0.5, 0.9])
def test_a_calibrated_p_value_is_an_e_value(kappa):
    """Its mean under the hypothesis, an integral over uniform p, is 1. Over x = -ln p it has no pole."""
    mean, _ = si.quad(lambda x: np.exp(calibrated(-x, kappa) - x), 0, np.inf, limit=500)
    # The average over kappa has the tail 1 / x^2 beyond the reach of the integrator.
    assert mean == pytest.approx(1.0, abs=1e-6 if kappa else 1e-3)


def test_calibration_is_smooth_and_survives_underflow():
    log_p = -np.array([0.0, 1e-9, 0.999e-3, 1.001e-3, 1.0, 20_000.0, np.inf, np.nan])
    got = calibrated(log_p)
    np.testing.assert_allclose(got[:2], np.log(0.5), atol=1e-9)
    assert got[3] - got[2] == pytest.approx(2e-6 / 3, rel=0.01)
    p = np.exp(-1.0)
    assert np.exp(got[4]) == pytest.approx((1 - p + p * np.log(p)) / p, rel=1e-12)
    assert got[5] == pytest.approx(20_000 - 2 * np.log(20_000)) and got[6] == np.inf and np.isnan(got[7])
    for wrong in ({"log_p": 0.1}, {"log_p": -1.0, "kappa": 1.0}):
        with pytest.raises(ValueError):
            calibrated(**wrong)


def test_the_p_value_of_evidence_is_the_always_valid_one():
    value, variance = np.array([0.0, 0.4, 2.0]), 0.04
    path = two_sided(value, variance, 3000, 5000)
    np.testing.assert_allclose(p_value(path.log_e), path.p_value)
    assert p_value(-3.0) == 1.0


def test_combined_evidence_misleads_as_rarely_as_single_evidence():
    rng = np.random.default_rng(8)
    factor = rng.normal(size=(20_000, 1))
    dependent = np.sqrt(0.8) * factor + np.sqrt(0.2) * rng.normal(size=(20_000, 6))
    for z, combine in ((dependent, average), (rng.normal(size=(20_000, 6)), product)):
        log_e = combine(log_e_value(z, 1.0, 1.0, 1.0))
        assert (log_e >= np.log(20)).mean() <= 0.05
        # The mean of evidence is 1, but heavy-tailed: half of it comes from one case in thousands.
        assert np.exp(log_e).mean() < 1.3
