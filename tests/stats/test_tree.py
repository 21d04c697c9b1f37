"""The metric tree: elasticities, propagation with covariance, coherence (METHODS E1, E2)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.formula import parse
from stats.tree import EdgeType, coherence, elasticities, propagate

PRODUCT = parse("active * sessions * orders")


def test_elasticities_of_products_are_one_of_ratios_plus_minus_one_and_of_sums_the_shares() -> None:
    values = np.array([[2.0, 3.0], [1.0, 9.0]])
    np.testing.assert_allclose(elasticities(parse("a * b"), values), 1.0)
    np.testing.assert_allclose(elasticities(parse("a / b"), values), [[1, -1], [1, -1]])
    np.testing.assert_allclose(elasticities(parse("a + b"), values), [[0.4, 0.6], [0.1, 0.9]])
    segments = elasticities(parse("a * b + c * d"), np.array([1.0, 2.0, 3.0, 6.0]))
    np.testing.assert_allclose(segments, [0.1, 0.1, 0.9, 0.9])


def test_a_product_tree_has_the_delta_method_answer_exactly_and_covariance_is_not_ignored() -> None:
    effects = np.array([0.04, -0.01, 0.02])
    root = np.random.default_rng(3).normal(size=(3, 3)) * 0.02
    covariance = root @ root.T
    result = propagate(PRODUCT, np.array([0.5, 3.0, 0.2]), effects, covariance, seed=1)
    np.testing.assert_allclose(result.log_lift, 0.05, rtol=1e-12)
    np.testing.assert_allclose(result.standard_error, np.sqrt(covariance.sum()), rtol=1e-12)
    np.testing.assert_allclose(result.draws.mean, 0.05, rtol=1e-9)
    np.testing.assert_allclose(result.draws.standard_deviation, result.standard_error, rtol=0.05)
    np.testing.assert_allclose(result.contributions, effects, rtol=1e-12)
    np.testing.assert_allclose(result.contribution_errors, np.sqrt(np.diag(covariance)), rtol=1e-12)
    independent = propagate(PRODUCT, np.array([0.5, 3.0, 0.2]), effects, np.diag(np.diag(covariance)), seed=1)
    assert abs(float(independent.standard_error) / float(result.standard_error) - 1) > 0.02


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 400))
def test_a_definitional_product_tree_equals_the_direct_estimate_when_built_from_the_same_rows(
    seed: int, units: int
) -> None:
    rng = np.random.default_rng(seed)
    sessions = rng.poisson(1.2, (2, units)) + (np.arange(units) < 2)
    orders = rng.binomial(sessions, 0.4) + (np.arange(units) < 1)
    active = (sessions > 0).mean(-1)
    inputs = np.stack([active, sessions.mean(-1) / active, orders.mean(-1) / sessions.mean(-1)], axis=-1)
    direct = np.log(orders[1].mean() / orders[0].mean())
    tree = propagate(PRODUCT, inputs[0], np.log(inputs[1] / inputs[0]), np.eye(3) * 1e-4, seed=0, draws=100)
    verdict = coherence(direct, tree.log_lift, np.asarray(0.0), [EdgeType.DEFINITIONAL] * 3)
    assert abs(float(tree.log_lift - direct)) <= 1e-8
    assert verdict.status == "pass"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["a * b + c", "a * b + c * a", "exp(a) / (b + c)", "max(a, 2 * b) * c", "a ** 2 / b - 0.01 * c"]),
    st.tuples(*[st.floats(-0.5, 0.5)] * 3),
)
def test_contributions_add_up_to_the_exact_log_lift_for_any_tree(text: str, effects: tuple[float, ...]) -> None:
    formula = parse(text)
    control, delta = np.array([1.0, 0.7, 2.0]), np.array(effects)
    result = propagate(formula, control, delta, np.eye(3) * 1e-4, seed=0, draws=50)
    exact = np.log(
        formula.evaluate(dict(zip(formula.names, control * np.exp(delta), strict=True)))
        / formula.evaluate(dict(zip(formula.names, control, strict=True)))
    )
    np.testing.assert_allclose(result.log_lift, exact, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.contributions.sum(-1), exact, rtol=1e-9, atol=1e-12)


def test_the_second_order_term_brings_the_error_of_a_curved_tree_to_that_of_the_draws() -> None:
    formula = parse("a + b")
    control = np.array([1.0, 1.0])
    # Opposite movements cancel to first order, so all of the spread that is left is curvature.
    covariance = np.array([[0.1, -0.1], [-0.1, 0.1]]) + 0.022 * np.eye(2)
    result = propagate(formula, control, np.zeros(2), covariance, seed=2, draws=40_000)
    slope = np.array([0.5, 0.5])
    first = float(np.sqrt(slope @ covariance @ slope))
    assert first > 0.1
    assert abs(float(result.standard_error / result.draws.standard_deviation) - 1) < 0.05
    assert first / float(result.draws.standard_deviation) < 0.9


def test_draw_intervals_of_a_linear_tree_are_the_normal_ones_and_ordered() -> None:
    rng = np.random.default_rng(5)
    effects = rng.normal(0, 0.05, (4, 2, 3))
    covariance = np.broadcast_to(np.diag([1e-4, 4e-4, 2e-4]), (4, 2, 3, 3))
    result = propagate(PRODUCT, np.ones(3), effects, covariance, seed=9, draws=20_000)
    draws, total, sd = result.draws, effects.sum(-1), np.sqrt(7e-4)
    np.testing.assert_allclose(draws.lower_95, total - 1.959964 * sd, atol=0.05 * sd)
    np.testing.assert_allclose(draws.upper_80, total + 1.281552 * sd, atol=0.05 * sd)
    assert (draws.lower_95 < draws.lower_80).all()
    assert (draws.lower_80 < draws.median).all()
    assert (draws.upper_80 < draws.upper_95).all()
    assert ((draws.chance_positive > 0.5) == (total > 0)).all()


def test_a_cell_gets_the_same_bits_alone_and_in_company() -> None:
    rng = np.random.default_rng(6)
    effects, control = rng.normal(0, 0.05, (50, 3)), rng.uniform(0.5, 2, (50, 3))
    covariance = np.diag([1e-4, 4e-4, 2e-4])
    together = propagate(parse("a * b + c"), control, effects, covariance, seed=4)
    alone = propagate(parse("a * b + c"), control[7:8], effects[7:8], covariance, seed=4)
    np.testing.assert_array_equal(together.draws.upper_95[7:8], alone.draws.upper_95)
    np.testing.assert_array_equal(together.standard_error[7:8], alone.standard_error)


def test_cells_without_a_number_are_masked_with_a_reason_and_leave_the_others_alone() -> None:
    formula = parse("a - b")
    control = np.array([[2.0, 1.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.001, 1.0], [2.0, 1.0]])
    effects = np.zeros((6, 2))
    effects[3, 0] = np.nan
    covariance = np.broadcast_to(np.eye(2) * 1e-3, (6, 2, 2)).copy()
    covariance[5] = [[1.0, 2.0], [2.0, 1.0]]
    result = propagate(formula, control, effects, covariance, seed=0)
    assert result.reason.tolist() == [
        "",
        "input_baseline_zero_or_missing",
        "north_star_not_positive",
        "input_effect_not_estimable",
        "tree_undefined_within_uncertainty",
        "covariance_not_positive",
    ]
    assert result.estimable.tolist() == [True] + [False] * 5
    assert np.isnan(result.log_lift[1:]).all()
    assert np.isnan(result.draws.mean[1:]).all()
    assert np.isfinite(result.contributions[0]).all()


def test_coherence_blocks_a_definitional_mismatch_and_warns_about_a_missing_channel() -> None:
    direct = np.array([0.1, 0.1, np.nan])
    definitional = coherence(direct, np.array([0.1 + 1e-10, 0.1 + 1e-6, 0.1]), np.zeros(3), [EdgeType.DEFINITIONAL] * 2)
    assert definitional.status.tolist() == ["pass", "fail", "not_estimable"]
    assert definitional.reason[1] == "data_bug_tree_differs_from_direct"
    driver = coherence(direct, np.array([0.08, 0.05, 0.1]), np.full(3, 4e-4), [EdgeType.DEFINITIONAL, EdgeType.DRIVER])
    assert driver.status.tolist() == ["pass", "warn", "not_estimable"]
    np.testing.assert_allclose(driver.z[:2], [1.0, 2.5])
    assert driver.reason[1] == "tree_misses_a_channel"


def test_mismatched_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="3 inputs"):
        propagate(PRODUCT, np.ones(2), np.zeros(2), np.eye(2), seed=0)
    with pytest.raises(ValueError, match="antithetic"):
        propagate(PRODUCT, np.ones(3), np.zeros(3), np.eye(3), seed=0, draws=101)
