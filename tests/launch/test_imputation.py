"""What treated cells would have been, from untreated cells alone: right where a two-way regression is not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.launch.contract import Estimated, NotEstimable, Panel
from stats.launch.did import did
from stats.launch.group_time import group_time
from stats.launch.imputation import imputation, impute
from stats.launch.reasons import LaunchReason
from stats.launch.two_way import two_way
from stats.moments import Floats
from tests.launch.donor_panels import california
from tests.launch.rollout_panels import average, fast_food, rollout

METHODS: dict[str, Callable[[Panel], Estimated]] = {
    "did": did,
    "imputation": lambda panel: imputation(panel, seed=1, draws=99),
    "group_time": lambda panel: group_time(panel, seed=1, draws=99),
}
IMPUTED = (0.0911333, 0.1016723, 0.1094513, 0.1135374, 0.1261587, 0.1201546, 0.1370995)
"""Effects at 0 to 6 periods since launch of `published`, by diff-diff 3.13.0 (`ImputationDiD`)."""


def published() -> Panel:
    return rollout(
        np.random.default_rng(11), units=40, treated=20, periods=12, starts=(5, 7, 9), effect=0.1, growth=0.01
    )[0]


def dummies(panel: Panel) -> Floats:
    """(N, T, N + T) the two-way regression written out."""
    n, t = panel.y.shape
    unit = np.broadcast_to(np.eye(n)[:, None, :], (n, t, n))
    return np.concatenate([unit, np.broadcast_to(np.eye(t)[None], (n, t, t))], axis=2)


def test_two_way_regression_is_wrong_where_effects_grow_and_imputation_is_not():
    steps = {"treated": 24, "starts": (4, 10, 16), "periods": 24}
    panel, true = rollout(np.random.default_rng(1), **steps, effect=0.2, growth=0.15, noise=1e-3)
    x = np.concatenate([panel.coverage[..., None], dummies(panel)], axis=2).reshape(panel.y.size, -1)
    two_way_regression = np.linalg.lstsq(x, panel.y.ravel(), rcond=None)[0][0]
    truth = average(panel, true)
    assert two_way_regression < 0.7 * truth
    assert METHODS["imputation"](panel).effect == pytest.approx(truth, abs=1e-3)
    assert METHODS["group_time"](panel).effect == pytest.approx(truth, abs=2e-3)


def test_it_is_what_another_implementation_finds():
    found = imputation(published(), seed=1)
    assert found.effect == pytest.approx(0.10982020961359312, rel=1e-7)
    assert found.event_study is not None
    assert found.event_study.effect[found.event_study.time >= 0] == pytest.approx(IMPUTED, abs=1e-6)
    assert 0.006940613 < found.standard_error < 1.1 * 0.006940613  # theirs does not allow for few units


def test_published_cases_without_staggering_are_differences_in_differences():
    for panel in (california(), fast_food()):
        plain, imputed = did(panel), METHODS["imputation"](panel)
        for name in ("effect", "standard_error", "lower", "upper", "p_value"):
            assert getattr(imputed, name) == pytest.approx(getattr(plain, name), rel=1e-9)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), gaps=st.floats(0, 0.5))
def test_gaps_do_not_change_what_least_squares_says(seed: int, gaps: float):
    rng = np.random.default_rng(seed)
    panel, _ = rollout(rng, units=12, treated=6, periods=15, starts=(5, 8, 11))
    panel = replace(panel, y=np.where(rng.random(panel.y.shape) < gaps, np.nan, panel.y))
    fit, cells = impute(panel)
    x = dummies(panel)
    assert not fit.cells[panel.coverage > 0].any()
    slopes = np.linalg.lstsq(x[fit.cells], panel.y[fit.cells], rcond=None)[0]
    expected = (x @ slopes)[cells.known]
    assert cells.effect[cells.known] == pytest.approx(panel.y[cells.known] - expected, abs=1e-9)


def test_units_that_nothing_connects_are_not_compared():
    y = np.array([[1.0, 2.0, np.nan, np.nan], [2.0, 3.5, np.nan, np.nan], [np.nan, np.nan, 7.0, 9.0]])
    fit = two_way(y, np.isfinite(y))
    assert fit.cells.sum() == 4 and np.isnan(fit.unit[2]) and np.isnan(fit.period[2:]).all()
    with pytest.raises(NotEstimable, match=LaunchReason.NO_UNTREATED_CELLS):
        two_way(y, np.zeros(y.shape, dtype=np.bool_))


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 10))
def test_levels_shocks_and_excluded_cells_do_not_matter(method: str, seed: int, scale: float):
    rng = np.random.default_rng(seed)
    panel, _ = rollout(rng, announced=2, uneven=0.5, effect=0.1)
    ask = METHODS[method]
    plain = ask(panel)
    moved = panel.y + rng.standard_normal((30, 1)) + rng.standard_normal(40)
    disturbed = np.where(panel.excluded, rng.choice([np.nan, 1e6], panel.y.shape), scale * moved)
    other = ask(replace(panel, y=disturbed))
    for name in ("effect", "standard_error", "lower", "upper", "by_period"):
        assert getattr(other, name) == pytest.approx(scale * getattr(plain, name), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_path_and_its_covariance_add_up_to_the_effect(method: str):
    panel, _ = rollout(np.random.default_rng(2), starts=(20,), uneven=0.3)
    found = METHODS[method](panel)
    share = np.full(20, 1 / 20)
    assert share @ found.by_period == pytest.approx(found.effect)
    assert np.sqrt(share @ found.covariance @ share) == pytest.approx(found.standard_error)
    size = panel.weight[:9] / panel.weight[:9].sum()
    assert (size @ panel.y[:9] - found.fitted)[20:] == pytest.approx(found.by_period)


def test_everybody_launched_in_the_end_still_has_an_answer_until_then():
    panel, true = rollout(
        np.random.default_rng(3), units=20, treated=20, starts=(15, 20, 25, 30), effect=0.1, growth=0.01
    )
    found = METHODS["imputation"](panel)
    until = replace(panel, weight=panel.weight * (panel.first < 30), coverage=panel.coverage * (np.arange(40) < 30))
    assert found.effect == pytest.approx(average(until, true), abs=3 * found.standard_error)
    assert found.periods.max() == 29 and "cells_without_comparison_left_out" in found.notes


def test_of_unequal_units_that_all_launch_the_interval_is_wide_but_there():
    panel, _ = rollout(np.random.default_rng(3), units=12, treated=12, starts=(12, 18, 24, 30), uneven=1.0)
    found = METHODS["imputation"](panel)
    assert not found.reason and found.upper - found.lower > 2 * 2.2 * found.standard_error
    few = replace(
        panel,
        coverage=panel.coverage * (np.arange(12) < 4)[:, None],
        y=panel.y * np.where(np.arange(12) < 5, 1, np.nan)[:, None],
    )
    assert METHODS["imputation"](few).reason == LaunchReason.TOO_FEW_COMPARISON_UNITS


def test_units_of_no_size_have_no_say():
    panel, true = rollout(np.random.default_rng(12), effect=0.1, growth=0.01, noise=1e-6)
    size = panel.weight * (np.arange(30) != 0)
    for method in METHODS.values():
        found = method(replace(panel, weight=size, y=panel.y + 5 * panel.coverage * (size == 0)[:, None]))
        assert found.effect == pytest.approx(average(replace(panel, weight=size), true), abs=1e-5)


def test_an_announcement_that_units_act_on_shows_before_the_launch_and_can_be_excluded():
    panel, true = rollout(np.random.default_rng(4), anticipated=0.08, effect=0.1)
    acted = METHODS["imputation"](panel).event_study
    assert acted is not None
    early = np.isin(acted.time, (-3, -2, -1))
    assert (acted.lower[early] > 0).all()
    assert not (acted.band_lower[acted.time < -3] > 0).any()
    told, _ = rollout(np.random.default_rng(4), anticipated=0.08, effect=0.1, announced=3)
    found = METHODS["imputation"](told)
    assert found.lower < average(told, true) < found.upper
    assert found.event_study is not None and not np.isin(found.event_study.time, (-3, -2, -1)).any()


def test_bands_hold_every_pointwise_interval_and_repeat_with_the_seed():
    panel, _ = rollout(np.random.default_rng(5))
    one, again, other = (imputation(panel, seed=seed).event_study for seed in (1, 1, 2))
    assert one is not None and again is not None and other is not None
    assert (one.band_lower <= one.lower).all() and (one.upper <= one.band_upper).all()
    assert np.array_equal(one.band_upper, again.band_upper) and not np.array_equal(one.band_upper, other.band_upper)
    assert one.cells[one.time == 0] == 9


def test_few_units_or_one_large_one_among_them_get_the_spread_of_the_others():
    for treated, uneven, noted in ((3, 0.0, True), (4, 0.0, True), (5, 0.0, False), (9, 2.0, True)):
        panel, _ = rollout(np.random.default_rng(6), treated=treated, uneven=uneven)
        assert ("few_treated_units" in METHODS["imputation"](panel).notes) == noted


def covers(method: str, replications: int, first: int, **case: object) -> tuple[float, float]:
    """The share of intervals with the true effect inside, and of rejections of no effect, over simulated rollouts."""
    inside = rejected = 0
    for seed in range(replications):
        panel, true = rollout(np.random.default_rng([first, seed]), **case)  # type: ignore[arg-type]  # cases as data
        found = METHODS[method](panel)
        inside += found.lower <= average(panel, true) <= found.upper
        rejected += found.p_value < 0.05
    return inside / replications, rejected / replications


def test_nothing_is_found_as_often_as_promised_where_nothing_happened():
    _, size = covers("imputation", 100, 7)
    assert size <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


@pytest.mark.simulation
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "case",
    [
        {},
        {"treated": 20, "units": 40},
        {"treated": 5, "units": 20},
        {"treated": 3},
        {"treated": 1},
        {"treated": 3, "units": 6},
        {"drift": 0.01},
        {"persistence": 0.9},
        {"uneven": 1.0},
        {"louder": 2.0},
        {"effect": 0.1, "growth": 0.01},
        {"effect": 0.1, "growth": 0.01, "differing": 0.5},
        {"anticipated": 0.05, "announced": 3},
    ],
    ids=str,
)
def test_intervals_hold_the_effect_as_often_as_they_say(method: str, case: dict[str, float]):
    inside, _ = covers(method, 500, 8, **case)
    assert inside >= 0.93 - 3 * np.sqrt(0.95 * 0.05 / 500)
    if "differing" not in case and case.get("units") != 6:
        assert inside <= 0.97 + 3 * np.sqrt(0.95 * 0.05 / 500)


@pytest.mark.simulation
@pytest.mark.parametrize("method", ["imputation", "group_time"])
@pytest.mark.parametrize(
    "case", [{}, {"treated": 5, "units": 20}, {"treated": 3}, {"treated": 20, "units": 40}], ids=str
)
def test_bands_hold_for_all_times_together(method: str, case: dict[str, int]):
    whole = 0
    for seed in range(300):
        panel, _ = rollout(np.random.default_rng([9, seed]), **case)  # type: ignore[arg-type]  # cases as data
        study = METHODS[method](panel).event_study
        assert study is not None
        whole += bool(((study.band_lower <= 0) & (study.band_upper >= 0)).all())
    assert whole / 300 >= 0.93 - 3 * np.sqrt(0.95 * 0.05 / 300)


@pytest.mark.simulation
def test_an_anticipation_that_nobody_announced_spoils_most_the_base_of_one_period():
    inside, _ = covers("group_time", 100, 10, anticipated=0.05)
    assert inside < 0.2
    whole, _ = covers("imputation", 100, 10, anticipated=0.05)
    assert inside < whole < 0.95
