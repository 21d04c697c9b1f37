"""Cumulative looks at every metric and variant, with fixed and always-valid intervals, for the lift over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from experiments.evidence.beliefs import DECIDING, BlockBeliefs
from experiments.evidence.effects import Effects
from experiments.evidence.rows import nulls
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import Look

_BELIEFS: Final = {
    "posterior_lift": "lift",
    "hdi_lower": "hdi_lower",
    "hdi_upper": "hdi_upper",
    "chance_to_win": "chance_to_win",
    "expected_loss": "expected_loss",
    "expected_loss_of_not_shipping": "expected_loss_of_not_shipping",
}


def block_looks(
    plan: AnalysisPlan, block: BlockShapes, effects: Effects, believed: BlockBeliefs, at: Sequence[datetime]
) -> list[Look]:
    """The looks of one block; the cells of `effects` and `believed` are (looks,). Looks with an empty arm are left out.

    What was believed at a look is shown for the metrics that decide.
    """
    counts = effects.units.tolist()
    lift, lower, upper = (nulls(a) for a in (effects.lift.value, effects.lift.ci_lower, effects.lift.ci_upper))
    av_lower, av_upper = nulls(effects.always.lower), nulls(effects.always.upper)
    shape = effects.lift.value.shape
    beliefs = {name: nulls(believed.of(attribute, shape)) for name, attribute in _BELIEFS.items()} if believed else {}
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
            **({name: found[i][v][m] for name, found in beliefs.items()} if metric.role in DECIDING else {}),
        )
        for m, metric in enumerate(block.metrics)
        for v, variant in enumerate(plan.variants[1:])
        for i, when in enumerate(at)
        if counts[i][0][m] and counts[i][v + 1][m]
    ]
