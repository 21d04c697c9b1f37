"""Effects in units of the outcome: agreeing with draws of everything that is not known."""

import numpy as np
import pytest

from experiments.evidence.launch.natural_units import course, total_interval
from stats.launch.contract import Estimated
from tests.experiments.launch_cases import Floats, countries, data_of, plan_of, since, step, table

PERIODS = np.arange(40, 60)


def estimated(effect: float, covariance: Floats) -> Estimated:
    error = float(np.sqrt(covariance.mean()))
    return Estimated(
        method="did",
        effect=effect,
        standard_error=error,
        lower=effect - 1.959964 * error,
        upper=effect + 1.959964 * error,
        p_value=0.01,
        interval_kind="normal",
        periods=PERIODS,
        by_period=np.full(PERIODS.size, effect),
        covariance=covariance,
        fitted=np.full(60, np.nan),
    )


def drifting() -> Floats:
    """Errors of a random walk and of noise: 0.3 % a period each."""
    steps = np.minimum.outer(PERIODS - 39, PERIODS - 39)
    return 0.003**2 * (steps + np.eye(PERIODS.size))


@pytest.mark.parametrize("zero", [False, True], ids=["log", "level"])
def test_totals_have_the_interval_of_draws(zero: bool) -> None:
    values = countries(60, effect=since(40, 0.05, 3))
    values[3, 5] *= not zero
    data = data_of(plan_of(step(40, 1, segments=["de"])), {"revenue": table(values)}, 60)
    one, bias = estimated(0.05, drifting()), 0.01
    found = course(data, one, bias, 0.95).total
    assert found is not None and data.scale == ("level" if zero else "log")
    rng, draws = np.random.default_rng(1), 40_000
    effects = rng.multivariate_normal(one.by_period, one.covariance, draws) + bias * rng.standard_normal((draws, 1))
    actual = data.actual[PERIODS]
    totals = (data.size * effects if zero else actual * -np.expm1(-effects)).sum(axis=1)
    low, high = np.quantile(totals, [0.025, 0.975])
    # Quantiles of 40,000 draws are known to 1 % of the interval; the first-order interval is as close as that.
    assert (found.lower, found.upper) == pytest.approx((low, high), abs=0.02 * (high - low))


def test_without_bias_the_interval_is_the_estimators_own() -> None:
    one = estimated(0.05, drifting())
    kept = total_interval(one, 0.0, 0.95)
    assert (kept.lower, kept.upper) == pytest.approx((one.lower, one.upper))
    widened = total_interval(one, one.standard_error, 0.95)
    assert widened.upper - widened.lower == pytest.approx(np.sqrt(2) * (one.upper - one.lower), rel=1e-6)
