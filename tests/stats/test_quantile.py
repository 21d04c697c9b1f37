"""Quantiles of clustered events: exact order statistics, honest intervals, refusal where heaping hides precision."""

import numpy as np
import pytest
import scipy.special as sc
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.difference import welch
from stats.estimate import MetricShape, estimate
from stats.quantile import QuantileSummary, quantile_estimates, summarise
from stats.reasons import Reason
from tests.shared_data import golden
from tests.stats.moment_cases import arms, within

Z = float(sc.ndtri(0.975))


def one(values, probability, unit=None, level=0.95) -> QuantileSummary:
    x = np.asarray(values, dtype=float)
    who = np.arange(len(x)) if unit is None else np.asarray(unit)
    return summarise(x, who, np.zeros(len(x), int), 1, probability, level)


def test_the_sample_quantile_is_the_inverse_of_the_distribution_function():
    case = golden("libraries", "quantile_definitions")
    got = one(case["inputs"]["x"], case["inputs"]["q"])
    assert got.value[0] == case["expected"]["inverted_cdf"]
    # Interpolating definitions differ by at most the gap between neighbouring values, 0 once samples are large.
    assert got.value[0] - case["expected"]["linear"] == pytest.approx(0.12)


def test_bootstrap_of_tea_tasting_gives_about_our_interval():
    case = golden("libraries", "quantile_bootstrap_two_sample")
    i = case["inputs"]
    control = np.array([((7919 * j) % 1009) ** 1.3 / 50 for j in range(i["n0"])])
    treatment = np.array([((6271 * j) % 1013) ** 1.3 / 48 for j in range(i["n1"])])
    cell = np.repeat([0, 1], [i["n0"], i["n1"]])
    for name, p in (("p50", 0.5), ("p90", 0.9)):
        expected = case["expected"][name]
        # Its quantile interpolates linearly, ours is an observed value next to it.
        for x, key in ((control, "control"), (treatment, "treatment")):
            assert np.quantile(x, p) == pytest.approx(expected[key], rel=1e-9)
            gap = np.diff(np.sort(x))[int(len(x) * p) - 3 : int(len(x) * p) + 3].max()
            assert abs(one(x, p).value[0] - expected[key]) <= gap
        s = summarise(np.concatenate([control, treatment]), np.arange(len(cell)), cell, 2, p)
        value, variance, reason = quantile_estimates(s)
        assert (reason == "").all()
        width = expected["effect_size_ci_upper"] - expected["effect_size_ci_lower"]
        assert 2 * Z * np.sqrt(variance.sum()) == pytest.approx(width, rel=0.15)
        assert value[1] - value[0] == pytest.approx(expected["effect_size"], abs=0.1 * width)


def test_the_interval_of_independent_values_is_that_of_scipy_up_to_one_rank():
    case = golden("libraries", "quantile_order_stat_ci")
    x = np.sort(case["inputs"]["x"])
    got = one(x, 0.5)
    # scipy inverts the exact binomial: ranks 4 and 12 of 15; the normal share of A6, rounded outwards, takes 3 and 12.
    low, high = case["expected"]["ci95"]
    assert abs(np.searchsorted(x, got.lower[0]) - np.searchsorted(x, low)) <= 1
    assert got.upper[0] == high
    got = one(x, 0.75)
    low, high = case["expected"]["p75_ci95"]
    assert abs(np.searchsorted(x, got.lower[0]) - np.searchsorted(x, low)) <= 1
    assert got.upper[0] == high


@pytest.mark.parametrize("name", ["t_quantile_unit_p90_absolute", "bayes_quantile_unit_prior"])
def test_quantiles_compare_as_in_gbstats_given_its_variances(name):
    """It takes order statistics at ranks for a reduced sample n_star, and (n - 1) / n of the variance; ours for n."""
    case = golden("gbstats", name)
    cells = [case["inputs"][arm] for arm in ("control", "treatment")]
    value, variance = np.array([c["quantile_hat"] for c in cells]), []
    for c, arm in zip(cells, ("control", "treatment"), strict=True):
        s = QuantileSummary(
            c["nu"], 0.95, *(np.array([c["n"]]),) * 2,
            *(np.array([c[f"quantile_{k}"]]) for k in ("hat", "lower", "upper")),
            np.array([np.sqrt(c["nu"] * (1 - c["nu"]) / c["n_star"])]), np.array([False]),
        )  # fmt: skip
        _, ours, reason = quantile_estimates(s)
        assert reason[0] == ""
        scaled = ours[0] * c["n_star"] / c["n"] * (c["n"] - 1) / c["n"]
        assert scaled == pytest.approx(case["intermediate"][arm]["unit_variance"] / c["n"], rel=1e-8)
        variance.append(scaled)
    n = np.array([c["n"] for c in cells])
    got = welch(value[1] - value[0], variance[1], variance[0], n[1], n[0], np.array("", dtype=object))
    if "p_value" in case["expected"]:
        assert got.value == pytest.approx(case["expected"]["effect"], rel=1e-8)
        assert got.standard_error == pytest.approx(case["expected"]["se"], rel=1e-8)
        assert got.p_value == pytest.approx(case["expected"]["p_value"], rel=1e-8)
        assert [got.ci_lower, got.ci_upper] == pytest.approx(case["expected"]["ci"], rel=1e-8)
        assert got.df == pytest.approx(case["intermediate"]["welch_dof"], rel=1e-8)


def test_clustered_share_is_the_delta_method_of_a_ratio():
    """share_sd is A4 on (events below, events) per unit, whatever the number of events of a unit."""
    rng = np.random.default_rng(2)
    k = rng.integers(1, 60, 300)
    unit = rng.permutation(np.repeat(np.arange(300), k))
    x = rng.normal(size=300)[unit] + rng.normal(size=len(unit))
    s = one(x, 0.9, unit)
    below = np.bincount(unit, weights=x <= s.value[0])
    moments = arms([below, k])
    ratio = estimate(moments, (MetricShape("share", "ratio", 0, 1),))
    assert s.share_sd[0] == pytest.approx(np.sqrt(ratio.variance[0, 0]), rel=1e-12)
    assert s.units[0] == 300
    assert s.events[0] == len(x)
    golden_case = golden("gbstats", "t_quantile_event_clustered_p90_relative")["inputs"]["control"]
    n, total = golden_case["n_clusters"], golden_case["denominator_sum"]
    share = golden_case["main_sum"] / total
    residual = (
        golden_case["main_sum_squares"]
        - 2 * share * golden_case["main_denominator_sum_product"]
        + share**2 * golden_case["denominator_sum_squares"]
    )
    # With its sums: events of a user lie together, the share is 23 % less certain than that of independent events.
    clustered = np.sqrt(residual * n / (n - 1)) / total
    assert clustered / np.sqrt(share * (1 - share) / total) == pytest.approx(1.2263, abs=1e-4)


def test_one_value_per_unit_is_the_binomial_share():
    rng = np.random.default_rng(3)
    x = rng.normal(size=500)
    s = one(x, 0.8)
    assert s.share_sd[0] == pytest.approx(np.sqrt(0.8 * 0.2 / 499), rel=1e-12)


def test_cells_do_not_see_each_other_and_order_does_not_matter():
    rng = np.random.default_rng(4)
    n = 4000
    unit, cell = rng.integers(0, 300, n) * 7 - 900, rng.integers(-1, 6, n)
    x = np.round(rng.lognormal(size=n), 2)
    got = summarise(x, unit, cell, (3, 2), 0.75)
    shuffled = rng.permutation(n)
    again = summarise(x[shuffled], unit[shuffled], cell[shuffled], (3, 2), 0.75)
    for field in ("units", "events", "value", "lower", "upper", "share_sd", "tied"):
        np.testing.assert_allclose(getattr(got, field), getattr(again, field), rtol=1e-12)
        for flat in range(6):
            alone = one(x[cell == flat], 0.75, unit[cell == flat])
            assert getattr(got, field).ravel()[flat] == pytest.approx(getattr(alone, field)[0], rel=1e-12)


def test_heaped_values_have_no_interval_and_no_p_value():
    """Torture case 25: latency rounded so coarsely that the interval is empty or one step wide."""
    rng = np.random.default_rng(6)
    x = rng.lognormal(size=4000)
    cell = np.repeat([0, 1], 2000)
    for step in (0.1, 0.5, 2.0):
        _, variance, reason = quantile_estimates(summarise(np.ceil(x / step) * step, np.arange(4000), cell, 2, 0.5))
        assert (reason == Reason.TIED_QUANTILE).all()
        assert (variance == 0).all()
    fine = quantile_estimates(summarise(np.ceil(x / 0.005) * 0.005, np.arange(4000), cell, 2, 0.5))
    assert (fine[2] == "").all()
    orders = quantile_estimates(summarise(rng.poisson(2, 4000), np.arange(4000), cell, 2, 0.9))
    assert (orders[2] == Reason.TIED_QUANTILE).all()


def test_constant_values_are_not_certain():
    s = one(np.full(500, 3.0), 0.9)
    value, variance, reason = quantile_estimates(s)
    assert value[0] == 3
    assert variance[0] == 0
    assert not s.tied[0]
    assert reason[0] == Reason.ZERO_VARIANCE


def test_too_few_units_and_thin_tails_are_refused():
    rng = np.random.default_rng(7)
    for x, p, unit, why in (
        (rng.normal(size=3), 0.9, None, Reason.TOO_FEW_UNITS),
        (rng.normal(size=5000), 0.9, np.arange(5000) % 4, Reason.TOO_FEW_UNITS),
        (rng.normal(size=60), 0.99, None, Reason.TAIL_TOO_THIN),
        (rng.normal(size=60), 0.01, None, Reason.TAIL_TOO_THIN),
        (rng.normal(size=90_000), 0.999, None, Reason.TAIL_TOO_THIN),
        (np.array([]), 0.5, np.array([], int), Reason.TOO_FEW_UNITS),
        (np.array([1.0]), 0.5, None, Reason.TOO_FEW_UNITS),
    ):
        value, variance, reason = quantile_estimates(one(x, p, unit))
        assert reason[0] == why
        assert variance[0] == 0
        assert np.isnan(value[0]) == (len(x) == 0)
    assert quantile_estimates(one(rng.normal(size=90_000), 0.99))[2][0] == ""


def test_a_cell_without_events_is_zeros_beside_one_that_has_them():
    got = summarise(np.arange(100.0), np.arange(100), np.full(100, 2), (2, 2), 0.5)
    assert got.events.tolist() == [[0, 0], [100, 0]]
    assert got.value.tolist() == [[0, 0], [49, 0]]
    assert got.tied.tolist() == [[False, False], [False, False]]
    assert got.share_sd[0, 0] == 0


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, np.nan])
def test_the_ends_of_a_distribution_are_no_quantiles(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        one([1.0, 2.0], p)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        one([1.0, np.nan], 0.5)
    assert summarise([1.0, np.inf], [0, 1], [0, -1], 1, 0.5).value[0] == 1


def test_users_with_a_thousand_events_widen_the_interval():
    rng = np.random.default_rng(8)
    k = np.where(np.arange(400) < 20, 1000, 5)
    unit = np.repeat(np.arange(400), k)
    x = rng.normal(size=400)[unit] + 0.2 * rng.normal(size=len(unit))
    clustered, naive = one(x, 0.9, unit), one(x, 0.9)
    assert clustered.share_sd[0] > 10 * naive.share_sd[0]
    assert clustered.upper[0] - clustered.lower[0] > 5 * (naive.upper[0] - naive.lower[0])


events = st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 8), st.integers(-1, 2)), min_size=1, max_size=80)


@settings(max_examples=80, deadline=None)
@given(events, st.sampled_from([0.1, 0.25, 0.5, 0.9, 0.99]))
def test_summaries_are_what_a_loop_over_cells_finds(rows, p):
    x, unit, cell = (np.array(column) for column in zip(*rows, strict=True))
    got = summarise(x, unit, cell, 3, p)
    for c in range(3):
        mine, who = np.sort(x[cell == c]), unit[cell == c]
        assert got.events[c] == len(mine)
        if not len(mine):
            continue
        assert got.value[c] == np.quantile(mine, p, method="inverted_cdf")
        assert got.lower[c] <= got.value[c] <= got.upper[c]
        below = [(x[cell == c][who == u] <= got.value[c]).sum() for u in np.unique(who)]
        count = [(who == u).sum() for u in np.unique(who)]
        share, units = sum(below) / sum(count), len(count)
        assert got.units[c] == units
        if units > 1:
            residual = np.array(below) - share * np.array(count)
            expected = np.sqrt((residual**2).sum() * units / (units - 1)) / len(mine)
            assert got.share_sd[c] == pytest.approx(expected, abs=1e-12)
            ranks = len(mine) * (p + np.array([-1, 1]) * Z * got.share_sd[c])
            if abs(ranks - np.rint(ranks)).min() > 1e-9:
                low, high = np.clip([np.floor(ranks[0]), np.ceil(ranks[1])], 1, len(mine)).astype(int)
                assert (got.lower[c], got.upper[c]) == (mine[low - 1], mine[high - 1])
        if got.lower[c] == got.upper[c] and units > 1:
            assert got.tied[c] != (mine[0] == mine[-1])


def _samples(rng, replications, users, per_user):
    """Lognormal-ish latencies: a user effect shared by a user's events (ICC .3), events ~ 1 + Poisson."""
    total = replications * users
    k = 1 + rng.poisson(per_user - 1, total)
    unit = np.repeat(np.arange(total), k)
    x = np.sqrt(0.3) * rng.normal(size=total)[unit] + np.sqrt(0.7) * rng.normal(size=len(unit))
    return np.exp(x), unit, unit // users


def test_clustered_intervals_cover_in_a_short_run():
    x, unit, cell = _samples(np.random.default_rng(9), 300, 300, 5)
    s = summarise(x, unit, cell, (150, 2), 0.9)
    truth = np.exp(sc.ndtri(0.9))
    covered = ((s.lower <= truth) & (truth <= s.upper)).mean()
    assert within(covered, 0.955, 300)
    assert (quantile_estimates(s)[2] == "").all()


@pytest.mark.simulation
@pytest.mark.parametrize(("per_user", "naive_below"), [(5, 0.93), (20, 0.80)])
def test_clustered_intervals_cover_and_independent_events_do_not(per_user, naive_below):
    rng, truth = np.random.default_rng(per_user), float(np.exp(sc.ndtri(0.9)))
    replications, users, covered, naive, rejected = 4000, 400, [], [], []
    for _ in range(20):
        x, unit, cell = _samples(rng, replications // 20, users, per_user)
        s = summarise(x, unit, cell, (replications // 40, 2), 0.9)
        covered.append((s.lower <= truth) & (truth <= s.upper))
        iid = summarise(x, np.arange(len(x)), cell, (replications // 40, 2), 0.9)
        naive.append((iid.lower <= truth) & (truth <= iid.upper))
        value, variance, reason = quantile_estimates(s)
        d = welch(value[:, 1] - value[:, 0], variance[:, 1], variance[:, 0], s.units[:, 1], s.units[:, 0], reason[:, 0])
        rejected.append(d.p_value < 0.05)
    assert within(float(np.mean(covered)), 0.955, replications, 0.01)
    assert np.mean(naive) < naive_below
    size = float(np.mean(rejected))
    assert size <= 0.05 or within(size, 0.05, replications // 2)
    assert size > 0.02


@pytest.mark.simulation
@pytest.mark.parametrize("users", [60, 100, 1000])
@pytest.mark.parametrize("p", [0.5, 0.9])
def test_quantiles_of_units_do_not_reject_too_often(users, p):
    rng, replications = np.random.default_rng([users, int(10 * p)]), 4000
    x = np.exp(rng.normal(size=replications * 2 * users))
    s = summarise(x, np.arange(len(x)), np.arange(len(x)) // users, (replications, 2), p)
    value, variance, reason = quantile_estimates(s)
    reason = np.where(reason[:, 0] == "", reason[:, 1], reason[:, 0])
    d = welch(value[:, 1] - value[:, 0], variance[:, 1], variance[:, 0], s.units[:, 1], s.units[:, 0], reason)
    size = float((d.p_value[d.estimable] < 0.05).mean())
    assert size <= 0.05 or within(size, 0.05, replications)
