"""How much of an effect lasts: start, long run and time constant from effects by age (METHODS E6)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from stats.persistence import PersistenceReason, persistence
from tests.stats.moment_cases import within

DAYS = np.arange(28.0)


def course(start: float, long_run: float, constant: float, ages: np.ndarray = DAYS) -> np.ndarray:
    return np.asarray(long_run + (start - long_run) * np.exp(-ages / constant))


def noise(days: int = 28, shared: float = 0.0038, daily: float = 0.008) -> np.ndarray:
    """People bring a level of their own to all of their days: the mean of 28 days has an error of 0.0041."""
    return np.full((days, days), shared**2) + np.eye(days) * daily**2


def test_the_posterior_is_that_of_the_model_summed_over_time_constants() -> None:
    rng = np.random.default_rng(1)
    covariance = noise()
    effects = rng.multivariate_normal(course(0.05, 0.02, 5), covariance)
    fit = persistence(effects, covariance, DAYS)
    # With start and long run integrated out, the effects are normal around zero.
    left = np.exp(-DAYS[:, None] / fit.time_constant).T
    design = np.stack([left, 1 - left], axis=-1)
    marginal = np.array(
        [multivariate_normal(np.zeros(28), covariance + 0.05**2 * x @ x.T).logpdf(effects) for x in design]
    )
    score = np.log(fit.time_constant)
    sd = (np.log(14) - np.log(1.5)) / 2 / 1.2815515655446004
    posterior = marginal - 0.5 * ((score - np.log(1.5 * 14) / 2) / sd) ** 2
    weight = np.exp(posterior - posterior.max())
    np.testing.assert_allclose(fit.weight, weight / weight.sum(), atol=1e-9)
    # Normal theory for the most likely time constant.
    best = int(np.argmax(fit.weight))
    gain = 0.05**2 * design[best].T @ np.linalg.inv(covariance + 0.05**2 * design[best] @ design[best].T)
    np.testing.assert_allclose(fit.mean[best], gain @ effects, rtol=1e-8)
    np.testing.assert_allclose(fit.covariance[best], 0.05**2 * (np.eye(2) - gain @ design[best]), atol=1e-12)


def test_quantiles_and_the_band_are_those_of_the_draws() -> None:
    fit = persistence(course(0.05, 0.02, 5), noise(), DAYS)
    n = 40_000
    start, long_run, constant = fit.draws(n, 3)
    for found, draws in ((fit.start, start), (fit.long_run, long_run)):
        assert found is not None
        at = 4 * np.sqrt(0.09 / n)
        for level, quantile in ((0.1, found.lower), (0.5, found.median), (0.9, found.upper)):
            assert abs(float((draws <= quantile).mean()) - level) < max(at, 4 * np.sqrt(0.25 / n))
        assert found.mean == pytest.approx(float(draws.mean()), abs=4 * found.sd / np.sqrt(n))
    band = fit.curve([3.0, 40.0])
    at_three = long_run + (start - long_run) * np.exp(-3 / constant)
    assert float(((band.lower[0] <= at_three) & (at_three <= band.upper[0])).mean()) == pytest.approx(0.8, abs=0.01)
    assert float(band.mean[1]) == pytest.approx(
        float((long_run + (start - long_run) * np.exp(-40 / constant)).mean()), abs=2e-4
    )
    assert fit.chance_below_half == pytest.approx(float((long_run < start / 2).mean()), abs=0.01)
    assert fit.half_life is not None and fit.remaining is not None
    assert fit.half_life.median == pytest.approx(float(np.median(constant)) * np.log(2), rel=0.08)
    ratio = long_run / start
    for level, quantile in ((0.1, fit.remaining.lower), (0.5, fit.remaining.median), (0.9, fit.remaining.upper)):
        assert float((ratio <= quantile).mean()) == pytest.approx(level, abs=4 * np.sqrt(0.25 / n))
    kept = np.clip(ratio, *np.quantile(ratio, [0.005, 0.995]))
    assert fit.remaining.sd == pytest.approx(float(kept.std()), rel=0.03)
    assert fit.remaining_median is not None and fit.remaining_log_sd is not None
    mean = fit.remaining_median * np.exp(fit.remaining_log_sd**2 / 2)
    assert mean == pytest.approx(float(np.maximum(kept, 0).mean()), rel=0.02)


def test_exact_days_give_the_course_back() -> None:
    fit = persistence(course(0.05, 0.02, 5), np.eye(28) * 1e-8, DAYS)
    assert (
        fit.start is not None and fit.long_run is not None and fit.remaining is not None and fit.half_life is not None
    )
    assert fit.start.mean == pytest.approx(0.05, abs=5e-4) and fit.long_run.mean == pytest.approx(0.02, abs=2e-4)
    assert fit.remaining.median == pytest.approx(0.4, abs=0.01)
    assert fit.remaining_median == pytest.approx(0.4, abs=0.01)
    assert fit.remaining_log_sd is not None and fit.remaining_log_sd < 0.05
    assert fit.half_life.median == pytest.approx(5 * np.log(2), rel=0.05)
    # What lasts of the mean of the 28 days is more than what lasts of the start.
    assert fit.lasting_median == pytest.approx(0.02 / float(course(0.05, 0.02, 5).mean()), abs=0.01)
    assert fit.identified and fit.transient
    np.testing.assert_allclose(fit.curve(DAYS).mean, course(0.05, 0.02, 5), atol=5e-4)


def test_a_steady_effect_lasts_and_says_nothing_about_a_time_constant() -> None:
    fit = persistence(np.full(28, 0.03), noise(daily=0.004, shared=0.001), DAYS)
    assert not fit.identified and fit.information < 0.1
    assert not fit.transient
    assert fit.remaining is not None and fit.remaining.lower < 1 < fit.remaining.upper
    assert fit.long_run is not None and fit.long_run.mean == pytest.approx(0.03, abs=0.001)
    assert fit.half_life is not None and fit.half_life.upper > 4 * fit.half_life.lower


def test_an_effect_that_vanishes_leaves_a_ratio_the_ledger_can_use() -> None:
    fit = persistence(course(0.05, 0.0, 4), noise(daily=0.004, shared=0.002), DAYS)
    assert fit.transient and fit.remaining_median is not None and fit.remaining_log_sd is not None
    assert 0 < fit.remaining_median < 0.15
    assert fit.remaining_log_sd > 0.5


def test_a_start_that_may_be_zero_has_no_ratio_to_it() -> None:
    fit = persistence(course(0.0, 0.03, 5), noise(daily=0.004, shared=0.001), DAYS)
    assert fit.remaining is None and fit.remaining_median is None and fit.remaining_log_sd is None
    assert fit.lasting_median is not None and fit.lasting_median > 1
    assert fit.long_run is not None and fit.long_run.lower > 0.02
    assert fit.chance_below_half is not None and fit.chance_below_half < 0.01


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_a_loss_is_a_gain_turned_over(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ages = np.sort(rng.choice(40, size=12, replace=False)).astype(float)
    root = rng.normal(0, 0.01, (12, 12))
    effects = rng.normal(0.02, 0.02, 12)
    gain, loss = (persistence(sign * effects, root @ root.T, ages) for sign in (1, -1))
    if gain.reason:
        assert gain.reason == loss.reason == PersistenceReason.TOO_FEW_DAYS
        return
    assert gain.start is not None and loss.start is not None and gain.long_run is not None and loss.long_run is not None
    assert gain.start.upper == pytest.approx(-loss.start.lower, abs=1e-9)
    assert gain.long_run.mean == pytest.approx(-loss.long_run.mean, abs=1e-9)
    assert gain.chance_below_half == pytest.approx(loss.chance_below_half, abs=1e-9)
    assert (gain.remaining is None) == (loss.remaining is None)
    assert gain.information == pytest.approx(loss.information, abs=1e-9) and gain.information >= 0


def test_days_that_repeat_each_other_count_once() -> None:
    covariance = noise(14, daily=0.006)
    effects = course(0.05, 0.03, 4, DAYS[:14]) + 0.001 * np.sin(DAYS[:14])
    once = persistence(effects, covariance, DAYS[:14])
    both = np.append(np.arange(14), 13)
    twice = persistence(effects[both], covariance[np.ix_(both, both)], DAYS[:14][both])
    assert once.long_run is not None and twice.long_run is not None
    assert twice.long_run.mean == pytest.approx(once.long_run.mean, abs=1e-6)
    assert twice.long_run.sd == pytest.approx(once.long_run.sd, rel=1e-4)


def test_less_than_a_week_or_days_without_error_say_nothing() -> None:
    short = persistence(np.full(6, 0.03), noise(6), DAYS[:6])
    few = persistence(np.full(3, 0.03), noise(3), np.array([0.0, 7.0, 14.0]))
    flat = persistence(np.full(10, 0.03), np.zeros((10, 10)), DAYS[:10])
    assert [x.reason for x in (short, few, flat)] == [
        PersistenceReason.TOO_FEW_DAYS,
        PersistenceReason.TOO_FEW_DAYS,
        PersistenceReason.ZERO_VARIANCE,
    ]
    assert short.start is None and not short.transient and not short.identified
    for ask in (lambda: short.curve([1.0]), lambda: short.draws(10, 1)):
        with pytest.raises(ValueError, match="too_few_days"):
            ask()
    for effects, covariance in ((np.full(9, 0.03), noise(10)), (np.full(10, np.nan), noise(10))):
        with pytest.raises(ValueError, match="effects"):
            persistence(effects, covariance, DAYS[:10])


def replicate(
    start: float, long_run: float, constant: float, runs: int, *, days: int = 28, daily: float = 0.008, seed: int
) -> dict[str, float]:
    """Coverage and bias of the long run, by the model and by the mean of all days."""
    ages, covariance = np.arange(float(days)), noise(days, daily=daily)
    truth, rng = course(start, long_run, constant, ages), np.random.default_rng(seed)
    error = float(np.sqrt(covariance.mean()))
    rows = []
    for effects in rng.multivariate_normal(truth, covariance, runs):
        fit = persistence(effects, covariance, ages)
        low, high = np.quantile(fit.draws(4000, 7)[1], [0.025, 0.975])
        assert fit.long_run is not None
        rows.append(
            {
                "covers": low <= long_run <= high,
                "bias": fit.long_run.mean - long_run,
                "mean_covers": abs(float(effects.mean()) - long_run) <= 1.959964 * error,
                "mean_bias": float(effects.mean()) - long_run,
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def test_the_long_run_is_covered_where_the_mean_of_all_days_is_too_high() -> None:
    """METHODS E6 [sim]: covers 0.950 with bias -0.0006; the 28-day mean covers 0.71 with bias +0.0058."""
    runs = 100
    got = replicate(0.05, 0.02, 5.0, runs, seed=2)
    assert within(got["covers"], 0.95, runs, tolerance=0.01)
    # With this much noise the prior, which is about no effect, pulls the long run down: a third of the other's bias.
    assert abs(got["bias"] + 0.002) < 3 * 0.006 / np.sqrt(runs)
    assert within(got["mean_covers"], 0.71, runs, tolerance=0.01)
    assert abs(got["mean_bias"] - 0.0058) < 3 * 0.0041 / np.sqrt(runs) + 2e-4


@pytest.mark.simulation
@pytest.mark.parametrize("daily", [0.008, 0.0148])
@pytest.mark.parametrize("constant", [1.5, 3.0, 5.0, 8.0, 14.0])
def test_long_runs_are_covered_for_all_time_constants(constant: float, daily: float) -> None:
    """A prior speaks too: where days are noisy intervals cover more than they promise, nowhere less."""
    runs = 2000
    got = replicate(0.05, 0.02, constant, runs, daily=daily, seed=int(10 * constant))
    assert got["covers"] > 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs) - 0.01
    assert abs(got["bias"]) < 0.004
