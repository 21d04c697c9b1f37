"""Everything that can be said about each treatment against control, for an array of cells (looks or segments).

One pass per block: estimate (A1, A4, A6, A7, A8), difference (A1, A2, A5), lift (A3) and always-valid intervals (B1)
for all variants and metrics together. Arrays are (..., V-1, M): cells, treatments, metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.definitions import Direction
from experiments.evidence.arms import Arms, arm_estimates
from experiments.evidence.cells import Cells, cells_over_time, current_cells
from experiments.evidence.comparisons import Comparison, compare
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from experiments.types import finite
from stats import always_valid
from stats.difference import Differences
from stats.estimate import Estimates
from stats.lift import LOG_DELTA_FROM, Lifts
from stats.moment_set import MomentSet
from stats.moments import Bools, Floats, Ints
from stats.skewness import difference_skewness, ratio_skewness


@dataclass(frozen=True, slots=True, eq=False)
class AlwaysValidLifts:
    """Always-valid bounds of the lift and evidence against "no effect"; nan where monitoring has not `begun`.

    Where the baseline is too weak for a relative statement the bounds are nan and p-values and `log_e` are those of the
    difference: "no effect" is the same hypothesis on any scale. `safe_lower` and `safe_upper` are one-sided bounds
    with error 1 - ci_level each: what a guardrail is held against. `p_increase` is the one-sided p-value of an effect
    above zero, `p_decrease` of one below. `log_e` is the natural log of the two-sided e-value (B5). `weight` is that of
    the data in the mixture, N rho^2.
    """

    lower: Floats
    upper: Floats
    p_value: Floats
    safe_lower: Floats
    safe_upper: Floats
    p_increase: Floats
    p_decrease: Floats
    log_e: Floats
    weight: Floats
    begun: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """One block's comparisons. The bounds of `safe` (fixed horizon) are one-sided with error 1 - ci_level each.

    `units` (..., V, M) stand behind each metric's estimates. How they were made: `few` (..., V-1, M) marks methods for
    small counts (A2), `stratified` and `jackknifed` (..., M) post-stratification (A8) and the jackknife (A4). `at`:
    the same with intervals at another level, for corrections (A11).
    """

    estimates: Estimates
    difference: Differences
    lift: Lifts
    safe: Lifts
    skewness: Floats
    always: AlwaysValidLifts
    units: Ints
    few: Bools
    stratified: Bools
    jackknifed: Bools
    at: Callable[[float], Comparison]


def current_effects(plan: AnalysisPlan, block: BlockShapes, data: MomentSet, planned: Floats) -> Effects:
    """Cells (1 + segments,): everybody at the last look first. `planned` as `planned_pairs` gives it."""
    return _effects(plan, block, current_cells(data), _planned(plan, block, data, planned))


def effects_over_time(plan: AnalysisPlan, block: BlockShapes, data: MomentSet, planned: Floats) -> Effects:
    """Cells (looks,): everybody, cumulative."""
    return _effects(plan, block, cells_over_time(data), _planned(plan, block, data, planned))


def _effects(plan: AnalysisPlan, block: BlockShapes, cells: Cells, planned: Floats) -> Effects:
    level = plan.estimation.ci_level
    arms = arm_estimates(plan, block, cells)
    compared = compare(plan, block, cells, arms)
    skewness = difference_skewness(cells.moments, block.shapes)
    if block.cluster_size is None:
        skewness = np.fmax(skewness, ratio_skewness(cells.moments, block.shapes))
    if not block.third_moments:
        skewness = np.full_like(skewness, np.nan)
    begun = _begun(arms, block, cells, skewness)
    pairs = _pair_units(block, cells)
    return Effects(
        estimates=arms.estimates,
        difference=compared.difference,
        lift=compared.lift,
        safe=compared.safe,
        skewness=skewness,
        always=_always_valid(compared, begun, pairs, planned, 1 - level),
        units=arms.units,
        few=compared.few,
        stratified=arms.stratified,
        jackknifed=arms.jackknifed,
        at=lambda other: compare(_with_level(plan, other), block, cells, arms),
    )


def _with_level(plan: AnalysisPlan, level: float) -> AnalysisPlan:
    return plan.model_copy(update={"estimation": plan.estimation.model_copy(update={"ci_level": level})})


def planned_pairs(plan: AnalysisPlan, observed_units: int) -> Floats:
    """(V-1,) planned units of each treatment with control; the observed units where the plan gives no size."""
    total = float(max(plan.planned_units or observed_units, 1))
    weights = np.array([variant.weight for variant in plan.variants])
    return np.asarray(total * (weights[1:] + weights[0]) / weights.sum())


def _planned(plan: AnalysisPlan, block: BlockShapes, data: MomentSet, planned: Floats) -> Floats:
    """The same; without a planned size, clusters are counted as the units they hold, like everywhere in B1."""
    if plan.planned_units is not None or block.cluster_size is None:
        return planned
    return planned_pairs(plan, round(float((data.last.mean[..., block.cluster_size] * data.last.count).sum())))


def _pair_units(block: BlockShapes, cells: Cells) -> Floats:
    """(..., V-1, 1) units of both arms: what the planned sample size counts, also where moments are of clusters."""
    units = cells.moments.count.astype(float)
    if block.cluster_size is not None:
        units *= np.maximum(cells.moments.mean[..., block.cluster_size], 0.0)
    return np.asarray(units[..., 1:] + units[..., :1])[..., None]


def _begun(arms: Arms, block: BlockShapes, cells: Cells, skewness: Floats) -> Bools:
    """Delayed start (B1): enough units, enough conversions (and failures) and little skew, in both arms of the pair."""
    moments = cells.moments
    conversions = np.full(arms.units.shape, np.inf)
    for m, shape in enumerate(block.shapes):
        if block.metrics[m].spec.estimated_as == "proportion":
            made = moments.mean[..., shape.value] * moments.count
            size = moments.count if shape.denominator is None else moments.mean[..., shape.denominator] * moments.count
            conversions[..., m] = np.minimum(made, size - made)
    pairs = [_pairs(array) for array in (arms.units.astype(float), conversions)]
    return always_valid.ready(pairs[0], skewness, pairs[1])


def _pairs(arms: Floats) -> Floats:
    """(..., V-1, M, 2): treatment and control of each pair."""
    treatment = arms[..., 1:, :]
    return np.stack([treatment, np.broadcast_to(arms[..., :1, :], treatment.shape)], axis=-1)


def _always_valid(compared: Comparison, begun: Bools, units: Floats, planned: Floats, alpha: float) -> AlwaysValidLifts:
    """On the log lift where it exists, else on the lift itself where the baseline is precise enough for that (A3)."""
    differences, lifts = compared.difference, compared.lift
    target = planned[:, None]
    by_log = np.isfinite(lifts.log_standard_error) & (lifts.interval_kind == "log_delta")
    linear = lifts.estimable & ~by_log & (lifts.baseline_z >= LOG_DELTA_FROM)
    relative = by_log | linear
    # Where nothing relative can be said, evidence against "no effect" comes from the difference.
    plain = np.where(linear, lifts.value, differences.value)
    plain_error = np.where(linear, lifts.standard_error, differences.standard_error)
    value = np.where(by_log, lifts.log_value, plain)
    error = np.where(by_log, lifts.log_standard_error, plain_error)
    variance = np.where(begun, error**2, np.nan)
    both = always_valid.two_sided(value, variance, units, target, alpha)
    below = always_valid.one_sided(value, variance, units, target, alpha, direction=1)
    above = always_valid.one_sided(value, variance, units, target, alpha, direction=-1)

    def shown(bound: Floats) -> Floats:
        return np.where(by_log, np.expm1(np.where(by_log, bound, 0.0)), np.where(relative, bound, np.nan))

    return AlwaysValidLifts(
        lower=shown(both.ci_lower),
        upper=shown(both.ci_upper),
        p_value=both.p_value,
        safe_lower=shown(below.ci_lower),
        safe_upper=shown(above.ci_upper),
        p_increase=below.p_value,
        p_decrease=above.p_value,
        log_e=both.log_e,
        weight=np.broadcast_to(units * always_valid.tuned_rho2(target, alpha), both.log_e.shape),
        begun=begun & differences.estimable,
    )


def stays_within(direction: Direction, margin: float, lower: float, upper: float) -> bool | None:
    """Non-inferiority (A10): does the one-sided bound rule out a harm of `margin`? None where there is no bound."""
    bound = finite(lower if direction is Direction.INCREASE else -upper)
    return None if bound is None else bound > -margin
