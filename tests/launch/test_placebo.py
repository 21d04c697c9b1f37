"""An estimator is run where nothing happened, and sees nothing of what did."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.launch.contract import Estimated, NotEstimable, Panel, at_full_coverage, nothing
from stats.launch.placebo import in_space, in_time, independent_runs, placebo_sets
from stats.launch.reasons import LaunchReason
from stats.launch.synthetic_control import synthetic
from tests.launch.donor_panels import california, factor_panel, panel_of


def before_and_after(panel: Panel) -> Estimated:
    """The simplest estimator there is: treated less untreated, after less before; errors as if periods were noise."""
    treated, start = panel.treated, int(panel.first.min())
    if start < 4:
        raise NotEstimable(LaunchReason.TOO_LITTLE_HISTORY)
    if treated.all():
        raise NotEstimable(LaunchReason.NO_COMPARISON_UNITS)
    weight = panel.weight[treated] / panel.weight[treated].sum()
    gap = weight @ panel.y[treated] - panel.y[~treated].mean(axis=0)
    usable = ~panel.excluded[treated].any(axis=0)
    past = usable & (np.arange(gap.size) < start)
    periods = np.flatnonzero(usable & (np.arange(gap.size) >= start))
    if np.ptp(gap[past]) == 0:
        return nothing("did", LaunchReason.CONSTANT_SERIES, periods=gap.size)
    by_period = gap[periods] - gap[past].mean()
    covariance = gap[past].var(ddof=1) * (np.eye(periods.size) + 1 / past.sum())
    coverage = (weight @ panel.coverage[treated])[periods]
    effect, error = at_full_coverage(by_period, covariance, coverage)
    return replace(
        nothing("did", "", periods=gap.size),
        effect=effect,
        standard_error=error,
        periods=periods,
        by_period=by_period,
        covariance=covariance,
    )


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), treated=st.integers(1, 4), horizon=st.integers(1, 12), most=st.integers(1, 12))
def test_earlier_dates_see_nothing_of_the_launch(seed: int, treated: int, horizon: int, most: int):
    rng = np.random.default_rng(seed)
    panel = factor_panel(rng, units=10, treated=treated, before=40)
    other = panel.y.copy()
    other[:, panel.pre :] = 100 * rng.standard_normal((10, 8))
    runs = in_time(panel, before_and_after, horizon=horizon, most=most)
    unseen = in_time(replace(panel, y=other), before_and_after, horizon=horizon, most=most)
    assert np.array_equal(runs.effect, unseen.effect) and np.array_equal(runs.score, unseen.score)
    assert runs.own_score != unseen.own_score
    assert 1 <= len(runs.place) <= most and len(set(runs.place)) == len(runs.place)
    assert runs.place.min() >= panel.pre / 2 and runs.place.max() + horizon <= panel.pre
    assert np.isfinite(runs.score).all()


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), treated=st.integers(1, 6))
def test_units_without_the_launch_see_nothing_of_those_with_it(seed: int, treated: int):
    rng = np.random.default_rng(seed)
    panel = factor_panel(rng, units=9, treated=treated, before=12, after=3)
    other = panel.y.copy()
    other[:treated] = 100 * rng.standard_normal((treated, 15))
    runs, unseen = in_space(panel, before_and_after), in_space(replace(panel, y=other), before_and_after)
    assert np.array_equal(runs.effect, unseen.effect)
    assert list(runs.place) == list(range(treated, 9))


def test_an_effect_ranks_first_among_placebos():
    panel = factor_panel(np.random.default_rng(21), treated=2)
    y = panel.y.copy()
    y[:2, panel.pre :] += 6
    launched = replace(panel, y=y)
    for runs in (in_space(launched, before_and_after), in_time(launched, before_and_after, horizon=4)):
        assert runs.own_score > np.nanmax(runs.score)
        assert runs.p_value == 1 / (len(runs.score) + 1)


def test_placebos_in_space_of_proposition_99_are_those_of_its_synthetic_control():
    panel = california()
    own = synthetic(panel, "synthetic_control").placebos
    runs = in_space(panel, lambda each: synthetic(each, "synthetic_control").estimated)
    assert np.array_equal(runs.place, own.place)
    assert runs.effect == pytest.approx(own.effect)
    assert runs.score == pytest.approx(own.score) and runs.own_score == pytest.approx(own.own_score)
    assert runs.p_value == pytest.approx(3 / 39)


def test_no_law_no_effect_in_the_years_before_proposition_99():
    panel = california()
    runs = in_time(panel, lambda each: synthetic(each, "synthetic_did").estimated, horizon=4)
    assert list(1970 + runs.place) == [1980, 1981, 1982, 1983, 1984, 1985]
    assert np.abs(runs.effect).max() < 3 and runs.p_value == pytest.approx(1 / 7)


def test_dates_keep_coverage_order_and_announcement():
    """Two units, three periods apart, the first announced two periods before: so are they in the past."""
    panel = factor_panel(np.random.default_rng(22), units=6, treated=2, before=40, after=10)
    coverage, excluded = np.zeros_like(panel.coverage), np.zeros_like(panel.excluded)
    coverage[0, 40:], coverage[1, 43:] = np.linspace(0.1, 1, 10), 1
    excluded[0, 38:40], excluded[:, 10] = True, True
    seen: list[Panel] = []

    def watch(each: Panel) -> Estimated:
        seen.append(each)
        return before_and_after(each)

    runs = in_time(replace(panel, coverage=coverage, excluded=excluded), watch, horizon=6, most=3)
    moved = [each for each in seen if each.y.shape[1] < 50]
    # The last date leaves room for two announced and six treated periods before the real announcement.
    assert list(runs.place) == [21, 26, 32]
    for place, each in zip(runs.place, moved, strict=True):
        assert list(each.first) == [place, place + 3, *[place + 6] * 4]
        assert each.coverage[0, place:] == pytest.approx(coverage[0, 40:46])
        assert list(np.flatnonzero(each.excluded[0])) == [10, place - 2, place - 1]


def test_units_take_dates_coverage_and_sizes_of_those_who_had_the_launch():
    panel = factor_panel(np.random.default_rng(23), units=9, treated=3)
    coverage = panel.coverage.copy()
    coverage[1, :54], coverage[2] = 0, 0.5 * coverage[2]
    weight = np.array([0.1, 0.3, 0.2, *np.full(6, 0.4 / 6)])
    seen: list[Panel] = []

    def watch(each: Panel) -> Estimated:
        seen.append(each)
        return before_and_after(each)

    in_space(replace(panel, coverage=coverage, weight=weight), watch)
    for each in seen[1:]:
        assert np.count_nonzero(each.treated) == 3
        assert {tuple(row) for row in each.coverage[each.treated]} == {tuple(row) for row in coverage[:3]}
        sizes = each.weight[each.treated]
        assert each.weight.sum() == pytest.approx(1)
        assert np.sort(sizes / sizes.sum()) == pytest.approx([1 / 6, 1 / 3, 1 / 2])


def test_runs_that_cannot_be_made_are_missing_not_zero():
    panel = factor_panel(np.random.default_rng(24), units=6, before=20, after=4)
    silent = in_space(panel, lambda each: nothing("did", LaunchReason.CONSTANT_SERIES, periods=24))
    assert np.isnan(silent.score).all() and np.isnan(silent.effect).all() and np.isnan(silent.p_value)

    def picky(each: Panel) -> Estimated:
        if each.first.min() < 15:
            raise NotEstimable(LaunchReason.TOO_LITTLE_HISTORY)
        return before_and_after(each)

    runs = in_time(panel, picky, horizon=2)
    assert np.array_equal(np.isnan(runs.score), runs.place < 15)
    assert runs.p_value >= 1 / (1 + np.isfinite(runs.score).sum())
    for empty in (
        in_time(panel, before_and_after, horizon=15),
        in_time(replace(panel, coverage=0 * panel.coverage), before_and_after, horizon=2),
        in_space(panel_of(panel.y, 6, 20), before_and_after),
    ):
        assert len(empty.place) == 0 and np.isnan(empty.p_value)


@settings(max_examples=30)
@given(donors=st.integers(2, 40), treated=st.integers(1, 40))
def test_every_donor_leads_one_set_and_half_of_them_stay_donors(donors: int, treated: int):
    sets = placebo_sets(donors, treated)
    assert sets.shape == (donors, min(treated, donors // 2))
    assert np.array_equal(sets[:, 0], np.arange(donors))
    assert all(len(set(row)) == len(row) for row in sets) and sets.min() >= 0 and sets.max() < donors
    assert np.array_equal(sets, placebo_sets(donors, treated))


def test_runs_that_share_their_parts_count_as_fewer():
    """Against simulation: the variance of a mean square of averages is 2 sigma^4 / (number of independent ones)."""
    sets = placebo_sets(12, 3)
    member = np.zeros((12, 12))
    np.put_along_axis(member, sets, 1.0, axis=1)
    averages = np.random.default_rng(25).standard_normal((20_000, 12)) @ member.T / 3
    mean_square = (averages**2).mean(axis=1)
    counted = 2 * mean_square.mean() ** 2 / mean_square.var()
    assert independent_runs(member @ member.T / 3) == pytest.approx(counted, rel=0.05)
    assert independent_runs(np.eye(7)) == 7
