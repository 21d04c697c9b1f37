"""Formulas: what parses, what is refused and why, and that gradients are exact (METHODS §1)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stats.formula import MAX_DEPTH, MAX_LENGTH, Formula, FormulaError, parse


def test_a_product_tree_evaluates_like_the_arithmetic_it_spells() -> None:
    formula = parse("active_users * sessions_per_active_user * orders_per_session")
    values = {"active_users": np.array([2.0, 3.0]), "sessions_per_active_user": 4.0, "orders_per_session": 0.5}
    assert formula.names == ("active_users", "sessions_per_active_user", "orders_per_session")
    np.testing.assert_array_equal(formula.evaluate(values), [4.0, 6.0])


def test_gradients_of_every_operator_equal_the_analytic_ones_cell_by_cell() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.5, 2, (3, 4)), rng.uniform(0.5, 2, (3, 4))
    cases = {
        "a + b": (np.ones_like(a), np.ones_like(a)),
        "a - 2 * b": (np.ones_like(a), -2 * np.ones_like(a)),
        "a * b": (b, a),
        "a / b": (1 / b, -a / b**2),
        "-a / b": (-1 / b, a / b**2),
        "log(a) * exp(-b)": (np.exp(-b) / a, -np.log(a) * np.exp(-b)),
        "a ** 3 / b ** 0.5": (3 * a**2 / np.sqrt(b), -0.5 * a**3 * b**-1.5),
        "pow(a, -1) + b ** 0": (-1 / a**2, np.zeros_like(a)),
        "min(a, b)": ((a <= b).astype(float), (a > b).astype(float)),
        "max(a, b)": ((a >= b).astype(float), (a < b).astype(float)),
    }
    for text, (slope_a, slope_b) in cases.items():
        formula = parse(text, {"a", "b"})
        value, gradient = formula.value_and_gradient({"a": a, "b": b})
        assert gradient.shape == (3, 4, 2), text
        np.testing.assert_allclose(gradient, np.stack([slope_a, slope_b], axis=-1), rtol=1e-12, err_msg=text)
        np.testing.assert_array_equal(value, formula.evaluate({"a": a, "b": b}), err_msg=text)


def test_tied_operands_of_min_and_max_share_the_derivative_whatever_their_order() -> None:
    at = {"a": np.array([1.0, 1.0]), "b": np.array([1.0, 2.0]), "c": np.array([1.0, 1.0])}
    _, two = parse("min(a, b) - min(b, a)").value_and_gradient(at)
    np.testing.assert_array_equal(two, 0.0)
    _, product = parse("min(a, b) * max(a, b)").value_and_gradient(at)
    np.testing.assert_array_equal(product, [[1.0, 1.0], [2.0, 1.0]])
    for text in ("min(a, b, c)", "min(c, a, b)"):
        formula = parse(text)
        _, three = formula.value_and_gradient(at)
        shares = dict(zip(formula.names, three.T, strict=True))
        np.testing.assert_allclose([shares["a"], shares["b"], shares["c"]], [[1 / 3, 0.5], [1 / 3, 0], [1 / 3, 0.5]])


def test_names_of_different_shapes_broadcast_and_unused_shapes_still_count() -> None:
    formula = parse("a + 0 * b")
    value, gradient = formula.value_and_gradient({"a": np.ones((5, 1)), "b": np.ones(3)})
    assert value.shape == (5, 3)
    assert gradient.shape == (5, 3, 2)


@pytest.mark.parametrize(
    ("text", "offending", "position"),
    [
        ("orders.mean + 1", "orders.mean", 0),
        ("orders + __import__('os')", "'", 20),
        ("orders[0]", "[", 6),
        ("orders if revenue else 1", "orders if revenue else 1", 0),
        ("orders and revenue", "orders and revenue", 0),
        ("1 + (orders < 2)", "<", 12),
        ("orders // revenue", "orders // revenue", 0),
        ("orders + sqrt(revenue)", "sqrt(revenue)", 9),
        ("orders + log(revenue, 2)", "log(revenue, 2)", 9),
        ("orders ** revenue", "revenue", 10),
        ("  orders * (revenue", "(revenue", 11),
        ("orders + log", "log", 9),
        ("orders * 1e999", "1e999", 9),
        ("orders / 0", "0", 9),
        ("orders + log(-1)", "-1", 13),
        ("orders * 2j", "2j", 9),
        ("orders, revenue", "orders, revenue", 0),
        ("+orders", "+orders", 0),
        ("max(orders)", "max(orders)", 0),
        ("", "", 0),
        ("1 + 2", "1 + 2", 0),
    ],
)
def test_everything_outside_the_language_is_refused_with_place_and_remedy(
    text: str, offending: str, position: int
) -> None:
    with pytest.raises(FormulaError) as refusal:
        parse(text)
    error = refusal.value
    assert isinstance(error, ValueError)
    assert (error.text, error.position) == (offending, position)
    assert error.remedy.endswith((".", "?"))
    assert error.remedy in str(error)


def test_an_unknown_metric_is_answered_with_the_nearest_known_one() -> None:
    with pytest.raises(FormulaError, match="Did you mean `orders_per_session`") as refusal:
        parse("2 * orders_per_sesion", {"orders_per_session", "revenue"})
    assert refusal.value.position == 4


def test_length_and_nesting_are_limited_but_long_sums_are_not_deep() -> None:
    with pytest.raises(FormulaError, match="500 characters"):
        parse("a+" * MAX_LENGTH + "a")
    for deep in ("(" * 40 + "log(" * 40 + "a" + ")" * 80, "-" * 60 + "a", "log(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH):
        with pytest.raises(FormulaError, match=r"levels deep|not a complete expression"):
            parse(deep)
    assert float(parse("+".join(["a"] * 200)).evaluate({"a": 1.5})) == 300.0


def test_denominators_are_the_sub_expressions_that_must_not_reach_zero() -> None:
    formula = parse("a / (b - c) + log(d) / 2 + e ** -1 + f ** 0.5 + g ** 2 + a / (b - c)")
    assert [d.canonical() for d in formula.denominators()] == ["b - c", "d", "e", "f"]
    assert formula.denominators()[0].names == ("b", "c")


def test_values_outside_the_domain_come_back_non_finite_and_not_as_exceptions() -> None:
    value, gradient = parse("a / b").value_and_gradient({"a": np.array([1.0, 1.0]), "b": np.array([0.0, 2.0])})
    assert not np.isfinite(value[0])
    assert value[1] == 0.5
    np.testing.assert_allclose(gradient[1], [0.5, -0.25])


expressions = st.recursive(
    st.sampled_from(["a", "b", "c", "2", "0.5", "3e-7", "-1.5"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
        inner.map(lambda e: f"-({e})"),
        inner.map(lambda e: f"-{e}"),
        inner.map(lambda e: f"exp({e})"),
        st.tuples(inner, inner).map(lambda t: f"min({t[0]}, {t[1]})"),
        st.tuples(inner, st.sampled_from(["2", "-1", "0.5"])).map(lambda t: f"({t[0]}) ** {t[1]}"),
    ),
    max_leaves=8,
)


def _parsed(text: str) -> Formula | None:
    try:
        return parse(text)
    except FormulaError:
        return None


@settings(max_examples=300, deadline=None)
@given(expressions)
def test_the_canonical_text_parses_back_to_the_same_formula(text: str) -> None:
    formula = _parsed(text)
    if formula is not None:
        assert parse(formula.canonical()) == formula
        assert parse(f"  ( {text} ) ").canonical() == formula.canonical()


@settings(max_examples=200, deadline=None)
@given(expressions, st.tuples(*[st.floats(0.5, 3.0)] * 3))
def test_gradients_agree_with_central_differences(text: str, point: tuple[float, float, float]) -> None:
    formula = _parsed(text)
    if formula is None:
        return
    # Away from ties of a, b, c and the constants: at a kink of min there is no derivative to compare with.
    at = {name: x + shift for name, x, shift in zip("abc", point, (0.00137, 0.00271, 0.00419), strict=True)}
    value, gradient = formula.value_and_gradient(at)
    step = 1e-5
    shifted = {k: (at | {k: at[k] + step}, at | {k: at[k] - step}) for k in formula.names}
    with np.errstate(all="ignore"):  # inf - inf outside the domain; those points are left out below
        slopes = np.array([(formula.evaluate(u) - formula.evaluate(d)) / (2 * step) for u, d in shifted.values()])
        curvature = (
            np.array([formula.evaluate(u) + formula.evaluate(d) - 2 * value for u, d in shifted.values()]) / step
        )
    smooth = np.isfinite(slopes) & np.isfinite(gradient) & (np.abs(curvature) < 1e-3 * (1 + np.abs(slopes)))
    scale = 1 + np.abs(slopes) + 1e-8 * np.abs(value) / step
    assert np.all(np.abs(slopes - gradient)[smooth] <= 1e-2 * scale[smooth])
    try:
        with np.errstate(all="ignore"):
            expected = eval(text, {**at, "exp": np.exp, "min": min})
    except (ZeroDivisionError, OverflowError, TypeError):
        return
    if np.isrealobj(expected) and np.isfinite(expected):
        np.testing.assert_allclose(value, expected, rtol=1e-9)
