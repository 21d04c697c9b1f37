"""All steps of a funnel: who gets to each, and who goes on from one to the next (METHODS A2, A4).

Shares of the arms have Wilson's score interval (1927), which holds at 0 of n and n of n; of clusters that of as many
units as would be as precise, with t for the normal distribution. What the treatment did is estimated like the metric
itself; a step's share of the step before is a ratio (A4) without covariates, and Newcombe's interval judges its
difference where fewer than ten go on, or do not, or so few took the step before that ratios are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.special as sc

from experiments.evidence.shapes import BlockShapes
from experiments.evidence.twins import Twins, twins_of
from experiments.plan import AnalysisPlan
from experiments.result import FunnelStepEffect, StepShare
from experiments.types import finite
from stats.estimate import MetricShape
from stats.moment_set import MomentSet
from stats.proportion import SMALL_COUNT, newcombe, wilson
from stats.reasons import Reason

ALMOST_CERTAIN = 1 - 1e-12
"""t with one degree of freedom is so wide that rounding would make a certainty of it."""


def funnel_effects(
    plan: AnalysisPlan, block: BlockShapes, data: MomentSet
) -> dict[tuple[int, int], list[FunnelStepEffect]]:
    """By position of the funnel and of the treatment."""
    places: list[tuple[int, int, bool]] = []
    shapes: list[MetricShape] = []
    for m, columns in block.steps.items():
        for step in range(len(columns)):
            places.append((m, step, False))
            shapes.append(_reached(block, m, step))
            if step and not (step == 1 and _of_first(block, m)):
                places.append((m, step, True))
                shapes.append(_passed(block.shapes[m], columns[step], columns[step - 1]))
    if not shapes:
        return {}
    twins = twins_of(plan, block, data, tuple(shapes))
    level = plan.estimation.ci_level
    found: dict[tuple[int, int], list[FunnelStepEffect]] = {}
    for v in range(len(plan.variants) - 1):
        shares = {
            place: _share(block, data, twins, shape, at, v, level, exact=place[2])
            for at, (place, shape) in enumerate(zip(places, shapes, strict=True))
        }
        for m in block.steps:
            found[m, v] = [
                FunnelStepEffect(
                    step=i + 1,
                    name=step.name or step.measure.fact_source,
                    of="first_step" if i and _of_first(block, m) else "units",
                    reached=shares[m, i, False],
                    # Of those who took the first step both shares are the same.
                    passed=shares.get((m, i, True), shares[m, i, False]) if i else None,
                )
                for i, step in enumerate(block.metrics[m].spec.steps)
            ]
    return found


def _of_first(block: BlockShapes, m: int) -> bool:
    return block.metrics[m].spec.funnel_of == "first_step"


def _reached(block: BlockShapes, m: int, step: int) -> MetricShape:
    shape, columns = block.shapes[m], block.steps[m]
    if step and _of_first(block, m):
        return replace(shape, value=columns[step], denominator=columns[0])
    if block.cluster_size is not None:
        return replace(shape, kind="ratio", value=columns[step], denominator=block.cluster_size)
    return replace(shape, kind="proportion", value=columns[step], denominator=None)


def _passed(shape: MetricShape, column: int, before: int) -> MetricShape:
    return replace(shape, kind="ratio", value=column, denominator=before, covariates=(), indicators=())


def _share(
    block: BlockShapes, data: MomentSet, twins: Twins, shape: MetricShape, at: int, v: int, level: float, *, exact: bool
) -> StepShare:
    """The share `at` of the twins, of treatment `v` against control; `exact`: small counts are judged by Newcombe."""
    control, treatment = (_interval(block, data, twins, shape, at, arm, level) for arm in (0, v + 1))
    change, lift = twins.difference, twins.lift
    difference = change.value[v, at], change.ci_lower[v, at], change.ci_upper[v, at]
    reason = str(change.reason[v, at]) or str(lift.reason[v, at])
    counts = [_counts(block, data, shape, arm) for arm in (v + 1, 0)]
    refused = bool(change.reason[v, at] == Reason.DENOMINATOR_NEAR_ZERO)
    exact &= block.cluster_size is None and not twins.arms.stratified[0, at] and all(n >= 1 for _, n in counts)
    if exact and (refused or _small(counts)):
        (x_t, n_t), (x_c, n_c) = counts
        low, high = newcombe(x_t, n_t, x_c, n_c, level=level)
        difference = x_t / n_t - x_c / n_c, float(low), float(high)
        reason = str(lift.reason[v, at])
    return StepShare(
        control=control[0],
        control_lower=control[1],
        control_upper=control[2],
        treatment=treatment[0],
        treatment_lower=treatment[1],
        treatment_upper=treatment[2],
        difference=finite(difference[0]),
        difference_ci_lower=finite(difference[1]),
        difference_ci_upper=finite(difference[2]),
        lift=finite(lift.value[v, at]),
        ci_lower=finite(lift.ci_lower[v, at]),
        ci_upper=finite(lift.ci_upper[v, at]),
        reason=reason or None,
    )


def _small(counts: Sequence[tuple[float, float]]) -> bool:
    return any(min(x, n - x) < SMALL_COUNT for x, n in counts)


def _counts(block: BlockShapes, data: MomentSet, shape: MetricShape, arm: int) -> tuple[float, float]:
    """How many, of how many: whole numbers where units are units."""
    n, mean = float(data.last.count[arm]), data.last.mean[arm]
    of = n if shape.denominator is None else n * float(mean[shape.denominator])
    return float(np.rint(n * float(mean[shape.value]))), float(np.rint(of))


def _interval(
    block: BlockShapes, data: MomentSet, twins: Twins, shape: MetricShape, at: int, arm: int, level: float
) -> tuple[float | None, float | None, float | None]:
    """A share with its score interval; None thrice where nobody could take the step."""
    x, n = _counts(block, data, shape, arm)
    if n < 1 or set(shape.columns) & block.invalid.keys():
        return None, None, None
    share = x / n
    if block.cluster_size is not None:
        clusters, variance = float(data.last.count[arm]), float(twins.arms.estimates.raw_variance[0, arm, at])
        if clusters < 2:
            return share, None, None
        # Where all clusters are alike there is no variance to go by: they count as one unit each.
        n = share * (1 - share) / variance if 0 < share < 1 and variance > 0 else clusters
        freedom = float(twins.arms.estimates.arm_freedom[0, arm, at])
        level = 2 * float(sc.ndtr(sc.stdtrit(max(freedom, 1.0), 0.5 + level / 2))) - 1
        level = min(level, ALMOST_CERTAIN)
    low, high = wilson(share * n, n, level)
    return share, float(low), float(high)
