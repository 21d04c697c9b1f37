"""The defects of a North Star's formula in words, each with what to do about it (METHODS G8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Final

import numpy as np

from experiments.definitions import Direction, NorthStarSpec
from experiments.plan import InputNature
from experiments.result import Check, FormulaDefect
from stats import formula_defects
from stats.formula import Formula, parse
from stats.formula_defects import DefectCode

_OVER: Final = "Turn the ratio over, or steer by the levels instead of their ratio"


def defects(
    spec: NorthStarSpec,
    natures: Mapping[str, InputNature],
    towards: Direction,
    weekly: Mapping[str, Sequence[float | None]],
) -> list[FormulaDefect]:
    """The defects of a tree at the weeks of its inputs, of which those are used that are known of all; maybe none.

    `natures` and `weekly` have all inputs of the formula, and maybe drivers beside it. `towards` is the direction in
    which the North Star should go.
    """
    formula = parse(spec.formula)
    known = np.array([weekly.get(name, ()) for name in formula.names], dtype=np.float64).reshape(len(formula.names), -1)
    found = formula_defects.formula_defects(
        formula,
        known.T,
        good=np.array([_sign(natures[name].direction) for name in formula.names]),
        counted=np.array([natures[name].counted for name in formula.names]),
        star_good=_sign(towards),
    )
    return [
        FormulaDefect(
            code=each.code.value,
            part=each.part,
            detail=_detail(each, formula, natures, towards),
            remedy=_remedy(each, formula, natures),
            share=each.share,
            variation=each.variation if isfinite(each.variation) else None,
            chance_not_positive=each.chance_not_positive if isfinite(each.chance_not_positive) else None,
        )
        for each in found
    ]


def check(found: Sequence[FormulaDefect]) -> Check:
    """Every defect of a formula as one check of a review."""
    return Check(
        name="formula_defects",
        status="warn" if found else "pass",
        detail=" ".join(each.detail for each in found) or "The formula does what its inputs are declared to do.",
        remedy=" ".join(dict.fromkeys(each.remedy for each in found)),
    )


def _detail(
    found: formula_defects.FormulaDefect,
    formula: Formula,
    natures: Mapping[str, InputNature],
    towards: Direction,
) -> str:
    at = f" in {round(found.share * found.points)} of {found.points} weeks" if found.points else ""
    match found.code:
        case DefectCode.DIRECTION_CONFLICT:
            moved = "rises" if natures[found.part].direction is Direction.INCREASE else "falls"
            wrong = "falls" if towards is Direction.INCREASE else "rises"
            return f"`{found.part}` is good when it {moved}, but the North Star then {wrong}{at}."
        case DefectCode.DENOMINATOR_CROSSES_ZERO:
            return (
                f"The formula divides by `{found.part}`, which is at or below zero{at}: its sign and size mean nothing."
            )
        case DefectCode.DENOMINATOR_NEAR_ZERO:
            return (
                f"The formula divides by `{found.part}`, which varies by {found.variation:.0%} of its mean: a week at "
                f"or below zero has a chance of {found.chance_not_positive:.1%}."
            )
        case DefectCode.FALLS_WITH_SCALE:
            counted = " and ".join(f"`{name}`" for name in formula.names if natures[name].counted)
            return f"Twice as much of {counted} lowers the North Star{at}: growth would look like failure."


def _remedy(found: formula_defects.FormulaDefect, formula: Formula, natures: Mapping[str, InputNature]) -> str:
    match found.code:
        case DefectCode.DIRECTION_CONFLICT:
            divides = any(found.part in divisor.names for divisor in formula.denominators())
            other = "decrease" if natures[found.part].direction is Direction.INCREASE else "increase"
            first = _OVER if divides else "Change its sign in the formula"
            return f"{first}; or declare `{found.part}` with the direction `{other}` if that is what is good."
        case DefectCode.DENOMINATOR_CROSSES_ZERO | DefectCode.DENOMINATOR_NEAR_ZERO:
            return f"{_OVER}: a denominator must be a level that keeps clear of zero, not a growth or a difference."
        case DefectCode.FALLS_WITH_SCALE:
            return "Divide by no more of what grows with the company than the numerator holds."


def _sign(direction: Direction) -> float:
    return 1.0 if direction is Direction.INCREASE else -1.0
