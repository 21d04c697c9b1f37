"""Harm, non-inferiority and equivalence of treatments, at the interval that may be read now (METHODS A10, A11, B1).

All are one-sided tests with error 1 - ci_level: by the fixed-horizon bounds at the last look, by always-valid bounds
before. A margin is a relative change, so on the log scale the bad direction ends at log(1 - margin) for metrics that
should increase and at log(1 + margin) for those that should decrease.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.definitions import Direction
from experiments.evidence.effects import Effects
from experiments.evidence.rows import RowDraft, nulls
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.verdict import Situation
from stats import always_valid
from stats.equivalence import log_margin, non_inferiority
from stats.lift import freedom_of_lifts


def add_safety(
    plan: AnalysisPlan,
    block: BlockShapes,
    effects: Effects,
    drafts: Sequence[RowDraft],
    situation: Situation,
) -> None:
    """Add these numbers to the drafts of a block's rows (by metric, cell, variant) about everybody."""
    av, cells = effects.always, len(effects.lift.value)
    harm = [nulls(array[0]) for array in (av.p_decrease, av.p_increase)]
    low, high = (effects.safe.ci_lower, effects.safe.ci_upper)
    if situation.margins == "always_valid":
        low, high = av.safe_lower, av.safe_upper
    treatments = len(plan.variants) - 1
    safe_p = [_non_inferiority(block, metric, effects, m, situation) for m, metric in enumerate(block.metrics)]
    for m, metric in enumerate(block.metrics):
        for v in range(treatments):
            place = m * cells * treatments + v
            update: dict[str, Any] = {"harm_p_value": harm[metric.direction is Direction.DECREASE][v][m]}
            safe = safe_p[m]
            if safe is not None:
                update["non_inferiority_p_value"] = safe[v]
            if metric.mde is not None and situation.deciding:
                update["equivalent"] = within(metric.mde, float(low[0, v, m]), float(high[0, v, m]))
            drafts[place].update(update)


def _non_inferiority(
    block: BlockShapes, metric: PlannedMetric, effects: Effects, m: int, situation: Situation
) -> list[Any] | None:
    """(V-1) p-values of everybody where log lifts carry the interval; they invert the bounds of `non_inferior`."""
    sign, margin = (1 if metric.direction is Direction.INCREASE else -1), metric.non_inferiority_margin
    if margin is None or (sign > 0 and margin >= 1):
        return None
    lifts, av = effects.lift, effects.always
    by_log = lifts.interval_kind[0, :, m] == "log_delta"
    value = np.where(by_log, lifts.log_value[0, :, m], np.nan)
    error = np.where(by_log, lifts.log_standard_error[0, :, m], np.nan)
    room = float(log_margin(margin, sign))
    if situation.margins == "fixed":
        df = np.inf if block.cluster_size is not None else freedom_of_lifts(effects.difference.df[0, :, m])
        found: list[Any] = nulls(non_inferiority(value, error, df, room, sign))
        return found
    alpha = 1 - lifts.ci_level
    # Units as parts of the planned ones, which is all that the bound depends on.
    part = av.weight[0, :, m] / always_valid.tuned_rho2(1.0, alpha)
    moved = np.where(av.begun[0, :, m], value + sign * room, np.nan)
    found = nulls(always_valid.one_sided(moved, error**2, part, 1.0, alpha, direction=sign).p_value)
    return found


def within(margin: float, lower: float, upper: float) -> bool | None:
    """Equivalence by two one-sided tests (Schuirmann 1987): None without bounds."""
    if not (np.isfinite(lower) and np.isfinite(upper)):
        return None
    return -margin < lower and upper < margin
