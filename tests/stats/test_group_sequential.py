"""Bounds spend exactly the error that was planned, look by look, whatever the looks turn out to be."""

import itertools
import time

import numpy as np
import pytest
import scipy.special as sc
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.crossing import crossing
from stats.group_sequential import (
    BEYOND,
    SpendingDesign,
    boundaries,
    detectable_drift,
    distinct_looks,
    expected_information,
    inflation,
    repeated_interval,
    repeated_p_value,
)
from stats.spending import spent
from stats.stagewise import stagewise
from tests.shared_data import golden
from tests.stats.moment_cases import within

QUARTERS = (0.25, 0.5, 0.75, 1.0)
UNEQUAL = (0.1, 0.35, 0.6, 1.0)
KINDS = {
    "asOF": ("obrien_fleming", None),
    "asP": ("pocock", None),
    "asHSD": ("hwang_shih_de_cani", -4.0),
    "asKD": ("power", 2.0),
}
ONE_SIDED = SpendingDesign(alpha=0.025, sides=1)


@pytest.mark.parametrize(("kind", "sides"), list(itertools.product(KINDS, (1, 2))))
def test_bounds_and_the_alpha_they_spend_are_those_of_rpact(kind, sides):
    spending, parameter = KINDS[kind]
    design = SpendingDesign(alpha=0.025 * sides, spending=spending, parameter=parameter, sides=sides)
    got = boundaries(design, QUARTERS)
    np.testing.assert_allclose(
        got.upper, golden("libraries", "rpact_bounds")["expected"][f"{kind}_k4_sided{sides}"], rtol=1e-5
    )
    np.testing.assert_allclose(
        got.alpha_spent, golden("libraries", "rpact_alpha_spent")["expected"][f"{kind}_k4_sided{sides}"], rtol=1e-5
    )


def test_bounds_at_unequal_looks_are_those_of_rpact():
    expected = golden("libraries", "rpact_bounds")["expected"]
    got = boundaries(SpendingDesign(spending="power", parameter=2.0), UNEQUAL)
    np.testing.assert_allclose(got.upper, expected["asKD2_unequal_sided2"], rtol=1e-5)
    np.testing.assert_allclose(boundaries(SpendingDesign(), UNEQUAL).upper, expected["asOF_unequal_sided2"], rtol=1e-5)


def test_bounds_of_five_looks_are_the_published_ones():
    five = np.arange(1, 6) / 5
    got = boundaries(ONE_SIDED, five).upper
    np.testing.assert_allclose(got, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310], atol=1.5e-4)
    got = boundaries(SpendingDesign(spending="pocock"), five).upper
    np.testing.assert_allclose(got, [2.4380, 2.4268, 2.4101, 2.3966, 2.3859], atol=1.5e-4)


@pytest.mark.parametrize("kind", ["OF", "P"])
def test_classical_bounds_spend_what_rpact_says(kind):
    bounds = golden("libraries", "rpact_bounds")["expected"][f"{kind}_k4_sided1"]
    expected = golden("libraries", "rpact_alpha_spent")["expected"][f"{kind}_k4_sided1"]
    np.testing.assert_allclose(crossing(QUARTERS, bounds).above().cumsum(), expected, rtol=1e-5)


def test_crossing_probabilities_are_those_of_gsdesign_up_to_its_coarser_grid():
    """Theirs is off by 7e-5 at the first look, where the answer is a plain normal tail, and less after."""
    case = golden("libraries", "group_sequential_crossing_probabilities")
    i, expected = case["inputs"], case["expected"]
    got = crossing(i["t"], i["bounds"], drifts=(0.0, 3.0))
    assert got.above()[0] == pytest.approx(sc.ndtr(-i["bounds"][0]), rel=1e-13)
    assert expected["H0"][0] == pytest.approx(sc.ndtr(-i["bounds"][0]), rel=1e-4)
    np.testing.assert_allclose(got.above(), expected["H0"], rtol=1e-4)
    np.testing.assert_allclose(got.above(3.0), expected["drift3"], rtol=2e-6)


def test_the_cost_of_looking_is_that_of_rpact():
    """Their sample size for means uses t quantiles: 2 units in 800."""
    case = golden("libraries", "rpact_design")["expected"]
    factor, shift, under_h1 = case["asOF_k4_inflation_shift_avgH1"]
    assert inflation(ONE_SIDED) == pytest.approx(factor, rel=1e-8)
    assert detectable_drift(ONE_SIDED) ** 2 == pytest.approx(shift, rel=1e-8)
    assert expected_information(ONE_SIDED, detectable_drift(ONE_SIDED)) == pytest.approx(under_h1, rel=1e-6)
    assert 4 * detectable_drift(ONE_SIDED) ** 2 / 0.2**2 == pytest.approx(
        case["sample_size_means_d02_max_n"][0], abs=2.0
    )
    assert inflation(SpendingDesign(spending="pocock"), np.arange(1, 6) / 5) == pytest.approx(1.2, abs=0.02)
    assert inflation(SpendingDesign(), [1.0]) == pytest.approx(1.0, rel=1e-8)


def rpact_stages() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cumulative difference, its standard error and degrees of freedom from the means of the stages."""
    i = {key: np.array(value) for key, value in golden("libraries", "rpact_analysis")["inputs"].items()}
    mean, square, total = [], np.zeros(3), []
    for arm in ("1", "2"):
        n = i["n" + arm].cumsum()
        mean.append((i["n" + arm] * i["means" + arm]).cumsum() / n)
        within_stage = (i["n" + arm] - 1) * i["sd" + arm] ** 2 + i["n" + arm] * i["means" + arm] ** 2
        square = square + within_stage.cumsum() - n * mean[-1] ** 2
        total.append(n)
    df = total[0] + total[1] - 2.0
    return mean[0] - mean[1], np.sqrt(square / df * (1 / total[0] + 1 / total[1])), df


def test_repeated_intervals_and_p_values_are_those_of_rpact():
    """Their root finder stops at 3e-7, in the value of the interval and in the p-value."""
    value, error, df = rpact_stages()
    expected = golden("libraries", "rpact_analysis")["expected"]
    thirds = (1 / 3, 2 / 3, 1.0)
    ends = np.column_stack(repeated_interval(value, error, boundaries(ONE_SIDED, thirds).upper, df)).ravel()
    np.testing.assert_allclose(ends, expected["repeated_ci"], rtol=1e-7, atol=3e-7)
    z = -sc.ndtri(sc.stdtr(df, -value / error))
    got = [repeated_p_value(ONE_SIDED, thirds[: k + 1], float(z[k])) for k in range(3)]
    np.testing.assert_allclose(got, expected["repeated_p"], rtol=1e-5, atol=5e-7)


def test_the_estimate_after_stopping_is_that_of_rpact():
    """Stopped at the second look; the naive estimate is 0.4964."""
    value, error, df = rpact_stages()
    z = float(-sc.ndtri(sc.stdtr(df[1], -value[1] / error[1])))
    got = stagewise(ONE_SIDED, (1 / 3, 2 / 3), z, float(error[1]))
    expected = golden("libraries", "rpact_analysis")["expected"]["final_ci_stagewise"]
    assert [got.estimate, got.ci_lower, got.ci_upper] == pytest.approx(expected, rel=1e-7)
    assert got.estimate < value[1]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.01, 1.1), min_size=2, max_size=7, unique=True).map(sorted),
    st.sampled_from(["obrien_fleming", "pocock", "power", "hwang_shih_de_cani"]),
    st.sampled_from(["none", "binding", "non_binding"]),
)
def test_past_bounds_never_change_when_a_look_is_added(looks, spending, futility):
    design = SpendingDesign(spending=spending, futility=futility)
    whole = boundaries(design, looks)
    for k in range(1, len(looks)):
        part = boundaries(design, looks[:k])
        np.testing.assert_array_equal(part.upper, whole.upper[:k])
        np.testing.assert_array_equal(part.futility, whole.futility[:k])
    assert (np.diff(whole.alpha_spent) >= 0).all() and whole.alpha_spent[-1] <= design.alpha + 1e-9
    due = 2 * spent(spending, 0.025, distinct_looks(tuple(looks))[0][-1], design.parameter)
    if futility != "binding":
        assert whole.alpha_spent[-1] == pytest.approx(due, abs=1e-9)
    assert whole.alpha_spent[-1] <= due + 1e-9 and (whole.upper >= 1.64).all()


def test_binding_futility_that_stops_everybody_leaves_alpha_unspent_rather_than_bounds_that_anything_crosses():
    """An unplanned look just before the end: nearly all of beta is spent there, and hardly a path is left."""
    got = boundaries(SpendingDesign(futility="binding"), [0.96875, 1.0])
    assert got.upper[1] == pytest.approx(sc.ndtri(0.95))
    assert got.futility[1] == got.upper[1] and got.alpha_spent[-1] < 0.05


def test_a_look_that_is_too_early_is_not_yet():
    got = boundaries(SpendingDesign(), [0.0, 0.01, 0.5, 1.0])
    assert got.upper[:2].tolist() == [BEYOND, BEYOND] and got.alpha_spent[:2].tolist() == [0, 0]
    assert got.reachable.tolist() == [False, False, True, True]
    lower, upper = repeated_interval(0.3, np.array([2.0, 1.0, 0.2, 0.1]), got.upper)
    assert np.isnan(lower).tolist() == np.isnan(upper).tolist() == [True, True, False, False]
    # What was not spent is spent later: the bounds are those of the looks that could decide.
    np.testing.assert_allclose(got.upper[2:], boundaries(SpendingDesign(), [0.5, 1.0]).upper, rtol=1e-9)


def test_a_look_at_the_same_data_has_the_same_bound_and_spends_nothing():
    once, twice = (
        boundaries(SpendingDesign(), [0.35, 0.6, 1]),
        boundaries(SpendingDesign(), [0.35, 0.35, 0.6, 0.599, 1]),
    )
    assert twice.upper.tolist() == once.upper[[0, 0, 1, 1, 2]].tolist()
    assert twice.alpha_spent.tolist() == once.alpha_spent[[0, 0, 1, 1, 2]].tolist()


def test_running_over_and_under_spend_all_of_alpha_with_the_true_correlations():
    for looks, final in (((0.35, 0.6, 1.15), False), ((0.35, 0.6, 0.9), True)):
        got = boundaries(SpendingDesign(), looks, final)
        assert got.alpha_spent[-1] == pytest.approx(0.05, rel=1e-9)
        assert crossing(looks, got.upper).above().sum() == pytest.approx(0.025, rel=1e-9)
        assert got.upper[:2].tolist() == boundaries(SpendingDesign(), (0.35, 0.6)).upper.tolist()
    # Ending without new information spends the rest, and leaves the bound of the look before as it was.
    again = boundaries(SpendingDesign(), (0.5, 0.9, 0.9), final=True)
    assert again.upper[1] == boundaries(SpendingDesign(), (0.5, 0.9)).upper[1]
    assert again.alpha_spent[-1] == pytest.approx(0.05, rel=1e-9) and again.upper[2] < again.upper[1]
    after = boundaries(SpendingDesign(), (0.5, 1.05, 1.3))
    assert after.upper[2] == BEYOND and not after.reachable[2]


def test_binding_futility_buys_lower_efficacy_bounds_and_non_binding_does_not():
    plain = boundaries(ONE_SIDED, QUARTERS)
    binding, advisory = (
        boundaries(SpendingDesign(alpha=0.025, sides=1, futility=kind), QUARTERS) for kind in ("binding", "non_binding")
    )
    np.testing.assert_allclose(advisory.upper, plain.upper, rtol=1e-12)
    assert (binding.upper[1:] < plain.upper[1:]).all()
    for got in (binding, advisory):
        assert (got.futility <= got.upper).all() and got.futility[-1] == got.upper[-1]
        np.testing.assert_allclose(got.beta_spent, spent("obrien_fleming", 0.2, QUARTERS), atol=1e-7)
    with_lower = crossing(QUARTERS, binding.upper, binding.futility)
    assert with_lower.above().sum() == pytest.approx(0.025, rel=1e-9)
    assert np.isnan(plain.futility).all()


def brownian(replications: int, looks: np.ndarray, drift: float, seed: int) -> np.ndarray:
    """(R, K) z-scores."""
    rng = np.random.default_rng(seed)
    steps = np.diff(looks, prepend=0.0)
    walk = (rng.normal(size=(replications, looks.size)) * np.sqrt(steps) + drift * steps).cumsum(axis=1)
    return walk / np.sqrt(looks)


@pytest.mark.parametrize("futility", ["none", "binding", "non_binding"])
def test_experiments_stop_as_often_as_planned(futility):
    design = SpendingDesign(alpha=0.025, sides=1, futility=futility, spending="pocock", planned=UNEQUAL)
    looks, bounds = np.array(UNEQUAL), boundaries(design, UNEQUAL)
    low = np.where(np.isnan(bounds.futility), -np.inf, bounds.futility)
    for drift, expected, seed in ((0.0, 0.025, 1), (detectable_drift(design), 0.8, 2)):
        z = brownian(40_000, looks, drift, seed)
        ends = (z >= bounds.upper) | (z < low)
        first = np.where(ends.any(axis=1), ends.argmax(axis=1), 3)
        won = (z >= bounds.upper)[np.arange(len(z)), first]
        if futility == "non_binding" and not drift:
            assert won.mean() < 0.025
            won = (z >= bounds.upper).any(axis=1)  # alpha holds although nobody obeys
        assert within(float(won.mean()), expected, 40_000, 0.0005)
        information = looks[first].mean() * inflation(design)
        assert information == pytest.approx(expected_information(design, drift), rel=0.01)


def test_the_estimate_after_stopping_is_median_unbiased_and_its_interval_covers():
    looks, drift = (0.3, 0.65, 1.0), 2.0
    bounds = boundaries(SpendingDesign(spending="pocock"), looks)
    z = brownian(1500, np.array(looks), drift, 4)
    beyond = np.abs(z) >= bounds.upper
    first = np.where(beyond.any(axis=1), beyond.argmax(axis=1), 2)
    below = covered = 0
    for row, k in zip(z, first.tolist(), strict=True):
        got = stagewise(SpendingDesign(spending="pocock"), looks[: k + 1], float(row[k]), 1 / np.sqrt(looks[k]))
        below += got.estimate < drift
        covered += got.ci_lower <= drift <= got.ci_upper
        assert got.ci_lower < got.estimate < got.ci_upper and (got.p_value <= 0.05) == (got.ci_lower * got.ci_upper > 0)
    assert within(below / 1500, 0.5, 1500, 0.0) and within(covered / 1500, 0.95, 1500, 0.0)
    naive = z[np.arange(1500), first] / np.sqrt(np.array(looks)[first])
    assert naive.mean() > drift + 0.2


def test_repeated_intervals_cover_at_all_looks_together():
    looks = np.arange(1, 11) / 10
    upper = boundaries(SpendingDesign(spending="pocock"), looks).upper
    z = brownian(20_000, looks, 1.0, 5)
    low, high = repeated_interval(z / np.sqrt(looks), 1 / np.sqrt(looks), upper)
    assert within(float(((low <= 1) & (high >= 1)).all(axis=1).mean()), 0.95, 20_000, 0.0005)


def test_spending_functions_start_at_nothing_and_end_at_everything():
    t = np.linspace(0, 1.2, 25)
    for spending, parameter in (*KINDS.values(), ("hwang_shih_de_cani", 0.0), ("hwang_shih_de_cani", 2.0)):
        got = spent(spending, 0.025, t, parameter)
        assert got[0] == 0 and (np.diff(got) >= 0).all()
        assert got[t >= 1].tolist() == [0.025] * int((t >= 1).sum())


def test_designs_that_make_no_sense_are_refused():
    for wrong in (
        {"alpha": 0.0},
        {"power": 1.0},
        {"spending": "linear"},
        {"spending": "pocock", "parameter": 1.0},
        {"spending": "power", "parameter": 0.0},
        {"planned": (0.5, 0.4, 1.0)},
        {"planned": (0.5, 0.9)},
        {"sides": 3},
    ):
        with pytest.raises(ValueError):
            SpendingDesign(**wrong)
    for looks in ([-0.1], [np.nan], [np.inf]):
        with pytest.raises(ValueError, match="fractions"):
            boundaries(SpendingDesign(), looks)
    with pytest.raises(ValueError, match="look"):
        crossing([0.5, 0.5], [2.0, 2.0])
    for arguments in (([], 2.0, 1.0), ([0.5], 2.0, 0.0), ([0.5], np.nan, 1.0)):
        with pytest.raises(ValueError, match="estimate"):
            stagewise(SpendingDesign(), *arguments)
    assert boundaries(SpendingDesign(), []).upper.shape == (0,)


def test_ten_looks_take_milliseconds_and_the_same_looks_again_nothing():
    looks = np.arange(1, 11) / 10.0001
    started = time.process_time()
    boundaries(SpendingDesign(), looks)
    first = time.process_time() - started
    assert first < 0.2  # CPU, not wall: 3 ms
    assert boundaries(SpendingDesign(), looks) is boundaries(SpendingDesign(), list(looks))
