"""Effects on the North Star and its inputs together, with the covariance that the shared units give them (E2, E9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.evidence.arms import joint_estimates
from experiments.evidence.contract import Block
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.result import JointEffects
from stats.lift import lift, log_lift_covariance


def joint_effects(plan: AnalysisPlan, blocks: Sequence[Block], shapes: Sequence[BlockShapes]) -> list[JointEffects]:
    """One entry per treatment whose log lifts are all estimable on the same units; the estimates are the tree's."""
    if plan.north_star is None or plan.purpose == "aa":
        return []
    spec = plan.north_star.spec
    keys = [spec.metric_key, *(item.metric_key for item in spec.input_metrics)]
    for block, known in zip(blocks, shapes, strict=True):
        positions = [position for key in keys if (position := known.position(key)) is not None]
        if len(positions) < len(keys):
            continue
        estimates = joint_estimates(known, block.moments, plan.estimation.cuped)
        value = lift(estimates).log_value[:, positions]
        spread = log_lift_covariance(estimates)[:, positions][:, :, positions]
        return [
            JointEffects(
                variant_key=variant.key,
                metric_keys=keys,
                log_lifts=value[v].tolist(),
                covariance=((spread[v] + spread[v].T) / 2).tolist(),
            )
            for v, variant in enumerate(plan.variants[1:])
            if np.isfinite(value[v]).all() and np.isfinite(spread[v]).all()
        ]
    return []
