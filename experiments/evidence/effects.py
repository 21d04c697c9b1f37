"""Everything that can be said about each treatment against control, for an array of cells (looks or segments).

One pass per block: estimate (A1, A4, A7), difference (A1), lift (A3) and always-valid intervals (B1) for all variants
and metrics together. Arrays are (..., V-1, M): cells, treatments, metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.definitions import Direction
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.types import finite
from stats import always_valid
from stats.difference import Differences, difference
from stats.estimate import Estimates, MetricShape, estimate
from stats.lift import LOG_DELTA_FROM, Lifts, lift
from stats.moments import Bools, Floats, Moments
from stats.skewness import difference_skewness


@dataclass(frozen=True, slots=True, eq=False)
class AlwaysValidLifts:
    """Always-valid bounds of the lift and the p-value of "no effect"; nan where monitoring has not `begun`.

    Where the baseline is too weak for a relative statement the bounds are nan and the p-value is that of the
    difference: "no effect" is the same hypothesis on any scale. `safe_lower` and `safe_upper` are one-sided bounds
    with error 1 - ci_level each: what a guardrail is held against.
    """

    lower: Floats
    upper: Floats
    p_value: Floats
    safe_lower: Floats
    safe_upper: Floats
    begun: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """One block's comparisons. The bounds of `safe` (fixed horizon) are one-sided with error 1 - ci_level each."""

    estimates: Estimates
    difference: Differences
    lift: Lifts
    safe: Lifts
    skewness: Floats
    always: AlwaysValidLifts


def effects(moments: Moments, block: BlockShapes, plan: AnalysisPlan, planned: Floats) -> Effects:
    """Compare every treatment with control in every cell. `planned` (V-1,) units of each pair at the planned end."""
    level = plan.estimation.ci_level
    estimates = estimate(moments, block.shapes, plan.estimation.cuped, block.invalid)
    differences, lifts = difference(estimates, level), lift(estimates, level)
    skewness = difference_skewness(moments, block.shapes)
    if not block.third_moments:
        skewness = np.full_like(skewness, np.nan)
    begun = _begun(moments, block.shapes, skewness)
    return Effects(
        estimates=estimates,
        difference=differences,
        lift=lifts,
        safe=lift(estimates, 2 * level - 1),
        skewness=skewness,
        always=_always_valid(estimates, differences, lifts, begun, planned, 1 - level),
    )


def planned_pairs(plan: AnalysisPlan, observed_units: int) -> Floats:
    """(V-1,) planned units of each treatment with control; the observed units where the plan gives no size."""
    total = float(max(plan.planned_units or observed_units, 1))
    weights = np.array([variant.weight for variant in plan.variants])
    return np.asarray(total * (weights[1:] + weights[0]) / weights.sum())


def _begun(moments: Moments, shapes: tuple[MetricShape, ...], skewness: Floats) -> Bools:
    """Delayed start (B1): enough units, enough conversions and little skew, in both arms of the pair."""
    count = moments.count[..., None].astype(float)
    conversions = np.full((*count.shape[:-1], len(shapes)), np.inf)
    for m, shape in enumerate(shapes):
        if shape.kind == "proportion":
            conversions[..., m] = moments.mean[..., shape.value] * moments.count
    pairs = [_pairs(np.broadcast_to(array, conversions.shape)) for array in (count, conversions)]
    return always_valid.ready(pairs[0], skewness, pairs[1])


def _pairs(arms: Floats) -> Floats:
    """(..., V-1, M, 2): treatment and control of each pair."""
    treatment = arms[..., 1:, :]
    return np.stack([treatment, np.broadcast_to(arms[..., :1, :], treatment.shape)], axis=-1)


def _always_valid(
    estimates: Estimates, differences: Differences, lifts: Lifts, begun: Bools, planned: Floats, alpha: float
) -> AlwaysValidLifts:
    """On the log lift where it exists, else on the lift itself where the baseline is precise enough for that (A3)."""
    units = (estimates.count[..., 1:] + estimates.count[..., :1])[..., None].astype(float)
    target = planned[:, None]
    by_log = np.isfinite(lifts.log_standard_error) & (lifts.interval_kind == "log_delta")
    linear = lifts.estimable & ~by_log & (lifts.baseline_z >= LOG_DELTA_FROM)
    value = np.where(by_log, lifts.log_value, lifts.value)
    error = np.where(by_log, lifts.log_standard_error, lifts.standard_error)
    usable = begun & (by_log | linear)
    variance = np.where(usable, error**2, np.nan)
    apart = differences.standard_error**2
    absolute = always_valid.two_sided(differences.value, np.where(begun, apart, np.nan), units, target, alpha)

    def shown(bound: Floats) -> Floats:
        return np.where(by_log, np.expm1(np.where(by_log, bound, 0.0)), bound)

    both = always_valid.two_sided(value, variance, units, target, alpha)
    below = always_valid.one_sided(value, variance, units, target, alpha, direction=1)
    above = always_valid.one_sided(value, variance, units, target, alpha, direction=-1)
    return AlwaysValidLifts(
        lower=shown(both.ci_lower),
        upper=shown(both.ci_upper),
        p_value=np.where(usable, both.p_value, absolute.p_value),
        safe_lower=shown(below.ci_lower),
        safe_upper=shown(above.ci_upper),
        begun=begun & differences.estimable,
    )


def stays_within(direction: Direction, margin: float, lower: float, upper: float) -> bool | None:
    """Non-inferiority (A10): does the one-sided bound rule out a harm of `margin`? None where there is no bound."""
    bound = finite(lower if direction is Direction.INCREASE else -upper)
    return None if bound is None else bound > -margin
