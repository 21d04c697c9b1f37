"""Totals of shipped experiments: the winner's curse, and what shrinkage makes of it (METHODS F1, F2, F4).

Lee & Shen 2018; DerSimonian & Laird 1986 and scipy's integrals as oracles. Effects spread with sd `TAU`; errors are
uniform around them, as in the table of METHODS F1.
"""

import time
from collections.abc import Callable

import numpy as np
import pytest
import scipy.integrate as si
import scipy.stats as sps
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.bayes.effect_grid import HyperPriors
from stats.bayes.mixture import Array
from stats.bayes.population import population
from stats.programme import selection
from stats.programme.cells import SAMPLE
from stats.programme.totals import programme, wins_for

TAU = 0.01
CUT = 1.645
SLOW = pytest.mark.simulation
RULES: tuple[Callable[..., selection.SelectedTotal], ...] = (
    selection.naive,
    selection.lee_shen,
    selection.lee_shen_posterior,
    selection.james_stein,
    selection.plug_in,
    selection.winners_only,
)


def drawn(rng: np.random.Generator, kind: str, number: int, ratio: float) -> tuple[Array, Array, Array]:
    """True effects of sd `TAU`, estimates, and errors of `ratio * TAU` on average."""
    effect = {
        "normal": lambda: TAU * rng.standard_normal(number),
        "t3": lambda: TAU * rng.standard_t(3, number) / np.sqrt(3),
        "spike": lambda: np.where(rng.random(number) < 0.8, 0.0, TAU * np.sqrt(5) * rng.standard_normal(number)),
    }[kind]()
    error = ratio * TAU * rng.uniform(0.5, 1.5, number)
    return effect, effect + error * rng.standard_normal(number), error


def test_a_known_population_gives_the_normal_posterior_sums() -> None:
    """With hyper-priors that leave nothing open the total is a sum of conjugate posteriors."""
    _, x, s = drawn(np.random.default_rng(1), "normal", 400, 1.0)
    known = programme(x, s, shape="normal", hyper=HyperPriors(mean_scale=1e-9, tau_scale=TAU))
    tau = known.tau.mean
    kept = tau**2 / (tau**2 + s**2)
    shipped = x > CUT * s
    total = known.totals(shipped)
    assert total.mean[0] == pytest.approx((kept * x)[shipped].sum(), rel=2e-3)
    assert total.sd[0] >= np.sqrt((kept * s**2)[shipped].sum()) * (1 - 1e-6)
    assert abs(known.mean.mean) < 1e-8


def test_effects_are_those_of_the_learned_population_with_each_in_it() -> None:
    """Leaving an experiment out and updating with it is the same as having it in."""
    _, x, s = drawn(np.random.default_rng(2), "t3", 12, 1.0)
    ours, theirs = programme(x, s), population(x, s)
    assert ours.effects.mean == pytest.approx(theirs.shrunk_mean, abs=1e-3 * TAU)
    assert ours.effects.sd == pytest.approx(theirs.shrunk_sd, rel=1e-3)
    assert theirs.mean is not None and theirs.tau is not None
    assert (ours.mean.lower, ours.mean.upper) == pytest.approx((theirs.mean.lower, theirs.mean.upper), abs=0.01 * TAU)
    assert (ours.tau.lower, ours.tau.upper) == pytest.approx((theirs.tau.lower, theirs.tau.upper), rel=0.07)


def test_one_experiment_alone_has_the_posterior_of_a_three_dimensional_integral() -> None:
    x, s = 0.03, 0.01
    effect, mean = np.linspace(-0.03, 0.08, 221), np.linspace(-0.018, 0.018, 61)
    prior = np.zeros(effect.size)
    for tau in np.exp(np.linspace(-14, 4, 121)):  # d tau = tau d ln tau, and the t4's density divides by tau
        z = (effect[:, None] - mean) / tau
        prior += ((1 + z * z / 4) ** -2.5 * np.exp(-0.5 * (mean / 0.003) ** 2)).sum(axis=1) / (1 + (tau / 0.01) ** 2)
    density = prior * sps.norm.pdf(x, effect, s)
    density /= si.simpson(density, x=effect)
    centre = si.simpson(density * effect, x=effect)
    sd = np.sqrt(si.simpson(density * (effect - centre) ** 2, x=effect))
    below = si.cumulative_simpson(density, x=effect, initial=0)
    found = programme([x], [s])
    assert found.effects.mean[0] == pytest.approx(centre, rel=2e-3)
    assert found.effects.sd[0] == pytest.approx(sd, rel=2e-3)
    wanted = np.interp((0.025, 0.1, 0.9, 0.975), below, effect)
    assert found.effects.quantiles[0] == pytest.approx(wanted, abs=0.03 * sd)
    assert found.effects.chance_positive[0] == pytest.approx(1 - np.interp(0.0, effect, below), abs=3e-3)
    assert found.totals([True]).quantiles == pytest.approx(found.effects.quantiles)


@pytest.mark.parametrize("number", [4, pytest.param(2, marks=SLOW), pytest.param(12, marks=SLOW)])
def test_quantiles_of_sums_are_those_of_draws_from_the_joint_posterior(number: int) -> None:
    """The sum is taken as normal given the population: where few stand out, ends are off by a seventh of an sd."""
    rng = np.random.default_rng(number)
    _, x, s = drawn(rng, "t3", 20, 1.0)
    x[0] = 6 * TAU
    members = np.argsort(-x / s)[:number]
    found = programme(x, s)
    cells, draws = found._cells, 8_000
    at = rng.choice(cells.weight.size, draws, p=cells.weight)
    total = np.zeros(draws)
    for k in members:
        spread = cells.tau[at, None] ** 2 * cells.nodes.spread
        log_term = np.log(cells.nodes.weight) - 0.5 * np.log(s[k] ** 2 + spread)
        log_term -= 0.5 * (x[k] - cells.mean[at, None]) ** 2 / (s[k] ** 2 + spread)
        share = np.exp(log_term - log_term.max(axis=1, keepdims=True)).cumsum(axis=1)
        node = (share < rng.random((draws, 1)) * share[:, -1:]).sum(axis=1)
        kept = spread[np.arange(draws), node] / (s[k] ** 2 + spread[np.arange(draws), node])
        centre = cells.mean[at] + kept * (x[k] - cells.mean[at])
        total += centre + np.sqrt(kept) * s[k] * rng.standard_normal(draws)
    chosen = np.isin(np.arange(20), members)
    sums = found.totals(chosen)
    assert sums.mean[0] == pytest.approx(total.mean(), abs=4 * total.std() / np.sqrt(draws))
    assert sums.sd[0] == pytest.approx(total.std(), rel=0.03)
    ends = np.quantile(total, (0.025, 0.1, 0.9, 0.975))
    assert sums.quantiles[0] == pytest.approx(ends, abs=(0.2 if number < 5 else 0.1) * total.std())


@pytest.mark.simulation
def test_many_experiments_are_the_grid_in_less_time() -> None:
    """Above 250 experiments a lattice around the top takes the grid's place: the same answer, and fast for 5,000."""
    _, x, s = drawn(np.random.default_rng(3), "t3", SAMPLE + 1, 1.0)
    shipped = x > CUT * s
    large, small = programme(x, s), programme(x[:-1], s[:-1])
    assert large.tau.mean == pytest.approx(small.tau.mean, rel=0.01)
    assert large.totals(shipped).sd[0] == pytest.approx(small.totals(shipped[:-1]).sd[0], rel=0.02)
    assert large._cells.weight.size < 100 < small._cells.weight.size


@given(st.integers(0, 2**31), st.floats(0.2, 3.0))
@settings(max_examples=3, deadline=None)
def test_totals_add_up_and_scale_and_turn_around(seed: int, ratio: float) -> None:
    _, x, s = drawn(np.random.default_rng(seed), "t3", 9, ratio)
    found = programme(x, s)
    members = np.array([np.arange(9) < 4, np.arange(9) >= 4, np.arange(9) >= 0, np.zeros(9, bool)])
    total = found.totals(members)
    assert total.mean[0] + total.mean[1] == pytest.approx(total.mean[2], abs=1e-12)
    assert (total.mean[3], total.sd[3]) == (0.0, 0.0)
    assert total.mean[2] == pytest.approx(found.effects.mean.sum(), abs=1e-6 * TAU)
    assert (np.diff(total.quantiles[:3], axis=1) > 0).all()
    path = found.cumulative([3, 0, 2])
    assert path.mean[-1] == pytest.approx(found.totals(np.isin(np.arange(9), [0, 2, 3])).mean[0])
    turned = programme(-x, s)
    assert turned.effects.mean == pytest.approx(-found.effects.mean, abs=1e-6 * TAU)
    assert turned.effects.chance_positive == pytest.approx(1 - found.effects.chance_positive, abs=1e-3)
    # Bias is error by another name, and more of it believes less of the claim.
    biased = programme(x, s / np.sqrt(2), s / np.sqrt(2))
    assert biased.effects.mean == pytest.approx(found.effects.mean)


def test_what_stands_on_one_experiment_falls_with_it() -> None:
    x = np.array([0.10, *([0.004] * 11)])
    s = np.full(12, 0.008)
    shipped = np.arange(12) < 4
    found = programme(x, s)
    share = found.share_without(shipped)
    assert share[0] > 0.85 and np.isnan(share[4:]).all()
    assert wins_for(0.8, found.effects.mean[shipped]) == 1
    assert wins_for(0.8, np.full(10, 0.01)) == 8
    assert wins_for(0.8, np.array([0.01, -0.02])) is None
    assert np.isnan(programme(-x, s).share_without(shipped)).all()


def test_nothing_to_shrink_is_refused() -> None:
    for x, s in (([], []), ([0.1], [0.0]), ([np.nan], [0.1]), ([0.1, 0.2], [0.1])):
        with pytest.raises(ValueError):
            programme(x, s)


def test_lee_shen_takes_off_what_selection_adds_on_average() -> None:
    """With the true effects in its formula the correction is exact: the oracle is the mean over draws of the noise."""
    rng = np.random.default_rng(5)
    effect, _, s = drawn(rng, "normal", 60, 1.0)
    x = effect + s * rng.standard_normal((20_000, 60))
    won = x > CUT * s
    excess = np.where(won, x - effect, 0).sum(axis=1)
    expected = (s * sps.norm.pdf(CUT - effect / s)).sum()
    assert excess.mean() == pytest.approx(expected, abs=4 * excess.std() / np.sqrt(len(x)))


def test_without_ships_every_total_is_nothing() -> None:
    x, s = np.array([-0.01, 0.0, 0.002]), np.full(3, 0.01)
    none = np.zeros(3, dtype=np.bool_)
    assert [rule(x, s, none).total for rule in RULES if rule.__name__[:3] != "lee"] == [0.0] * 4
    assert programme(x, s).totals(none).mean[0] == 0.0


def test_james_stein_keeps_one_share_of_everything() -> None:
    x, s = np.array([0.03, 0.02, -0.01, 0.0]), np.full(4, 0.01)
    kept = 1 - 2 * 1e-4 / (x @ x)
    assert selection.james_stein(x, s, x > 0.015).total == pytest.approx(kept * 0.05)
    assert selection.james_stein(x / 10, s, x > 0.015).total == 0.0


def test_winners_without_losers_are_corrected_by_assumption() -> None:
    """Exact for effects of that spread, each measured until it won; of winners among many too little is left."""
    rng = np.random.default_rng(6)
    effect = selection.ASSUMED_SCALE * rng.standard_t(4, 1500)
    s = np.full(effect.shape, 0.01)
    # What exceeds the cut, drawn at once: the upper tail of the normal by its survival function.
    tail = sps.norm.sf(CUT - effect / s) * rng.random(effect.shape)
    keep = tail > 1e-250
    x = effect[keep] + s[keep] * sps.norm.isf(tail[keep])
    mean, sd = selection.truncated(x, s[keep])
    gap = mean - effect[keep]
    assert gap.mean() == pytest.approx(0, abs=4 * gap.std() / np.sqrt(gap.size))
    assert np.sqrt((gap**2).mean() / (sd**2).mean()) == pytest.approx(1, abs=0.15)
    near, far = selection.truncated(np.array([0.018, 0.06]), np.array([0.01, 0.01]))[0]
    assert near / 0.018 < far / 0.06


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("kind", "ratio", "naive", "plain", "winners"),
    [("normal", 1.0, 0.93, -0.04, 0.70), ("t3", 1.0, 1.05, -0.12, 0.84), ("normal", 2.0, 3.47, -0.73, 3.21)],
)
def test_the_table_of_total_effects_is_reproduced(
    kind: str, ratio: float, naive: float, plain: float, winners: float
) -> None:
    """METHODS F1, 60 experiments, shipped at z > 1.645: who is wrong, by how much, and whose interval holds."""
    rng, runs = np.random.default_rng(7), 300
    truth, ours, covered, naive_covered, plugged = np.zeros((5, runs))
    others = {rule.__name__: np.zeros(runs) for rule in RULES}
    for r in range(runs):
        effect, x, s = drawn(rng, kind, 60, ratio)
        shipped = x > CUT * s
        truth[r] = effect[shipped].sum()
        found = programme(x, s).totals(shipped)
        ours[r], covered[r] = found.mean[0], found.quantiles[0, 0] <= truth[r] <= found.quantiles[0, 3]
        for rule in RULES:
            others[rule.__name__][r] = rule(x, s, shipped).total
        for held, rule in ((naive_covered, selection.naive), (plugged, selection.plug_in)):
            one = rule(x, s, shipped)
            held[r] = abs(one.total - truth[r]) <= 1.96 * one.sd
    whole = truth.mean()

    def bias(values: Array) -> tuple[float, float]:
        """Relative, and three of its Monte-Carlo errors."""
        return float(values.mean() / whole - 1), float(3 * (values - truth).std() / np.sqrt(runs) / whole)

    for name, published in (("naive", naive), ("lee_shen", plain)):
        found_bias, error = bias(others[name])
        assert found_bias == pytest.approx(published, abs=error + 0.1)
    for name in ("lee_shen_posterior", "plug_in"):
        found_bias, error = bias(others[name])
        assert abs(found_bias) < error + 0.1
    assert bias(others["winners_only"])[0] == pytest.approx(winners, abs=bias(others["winners_only"])[1] + 0.3)
    mine, error = bias(ours)
    assert abs(mine) < 0.05 + error
    least = 0.93 if kind == "normal" else 0.90
    assert covered.mean() >= least - 3 * np.sqrt(least * (1 - least) / runs)
    assert naive_covered.mean() < 0.2 and plugged.mean() < 0.9


@pytest.mark.simulation
@pytest.mark.parametrize("number", [10, 60, 200])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["normal", "t3", "spike"])
def test_totals_are_unbiased_and_their_intervals_hold(kind: str, ratio: float, number: int) -> None:
    """The grid of METHODS I1. Ten noisy experiments say little of their spread: there the prior's spread is believed.

    A spike is what the model does not have: 80 % of effects exactly nothing. Its totals are believed too small by up to
    a tenth, with intervals that hold 85 %.
    """
    rng, runs = np.random.default_rng(8), 200
    truth, ours, covered = np.zeros((3, runs))
    for r in range(runs):
        effect, x, s = drawn(rng, kind, number, ratio)
        shipped = x > CUT * s
        truth[r] = effect[shipped].sum()
        found = programme(x, s).totals(shipped)
        ours[r], covered[r] = found.mean[0], found.quantiles[0, 0] <= truth[r] <= found.quantiles[0, 3]
    error = 3 * (ours - truth).std() / np.sqrt(runs) / truth.mean()
    far = 0.35 if number == 10 and ratio > 1 else 0.1 if kind == "spike" or number == 10 else 0.05
    least = {"normal": 0.93, "t3": 0.90, "spike": 0.85}[kind]
    assert abs(ours.mean() / truth.mean() - 1) < far + error
    assert covered.mean() >= least - 3 * np.sqrt(least * (1 - least) / runs)


@pytest.mark.simulation
def test_five_thousand_experiments_take_seconds() -> None:
    effect, x, s = drawn(np.random.default_rng(9), "t3", 5000, 1.0)
    shipped = x > CUT * s
    begun = time.process_time()
    found = programme(x, s)
    total = found.totals(shipped)
    found.cumulative(np.flatnonzero(shipped))
    found.share_without(shipped)
    assert time.process_time() - begun < 10
    assert total.mean[0] == pytest.approx(effect[shipped].sum(), abs=4 * total.sd[0])
