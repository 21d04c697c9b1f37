"""Which formulas may be written down."""

import pytest

from experiments.errors import InvalidFormula
from experiments.formula_rules import read
from tests.experiments.shop import formula, mean

KNOWN = {
    "x": mean("x"),
    "y": mean("y"),
    "p": mean("p", always_positive=True),
    "q": mean("q", always_positive=True),
    "f": formula("f", "x + y"),
}


@pytest.mark.parametrize(
    "text",
    [
        "x + y - 2 * p",
        "x / p",
        "x / 2",
        "x / (p + q)",
        "x / (p * q)",
        "x / (p / q)",
        "log(p)",
        "log(exp(x))",
        "x / exp(y)",
        "x / max(y, 1)",
        "x / max(y, p)",
        "x / min(p, q)",
        "p ** -1.5",
        "p ** 0.5",
        "x ** 2",
        "(x / p) * (y / q)",
    ],
)
def test_a_formula_whose_divisors_are_positive_is_allowed(text: str) -> None:
    assert read(text, known=KNOWN).names


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("x / y", "y"),
        ("x / (p + y)", "p + y"),
        ("x / (p * y)", "p * y"),
        ("p / (p - q)", "p"),
        ("p / (-p)", "p"),
        ("p / log(q)", "log(q)"),
        ("log(x)", "x"),
        ("x ** 0.5", "x"),
        ("x ** -2", "x"),
        ("x / min(p, y)", "min(p, y)"),
        ("x / max(x, y)", "max(x, y)"),
        ("x / (p ** 2 * y)", "y"),
    ],
)
def test_a_formula_that_may_divide_by_zero_is_refused_with_a_remedy(text: str, culprit: str) -> None:
    with pytest.raises(InvalidFormula) as refused:
        read(text, known=KNOWN)
    assert culprit in refused.value.detail
    assert "can be zero" in refused.value.detail
    assert refused.value.remedy


def test_a_formula_may_not_name_a_formula_metric_and_is_told_what_to_write() -> None:
    with pytest.raises(InvalidFormula) as refused:
        read("2 * f", known=KNOWN)
    assert refused.value.remedy == "Write out its formula: (x + y)."


def test_a_formula_may_not_name_a_quantile_which_has_no_covariance_with_anything() -> None:
    quantile = mean("slow", kind="quantile", quantile=0.9)
    with pytest.raises(InvalidFormula, match="`slow` is a quantile metric"):
        read("2 * slow", known=KNOWN | {"slow": quantile})


def test_a_quantile_is_no_part_of_a_formula() -> None:
    known = {**KNOWN, "slow": mean("slow", kind="quantile", quantile=0.9)}
    with pytest.raises(InvalidFormula, match="quantile"):
        read("x + slow", known=known)
