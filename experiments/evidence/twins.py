"""Further shapes of the metrics of a block, estimated like the metrics themselves, of everybody at the last look."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.evidence.arms import Arms, arm_estimates
from experiments.evidence.cells import everybody_cells
from experiments.evidence.comparisons import compare
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from stats.difference import Differences
from stats.estimate import MetricShape
from stats.lift import Lifts
from stats.moment_set import MomentSet


@dataclass(frozen=True, slots=True, eq=False)
class Twins:
    """`arms` with one cell, (1, V, T); `difference` and `lift` of that cell, (V-1, T), at the plan's level."""

    arms: Arms
    difference: Differences
    lift: Lifts


def twins_of(plan: AnalysisPlan, block: BlockShapes, data: MomentSet, shapes: tuple[MetricShape, ...]) -> Twins:
    """Estimates of `shapes` over the block's columns."""
    cells = everybody_cells(data)
    twins = replace(block, shapes=shapes, quantiles=(), uncapped={}, parts={}, steps={})
    arms = arm_estimates(plan, twins, cells)
    compared = compare(plan, twins, cells, arms)
    return Twins(arms, _only_cell(compared.difference), _only_cell(compared.lift))


def _only_cell[T: (Differences, Lifts)](found: T) -> T:
    arrays: dict[str, Any] = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return replace(found, **{name: array[0] for name, array in arrays.items() if np.ndim(array)})
