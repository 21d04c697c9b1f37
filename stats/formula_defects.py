"""What is wrong with the formula of a North Star, before anybody steers by it (METHODS G8).

Three questions: does every input move the North Star the way that is good for both; do denominators keep clear of zero;
does the North Star survive that there is more of everything that is counted. They are asked at observed values where
there are any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
import scipy.special as sc

from stats.formula import Formula

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

CHANCE_OF_ZERO: Final = 0.001
"""A denominator may be at or below zero with no larger chance (METHODS G8)."""
STRAY: Final = 0.05
"""The share of the observed points in which a direction may be wrong: kinks of min and max, a single odd week."""
FEWEST_POINTS: Final = 8
"""Points below which a spread says too little about how near a denominator comes to zero."""
_IMAGINED: Final = 64
_TWICE: Final = 2.0
_ROUNDING: Final = 1e-9


class DefectCode(StrEnum):
    """What can be wrong with a formula."""

    DIRECTION_CONFLICT = "direction_conflict"
    DENOMINATOR_CROSSES_ZERO = "denominator_crosses_zero"
    DENOMINATOR_NEAR_ZERO = "denominator_near_zero"
    FALLS_WITH_SCALE = "falls_with_scale"


@dataclass(frozen=True, slots=True)
class FormulaDefect:
    """One defect. `part` is the input, or the denominator as written, or empty for the whole formula.

    `share` is that of the `points` it was looked for at (0 points: imagined ones). Of denominators, `variation` is the
    spread around a straight line over the mean, and `chance_not_positive` what a normal distribution makes of both; nan
    where a spread says too little, and for other defects.
    """

    code: DefectCode
    part: str
    share: float
    points: int = 0
    variation: float = float("nan")
    chance_not_positive: float = float("nan")


def formula_defects(
    formula: Formula, values: Array | None, *, good: Array, counted: Flags, star_good: float
) -> tuple[FormulaDefect, ...]:
    """The defects of a formula over its inputs (METHODS G8).

    `values` (points, M) are observed values of the inputs in the order of `formula.names`, oldest first; points with a
    value missing (nan) are left out. `good` (M,) is +1 where the input should rise and -1 where it should fall,
    `star_good` the same of the result, `counted` (M,) marks inputs that double when everything doubles, unlike rates.

    Without observed points a direction is judged at positive values over two orders of magnitude, and is wrong only
    where it is wrong at all of them; denominators are then not judged. Raises `ValueError` for shapes that differ.
    """
    m = len(formula.names)
    if good.shape != (m,) or counted.shape != (m,) or (values is not None and values.shape[1:] != (m,)):
        raise ValueError(f"the formula has {m} inputs {formula.names}; values and directions must match them")
    known = np.zeros((0, m)) if values is None else values[np.isfinite(values).all(axis=1)]
    defects = list(_denominators(formula, known))
    points, tolerated = (known, STRAY) if len(known) else (_imagined(m), np.nextafter(1.0, 0.0))
    points = points[_in_domain(formula, points)]
    if len(points):
        found = (
            *_directions(formula, points, good * star_good, tolerated),
            *_scale(formula, points, counted, star_good, tolerated),
        )
        defects += [replace(defect, points=len(points) if len(known) else 0) for defect in found]
    return tuple(defects)


def _denominators(formula: Formula, known: Array) -> Iterator[FormulaDefect]:
    for divisor in formula.denominators():
        at = divisor.evaluate(_columns(divisor, formula, known))
        at = at[np.isfinite(at)]
        if not at.size:
            continue
        share = float((at <= 0).mean())
        variation = chance = float("nan")
        if at.size >= FEWEST_POINTS:
            # Growth is no noise: what spreads is what a straight line leaves.
            line = np.polynomial.Polynomial.fit(np.arange(at.size), at, 1)(np.arange(at.size))
            spread = float(np.sqrt(((at - line) ** 2).sum() / (at.size - 2)))
            mean = float(at.mean())
            variation = spread / abs(mean) if mean else float("inf")
            chance = float(sc.ndtr(-mean / spread)) if spread > 0 else float(mean <= 0)
        if share > 0:
            yield FormulaDefect(
                DefectCode.DENOMINATOR_CROSSES_ZERO, divisor.canonical(), share, at.size, variation, chance
            )
        elif chance > CHANCE_OF_ZERO:
            yield FormulaDefect(
                DefectCode.DENOMINATOR_NEAR_ZERO, divisor.canonical(), share, at.size, variation, chance
            )


def _directions(formula: Formula, points: Array, wanted: Array, tolerated: float) -> Iterator[FormulaDefect]:
    _, gradient = formula.value_and_gradient(dict(zip(formula.names, points.T, strict=True)))
    against = (gradient * wanted < 0).mean(axis=0)
    for name, share in zip(formula.names, against, strict=True):
        if share > tolerated:
            yield FormulaDefect(DefectCode.DIRECTION_CONFLICT, name, float(share))


def _scale(
    formula: Formula, points: Array, counted: Flags, star_good: float, tolerated: float
) -> Iterator[FormulaDefect]:
    """Twice as much of everything counted must not lower a North Star that should rise."""
    if star_good < 0 or not counted.any():
        return
    before, after = (
        formula.evaluate(dict(zip(formula.names, (points * factor).T, strict=True)))
        for factor in (1.0, np.where(counted, _TWICE, 1.0))
    )
    share = float((after < before - _ROUNDING * np.abs(before)).mean())
    if share > tolerated:
        yield FormulaDefect(DefectCode.FALLS_WITH_SCALE, "", share)


def _in_domain(formula: Formula, points: Array) -> Flags:
    """Points at which all denominators are above zero and the formula has a value: elsewhere it has no direction."""
    usable = np.isfinite(formula.evaluate(dict(zip(formula.names, points.T, strict=True))))
    for divisor in formula.denominators():
        usable &= divisor.evaluate(_columns(divisor, formula, points)) > 0
    return np.asarray(usable)


def _imagined(m: int) -> Array:
    return 10.0 ** np.random.default_rng(0).uniform(-1.0, 1.0, (_IMAGINED, m))


def _columns(part: Formula, formula: Formula, points: Array) -> dict[str, Array]:
    return {name: points[:, formula.names.index(name)] for name in part.names}
