"""Lines add up, on both scales, in every draw."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.ledger import lines
from stats.ledger.conditional import complete
from stats.ledger.contract import COMPONENTS, LedgerFit, LedgerPriors
from stats.ledger.scalars import NAMES, scores, values
from tests.stats.ledger.companies import Story, company

PRIORS = LedgerPriors(nu=np.inf)


def fitted(weeks: int = 60, unknown: tuple[int, ...] = ()) -> LedgerFit:
    data, _ = company(2, Story(weeks=weeks, experiments=15, ship_above=0.5, blind=1))
    value = data.log_values.copy()
    value[list(unknown)] = np.nan
    score = 0.5 * np.random.default_rng(1).standard_normal((40, len(NAMES)))
    return complete(replace(data, log_values=value), PRIORS, values(score, PRIORS), seed=1)


@pytest.fixture(scope="module")
def fit() -> LedgerFit:
    return fitted()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), min_size=1, max_size=13))
def test_components_add_up_to_the_observed_change_for_any_pairs_of_weeks(fit, pairs):
    after, before = np.array(pairs, dtype=np.intp).T
    found = lines.contrast(fit, after, before)
    y = fit.data.log_values
    values = np.exp(y)
    assert set(found.log) == set(COMPONENTS)
    assert sum(found.log.values()) == pytest.approx(np.full(40, (y[after] - y[before]).mean()), abs=1e-9)
    change = (values[after] - values[before]).sum()
    assert found.observed_units == pytest.approx(change)
    assert np.abs(sum(found.units.values()) - change).max() < 1e-9 * values.max()
    for log, units in ((found.log, found.units),):
        assert found.launches_log.sum(axis=1) == pytest.approx(log["launches"], abs=1e-12)
        assert found.launches_units.sum(axis=1) == pytest.approx(units["launches"], rel=1e-9, abs=1e-6)
        assert found.outside_units.sum(axis=1) == pytest.approx(units["outside"], rel=1e-9, abs=1e-6)
        assert found.outside_log.sum(axis=1) == pytest.approx(log["outside"], abs=1e-12)


def test_swapping_the_spans_swaps_the_signs(fit):
    after, before = np.arange(50, 60), np.arange(10, 20)
    there, back = lines.contrast(fit, after, before), lines.contrast(fit, before, after)
    for component in COMPONENTS:
        assert there.units[component] == pytest.approx(-back.units[component])


def test_pairs_with_an_unknown_week_are_left_out():
    fit = fitted(unknown=(12, 55))
    after, before = np.arange(50, 60), np.arange(10, 20)
    found = lines.contrast(fit, after, before)
    assert found.after.tolist() == [50, 51, 53, 54, 56, 57, 58, 59]
    assert np.isfinite(found.observed_units)
    nothing = lines.contrast(fit, np.array([12]), np.array([0]))
    assert nothing.reason == lines.NO_KNOWN_WEEKS
    assert nothing.units == {}


def test_weeks_outside_the_series_are_refused(fit):
    with pytest.raises(ValueError, match="positions in the series"):
        lines.contrast(fit, np.array([60]), np.array([0]))
    with pytest.raises(ValueError, match="pairs"):
        lines.contrast(fit, np.arange(2), np.arange(3))


def test_every_weeks_parts_add_up_to_it():
    fit = fitted(unknown=(30,))
    week = lines.weekly(fit)
    parts = sum(getattr(week, name).mean for name in COMPONENTS)
    known = np.isfinite(week.observed)
    assert known.sum() == 59
    assert parts[known] == pytest.approx(week.observed[known], rel=1e-9)
    assert np.isfinite(parts).all()
    assert (week.launches.lower <= week.launches.upper).all()
    assert (week.without_launches.mean + week.launches.mean)[known] == pytest.approx(week.observed[known])


@given(st.floats(1e-3, 1e9), st.floats(-3, 3))
@settings(max_examples=50, deadline=None)
def test_the_logarithmic_mean_turns_log_changes_into_changes(value, log_change):
    a, b = np.array([value * np.exp(log_change)]), np.array([value])
    mean = lines.logarithmic_mean(a, b)
    assert (mean * np.log(a / b))[0] == pytest.approx((a - b)[0], rel=1e-9, abs=1e-12 * value)
    assert min(a, b) * (1 - 1e-12) <= mean <= max(a, b) * (1 + 1e-12)


def test_scores_and_scalars_are_inverse():
    score = np.random.default_rng(5).uniform(-4, 4, (50, len(NAMES)))
    priors = LedgerPriors()
    assert scores(values(score, priors), priors) == pytest.approx(score, abs=1e-8)


def test_a_half_normal_scale_has_its_own_distribution_below_its_score():
    priors = LedgerPriors()
    scale = values(np.random.default_rng(6).standard_normal((40_000, 9)), priors)["noise"]
    assert (scale**2).mean() == pytest.approx(priors.noise**2, rel=0.03)
    assert np.median(scale) == pytest.approx(0.67449 * priors.noise, rel=0.02)
