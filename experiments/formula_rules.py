"""Which formulas over metrics are allowed, decided when they are written down and not when an analysis divides by zero.

The rule: whatever stands under a division, in a log, or under a negative or fractional power must be *positive*.
Positive are: numbers above zero; metrics declared `always_positive`; sums, products, quotients, powers and `min` of
positive things; `max` with at least one of them; every `exp`. A difference never is. To divide one per-unit total by
another, a metric of the kind `ratio` needs no such declaration: its denominator is checked against the data.
"""

from collections.abc import Mapping

import numpy as np

from experiments.definitions import Direction, MetricSpec
from experiments.errors import FieldError, InvalidFormula
from stats.expression import Name, Node, Number, Operation
from stats.formula import Formula, FormulaError, parse
from stats.formula_defects import DefectCode, formula_defects


def read(
    text: str, *, known: Mapping[str, MetricSpec], pointer: str = "/formula", towards: Direction | None = None
) -> Formula:
    """Parse a formula over these metrics. Raises `InvalidFormula` with the place, the offending text and a remedy.

    A refusal also names the inputs that move the result against `towards`, where that is given: alone they are no
    reason to refuse, since directions are opinions, but who rewrites a formula wants to hear of all that is wrong.
    """
    try:
        formula = parse(text, known.keys())
    except FormulaError as error:
        raise InvalidFormula(
            f"{error.problem} at position {error.position}: `{error.text}`",
            remedy=error.remedy,
            errors=[FieldError(pointer, f"{error.problem}: `{error.text}`")],
            position=error.position,
        ) from error
    for name in formula.names:
        if known[name].kind == "formula":
            raise InvalidFormula(
                f"`{name}` is itself a formula metric",
                remedy=f"Write out its formula: ({known[name].formula}).",
                errors=[FieldError(pointer, f"`{name}` is a formula metric")],
            )
        if known[name].kind == "quantile":
            raise InvalidFormula(
                f"`{name}` is a quantile metric",
                remedy="Use metrics of other kinds: a quantile has no covariance with them.",
                errors=[FieldError(pointer, f"`{name}` is a quantile metric")],
            )
    for divisor in formula.denominators():
        if not _positive(divisor.root, known):
            _refuse(divisor, known, pointer, _against(formula, known, towards))
    return formula


def _positive(node: Node, known: Mapping[str, MetricSpec]) -> bool:
    match node:
        case Number(value):
            return value > 0
        case Name(key):
            return known[key].always_positive
        case Operation("exp", _):
            return True
        case Operation("neg" | "log", _):
            return False
        case Operation("**", (base, _)):
            return _positive(base, known)
        case Operation("max", operands):
            return any(_positive(operand, known) for operand in operands)
        case Operation(_, operands):
            return all(_positive(operand, known) for operand in operands)


def _against(formula: Formula, known: Mapping[str, MetricSpec], towards: Direction | None) -> list[str]:
    """The inputs that are good when the result is bad, at whatever positive values (METHODS G8)."""
    if towards is None:
        return []
    signs = {Direction.INCREASE: 1.0, Direction.DECREASE: -1.0}
    found = formula_defects(
        formula,
        None,
        good=np.array([signs[known[name].direction] for name in formula.names]),
        counted=np.zeros(len(formula.names), dtype=np.bool_),
        star_good=signs[towards],
    )
    return [each.part for each in found if each.code is DefectCode.DIRECTION_CONFLICT]


def _refuse(divisor: Formula, known: Mapping[str, MetricSpec], pointer: str, against: list[str]) -> None:
    doubtful = [name for name in divisor.names if not known[name].always_positive]
    text = divisor.canonical()
    if doubtful:
        remedy = (
            f"If the mean of {' and '.join(f'`{name}`' for name in doubtful)} can never be zero, declare it with "
            "`always_positive: true`; to divide two totals per unit, define a metric of the kind `ratio`."
        )
    else:
        remedy = "Rewrite it without a difference or a log: both can be zero even when every metric is positive."
    detail = f"The formula divides by (or takes the log or a root of) `{text}`, which can be zero"
    errors = [FieldError(pointer, f"`{text}` can be zero")]
    if against:
        named = " and ".join(f"`{name}`" for name in against)
        detail += f"; and what is good for {named} is bad for the result"
        remedy += " Turning the ratio over, or steering by the levels instead of their ratio, mends both."
        errors += [FieldError(pointer, f"moves against the declared direction of `{name}`") for name in against]
    raise InvalidFormula(detail, remedy=remedy, errors=errors, can_be_zero=doubtful or [text])
