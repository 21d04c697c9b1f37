"""How often alarms are false, how soon they come, and whether forecasts are calibrated (METHODS F7, F8)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats as sps

from stats.ledger import collapsed
from stats.ledger.contract import LedgerData, LedgerPriors
from stats.ledger.forecast import forecast
from stats.ledger.stagnation import ALARM_ABOVE, IN_A_ROW, stagnation
from tests.stats.ledger.companies import TYPICAL, Story, company
from tests.stats.ledger.test_ahead import with_weeks

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(5400)]

PRIORS = LedgerPriors()
QUARTER, HISTORY, WATCHED = 13, 104, 104
GROWTH = 0.002
"""Per week: a tenth a year."""


def growing(seed: int, growth: float, then: float, turn: int = HISTORY + 2 * QUARTER) -> LedgerData:
    """Four years with few launches whose base grows by `growth` a week, and from the week `turn` on by `then`."""
    story = Story(weeks=HISTORY + WATCHED, experiments=8, influences=0, scalars=TYPICAL)
    data, truth = company(seed, story)
    slopes = np.where(np.arange(HISTORY + WATCHED) < turn, growth, then)
    steps = TYPICAL["level_step"] * np.random.default_rng(seed + 10_000).standard_normal(slopes.size)
    base = 13 + (slopes + steps).cumsum()
    return replace(data, log_values=base + truth.season + truth.launched.sum(axis=1) + truth.noise)


def alarms(data: LedgerData, floor: float, seed: int) -> np.ndarray:
    """Weeks (of the watched ones) in which an alarm begins: the third in a row after two that were not."""
    chances = np.concatenate(
        [
            stagnation(with_weeks(data, end), PRIORS, floor=floor, seed=seed, weeks=QUARTER).chances
            for end in range(HISTORY + QUARTER, HISTORY + WATCHED + 1, QUARTER)
        ]
    )
    high = chances > ALARM_ABOVE
    in_a_row = np.array([high[max(0, t - IN_A_ROW + 1) : t + 1].all() and t >= IN_A_ROW - 1 for t in range(high.size)])
    return np.flatnonzero(in_a_row & ~np.append(False, in_a_row[:-1]))


@pytest.mark.parametrize("growth", [0.0, GROWTH])
def test_alarms_are_false_less_than_once_in_two_years_even_where_growth_is_at_the_floor(growth: float) -> None:
    counts = [alarms(growing(seed, growth, growth), 0.0, seed).size for seed in range(10)]
    assert np.mean(counts) < 1


def test_growth_that_turns_into_a_fall_is_noticed_within_a_year() -> None:
    turn, delays = 2 * QUARTER, []
    for seed in range(10):
        found = alarms(growing(seed, GROWTH, -2 * GROWTH), 0.0, seed)
        after = found[found >= turn]
        delays.append(after[0] - turn if after.size else WATCHED)
    assert np.median(delays) <= 52


def test_forecasts_are_calibrated_a_month_a_quarter_and_half_a_year_ahead() -> None:
    """Where what came lies in its forecast is uniform over companies drawn from the ledger's own priors."""
    ahead = np.array([3, 12, 25])
    places = []
    for seed in range(60):
        data, truth = company(seed, Story(weeks=HISTORY + 26, experiments=15, influences=1))
        fit = collapsed.fit(with_weeks(data, HISTORY), PRIORS, seed=seed)
        if fit.reason:
            continue
        # Nothing further is launched, and the influence does as on average.
        remaining, weeks = truth.scalars["remaining"], truth.scalars["weeks"]
        begun = (data.coverage > 0).argmax(axis=0)
        age = np.maximum(HISTORY + ahead[:, None] - begun, 0)
        launched = data.coverage[HISTORY - 1] * (remaining + (1 - remaining) * np.exp(-age / weeks)) @ truth.theta
        came = (truth.level + truth.season + truth.noise)[HISTORY + ahead] + launched
        drawn = forecast(fit, 26, seed=seed).log_values[:, ahead]
        places.append((drawn < came).mean(axis=0))
    ranks = np.array(places)
    for column in ranks.T:
        assert sps.kstest(column, "uniform").pvalue > 0.001
    inside = (np.abs(ranks - 0.5) < 0.4).mean()
    assert abs(inside - 0.8) < 3 * np.sqrt(0.8 * 0.2 / len(ranks))
