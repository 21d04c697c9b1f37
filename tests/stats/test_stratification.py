"""Post-stratification: what the reference computes, what algebra demands, and a ramp that would fool a plain mean."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.difference import difference
from stats.estimate import MetricShape, estimate
from stats.lift import lift
from stats.moments import Moments
from stats.reasons import Reason
from stats.stratification import estimate_stratified, merged_strata, with_cells
from tests.shared_data import golden
from tests.stats.moment_cases import arms, from_joint_summary, from_summary, within

MEAN = (MetricShape("m", "mean", 0),)
CUPED = (MetricShape("m", "mean", 0, covariates=(1,)),)
FIELDS = ("count", "mean", "comoment", "third")


def stacked(parts: list[Moments]) -> Moments:
    """Cells (strata, V) from one set of arms per stratum."""
    return Moments(*(np.stack([getattr(part, f) for part in parts]) for f in FIELDS))


def reference(name: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    case = golden("gbstats", name)
    return case["inputs"]["strata"], case["expected"]


def test_stratified_means_equal_gbstats_but_for_degrees_of_freedom():
    """gbstats takes the degrees of freedom of the unstratified test; ours are those of the strata."""
    strata, expected = reference("poststrat_mean_absolute")
    moments = stacked([from_summary(s["control"], s["treatment"]) for s in strata])
    got = difference(estimate_stratified(moments, MEAN))
    assert got.value[0, 0] == pytest.approx(expected["effect"], rel=1e-10)
    assert got.standard_error[0, 0] == pytest.approx(expected["se"], rel=1e-8)
    assert got.p_value[0, 0] == pytest.approx(expected["p_value"], rel=1e-3)


def joint(arm: dict[str, Any], parts: dict[str, str], product: str) -> dict[str, Any]:
    return {"n": arm["n"], **{new: arm[old] for new, old in parts.items()}, "a_b": arm[product]}


def test_stratified_ratios_equal_gbstats():
    strata, expected = reference("poststrat_ratio_absolute")
    names, product = {"a": "numerator", "b": "denominator"}, "numerator_denominator_sum_of_products"
    moments = stacked([from_joint_summary(("a", "b"), *(joint(s[arm], names, product) for arm in s)) for s in strata])
    got = difference(estimate_stratified(moments, (MetricShape("r", "ratio", 0, 1),)))
    assert got.value[0, 0] == pytest.approx(expected["effect"], rel=1e-9)
    assert got.standard_error[0, 0] == pytest.approx(expected["se"], rel=1e-8)


def test_cuped_inside_strata_is_close_to_gbstats_whose_slopes_differ_between_strata():
    """gbstats fits one slope per stratum and adjusts the control mean that it divides by; ours is one slope (A7)."""
    strata, expected = reference("poststrat_cuped_mean_relative")
    names = {"a": "post", "b": "pre"}
    moments = stacked(
        [
            from_joint_summary(("a", "b"), *(joint(s[arm], names, "post_pre_sum_of_products") for arm in s))
            for s in strata
        ]
    )
    got = lift(estimate_stratified(moments, CUPED))
    assert got.value[0, 0] == pytest.approx(expected["effect"], rel=0.02)
    assert got.standard_error[0, 0] == pytest.approx(expected["se"], rel=0.02)


def ramp(
    rng: np.random.Generator, replications: int, lifts: tuple[float, float] = (0.0, 0.0), arms_: int = 2
) -> Moments:
    """10/90 in the first stage, even in the second, whose units are richer; cells (replications, 2, arms)."""
    sizes = np.array([[900, 100, 100][:arms_], [400, 400, 400][:arms_]])
    flat = np.repeat(np.arange(sizes.size), sizes.ravel())
    cell = (np.arange(replications)[:, None] * sizes.size + flat).ravel()
    stage, arm = cell // arms_ % 2, cell % arms_
    x = rng.normal(0, 1, cell.size)
    effect = np.where(arm > 0, np.array(lifts)[stage], 0.0)
    y = 10 + 2 * stage + x + effect + rng.normal(0, 1, cell.size)
    return Moments.from_rows(np.column_stack([y, x]), cell, (replications, 2, arms_))


def test_a_trend_during_a_ramp_fools_the_plain_difference_and_not_the_stratified_one():
    replications = 400
    moments = ramp(np.random.default_rng(1), replications)
    plain = difference(estimate(moments.merge_axis(-2), MEAN))
    assert ((plain.ci_lower <= 0) & (plain.ci_upper >= 0)).mean() < 0.01
    for shapes in (MEAN, CUPED):
        got = difference(estimate_stratified(moments, shapes))
        assert within(float(((got.ci_lower <= 0) & (got.ci_upper >= 0)).mean()), 0.95, replications)
        assert np.var(got.value) / np.mean(got.standard_error**2) == pytest.approx(1, abs=4 * np.sqrt(2 / replications))


@pytest.mark.simulation
@pytest.mark.parametrize("shapes", [MEAN, CUPED])
def test_stratified_intervals_cover_the_effect_and_the_lift_when_strata_differ(shapes: tuple[MetricShape, ...]):
    """The shares are random here: 1900 units fall into the stages at random, so the part between strata counts."""
    replications, n = 2000, 1900
    rng = np.random.default_rng(2)
    where = np.repeat(np.arange(replications), n)
    stage = (rng.random(where.size) < 800 / 1900).astype(int)
    arm = (rng.random(where.size) < np.where(stage == 1, 0.5, 0.1)).astype(int)
    x = rng.normal(0, 1, where.size)
    y = 10 + 2 * stage + x + arm * np.array([0.0, 6.0])[stage] + rng.normal(0, 1, where.size)
    moments = Moments.from_rows(np.column_stack([y, x]), where * 4 + stage * 2 + arm, (replications, 2, 2))
    estimates = estimate_stratified(moments, shapes)
    got, relative = difference(estimates), lift(estimates)
    truth = 6 * 800 / 1900
    baseline = 10 + 2 * 800 / 1900
    assert within(float(((got.ci_lower <= truth) & (truth <= got.ci_upper)).mean()), 0.95, replications)
    low, high = relative.ci_lower <= truth / baseline, truth / baseline <= relative.ci_upper
    assert within(float((low & high).mean()), 0.95, replications)
    observed = np.var(got.value) / np.mean(got.standard_error**2)
    assert observed == pytest.approx(1, abs=4 * np.sqrt(2 / replications))


def test_the_variance_is_the_published_formula_for_every_treatment():
    moments = ramp(np.random.default_rng(3), 1, (0.5, 2.0), arms_=3)[0]
    estimates = estimate_stratified(moments, MEAN)
    got = difference(estimates)
    units = moments.count.sum(axis=-1)
    w = units / units.sum()
    variance = moments.covariance[..., 0, 0] / moments.count
    for t in (1, 2):
        d = moments.mean[:, t, 0] - moments.mean[:, 0, 0]
        overall = w @ d
        expected = w**2 @ (variance[:, t] + variance[:, 0]) + w @ (d - overall) ** 2 / units.sum()
        assert got.value[t - 1, 0] == pytest.approx(overall, rel=1e-12)
        assert got.standard_error[t - 1, 0] ** 2 == pytest.approx(expected, rel=1e-12)
    control = w @ moments.mean[:, 0, 0]
    between = w @ (moments.mean[:, 0, 0] - control) ** 2 / units.sum()
    assert estimates.raw_variance[0, 0] == pytest.approx(w**2 @ variance[:, 0] + between, rel=1e-12)


def test_one_stratum_is_no_stratification():
    rng = np.random.default_rng(4)
    rows = rng.normal(5, 1, (600, 2)) @ np.array([[1.0, 0.7], [0.0, 0.7]])
    moments = Moments.from_rows(rows, np.arange(600) % 3, 3)
    ours, plain = estimate_stratified(moments[None], CUPED), estimate(moments, CUPED)
    for compare in (difference, lift):
        a, b = compare(ours), compare(plain)
        for name in ("value", "standard_error", "ci_lower", "ci_upper"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-12)


def test_a_common_offset_changes_nothing():
    rng = np.random.default_rng(5)
    moments = ramp(rng, 1)[0]
    far = Moments(moments.count, moments.mean + 1e9, moments.comoment, moments.third)
    a, b = difference(estimate_stratified(moments, CUPED)), difference(estimate_stratified(far, CUPED))
    np.testing.assert_allclose(a.standard_error, b.standard_error, rtol=1e-6)
    np.testing.assert_allclose(a.value, b.value, atol=1e-5)


@given(
    st.lists(st.lists(st.integers(0, 60), min_size=2, max_size=3), min_size=1, max_size=6).filter(
        lambda rows: len({len(row) for row in rows}) == 1
    )
)
@settings(max_examples=150, deadline=None)
def test_merged_strata_lose_no_unit_and_are_large_enough_unless_all_are_one(counts: list[list[int]]):
    shape = (len(counts), len(counts[0]))
    cell = np.repeat(np.arange(shape[0] * shape[1]), np.ravel(counts))
    rows = np.random.default_rng(len(cell)).normal(0, 1, (len(cell), 1)) + cell[:, None]
    moments = Moments.from_rows(rows, cell, shape)
    merged = merged_strata(moments)
    whole, again = moments.merge_axis(0), merged.merge_axis(0)
    np.testing.assert_array_equal(whole.count, again.count)
    np.testing.assert_allclose(whole.comoment, again.comoment, rtol=1e-9, atol=1e-9)
    used = merged.count[merged.count.any(axis=-1)]
    total = merged.count.sum(axis=0)
    judged = total >= 20 if (total >= 20).sum() >= 2 else total > 0
    assert len(used) <= 1 or (used[:, judged] >= 20).all()
    estimates = estimate_stratified(moments, MEAN)
    assert ((estimates.reason == "") <= np.isfinite(estimates.value)).all()
    assert ((difference(estimates).reason == "") == difference(estimates).estimable).all()


def test_small_strata_join_the_smallest_of_the_others():
    def block(*sizes: int) -> Moments:
        return arms(*([np.arange(n, dtype=float)] for n in sizes))

    parts = [block(100, 100), block(5, 9), block(30, 40), block(4, 4)]
    merged = merged_strata(stacked(parts))
    assert merged.count[:, 0].tolist() == [100, 0, 0, 0, 39]
    assert merged_strata(stacked([parts[0], block(15, 15), block(15, 15)])).count[:, 0].tolist() == [100, 0, 0, 30]
    assert merged_strata(stacked(parts[:1])).count[:, 0].tolist() == [100, 0]
    assert merged_strata(stacked([block(5, 9), block(4, 4)])).count[:, 0].tolist() == [0, 0, 9]


def test_an_arm_that_lacks_a_stratum_is_refused_and_the_others_are_not():
    rng = np.random.default_rng(6)
    parts = [arms(*([rng.normal(5, 1, n)] for n in sizes)) for sizes in ((200, 200, 10), (300, 300, 0))]
    estimates = estimate_stratified(stacked(parts), MEAN)
    assert estimates.reason[:, 0].tolist() == ["", "", Reason.TOO_FEW_UNITS]
    assert estimates.count.tolist() == [500, 500, 10]
    assert difference(estimates).estimable[:, 0].tolist() == [True, False]


def test_stratified_cells_take_their_place_among_plain_ones():
    moments = ramp(np.random.default_rng(7), 3)
    plain = estimate(moments.merge_axis(-2), CUPED)
    both = with_cells(plain, slice(1, 2), estimate_stratified(moments[1:2], CUPED))
    a, b = difference(both), difference(plain)
    np.testing.assert_array_equal(a.ci_lower[[0, 2]], b.ci_lower[[0, 2]])
    np.testing.assert_array_equal(a.ci_lower[1], difference(estimate_stratified(moments, CUPED)).ci_lower[1])
    np.testing.assert_array_equal(lift(both).ci_lower[1], lift(estimate_stratified(moments, CUPED)).ci_lower[1])
