"""Cumulative looks at every metric and variant, with fixed and always-valid intervals, for the lift over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from experiments.evidence.effects import Effects
from experiments.evidence.rows import nulls
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Look


def block_looks(plan: AnalysisPlan, block: BlockShapes, effects: Effects, at: Sequence[datetime]) -> list[Look]:
    """The looks of one block; the cells of `effects` are (looks,). Looks with an empty arm are left out."""
    counts = effects.units.tolist()
    lift, lower, upper = (nulls(a) for a in (effects.lift.value, effects.lift.ci_lower, effects.lift.ci_upper))
    av_lower, av_upper = nulls(effects.always.lower), nulls(effects.always.upper)
    return [
        Look(
            metric_key=metric.metric_key,
            variant_key=variant.key,
            at=when,
            n=counts[i][0][m] + counts[i][v + 1][m],
            lift=lift[i][v][m],
            ci_lower=lower[i][v][m],
            ci_upper=upper[i][v][m],
            always_valid_lower=av_lower[i][v][m],
            always_valid_upper=av_upper[i][v][m],
        )
        for m, metric in enumerate(block.metrics)
        for v, variant in enumerate(plan.variants[1:])
        for i, when in enumerate(at)
        if counts[i][0][m] and counts[i][v + 1][m]
    ]
