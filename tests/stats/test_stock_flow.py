"""North Stars that are stocks: changes of retention compound (METHODS E5)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.stock_flow import RETENTION_REACHES_ONE, course, path, steady_state_lift

POINT = float(np.log(0.951 / 0.95))
"""A tenth of a percentage point more weekly retention, from 95 %."""


def test_a_tenth_of_a_point_of_retention_is_two_percent_and_takes_a_quarter_of_a_year_for_half_of_it() -> None:
    assert float(steady_state_lift(0.95, POINT, 0.0)) == pytest.approx(0.02, abs=0.0005)
    lift = path(0.95, 50.0, POINT, 0.0, None, 60) - 1
    half = float(steady_state_lift(0.95, POINT, 0.0)) / 2
    assert lift[12] < half < lift[13]
    got = course(0.95, 50.0, [POINT, 0.0], np.eye(2) * 1e-12, start=None, periods=26, seed=1)
    assert 13 < got.half_way < 14
    np.testing.assert_allclose(got.median, lift[:26], atol=1e-6)


def test_the_path_is_the_closed_form() -> None:
    rho, flow, start, d_rho, d_flow = 0.8, 30.0, 100.0, 0.05, -0.1
    t = np.arange(1, 13)

    def stock(retention: float, inflow: float) -> np.ndarray:
        end = inflow / (1 - retention)
        return end + (start - end) * retention**t

    want = stock(rho * np.exp(d_rho), flow * np.exp(d_flow)) / stock(rho, flow)
    np.testing.assert_allclose(path(rho, flow, d_rho, d_flow, start, 12), want, rtol=1e-12)


@settings(max_examples=20)
@given(st.floats(0.3, 0.95), st.floats(0, 1), st.floats(0, 0.3), st.sampled_from([-1, 1]))
def test_changes_of_one_sign_move_a_steady_stock_one_way_to_its_new_steady_state(
    retention: float, part: float, inflow_change: float, sign: int
) -> None:
    change = sign * part * 0.5 * -float(np.log(retention))
    ratio = path(retention, 10.0, change, sign * inflow_change, None, 400)
    assert (sign * np.diff(ratio) >= -1e-12).all()
    end = float(steady_state_lift(retention, change, sign * inflow_change))
    assert float(ratio[-1]) == pytest.approx(1 + end, rel=1e-4)
    small = float(steady_state_lift(retention, 1e-6, 1e-6))
    assert small == pytest.approx(1e-6 * (1 + retention / (1 - retention)), rel=1e-3)


def test_weeks_in_which_nobody_has_the_change_move_nothing() -> None:
    weight = np.array([0.0, 0.0, 1.0, 1.0])
    ratio = path(0.9, 10.0, 0.01, 0.02, None, 4, weight=weight)
    np.testing.assert_allclose(ratio[:2], 1, rtol=1e-15)
    np.testing.assert_allclose(ratio[2:], path(0.9, 10.0, 0.01, 0.02, None, 2), rtol=1e-12)
    assert path(np.full((3, 1), 0.9), 10.0, np.zeros(5), 0.0, 100.0, 7).shape == (3, 5, 7)


def test_a_retention_of_one_has_no_steady_state() -> None:
    assert np.isnan(steady_state_lift([0.95, 1.0, 0.0], [0.06, 0.0, 0.0], 0.0)).all()
    ratio = path(np.array([0.9, 0.95]), 10.0, np.array([0.01, 0.06]), 0.0, None, 3)
    assert np.isfinite(ratio[0]).all() and np.isnan(ratio[1]).all()
    vague = course(0.98, 10.0, [0.01, 0.0], np.diag([1e-4, 1e-4]), start=None, periods=4, seed=1)
    assert vague.reason == RETENTION_REACHES_ONE
    assert np.isnan([vague.steady_state, *vague.median]).all()
    assert course(1.0, 10.0, [-0.01, 0.0], np.eye(2) * 1e-8, start=5.0, periods=4, seed=1).reason


def test_effects_that_share_their_noise_are_drawn_together() -> None:
    changes, sd = [0.002, 0.01], np.array([0.001, 0.02])
    wide, narrow = (
        course(0.9, 10.0, changes, np.array([[1, c], [c, 1]]) * sd * sd[:, None], start=None, periods=10, seed=2)
        for c in (0.9, -0.9)
    )
    for got, c in ((wide, 0.9), (narrow, -0.9)):
        # d ln A* = d ln F + rho d ln rho / (1 - rho)
        slope = np.array([9.0, 1.0])
        spread = np.sqrt(slope @ (np.array([[1, c], [c, 1]]) * sd * sd[:, None]) @ slope)
        width = np.log1p(got.steady_state_upper) - np.log1p(got.steady_state_lower)
        assert width == pytest.approx(2 * 1.2816 * spread, rel=0.06)
    assert (wide.upper_80 - wide.lower_80 > narrow.upper_80 - narrow.lower_80).all()
    assert (wide.lower_80 < wide.median).all() and (wide.median < wide.upper_80).all()


def test_what_is_no_covariance_is_refused() -> None:
    for changes, covariance, draws in (
        ([0.1, 0.1], np.array([[1.0, 2.0], [2.0, 1.0]]), 100),
        ([0.1], np.eye(2), 100),
        ([0.1, np.nan], np.eye(2), 100),
        ([0.1, 0.1], np.eye(2), 101),
    ):
        with pytest.raises(ValueError, match=r"covariance|finite|antithetic"):
            course(0.9, 10.0, changes, covariance, start=None, periods=3, seed=0, draws=draws)
    with pytest.raises(ValueError, match="one period"):
        path(0.9, 10.0, 0.0, 0.0, None, 0)
