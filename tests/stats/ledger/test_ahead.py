"""What lies ahead of the ledger: forecasts, the programme to come, and growth that is gone (METHODS F7, F8)."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.ledger import collapsed
from stats.ledger.contract import LedgerData, LedgerFit, LedgerPriors
from stats.ledger.forecast import NO_SERIES, forecast
from stats.ledger.programme_ahead import NO_EFFECTS, NO_HISTORY, programme_ahead
from stats.ledger.stagnation import NO_RECENT_WEEKS, Stagnated, stagnation
from tests.stats.ledger.companies import TYPICAL, Story, company

PRIORS = LedgerPriors()
WEEKS = 84
QUARTERS = np.array([7.0, 8.0, 9.0, 6.0, 8.0, 7.0, 6.0, 9.0])
SHIPS = np.array([1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 1.0, 2.0])
SMALL = Story(weeks=WEEKS, experiments=10, influences=1, scalars=TYPICAL)


def with_weeks(data: LedgerData, weeks: int) -> LedgerData:
    """The first weeks, or more than there were: unknown, with launches as they are and influences as on average."""
    keep = min(weeks, data.log_values.size)
    more = ((0, weeks - keep), (0, 0))
    step = data.season_phase[1] - data.season_phase[0]
    return replace(
        data,
        log_values=np.append(data.log_values[:keep], np.full(weeks - keep, np.nan)),
        season_phase=data.season_phase[0] + step * np.arange(weeks),
        influences=np.pad(data.influences[:keep], more),
        coverage=np.pad(data.coverage[:keep], more, mode="edge"),
    )


@functools.cache
def fitted(seed: int) -> tuple[LedgerData, LedgerFit]:
    data, _ = company(seed, replace(SMALL, measured_persistence=True))
    return data, collapsed.fit(data, PRIORS, seed=seed)


def test_a_forecast_is_what_the_ledger_says_of_weeks_that_nobody_knows_yet() -> None:
    """The same by another road: the engine draws unknown weeks from their posterior given all others."""
    data, fit = fitted(1)
    ahead = forecast(fit, 13, seed=2)
    longer = collapsed.fit(with_weeks(data, WEEKS + 13), PRIORS, seed=3)
    drawn = longer.level + longer.season + longer.noise + np.einsum("stj,sj->st", longer.path, longer.theta)
    for week in (0, 4, 12):
        one, other = ahead.log_values[:, week], drawn[:, WEEKS + week]
        sizes = [found.diagnostics["ess"] for found in (fit, longer)]
        error = one.std() * np.sqrt(1 / sizes[0] + 1 / sizes[1])
        assert one.mean() == pytest.approx(other.mean(), abs=4 * error)
        assert one.std() == pytest.approx(other.std(), rel=4 * np.sqrt(0.5 / sizes[0] + 0.5 / sizes[1]) + 0.05)


def test_chances_follow_the_band_and_weeks_further_away_are_less_certain() -> None:
    _, fit = fitted(1)
    ahead = forecast(fit, 26, seed=2)
    lower, median, upper = ahead.band()
    assert ahead.chance_above(float(median[20]), 20) == pytest.approx(0.5, abs=0.01)
    assert ahead.chance_above(float(lower[20]), 20) == pytest.approx(0.9, abs=0.01)
    width = np.log(upper / lower)
    assert width[25] > width[12] > width[0]


def test_a_ledger_without_its_series_has_no_forecast_and_no_programme() -> None:
    data, _ = company(4, replace(SMALL, weeks=30))
    fit = collapsed.fit(data, PRIORS, seed=1)
    ahead = forecast(fit, 5, seed=1)
    assert (ahead.reason, ahead.log_values.size) == (NO_SERIES, 0)
    found = programme_ahead(fit, ahead, target=1.0, week=4, experiments=QUARTERS, shipped=SHIPS, seed=1)
    assert found.reason == NO_SERIES and not found.levers


def test_more_experiments_than_usual_are_needed_for_a_target_that_the_programme_misses() -> None:
    _, fit = fitted(1)
    ahead = forecast(fit, 26, seed=2)
    target = float(ahead.band()[1][25]) * 1.01
    found = programme_ahead(fit, ahead, target=target, week=25, experiments=QUARTERS, shipped=SHIPS, seed=5)
    assert found.chance_without < found.chance < 0.8
    assert found.experiments_per_quarter == pytest.approx(QUARTERS.mean())
    assert found.ships_per_quarter == pytest.approx(SHIPS.mean(), rel=0.05)
    by_name = {lever.name: lever for lever in found.levers}
    helped = max(found.levers, key=lambda lever: lever.chance_if_better)
    assert found.binding == helped.name and helped.chance_if_better >= found.chance + 0.01
    reached = programme_ahead(fit, ahead, target=target / 2, week=25, experiments=QUARTERS, shipped=SHIPS, seed=5)
    assert reached.chance == 1 and reached.binding is None, "nothing holds back what is reached already"
    velocity = by_name["velocity"].needed
    if found.experiments_needed is not None and velocity is not None:
        # Numbers that vary from quarter to quarter need no fewer on average than a fixed number.
        assert found.experiments_needed <= 1.1 * velocity * 2
    for lever in found.levers:
        assert lever.chance_if_better >= found.chance - 0.02, lever
        if lever.needed is not None:
            assert (lever.needed < lever.now) == (lever.name == "sensitivity"), lever


def test_a_target_that_is_hit_anyway_needs_no_experiment() -> None:
    _, fit = fitted(1)
    ahead = forecast(fit, 13, seed=2)
    target = float(np.exp(np.quantile(ahead.log_values[:, 12], 0.05)))
    found = programme_ahead(fit, ahead, target=target, week=12, experiments=QUARTERS, shipped=SHIPS, seed=5)
    assert found.experiments_needed == 0
    assert all(lever.needed == pytest.approx(lever.now) for lever in found.levers)


@settings(max_examples=2, deadline=None)
@given(harder=st.floats(1.0, 1.2), week=st.integers(0, 25))
def test_a_harder_target_is_never_likelier_and_never_needs_fewer_experiments(harder: float, week: int) -> None:
    _, fit = fitted(1)
    ahead = forecast(fit, 26, seed=2)
    target = float(ahead.band()[1][week])
    asked = {"week": week, "experiments": QUARTERS, "shipped": SHIPS, "seed": 5}
    one, other = (programme_ahead(fit, ahead, target=each, **asked) for each in (target, target * harder))
    assert one.chance >= other.chance and one.chance_without >= other.chance_without
    if other.experiments_needed is not None:
        assert one.experiments_needed is not None and one.experiments_needed <= other.experiments_needed


def test_ships_are_worth_what_the_population_says_of_those_above_the_bar() -> None:
    """By quadrature: E[delta | z > b] of a normal population, with the bar that one in five clears."""
    _, fit = fitted(1)
    draws = fit.level.shape[0]
    known = {"mean": 0.001, "tau": 0.008, "kappa": 0.8, "scatter": 1e-9, "remaining": 1.0, "weeks": 6.0}
    data = replace(fit.data, error=np.full_like(fit.data.error, 0.006), bias_sd=np.zeros_like(fit.data.error))
    plain = replace(
        fit,
        data=data,
        priors=replace(PRIORS, nu=np.inf),
        scalars=fit.scalars | {name: np.full(draws, value) for name, value in known.items()},
    )
    found = programme_ahead(
        plain,
        forecast(fit, 26, seed=1),
        target=1e9,
        week=25,
        experiments=np.full(400, 50.0),
        shipped=np.full(400, 10.0),
        seed=2,
    )
    spread = np.hypot(0.008, 0.006)
    bar = sps.norm.isf(0.2)
    expected = 0.8 * (0.001 + 0.008**2 / spread * sps.norm.pdf(bar) / 0.2)
    effect = next(lever for lever in found.levers if lever.name == "effect_size")
    assert effect.now == pytest.approx(expected, rel=0.01)
    assert found.total[1] == pytest.approx(2 * 10 * expected, rel=0.03)


def test_a_programme_without_a_past_has_no_future_to_speak_of() -> None:
    data, fit = fitted(1)
    ahead = forecast(fit, 5, seed=2)
    nothing = {"target": 1.0, "week": 4, "seed": 1}
    unheard = programme_ahead(fit, ahead, experiments=np.zeros(8), shipped=np.zeros(8), **nothing)
    assert (unheard.reason, unheard.chance) == (NO_HISTORY, unheard.chance_without)
    none = np.zeros(0)
    bare = replace(data, estimate=none, error=none, bias_sd=none, source=np.full(data.source.size, -1))
    unmeasured = programme_ahead(replace(fit, data=bare), ahead, experiments=QUARTERS, shipped=SHIPS, **nothing)
    assert unmeasured.reason == NO_EFFECTS


def test_a_north_star_that_should_fall_is_helped_by_what_lowers_it() -> None:
    _, fit = fitted(1)
    mirror = replace(
        fit,
        level=-fit.level,
        slope=-fit.slope,
        season=-fit.season,
        theta=-fit.theta,
        scalars=fit.scalars | {"mean": -fit.scalars["mean"]},
    )
    one, other = forecast(fit, 13, seed=2), forecast(mirror, 13, seed=2)
    target = float(one.band()[1][12])
    asked = {"week": 12, "experiments": QUARTERS, "shipped": SHIPS, "seed": 3}
    up = programme_ahead(fit, one, target=target, **asked)
    down = programme_ahead(mirror, other, target=1 / target, increase=False, **asked)
    assert down.chance_without == pytest.approx(up.chance_without, abs=0.04)
    assert down.total == pytest.approx(up.total, abs=0.004)  # other draws of the same programme


@functools.cache
def followed(floor: float) -> Stagnated:
    return stagnation(company(6, SMALL)[0], PRIORS, floor=floor, seed=1)


def test_the_chance_below_a_floor_is_that_of_a_ledger_fitted_as_of_each_week() -> None:
    data, _ = company(6, SMALL)
    found = followed(0.002)
    assert found.lower < found.slope < found.upper and not found.reason
    known = replace(data, log_values=np.where(np.arange(WEEKS) < WEEKS - 2, data.log_values, np.nan))
    fit = collapsed.fit(known, PRIORS, seed=2)
    error = np.sqrt(0.25 * (1 / fit.diagnostics["ess"] + 1 / 300))
    assert found.chances[0] == pytest.approx((fit.slope[:, WEEKS - 3] < 0.002).mean(), abs=4 * error)


def test_a_fall_in_the_last_four_weeks_surprises() -> None:
    data, _ = company(6, SMALL)
    calm = followed(0.002)
    fallen = replace(data, log_values=data.log_values - 0.15 * (np.arange(WEEKS) >= WEEKS - 4))
    shocked = stagnation(fallen, PRIORS, floor=0.002, seed=1)
    assert shocked.changed and shocked.surprise < 0.01 < calm.surprise
    assert not calm.changed
    assert (shocked.chances > calm.chances).all()


def test_stagnation_needs_a_ledger_and_recent_weeks() -> None:
    data, _ = company(6, replace(SMALL, weeks=40))
    assert stagnation(data, PRIORS, floor=0.0, seed=1).reason == collapsed.SERIES_TOO_SHORT
    silent = replace(data, log_values=np.where(np.arange(40) < 36, data.log_values, np.nan))
    assert stagnation(silent, PRIORS, floor=0.0, seed=1).reason == NO_RECENT_WEEKS
