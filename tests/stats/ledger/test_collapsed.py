"""The collapsed engine against what can be integrated by hand, and what must hold for any data."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import halfnorm, norm, t

from stats.bayes.effect_grid import HyperPriors
from stats.bayes.population import population
from stats.ledger import collapsed
from stats.ledger.contract import Array, LedgerData, LedgerPriors
from stats.ledger.series_covariance import covariance, series
from tests.stats.ledger.companies import TYPICAL, Story, company


def without_weeks(data: LedgerData) -> LedgerData:
    launches = data.source.size
    return replace(
        data,
        log_values=np.empty(0),
        season_phase=np.empty(0),
        influences=np.empty((0, 2)),
        coverage=np.empty((0, launches)),
    )


def test_one_launch_agrees_with_quadrature_over_the_explicit_model():
    """t4 effects, one launch without scatter or decay; noise, level steps, tau, kappa and the effect on a grid."""
    pinned = 1e-9
    data, _ = company(11, Story(weeks=60, experiments=10, influences=0, ship_above=0.5, scalars=TYPICAL))
    first = int(np.argmax(data.estimate))
    coverage = (np.arange(60) >= 20).astype(float)[:, None]
    value = data.log_values - 0.002 * np.arange(60) + 0.03 * coverage[:, 0]
    estimate = data.estimate.copy()
    estimate[first] = 0.02
    only = np.full(1, np.nan)
    data = replace(
        data,
        log_values=value,
        estimate=estimate,
        source=np.array([first], dtype=np.intp),
        coverage=coverage,
        remaining=np.ones(1),
        remaining_log_sd=np.full(1, pinned),
        time_constant=only,
        held_out=np.zeros((0, 1)),
    )
    priors = LedgerPriors(mean=pinned, scatter=pinned, slope_step=pinned, season=0.02)
    prepared = series(data, priors)
    noises, steps = np.linspace(0.001, 0.022, 22), np.linspace(0.0002, 0.012, 20)
    taus, kappas = np.geomspace(2e-4, 0.05, 30), 0.9 * np.exp(0.35 * np.linspace(-3.5, 3.5, 29))
    deltas = np.linspace(-0.06, 0.1, 321)
    shapes = prepared.fixed @ prepared.fixed.T
    whole = np.column_stack([coverage[:, 0], prepared.value])
    height, centre, variance = (np.empty((22, 20)) for _ in range(3))
    for i, noise in enumerate(noises):
        for j, step in enumerate(steps):
            total = covariance(prepared, noise, step, 0.0) + shapes
            found = whole.T @ np.linalg.solve(total, whole)
            variance[i, j], centre[i, j] = 1 / found[0, 0], found[0, 1] / found[0, 0]
            misfit = found[1, 1] - found[0, 1] ** 2 / found[0, 0]
            height[i, j] = -0.5 * (np.linalg.slogdet(total)[1] + misfit) + 0.5 * np.log(variance[i, j])
    error = np.hypot(data.error, data.bias_sd)
    of_effect = t(4, 0, taus[:, None]).pdf(deltas)[:, None] * norm(deltas, error[:, None]).pdf(estimate[:, None])
    others = np.delete(np.arange(10), first)
    log_others = np.log(of_effect.sum(axis=2) * np.diff(deltas)[0])[:, others].sum(axis=1)
    by_delta = of_effect[:, first] * np.exp(log_others)[:, None] * (halfnorm(0, priors.tau).pdf(taus) * taus)[:, None]
    log_kappa = np.log(kappas / 0.9) / 0.35
    seen = np.exp(-0.5 * (centre[..., None, None] - kappas[:, None] * deltas) ** 2 / variance[..., None, None])
    weight = np.exp(height - height.max()) * halfnorm(0, priors.noise).pdf(noises)[:, None]
    weight = weight * halfnorm(0, priors.level_step).pdf(steps) / np.sqrt(variance)
    joint = np.einsum("ij,ijkd,td,k->kdt", weight, seen, by_delta, norm.pdf(log_kappa), optimize=True)
    joint /= joint.sum()
    by_scales = np.einsum("ij,ijkd,td,k->ij", weight, seen, by_delta, norm.pdf(log_kappa), optimize=True)
    by_scales /= by_scales.sum()

    fit = collapsed.fit(data, priors, seed=1, draws=6000)
    theta = kappas[:, None] * deltas
    by_theta = joint.sum(axis=2)
    agree(fit.theta[:, 0], theta, by_theta)
    agree(np.log(fit.scalars["kappa"] / 0.9) / 0.35, log_kappa, joint.sum(axis=(1, 2)))
    agree(np.log(fit.scalars["tau"]), np.log(taus), joint.sum(axis=(0, 1)))
    agree(fit.delta[:, first], deltas, joint.sum(axis=(0, 2)))
    agree(fit.scalars["noise"], noises, by_scales.sum(axis=1))
    agree(fit.scalars["level_step"], steps, by_scales.sum(axis=0))


def agree(draws: Array, at: Array, weight: Array) -> None:
    """Mean and standard deviation within the error of 800 independent draws."""
    mean = (weight * at).sum()
    sd = np.sqrt((weight * (at - mean) ** 2).sum())
    assert (draws.mean() - mean) / sd == pytest.approx(0, abs=3.5 / np.sqrt(800))
    assert draws.std() / sd == pytest.approx(1, abs=3.5 / np.sqrt(800))


def test_without_a_series_effects_are_shrunk_as_the_population_model_does():
    data, _ = company(4, Story(scalars=TYPICAL))
    priors = LedgerPriors()
    fit = collapsed.fit(without_weeks(data), priors, seed=1)
    hyper = HyperPriors(priors.mean, priors.tau, "half_normal")
    expected = population(data.estimate, data.error, hyper=hyper)
    assert fit.reason == collapsed.SERIES_TOO_SHORT
    assert fit.level.shape == (2000, 0)
    away = np.abs(fit.delta.mean(axis=0) - expected.shrunk_mean) / expected.shrunk_sd
    assert away.max() < 0.15
    assert fit.delta.std(axis=0) / expected.shrunk_sd == pytest.approx(np.ones(60), abs=0.2)
    assert np.log(fit.scalars["kappa"]).std() == pytest.approx(0.35, abs=0.03)


def test_a_holdout_speaks_even_where_the_series_is_too_short():
    story = Story(weeks=30, experiments=20, scalars=TYPICAL, holdout_error=0.004, ship_above=0.5)
    data, _ = company(9, story)
    told = collapsed.fit(data, LedgerPriors(), seed=1, draws=500)
    unheard = replace(
        data,
        held_out=data.held_out[:0],
        holdout_week=data.holdout_week[:0],
        holdout_estimate=data.holdout_estimate[:0],
        holdout_error=data.holdout_error[:0],
    )
    untold = collapsed.fit(unheard, LedgerPriors(), seed=1, draws=500)
    assert told.reason == untold.reason == collapsed.SERIES_TOO_SHORT
    assert told.theta.sum(axis=1).std() < 0.7 * untold.theta.sum(axis=1).std()


def test_the_same_seed_gives_the_same_ledger_and_every_draw_adds_up():
    data, _ = company(6, Story(scalars=TYPICAL, blind=2, measured_persistence=True, holdout_error=0.01, biased=True))
    value = data.log_values.copy()
    value[[3, 40, 41]] = np.nan
    data = replace(data, log_values=value)
    one, two = (collapsed.fit(data, LedgerPriors(), seed=7, draws=200) for _ in range(2))
    assert np.array_equal(one.theta, two.theta)
    assert np.array_equal(one.level, two.level)
    launched = np.einsum("stj,sj->st", one.path, one.theta)
    total = one.level + one.season + one.outside.sum(axis=2) + one.noise + launched
    known = np.isfinite(value)
    assert np.abs(total[:, known] - value[known]).max() < 1e-9
    assert np.isfinite(total).all()
    assert one.diagnostics["ess"] >= 300
    assert one.reason == ""


@pytest.mark.parametrize("broken", [{"error": np.zeros(60)}, {"source": np.array([99])}, {"estimate": np.zeros(3)}])
def test_data_that_do_not_fit_together_are_refused(broken):
    data, _ = company(1, Story(weeks=20))
    with pytest.raises(ValueError, match=r"ledger|source|errors"):
        replace(data, **broken)
