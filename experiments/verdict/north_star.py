"""What a change of a metric is worth in shares of the North Star, through the tree (METHODS E1, H3)."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.plan import AnalysisPlan
from experiments.result import NorthStarEffect


def north_star_share(
    plan: AnalysisPlan, impact: Sequence[NorthStarEffect], metric_key: str, variant_key: str
) -> float | None:
    """The North Star's log lift per log lift of the metric: 1 for itself, the size of the elasticity for an input.

    None where the link is not known: no North Star, a metric outside its tree, a driver whose pass-through is not
    proven, or an elasticity that could not be estimated.
    """
    if plan.north_star is None:
        return None
    if metric_key == plan.north_star.spec.metric_key:
        return 1.0
    for effect in impact:
        if effect.variant_key != variant_key:
            continue
        for item in effect.inputs:
            if item.metric_key == metric_key and item.edge == "definitional" and item.elasticity:
                return abs(item.elasticity)
    return None
