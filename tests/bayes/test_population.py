"""Priors learned from past experiments: the grid is exact, hyper-parameters stay uncertain, winners alone mislead."""

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.optimize as so
import scipy.special as sc
import scipy.stats as sps
from hypothesis import given, settings

from stats.bayes.effect_grid import HyperPriors, effect_grid
from stats.bayes.mixture import Mixture
from stats.bayes.normal import posterior
from stats.bayes.population import COMPONENTS, Population, population, stratified
from stats.bayes.prior import Family
from tests.bayes.stories.population import draw

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def history(seed: int, experiments: int = 24, **scales: float) -> tuple[dict[str, float], Array, Array]:
    """Truth, estimates and standard errors of a company's past."""
    truth, rows = draw(np.random.default_rng(seed), experiments, HyperPriors(**scales))
    return truth, rows.estimate, rows.error


def given_scale(rng: np.random.Generator, tau: float, error: float, experiments: int) -> tuple[Array, Array, Array]:
    """Effects of a t4 population of this scale, estimates and errors."""
    effect = tau * rng.standard_t(4, experiments)
    se = error * np.exp(rng.normal(0, 0.3, experiments))
    return effect, effect + se * rng.standard_normal(experiments), se


def known(found: Population) -> tuple[float, float, Mixture, Mixture]:
    """Posterior means of mean and tau, predictive, and those leaving one out, which are there."""
    assert found.mean is not None and found.tau is not None
    assert found.predictive is not None and found.without is not None
    return found.mean.mean, found.tau.mean, found.predictive, found.without


@pytest.mark.parametrize(("seed", "experiments"), [(3, 8), (1, 12)])
def test_the_grid_is_the_integral_that_it_stands_for(seed: int, experiments: int) -> None:
    """Against rectangle rules on fine fixed grids, with scipy's own t distribution in the predictive."""
    _, x, s = history(seed, experiments)
    mean, tau, predictive, _ = known(found := population(x, s))
    assert found.mean is not None and found.tau is not None
    w = np.exp(np.linspace(-22, 4, 200))
    share_of_w = sps.gamma.pdf(w, 2, scale=0.5) * w * 26 / 199
    taus = (np.linspace(0, np.sqrt(0.4), 201)[1:] - np.sqrt(0.4) / 400) ** 2
    means = np.linspace(-0.016, 0.016, 81)
    height = np.zeros((means.size, taus.size))
    for estimate, error in zip(x, s, strict=True):
        sd = np.sqrt(error**2 + taus[:, None] ** 2 / w)
        z = (estimate - means[:, None, None]) / sd
        height += np.log((np.exp(-0.5 * z * z) / sd) @ share_of_w)
    height += -0.5 * (means[:, None] / 0.003) ** 2 - np.log1p((taus / 0.01) ** 2) + 0.5 * np.log(taus)
    share = np.exp(height - height.max())
    share /= share.sum()
    by_tau = share.sum(axis=0)
    assert mean == pytest.approx(share.sum(axis=1) @ means, abs=1e-5)
    assert tau == pytest.approx(by_tau @ taus, rel=2e-3)
    edges = np.interp([0.025, 0.975], np.cumsum(by_tau) - by_tau / 2, taus)
    assert [found.tau.lower, found.tau.upper] == pytest.approx(edges, rel=0.02, abs=3e-5)
    at = np.linspace(-0.15, 0.15, 61)
    below = sum(by_tau[t] * _cdf_given(taus[t], means, share[:, t], at) for t in range(taus.size))
    assert np.abs(predictive.cdf(at) - below).max() < 1e-4
    assert predictive.weight.size <= COMPONENTS and predictive.weight.sum() == pytest.approx(1)


def _cdf_given(tau: float, means: Array, share: Array, at: Array) -> Array:
    return sps.t.cdf((at[:, None] - means) / tau, 4) @ share / share.sum()


def test_leaving_one_out_is_learning_from_the_others() -> None:
    _, x, s = history(2, 20)
    x[7] = 0.2  # everything hangs on an outlier, also when it is the one left out
    found = population(x, s)
    *_, without = known(found)
    at = np.linspace(-0.1, 0.1, 81)
    for k in range(20):
        alone = known(population(np.delete(x, k), np.delete(s, k)))[2]
        one = Mixture(without.weight[k], without.mean[k], without.sd[k])
        assert np.abs(one.cdf(at) - alone.cdf(at)).max() < 1e-4
        readout = posterior(x[k], s[k], found.prior_without(k, "orders"))
        assert float(readout.mean) == pytest.approx(found.shrunk_mean[k], abs=1e-9)
        assert float(readout.sd) == pytest.approx(found.shrunk_sd[k], rel=1e-6)
    assert found.prior_without(7, "orders").source == "learned from 19 other experiments of orders"


def test_a_normal_population_can_be_left_without_its_outlier_too() -> None:
    """There the others' posterior lies outside the grid of all, so that it needs one of its own."""
    rng = np.random.default_rng(1)
    _, x, s = given_scale(rng, 0.002, 0.002, 20)
    x[0] = 1.0
    grid = effect_grid(x, s, HyperPriors(), "normal")
    assert grid.cut_off(grid.posteriors_without())[0] > 1e-6
    found = population(x, s, shape="normal")
    assert found.prior_without(0, "x").scale == pytest.approx(
        population(x[1:], s[1:], shape="normal").prior("x").scale, rel=1e-6
    )


def test_a_learned_prior_says_where_it_came_from_and_is_a_prior() -> None:
    _, x, s = history(4)
    found = population(x, s)
    prior = found.prior("orders")
    assert (prior.family, prior.source) == (Family.LEARNED, "learned from 24 experiments of orders")
    assert not prior.is_flat
    assert known(found)[2].moments()[1] == pytest.approx(prior.scale)


def test_fewer_than_eight_experiments_leave_the_default_in_place() -> None:
    found = population([0.01] * 9, [0.01] * 7 + [np.nan, 0.0])
    assert (found.experiments, found.reason, found.predictive) == (7, "too_few_experiments", None)
    with pytest.raises(ValueError, match="too few"):
        found.prior("orders")
    assert population([], []).experiments == 0
    assert population([0.01] * 8, [0.01] * 8).reason == ""
    with pytest.raises(ValueError, match="two arrays"):
        population([0.01], [0.01, 0.02])


def test_a_large_effect_is_shrunk_little_and_noise_a_lot() -> None:
    rng = np.random.default_rng(3)
    _, x, s = given_scale(rng, 0.005, 0.01, 40)
    x[0], s[0] = 0.15, 0.01
    fat, thin = population(x, s), population(x, s, shape="normal")
    assert fat.shrunk_mean[0] > 0.12
    kept_fat, kept_thin = (np.abs(found.shrunk_mean[1:]).mean() / np.abs(x[1:]).mean() for found in (fat, thin))
    assert kept_fat < 0.7 * kept_thin  # a normal population takes one breakthrough for everybody's scale


estimates = st.lists(
    st.tuples(st.floats(-0.5, 0.5), st.floats(1e-4, 0.3)), min_size=8, max_size=14
)  # lifts up to 65 %, errors from 0.01 % to 30 %


@settings(max_examples=12, deadline=None)
@given(estimates, st.randoms())
def test_order_and_sign_do_not_matter_and_nothing_is_ever_not_a_number(rows, random) -> None:
    x, s = np.array(rows).T
    found = population(x, s)
    mean, tau, predictive, without = known(found)
    for values in (predictive.weight, predictive.mean, predictive.sd, without.weight, without.sd, found.shrunk_sd):
        assert np.isfinite(values).all()
    assert found.tau is not None and 0 <= found.tau.lower <= found.tau.upper
    assert tau > found.tau.lower
    assert (found.shrunk_sd > 0).all()
    order = list(range(len(x)))
    random.shuffle(order)
    shuffled = known(population(np.append(x[order], np.nan), np.append(s[order], 1.0)))
    mirrored = known(population(-x, s))
    assert shuffled[:2] == pytest.approx((mean, tau), rel=1e-6, abs=1e-9)
    assert mirrored[:2] == pytest.approx((-mean, tau), rel=1e-6, abs=1e-9)


def test_effects_in_other_units_are_the_same_effects() -> None:
    """Nothing but the hyper-priors knows how large a lift is."""
    _, x, s = history(6)
    small = known(population(x, s))
    large = known(population(100 * x, 100 * s, hyper=HyperPriors(0.3, 1.0)))
    assert large[0] == pytest.approx(100 * small[0], rel=1e-9)
    assert large[1] == pytest.approx(100 * small[1], rel=1e-9)


def test_ranks_of_the_truth_are_uniform() -> None:
    """Simulation-based calibration of the grid (Talts et al. 2018): mean, tau and a new effect; chi² on 10 bins."""
    places = []
    for seed in range(100):
        truth, x, s = history(seed, 12)
        grid = effect_grid(x, s, HyperPriors(), "student_t4")
        weights = grid.posterior()
        by_tau = weights.sum(axis=0)
        new = truth["mean"] + truth["tau"] * np.random.default_rng(10_000 + seed).standard_t(4)
        predictive = known(population(x, s))[2]
        places.append(
            (
                grid.mean_given_tau(weights).cdf(np.array([truth["mean"]]))[0],
                np.interp(truth["tau"], grid.tau, np.cumsum(by_tau) - by_tau / 2),
                predictive.cdf(np.array([new]))[0],
            )
        )
    for column in np.array(places).T:
        counts, _ = np.histogram(column, np.linspace(0, 1, 11))
        chi2 = ((counts - 10) ** 2 / 10).sum()
        assert sc.chdtrc(9, chi2) > 0.001


def strata_of(
    seed: int, means: tuple[float, ...], each: int, tau: float = 0.004
) -> tuple[Array, Array, list[str | None]]:
    rng = np.random.default_rng(seed)
    parts = [given_scale(rng, tau, 0.004, each) for _ in means]
    x = np.concatenate([part[1] + mean for part, mean in zip(parts, means, strict=True)])
    return x, np.concatenate([part[2] for part in parts]), [f"team {i}" for i in range(len(means)) for _ in range(each)]


def test_teams_with_the_same_effects_share_a_prior_and_others_get_their_own() -> None:
    same = stratified(*strata_of(1, (0.0, 0.0, 0.0), 20))
    assert same.chance_different is not None and same.chance_different < 0.9 and not same.stratified
    assert same.population_of("team 1") is same.pooled
    different = stratified(*strata_of(1, (-0.03, 0.0, 0.04), 20))
    assert different.chance_different is not None and different.chance_different > 0.9 and different.stratified
    own = different.population_of("team 2")
    assert own is different.own["team 2"] and own.experiments == 20
    assert own.prior("x").mean > 0.004 > abs(different.pooled.prior("x").mean)
    assert different.population_of(None) is different.population_of("nobody") is different.pooled


def test_small_strata_and_experiments_without_one_are_pooled() -> None:
    x, s, names = strata_of(2, (-0.03, 0.04), 10)
    two_small = stratified(x, s, [*names[:7], *(["other"] * 3), *names[10:17], None, None, None])
    assert (two_small.chance_different, two_small.own, two_small.stratified) == (None, {}, False)
    assert two_small.pooled.experiments == 20
    with pytest.raises(ValueError, match="stratum"):
        stratified(x, s, names[:3])


def test_the_chance_that_strata_differ_is_that_of_the_whole_model() -> None:
    """Against importance sampling of tau, tau_between and all stratum means, with the exact likelihood."""
    x, s, names = strata_of(5, (-0.003, 0.004), 8)
    rng = np.random.default_rng(0)
    draws = 100_000
    tau, between = 0.01 * np.abs(rng.standard_cauchy((2, draws)))
    mean = 0.003 * rng.standard_normal(draws)
    weight = np.ones(draws)
    labels = np.array(names)
    w = sps.gamma.ppf((np.arange(24) + 0.5) / 24, 2, scale=0.5)
    log_weight = np.zeros(draws)
    for name in ("team 0", "team 1"):
        own = mean + between * rng.standard_normal(draws)
        for k in np.flatnonzero(labels == name):
            sd = np.sqrt(s[k] ** 2 + tau[:, None] ** 2 / w)
            log_weight += np.log((np.exp(-0.5 * ((x[k] - own)[:, None] / sd) ** 2) / sd).mean(axis=1) + 1e-300)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    chance = float(weight @ (between > 0.5 * tau))
    error = float(np.sqrt(weight**2 @ ((between > 0.5 * tau) - chance) ** 2))
    found = stratified(x, s, names).chance_different
    assert found == pytest.approx(chance, abs=4 * error + 0.01)


def _plug_in(x: Array, s: Array) -> tuple[float, float]:
    """Maximum-likelihood mean and tau of a normal population: what empirical Bayes plugs in."""

    def cost(at: Array) -> float:
        variance = s**2 + at[1] ** 2
        return float((0.5 * np.log(variance) + 0.5 * (x - at[0]) ** 2 / variance).sum())

    found = so.minimize(cost, np.array([x.mean(), x.std()]), method="Nelder-Mead")
    return float(found.x[0]), abs(float(found.x[1]))


@pytest.mark.simulation
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("truth", "least"), [("normal", 0.90), ("student_t4", 0.87)])
def test_full_bayes_covers_and_plug_in_does_not(truth: str, least: float) -> None:
    """METHODS C3 and F1: the total effect of what was shipped, K = 60, ship at z > 1.645, errors of one sd of effects.

    Over 250 replications of one fixed tau (standard error 0.015), so that no prior on tau is exactly right: 0.94-0.95
    for normal effects and 0.92 for t4 effects, of whose tails 60 experiments say little; plug-in 0.85 and 0.76.
    """
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(250):
        effect, x, s = given_scale(rng, 0.01, 0.01 if truth == "normal" else np.sqrt(2) * 0.01, 60)
        if truth == "normal":
            noise = x - effect
            effect = 0.01 * rng.standard_normal(60)
            x = effect + noise
        shipped = x / s > 1.645
        if not shipped.any():
            continue
        total = effect[shipped].sum()
        grid = effect_grid(x, s, HyperPriors(), "student_t4")
        low, high = np.quantile(_totals(grid, x[shipped], s[shipped], rng), [0.025, 0.975])
        mean, spread = _plug_in(x, s)
        shrink = spread**2 / (spread**2 + s[shipped] ** 2)
        centre = (mean + shrink * (x[shipped] - mean)).sum()
        width = 1.96 * np.sqrt((shrink * s[shipped] ** 2).sum())
        covered.append((low <= total <= high, abs(centre - total) <= width))
    full, plugged = np.mean(covered, axis=0)
    assert full > least
    assert plugged < full - 0.05


@pytest.mark.simulation
@pytest.mark.timeout(1800)
def test_a_prior_learned_from_winners_expects_too_much() -> None:
    """METHODS F1: the total effect of the shipped, by the prior learned from all experiments and from the shipped."""
    rng = np.random.default_rng(8)
    excess, scale = np.zeros(3), 0.0
    for _ in range(40):
        effect, x, s = given_scale(rng, 0.01, 2 * np.sqrt(2) * 0.01, 200)
        shipped = x / s > 1.645
        if shipped.sum() < 8:
            continue
        total = effect[shipped].sum()
        by_all = population(x, s).shrunk_mean[shipped].sum()
        by_winners = population(x[shipped], s[shipped]).shrunk_mean.sum()
        excess += np.array([by_all, by_winners, x[shipped].sum()]) - total
        scale += total
    by_all, by_winners, raw = excess / scale
    assert abs(by_all) < 0.15
    assert by_winners > 0.5 and raw > 1


def _totals(grid, x: Array, s: Array, rng: np.random.Generator) -> Array:
    """Draws of the sum of these effects given all experiments: hyper-parameters first, then every effect."""
    weights = grid.posterior()
    picked = rng.choice(weights.size, size=2000, p=weights.ravel())
    mean, tau = grid.mean.ravel()[picked][:, None], grid.tau[picked % grid.tau.size][:, None]
    total = s[:, None] ** 2 + tau[..., None] ** 2 * grid.nodes.spread
    log_share = np.log(grid.nodes.weight) - 0.5 * np.log(total) - 0.5 * ((x - mean)[..., None]) ** 2 / total
    share = sc.softmax(log_share, axis=-1)
    node = (np.cumsum(share, axis=-1) < rng.random(share.shape[:-1])[..., None]).sum(axis=-1)
    wide = tau**2 * grid.nodes.spread[np.minimum(node, grid.nodes.spread.size - 1)]
    shrink = wide / (s**2 + wide)
    effects = mean + shrink * (x - mean) + np.sqrt(shrink) * s * rng.standard_normal(shrink.shape)
    return np.asarray(effects.sum(axis=1))
