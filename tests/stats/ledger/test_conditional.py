"""Given its scalars the ledger is linear and normal: the same numbers as writing the covariances out."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from stats.ledger import target
from stats.ledger.conditional import complete
from stats.ledger.contract import Array, LedgerData, LedgerFit, LedgerPriors
from stats.ledger.effects import conditional, shrunk
from stats.ledger.scalars import NAMES
from stats.ledger.series_covariance import covariance, path
from tests.stats.ledger.companies import Story, company

PRIORS = LedgerPriors(nu=np.inf)
SCALARS = {
    "mean": 0.002,
    "tau": 0.008,
    "kappa": 0.8,
    "scatter": 0.003,
    "remaining": 0.7,
    "weeks": 5.0,
    "noise": 0.01,
    "level_step": 0.005,
    "slope_step": 0.0003,
}


def repeated(draws: int) -> dict[str, Array]:
    return {name: np.full(draws, SCALARS[name]) for name in NAMES}


def small_company(*, twice: bool = False) -> LedgerData:
    """18 weeks, one unknown, with a blind launch, a holdout and, with `twice`, an experiment that shipped twice."""
    data, _ = company(3, Story(weeks=18, experiments=6, ship_above=0.5, blind=1, biased=True, holdout_error=0.01))
    value = data.log_values.copy()
    value[7] = np.nan
    source = data.source.copy()
    if twice:
        source[0] = source[1]
    return replace(data, log_values=value, source=source)


def written_out(data: LedgerData) -> tuple[Array, Array, Array, Array, Array]:
    """Prior mean and covariance of (delta, theta, fixed coefficients, base + noise), and rows of what was seen of them.

    Returns mean (N,), covariance (N, N), rows (R, N), seen (R,) and the errors' variances (R,).
    """
    model = target.model(data, PRIORS)
    s, effects, launches = SCALARS, data.estimate.size, data.source.size
    known = np.flatnonzero(model.series.known)
    fixed = model.series.fixed.shape[1]
    of_delta = np.zeros((launches, effects))
    for j, k in enumerate(data.source):
        if k >= 0:
            of_delta[j, k] = s["kappa"]
    blind = data.source < 0
    prior_delta = s["tau"] ** 2 * np.eye(effects)
    own = s["scatter"] ** 2 + blind * (s["kappa"] * s["tau"]) ** 2
    size = effects + launches + fixed + known.size
    total = np.eye(size)
    a, b = slice(0, effects), slice(effects, effects + launches)
    total[a, a] = prior_delta
    total[b, a] = of_delta @ prior_delta
    total[a, b] = total[b, a].T
    total[b, b] = of_delta @ prior_delta @ of_delta.T + np.diag(own)
    base = covariance(model.series, s["noise"], s["level_step"], s["slope_step"])
    total[effects + launches + fixed :, effects + launches + fixed :] = base
    delta = np.full(effects, s["mean"])
    theta = of_delta @ delta + blind * s["kappa"] * s["mean"]
    mean = np.concatenate([delta, theta, np.zeros(fixed + known.size)])
    weight = path(model.series, *model.persistence(repeated(1), np.zeros((1, 0))))[0]
    holdouts = data.held_out.shape[0]
    rows = np.zeros((effects + known.size + holdouts, size))
    rows[:effects, :effects] = np.eye(effects)
    weeks = slice(effects, effects + known.size)
    rows[weeks, b] = weight[known]
    rows[weeks, effects + launches : effects + launches + fixed] = model.series.fixed[known]
    rows[weeks, effects + launches + fixed :] = np.eye(known.size)
    rows[effects + known.size :, b] = data.held_out * weight[data.holdout_week]
    seen = np.concatenate([data.estimate, model.series.value[known], data.holdout_estimate])
    error = np.concatenate([data.error**2 + data.bias_sd**2, np.zeros(known.size), data.holdout_error**2])
    return mean, total, rows, seen, error


@pytest.mark.parametrize("twice", [False, True])
def test_the_collapsed_likelihood_is_the_density_of_a_multivariate_normal(twice):
    data = small_company(twice=twice)
    mean, total, rows, seen, error = written_out(data)
    expected = multivariate_normal(rows @ mean, rows @ total @ rows.T + np.diag(error)).logpdf(seen)
    model, scalars = target.model(data, PRIORS), repeated(2)
    known = model.effects
    variance = np.full((2, known.launched.size), SCALARS["tau"] ** 2)
    centre, left = shrunk(known.variance[known.launched], known.estimate[known.launched], scalars["mean"], variance)
    white = target.whiten(model, scalars, np.zeros((2, 0)))
    got = conditional(known, white, scalars, centre, left).log_density
    experiments = multivariate_normal(
        np.full(data.estimate.size, SCALARS["mean"]), np.diag(known.variance + SCALARS["tau"] ** 2)
    ).logpdf(data.estimate)
    assert got + experiments == pytest.approx(np.full(2, expected), abs=1e-7)


@pytest.mark.parametrize("twice", [False, True])
def test_draws_have_the_mean_and_covariance_of_the_written_out_posterior(twice):
    data, draws = small_company(twice=twice), 6000
    mean, total, rows, seen, error = written_out(data)
    gain = np.linalg.solve(rows @ total @ rows.T + np.diag(error), rows @ total).T
    after, left = mean + gain @ (seen - rows @ mean), total - gain @ rows @ total
    fit = complete(data, PRIORS, repeated(draws), seed=1)
    effects, launches = data.estimate.size, data.source.size
    got = np.hstack([fit.delta, fit.theta])
    count = effects + launches
    sd = np.sqrt(np.diag(left))[:count]
    assert np.abs((got.mean(axis=0) - after[:count]) / sd).max() < 5 / np.sqrt(draws)
    apart = np.cov((got / sd).T) - left[:count, :count] / np.outer(sd, sd)
    assert np.abs(apart).max() < 7 / np.sqrt(draws)
    known = np.isfinite(data.log_values)
    around = after[-int(known.sum()) :]
    base_and_noise = (fit.level + fit.noise)[:, known] - data.log_values[0]
    spread = np.sqrt(np.maximum(np.diag(left)[-int(known.sum()) :], 1e-12))
    assert np.abs((base_and_noise.mean(axis=0) - around) / spread).max() < 5 / np.sqrt(draws)


def added(fit: LedgerFit) -> Array:
    return fit.level + fit.season + fit.outside.sum(axis=2) + fit.noise + np.einsum("stj,sj->st", fit.path, fit.theta)


def test_the_base_is_drawn_from_its_own_posterior_given_the_rest():
    """Without launches, season and influences: level and slope against the written-out regression on y."""
    weeks, draws = 12, 20_000
    data, _ = company(5, Story(weeks=weeks, experiments=4, ship_above=99, influences=0))
    value = data.log_values.copy()
    value[5] = np.nan
    data = replace(data, log_values=value)
    priors = replace(PRIORS, season=1e-9)
    fit = complete(data, priors, repeated(draws), seed=2)
    s, week = SCALARS, np.arange(weeks)
    least = np.minimum(week[:, None], week)
    reach = np.maximum(week[:, None] - np.arange(1, weeks), 0.0)  # of slope steps into levels
    to_slope = (week[:, None] >= np.arange(1, weeks)).astype(float)
    level = s["level_step"] ** 2 * least + s["slope_step"] ** 2 * reach @ reach.T
    level = level + 1 + priors.slope**2 * np.outer(week, week)
    across = s["slope_step"] ** 2 * to_slope @ reach.T + priors.slope**2 * np.outer(np.ones(weeks), week)
    slope = s["slope_step"] ** 2 * to_slope @ to_slope.T + priors.slope**2
    known = np.isfinite(value)
    joint = np.block([[level, across.T], [across, slope]])
    seen = np.concatenate([known, np.zeros(weeks, bool)])
    gain = np.linalg.solve(level[np.ix_(known, known)] + s["noise"] ** 2 * np.eye(known.sum()), joint[seen]).T
    mean, left = gain @ (value[known] - value[0]), joint - gain @ joint[seen]
    got = np.hstack([fit.level - value[0], fit.slope])
    sd = np.sqrt(np.diag(left))
    assert np.abs((got.mean(axis=0) - mean) / sd).max() < 5 / np.sqrt(draws)
    assert np.abs(np.cov((got / sd).T) - left / np.outer(sd, sd)).max() < 7 / np.sqrt(draws)


def test_components_add_up_to_every_known_week_in_every_draw():
    data = small_company()
    fit = complete(data, PRIORS, repeated(50), seed=4)
    known = np.isfinite(data.log_values)
    assert np.abs(added(fit)[:, known] - data.log_values[known]).max() < 1e-9
    assert np.isfinite(added(fit)).all()


def test_a_measured_persistence_keeps_the_draws_it_was_given():
    data, _ = company(8, Story(weeks=60, experiments=12, ship_above=0.5, measured_persistence=True))
    measured = int(np.flatnonzero(np.isfinite(data.remaining))[0])
    given = repeated(3) | {f"remaining:{measured}": np.array([0.2, 0.5, 0.8])}
    fit = complete(data, PRIORS, given, seed=1)
    assert fit.scalars[f"remaining:{measured}"] == pytest.approx([0.2, 0.5, 0.8])
    assert fit.path[:, -1, measured] == pytest.approx([0.2, 0.5, 0.8], abs=0.3)
