"""What a series would have been without the launch, forecast from its own past and from donors (METHODS D4)."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.launch.bsts import bsts, bsts_in_time
from stats.launch.contract import Series, at_full_coverage
from stats.launch.reasons import LaunchReason
from stats.launch.series_design import NOISE, STEP, scales
from tests.launch.dense_series import errors, fits, weights
from tests.shared_data import shared_path


def published(name: str, before: int) -> Series:
    """A series that came with CausalImpact: the outcome in the first column of numbers, donors in the others."""
    with shared_path("data", "quasi", f"causalimpact_{name}.csv").open() as lines:
        rows = list(csv.reader(lines))[1:]
    table = np.array([[float(cell) for cell in row if "-" not in cell[1:]] for row in rows])
    return Series(
        y=table[:, 0],
        coverage=(np.arange(len(table)) >= before).astype(float),
        excluded=np.zeros(len(table), dtype=bool),
        regressors=np.empty((len(table), 0)),
        donors=table[:, 1:],
    )


def as_in_causal_impact(series: Series) -> dict[str, float]:
    """Its local level has a prior standard deviation of a hundredth of the outcome's, and no straight line."""
    history = series.y[series.coverage == 0]
    return {"trend": False, "steps": 0.01 * history.std(ddof=1) / np.diff(history).std(ddof=1)}


def with_donors(
    seed: int, *, periods: int = 104, before: int = 91, donors: int = 3, own: str = "drift", effect: float = 0.0
) -> Series:
    """A growing market that donors share, each with its own wandering, and an outcome that also has its own."""
    rng = np.random.default_rng(seed)
    market = np.cumsum(0.002 + 0.01 * rng.standard_normal(periods))
    others = np.cumsum(0.003 * rng.standard_normal((periods, donors)), axis=0)
    coverage = (np.arange(periods) >= before).astype(float)
    walk = {"none": 0.0, "drift": 0.006, "walk": 0.01, "growing": 0.0}[own]
    y = market + np.cumsum(walk * rng.standard_normal(periods)) + 0.01 * rng.standard_normal(periods)
    if own == "growing":
        y = y + 0.003 * np.arange(periods)
    return Series(
        y=5.0 + y + effect * coverage,
        coverage=coverage,
        excluded=np.zeros(periods, dtype=bool),
        regressors=np.empty((periods, 0)),
        donors=market[:, None] + others + 0.01 * rng.standard_normal((periods, donors)),
    )


def test_the_arma_series_is_measured_as_published() -> None:
    series = published("arma", 70)
    found = bsts(series, **as_in_causal_impact(series))
    assert 0.27 < found.effect < 1.5  # R: 0.89 (0.3) [0.27, 1.5]
    assert found.effect == pytest.approx(0.89, abs=0.1)
    assert found.standard_error == pytest.approx(0.3, rel=0.2)
    assert (found.lower, found.upper) == pytest.approx((0.27, 1.5), abs=0.12)
    # tfcausalimpact: 4.89 [4.26, 5.47] of the series without its effect of 1, and 5 added.
    raised = replace(series, y=series.y + 4 * series.coverage)
    more = bsts(raised, **as_in_causal_impact(series))
    assert (more.effect, more.lower, more.upper) == pytest.approx((4.89, 4.26, 5.47), abs=0.1)


def test_the_comparison_series_is_measured_as_published() -> None:
    series = published("comparison", 90)
    for found in (bsts(series, **as_in_causal_impact(series)), bsts(series, trend=False)):
        assert -2076 < found.effect < 832  # R: -657 (736) [-2076, 832]; tfcausalimpact: -708.5 (727.5) [-2126.8, 724.9]
        assert 1 / 1.5 < found.standard_error / 736 < 1.5
        assert found.p_value > 0.05


def test_the_forecast_is_that_of_dense_normals_on_a_fine_grid() -> None:
    series = with_donors(3, periods=26, before=20, donors=0)
    found = bsts(series)
    history = series.y[:20]
    prior = scales(history)
    time = np.arange(26.0)
    design = np.column_stack([np.ones(26), time])
    precision = np.array([0.0, prior.trend**-2])
    dense = fits(history, design[:20], precision, noise=NOISE * prior.change, step=STEP * prior.change, points=45)
    weight = weights(dense)
    means, covariances = [], []
    for item in dense:
        whole = errors(26, item.noise, item.step)
        carried = np.linalg.solve(whole[:20, :20], whole[:20, 20:]).T
        moved = design[20:] - carried @ design[:20]
        means.append(series.y[20:] - carried @ history - moved @ item.mean)
        covariances.append(whole[20:, 20:] - carried @ whole[:20, 20:] + moved @ item.covariance @ moved.T)
    mean = weight @ np.array(means)
    covariance = np.einsum("g,gij->ij", weight, covariances)
    covariance += np.einsum("g,gi,gj->ij", weight, means - mean, means - mean)
    sd = np.sqrt(np.diag(covariance))
    assert found.by_period == pytest.approx(mean, abs=float(0.01 * sd.min()))
    assert found.covariance == pytest.approx(covariance, abs=float(0.02 * sd.max() ** 2))


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.01, 1e6), effect=st.floats(-1.0, 1.0))
def test_units_do_not_matter_and_what_is_added_after_the_launch_is_found(
    seed: int, factor: float, effect: float
) -> None:
    series = with_donors(seed)
    plain = bsts(series)
    raised = replace(series, y=factor * (3 + series.y + effect * series.coverage), donors=7 - 2 * series.donors)
    changed = bsts(raised)
    assert changed.effect / factor == pytest.approx(plain.effect + effect, abs=1e-3 * plain.standard_error)
    assert changed.standard_error / factor == pytest.approx(plain.standard_error, rel=1e-3)


def test_the_answer_holds_together() -> None:
    series = with_donors(5, effect=0.1)
    series.coverage[91:93] = [0.25, 0.5]
    found = bsts(series)
    after = np.arange(91, 104)
    assert list(found.periods) == list(after)
    assert found.by_period == pytest.approx(series.y[after] - found.fitted[after])
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    assert np.diff(np.diag(found.covariance)).min() > 0  # further ahead, less is known
    assert (found.effect, found.standard_error) == at_full_coverage(
        found.by_period, found.covariance, series.coverage[after]
    )
    assert found.lower < found.effect < found.upper
    assert (found.upper - found.lower) / (2 * 1.96 * found.standard_error) == pytest.approx(1, abs=0.05)
    assert np.std(series.y[:91] - found.fitted[:91]) < 0.015  # the noise alone


def test_nothing_after_the_launch_changes_the_forecast() -> None:
    series = with_donors(8)
    known = bsts(series).fitted
    series.y[91:] += 3.0
    assert bsts(series).fitted == pytest.approx(known)


def test_donors_that_share_the_market_narrow_the_answer_even_among_strangers() -> None:
    series = with_donors(9, own="none")
    helped = bsts(series)
    alone = bsts(replace(series, donors=np.empty((104, 0))))
    assert helped.standard_error < 0.6 * alone.standard_error
    strangers = np.random.default_rng(1).standard_normal((104, 12))
    crowded = bsts(replace(series, donors=np.column_stack([series.donors, strangers])))
    assert crowded.standard_error < 0.85 * alone.standard_error


def test_a_donor_that_is_the_outcome_or_is_mostly_missing_is_left_out() -> None:
    series = with_donors(2)
    alone = bsts(replace(series, donors=np.empty((104, 0))))
    itself = bsts(replace(series, donors=2 * series.y[:, None] + 1))
    assert itself.notes == ("donor_is_the_outcome",)
    assert (itself.effect, itself.standard_error) == (alone.effect, alone.standard_error)
    absent = series.donors[:, :1].copy()
    absent[30:60] = np.nan
    missing = bsts(replace(series, donors=absent))
    assert missing.notes == ("donor_with_gaps",)
    assert missing.effect == alone.effect


def test_an_outcome_that_is_a_sum_of_its_donors_is_a_number_all_the_same() -> None:
    series = with_donors(2)
    found = bsts(replace(series, y=series.donors.sum(axis=1) + 0.5 * series.coverage))
    assert found.effect == pytest.approx(0.5, abs=0.01)
    assert 0 < found.standard_error < 0.01


def test_periods_without_values_are_skipped() -> None:
    series = with_donors(4)
    series.y[[20, 21, 95]] = np.nan
    series.donors[96, 0] = np.nan
    found = bsts(series)
    assert list(found.periods) == [91, 92, 93, 94, *range(97, 104)]
    assert list(np.flatnonzero(np.isnan(found.fitted))) == [96]
    assert np.isfinite([found.effect, found.standard_error]).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"coverage": np.zeros(104)}, LaunchReason.NO_COVERAGE),
        ({"coverage": (np.arange(104) >= 11).astype(float)}, LaunchReason.TOO_LITTLE_HISTORY),
        ({"excluded": np.arange(104) >= 91}, LaunchReason.NO_PERIOD_AFTER_LAUNCH),
        ({"y": np.zeros(104)}, LaunchReason.CONSTANT_SERIES),
    ],
)
def test_what_cannot_be_measured_says_why(change: dict[str, np.ndarray], reason: LaunchReason) -> None:
    series = replace(with_donors(1), **change)
    assert bsts(series).reason == reason
    assert bsts_in_time(series, horizon=5).place.size == 0


def test_placebos_are_the_same_estimator_on_shorter_series() -> None:
    series = with_donors(6)
    runs = bsts_in_time(series, horizon=8)
    assert runs.place.size == 24
    for number in (0, 12, 23):
        date = runs.place[number]
        end = date + 8
        coverage = (np.arange(end) >= date).astype(float)
        alone = bsts(
            Series(series.y[:end], coverage, series.excluded[:end], series.regressors[:end], series.donors[:end])
        )
        assert runs.effect[number] == pytest.approx(alone.effect, abs=0.005 * alone.standard_error)
        assert runs.standard_error[number] == pytest.approx(alone.standard_error, rel=0.005)
    own = bsts(series)
    assert runs.own_score == pytest.approx(abs(own.effect) / own.standard_error, rel=1e-3)


def coverage_of(own: str, runs: int, *, periods: int = 104, before: int = 91) -> tuple[float, float]:
    """Shares of intervals that hold 0 where nothing happened, before and after the bias term of METHODS D7."""
    plain = widened = 0
    for seed in range(runs):
        series = with_donors(seed, own=own, periods=periods, before=before)
        found = bsts(series)
        plain += found.lower <= 0 <= found.upper
        placebos = bsts_in_time(series, horizon=periods - before)
        excess = max(0.0, float(np.mean(placebos.effect**2) - np.mean(placebos.standard_error**2)))
        widened += abs(found.effect) <= 1.96 * np.sqrt(found.standard_error**2 + excess)
    return plain / runs, widened / runs


def test_forecasts_are_held_by_their_intervals() -> None:
    runs = 40
    held = np.mean([bsts(with_donors(seed)).p_value > 0.05 for seed in range(runs)])
    assert held > 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("own", "periods", "before"),
    [("none", 104, 91), ("drift", 104, 91), ("drift", 52, 39), ("walk", 104, 91), ("growing", 104, 91)],
)
def test_intervals_hold_nothing_where_nothing_happened(own: str, periods: int, before: int) -> None:
    runs = 300
    plain, widened = coverage_of(own, runs, periods=periods, before=before)
    error = np.sqrt(0.95 * 0.05 / runs)
    assert plain > 0.94 - 3 * error
    assert widened > 0.94 - 3 * error
