"""How much of the ledger is its priors, and whether it would have foreseen what came."""

from dataclasses import replace

import numpy as np
import pytest

from stats.ledger import backtest, collapsed, lines, sensitivity
from stats.ledger.contract import LedgerFit, LedgerPriors
from tests.stats.ledger.companies import TYPICAL, Story, company

AFTER, BEFORE = np.arange(60, 70), np.arange(10, 20)
DATA, _ = company(12, Story(weeks=70, experiments=15, ship_above=1.0, influences=1, scalars=TYPICAL))


@pytest.fixture(scope="module")
def fit() -> LedgerFit:
    return collapsed.fit(DATA, LedgerPriors(), seed=1, draws=800)


def test_the_series_contracts_what_it_speaks_about_and_nothing_else(fit):
    found = sensitivity.contraction(fit)
    assert found["noise"] < 0.6
    assert 0.5 < found["kappa"] < 1.15
    assert found["weeks"] == pytest.approx(1, abs=0.15)


def test_another_prior_by_weights_is_the_ledger_fitted_under_that_prior(fit):
    contrast = lines.contrast(fit, AFTER, BEFORE)
    same, double = sensitivity.level_step_alternatives(fit, contrast, (1.0, 2.0))
    assert same.ess == pytest.approx(800)
    assert same.log_mean == pytest.approx(contrast.log["launches"].mean())
    priors = LedgerPriors()
    again = collapsed.fit(DATA, replace(priors, level_step=2 * priors.level_step), seed=2, draws=800)
    line = lines.contrast(again, AFTER, BEFORE).units["launches"]
    assert not double.refitted
    assert double.ess < 800
    assert (double.units_mean - line.mean()) / line.std() == pytest.approx(0, abs=0.25)
    assert (double.units_upper - double.units_lower) / np.ptp(np.quantile(line, [0.1, 0.9])) == pytest.approx(
        1, abs=0.2
    )


def test_a_prior_too_far_away_is_fitted_again(fit):
    contrast = lines.contrast(fit, AFTER, BEFORE)
    (far,) = sensitivity.level_step_alternatives(fit, contrast, (0.05,))
    assert far.refitted
    assert far.ess >= 150
    assert far.log_lower < far.log_mean < far.log_upper


def test_the_prediction_knows_nothing_of_the_weeks_it_predicts():
    changed = DATA.log_values.copy()
    changed[-13:] += 5
    known, unknown = (
        backtest.backtest(data, LedgerPriors(), seed=3, draws=300) for data in (DATA, replace(DATA, log_values=changed))
    )
    assert (known.predicted, known.lower, known.upper) == (unknown.predicted, unknown.lower, unknown.upper)
    assert known.origin == 57
    assert known.observed == pytest.approx(np.exp(DATA.log_values[-13:]).sum())
    assert not unknown.inside
    assert unknown.quantile == 1
    assert known.lower < known.predicted < known.upper


def test_a_series_too_short_has_no_backtest():
    data, _ = company(1, Story(weeks=60))
    assert backtest.backtest(data, LedgerPriors(), seed=1).reason == backtest.TOO_SHORT
