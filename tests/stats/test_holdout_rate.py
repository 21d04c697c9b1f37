"""Realised against claimed: Fieller's interval of the rate, and how many people it takes (METHODS F3)."""

import math

import numpy as np
import pytest

from stats.programme.holdout_rate import needed_error, realised_rate, times_more_units


def test_the_rate_is_realised_over_claimed_with_fiellers_interval() -> None:
    found = realised_rate(0.04, 0.009, 0.06, 0.01)
    assert found.kappa == pytest.approx(2 / 3) and not found.unbounded
    # Its ends are where (realised - kappa claimed) is 1.96 of its own standard errors.
    for end in (found.lower, found.upper):
        gap = 0.04 - end * 0.06
        assert abs(gap) / math.hypot(0.009, end * 0.01) == pytest.approx(1.959964, rel=1e-6)
    known = realised_rate(0.04, 0.009, 0.06, 0.0)
    assert (known.lower, known.upper) == pytest.approx(
        ((0.04 - 1.959964 * 0.009) / 0.06, (0.04 + 1.959964 * 0.009) / 0.06)
    )
    turned = realised_rate(-0.04, 0.009, -0.06, 0.01)
    assert (turned.kappa, turned.lower, turned.upper) == pytest.approx((found.kappa, found.lower, found.upper))


def test_a_claim_that_may_be_nothing_fits_every_rate() -> None:
    found = realised_rate(0.04, 0.009, 0.01, 0.01)
    assert found.unbounded and found.kappa == pytest.approx(4) and math.isnan(found.lower)
    nothing = realised_rate(0.04, 0.009, 0.0, 0.0)
    assert nothing.unbounded and math.isnan(nothing.kappa)
    for given in ((math.nan, 0.01, 0.06, 0.01), (0.04, 0.0, 0.06, 0.01), (0.04, 0.01, 0.06, -0.01)):
        with pytest.raises(ValueError):
            realised_rate(*given)


def test_six_per_cent_to_thirty_points_needs_nine_thousandths() -> None:
    assert needed_error(0.06) == pytest.approx(0.009, abs=2e-4)
    assert needed_error(-0.06) == needed_error(0.06)
    assert math.isnan(needed_error(0.0))
    assert times_more_units(0.018, 0.009) == pytest.approx(4)
    assert times_more_units(0.001, 0.009) == 1.0


def test_the_interval_holds_the_true_rate() -> None:
    rng = np.random.default_rng(1)
    runs, held = 4000, 0
    for realised, claimed in zip(rng.normal(0.6 * 0.06, 0.009, runs), rng.normal(0.06, 0.015, runs), strict=True):
        found = realised_rate(realised, 0.009, claimed, 0.015)
        held += found.unbounded or found.lower <= 0.6 <= found.upper
    assert held / runs == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / runs) + 0.003)
