"""Differences and lifts of every treatment against control, by the method that the data allow (A1, A2, A3, A5)."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.evidence.arms import Arms
from experiments.evidence.cells import Cells
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from stats.difference import Differences, pair_reasons, welch
from stats.lift import Lifts, lift
from stats.moments import Bools
from stats.proportion import refine_small_counts


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Arrays (..., V-1, M). The bounds of `safe` are one-sided with error 1 - ci_level; `few` marks A2."""

    difference: Differences
    lift: Lifts
    safe: Lifts
    few: Bools


def compare(plan: AnalysisPlan, block: BlockShapes, cells: Cells, arms: Arms) -> Comparison:
    """Every treatment with control, in every cell."""
    level, e = plan.estimation.ci_level, arms.estimates
    plain = welch(
        e.value[..., 1:, :] - e.value[..., :1, :],
        e.variance[..., 1:, :],
        e.variance[..., :1, :],
        arms.units[..., 1:, :],
        arms.units[..., :1, :],
        pair_reasons(e),
        level,
    )
    found, few = refine_small_counts(plain, cells.moments, block.shapes, level)
    return Comparison(found, lift(e, level), lift(e, 2 * level - 1), few)
