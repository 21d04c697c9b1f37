"""What inputs account for in a change of the North Star (METHODS E3, E4)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.attribution import (
    AttributionReason,
    attribute,
    error_over_weeks,
    lmdi,
    logarithmic_mean,
    rate_and_mix,
    shapley,
    t_quantile,
)
from stats.formula import parse

POSITIVE = st.floats(1e-3, 1e6)


def test_the_logarithmic_mean_lies_between_the_means_and_is_smooth_where_values_meet() -> None:
    a, b = np.array([2.0, 5.0, 1.0, 3.0]), np.array([8.0, 5.0, 1.0 + 1e-9, 0.0])
    found = logarithmic_mean(a, b)
    assert found[0] == pytest.approx(6 / np.log(4))
    assert np.sqrt(16) < found[0] < 5
    assert found[1] == 5.0
    assert found[2] == pytest.approx(1 + 5e-10, abs=1e-15)
    assert found[3] == 0.0


def test_two_sectors_are_decomposed_as_by_hand() -> None:
    """Activity, share and intensity of two sectors, the classic example of index decomposition (Ang 2015)."""
    activity = np.array([[100.0, 100.0], [150.0, 150.0]])
    share = np.array([[0.5, 0.5], [0.8, 0.2]])
    intensity = np.array([[1.2, 0.5], [1.0, 0.4]])
    before, after = (np.stack([activity[t], share[t], intensity[t]], axis=-1) for t in (0, 1))
    assert before.prod(-1).sum() == pytest.approx(85.0)
    assert after.prod(-1).sum() == pytest.approx(132.0)
    parts = lmdi(before, after)
    weight = [(120.0 - 60.0) / np.log(2.0), (12.0 - 25.0) / np.log(12.0 / 25.0)]
    by_hand = [
        sum(w * np.log(1.5) for w in weight),
        weight[0] * np.log(1.6) + weight[1] * np.log(0.4),
        weight[0] * np.log(1 / 1.2) + weight[1] * np.log(0.8),
    ]
    np.testing.assert_allclose(parts, by_hand, rtol=1e-12)
    assert parts.sum() == pytest.approx(47.0, abs=1e-12)


@settings(max_examples=30)
@given(st.lists(st.tuples(POSITIVE, POSITIVE, POSITIVE, POSITIVE), min_size=1, max_size=5))
def test_contributions_close_without_a_residual(rows: list[tuple[float, float, float, float]]) -> None:
    table = np.array(rows)
    before, after = table[:, :2], table[:, 2:]
    change = after.prod(-1).sum() - before.prod(-1).sum()
    size = after.prod(-1).sum() + before.prod(-1).sum()
    assert abs(lmdi(before, after).sum() - change) <= 1e-12 * size


def test_decomposing_segments_first_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.lognormal(size=(2, 6, 3))
    together = lmdi(before, after)
    apart = sum(lmdi(before[s : s + 1], after[s : s + 1]) for s in range(6))
    np.testing.assert_allclose(together, apart, rtol=1e-12)


def test_a_segment_that_appears_is_the_work_of_the_input_that_was_zero() -> None:
    before, after = np.array([[0.0, 4.0]]), np.array([[10.0, 4.0]])
    parts = lmdi(before, after)
    assert parts.sum() == pytest.approx(40.0)
    assert parts[0] == pytest.approx(40.0)
    with pytest.raises(ValueError, match="Shapley"):
        lmdi(-before, after)


def test_shapley_values_are_near_the_logarithmic_means_for_moves_of_a_third() -> None:
    """METHODS E3 gives 0.05 % of the North Star; three inputs that move at once come within 0.1 %."""
    before = np.array([1000.0, 3.0, 20.0])
    after = before * np.array([1.3, 1.1, 0.9])
    formula = parse("users * sessions * minutes")
    by_lmdi = attribute(formula, before, after, seed=1)
    by_shapley = shapley(lambda x: x.prod(-1), before, after, seed=1)
    assert by_lmdi.method == "lmdi"
    assert np.abs(by_lmdi.parts - by_shapley).max() < 0.001 * after.prod()
    assert by_shapley.sum() == pytest.approx(after.prod() - before.prod(), rel=1e-12)


def test_a_ratio_with_a_constant_is_a_product_of_powers() -> None:
    found = attribute(parse("100 * orders / users ** 2"), np.array([50.0, 10.0]), np.array([60.0, 11.0]), seed=0)
    assert found.method == "lmdi"
    change = 100 * (60 / 121 - 50 / 100)
    assert found.parts.sum() == pytest.approx(change, abs=1e-12)
    assert found.parts[0] > 0 > found.parts[1]


def test_a_tree_that_is_no_product_is_shared_by_shapley() -> None:
    formula = parse("max(a, b) - c")
    found = attribute(formula, np.array([1.0, 2.0, 5.0]), np.array([4.0, 3.0, 1.0]), seed=0)
    assert found.method == "shapley"
    np.testing.assert_allclose(found.parts, [1.5, 0.5, 4.0])
    assert found.change == pytest.approx(6.0)


def test_more_inputs_than_can_be_enumerated_still_add_up() -> None:
    names = [f"x{i}" for i in range(12)]
    rng = np.random.default_rng(5)
    before, after = rng.uniform(1, 2, size=(2, 12))
    found = attribute(
        parse(" + ".join(f"{a} * {b}" for a, b in zip(names[::2], names[1::2], strict=True))), before, after, seed=9
    )
    assert found.method == "shapley"
    pairs = (after[::2] * after[1::2]).sum() - (before[::2] * before[1::2]).sum()
    assert found.parts.sum() == pytest.approx(pairs, rel=1e-12)
    # A product's two factors share its change evenly around the mean of the other: known in closed form.
    by_hand = (after[0] - before[0]) * (after[1] + before[1]) / 2
    assert found.parts[0] == pytest.approx(by_hand, rel=1e-9)


def test_what_is_missing_or_undefined_is_said() -> None:
    formula = parse("a / b")
    assert (
        attribute(formula, np.array([1.0, np.nan]), np.array([1.0, 2.0]), seed=0).reason
        == AttributionReason.VALUE_MISSING
    )
    nothing = attribute(formula, np.array([1.0, 0.0]), np.array([1.0, 2.0]), seed=0)
    assert nothing.reason == AttributionReason.TREE_UNDEFINED
    assert np.isnan(nothing.parts).all()


def test_simpsons_reversal_is_seen() -> None:
    """Every segment converts better, but the one that converts badly has grown."""
    found = rate_and_mix(np.array([0.8, 0.2]), np.array([0.10, 0.02]), np.array([0.3, 0.7]), np.array([0.11, 0.025]))
    assert found.total == pytest.approx(0.3 * 0.11 + 0.7 * 0.025 - 0.8 * 0.10 - 0.2 * 0.02)
    assert found.rate > 0 > found.mix
    assert found.reversed
    np.testing.assert_allclose(found.rate_by_segment.sum(), found.rate)
    np.testing.assert_allclose(found.mix_by_segment.sum(), found.mix)


def test_a_segment_that_weighs_more_helps_only_if_it_is_better_than_the_rest() -> None:
    found = rate_and_mix(np.array([0.5, 0.5]), np.array([0.2, 0.1]), np.array([0.4, 0.6]), np.array([0.2, 0.1]))
    assert (found.mix_by_segment < 0).all()


@pytest.mark.parametrize("persistence", [0.0, 0.5])
def test_intervals_from_weeks_cover_the_sum_that_weeks_scatter_around(persistence: float) -> None:
    """13 weeks, neighbours alike by AR(1): three binomial errors below 80 % plus what 13 weeks cannot know."""
    rng = np.random.default_rng(11)
    runs, weeks = 2000, 13
    noise = rng.standard_normal((runs, weeks + 20))
    for week in range(1, weeks + 20):
        noise[:, week] = persistence * noise[:, week - 1] + np.sqrt(1 - persistence**2) * noise[:, week]
    parts = 5.0 + noise[:, 20:]
    errors, df = error_over_weeks(parts.T)
    held = np.abs(parts.sum(axis=1) - 65.0) <= t_quantile(0.8, df) * errors
    allowed = 0.03 if persistence == 0 else 0.12
    assert held.mean() >= 0.8 - allowed - 3 * np.sqrt(0.8 * 0.2 / runs)


def test_three_weeks_are_too_few_for_an_interval() -> None:
    with pytest.raises(ValueError, match="4 are needed"):
        error_over_weeks(np.ones((3, 2)))
