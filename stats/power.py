"""How many units, how small an effect, how many days: planning before the first exposure (METHODS A14).

Normal approximation with sigma the standard deviation of a unit's influence (mean, proportion, ratio and formula
alike) and R^2 what the covariate removes: se^2 = (1 - R^2) (sigma_T^2 / n_T + sigma_C^2 / n_C).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.accumulation import Accumulation, Unreachable
from stats.always_valid import multiplier, one_sided_multiplier
from stats.crossing import crossing
from stats.estimate import Estimates
from stats.group_sequential import SpendingDesign, boundaries, detectable_drift
from stats.moments import Bools, Floats, Ints, safe_divide
from stats.reasons import Reason, Reasons, clear, first_reason


class PlanReason(StrEnum):
    """Why a plan has no number of units."""

    EFFECT_IS_ZERO = "effect_is_zero"
    TOO_MANY_UNITS = "more_units_than_there_can_be"
    MARGIN_NOT_BEYOND_EFFECT = "anticipated_effect_exceeds_margin"


_PLAIN = SpendingDesign()
MOST_UNITS = 1e15


@dataclass(frozen=True, slots=True)
class Design:
    """What the test will be. `treatment_share` and `control_share` are parts of all units in the experiment.

    `comparisons` divides alpha (Bonferroni over success metrics and treatments). `sides` is 2, or 1 for
    non-inferiority. `monitoring` "always_valid" plans for the interval of `stats.always_valid` tuned at the result,
    "group_sequential" for the looks, spending and futility of `spending`, whose errors are replaced by these.
    """

    alpha: float = 0.05
    power: float = 0.8
    treatment_share: float = 0.5
    control_share: float = 0.5
    comparisons: int = 1
    sides: Literal[1, 2] = 2
    monitoring: Literal["fixed", "always_valid", "group_sequential"] = "fixed"
    spending: SpendingDesign = _PLAIN

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.power < 1):
            raise ValueError("alpha and power must be between 0 and 1")
        if not (self.treatment_share > 0 and self.control_share > 0):
            raise ValueError("both shares must be positive")
        if self.treatment_share + self.control_share > 1 + 1e-9:
            raise ValueError("the shares are parts of all units and cannot exceed 1 together")
        if self.comparisons < 1:
            raise ValueError("comparisons must be at least 1")

    @property
    def sequential(self) -> SpendingDesign:
        """The group-sequential design of one test."""
        return replace(self.spending, alpha=self.alpha / self.comparisons, power=self.power, sides=self.sides)

    @property
    def critical(self) -> float:
        """Standard errors an estimate must reach; for a group-sequential test those of one look with its power."""
        per_test = self.alpha / self.comparisons
        if self.monitoring == "group_sequential":
            return detectable_drift(self.sequential) - float(sc.ndtri(self.power))
        if self.monitoring == "always_valid":
            return float((multiplier if self.sides == 2 else one_sided_multiplier)(1.0, 1.0, per_test))
        return float(sc.ndtri(1 - per_test / self.sides))

    @property
    def signal(self) -> float:
        """True effect over standard error that gives the power asked for."""
        return self.critical + float(sc.ndtri(self.power))

    @property
    def inflation(self) -> float:
        """Units over those of a test with one look at the end and the same errors."""
        return (self.signal / replace(self, monitoring="fixed").signal) ** 2


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """What history says, arrays (..., M): `value`, influence `sd`, covariate `reduction` (R^2), `reason`."""

    value: Floats
    sd: Floats
    reduction: Floats
    reason: Reasons


def baseline(estimates: Estimates, arm: int = 0) -> Baseline:
    """Planning numbers from one arm of estimates (history without an experiment has a single arm)."""
    sd = np.sqrt(estimates.raw_variance[..., arm, :] * estimates.count[..., arm, None])
    return Baseline(estimates.unadjusted[..., arm, :], sd, estimates.variance_reduction, estimates.reason[..., arm, :])


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """`units` all together, `treatment` and `control` units; rounded up; 0 where `reason` is not ''."""

    units: Ints
    treatment: Ints
    control: Ints
    reason: Reasons


def _unit_variance(design: Design, sd: ArrayLike, reduction: ArrayLike, sd_treatment: ArrayLike | None) -> Floats:
    """Variance of the difference times all units."""
    control = np.asarray(sd, dtype=np.float64) ** 2
    treatment = control if sd_treatment is None else np.asarray(sd_treatment, dtype=np.float64) ** 2
    kept = 1 - np.asarray(reduction, dtype=np.float64)
    return kept * (treatment / design.treatment_share + control / design.control_share)


def required_units(
    design: Design,
    sd: ArrayLike,
    effect: ArrayLike,
    reduction: ArrayLike = 0.0,
    sd_treatment: ArrayLike | None = None,
) -> Size:
    """Units needed to detect an absolute `effect` (either sign) with the design's power; arguments broadcast."""
    size, per_unit = np.broadcast_arrays(
        np.abs(np.asarray(effect, dtype=np.float64)), _unit_variance(design, sd, reduction, sd_treatment)
    )
    reason = first_reason(size.shape, (~(size > 0), PlanReason.EFFECT_IS_ZERO), (~(per_unit > 0), Reason.ZERO_VARIANCE))
    return _sized(design, _needed(design.signal, per_unit, size), reason)


def non_inferiority_units(
    design: Design, sd: ArrayLike, margin: ArrayLike, anticipated: ArrayLike = 0.0, reduction: ArrayLike = 0.0
) -> Size:
    """Units needed to show that the harm is smaller than `margin` > 0 (absolute units, METHODS A10).

    `anticipated` is the expected effect in the good direction (negative if a small harm is expected). `design.sides`
    should be 1. If the anticipated harm is as large as the margin, no number of units will do.
    """
    room, per_unit = np.broadcast_arrays(
        np.asarray(margin, dtype=np.float64) + np.asarray(anticipated, dtype=np.float64),
        _unit_variance(design, sd, reduction, None),
    )
    reason = first_reason(
        room.shape, (~(room > 0), PlanReason.MARGIN_NOT_BEYOND_EFFECT), (~(per_unit > 0), Reason.ZERO_VARIANCE)
    )
    return _sized(design, _needed(design.signal, per_unit, room), reason)


def equivalence_units(
    design: Design, sd: ArrayLike, margin: ArrayLike, anticipated: ArrayLike = 0.0, reduction: ArrayLike = 0.0
) -> Size:
    """Units needed to show that the effect is within -/+ `margin` > 0 by two one-sided tests (METHODS A10).

    `anticipated` is the expected effect, zero if the change should do nothing. `design.sides` should be 1: each test
    has the whole alpha. Both must reject, so without an effect each gets the power 1 - (1 - power) / 2.
    """
    width, shift, per_unit = np.broadcast_arrays(
        np.asarray(margin, dtype=np.float64),
        np.abs(np.asarray(anticipated, dtype=np.float64)),
        _unit_variance(design, sd, reduction, None),
    )
    reason = first_reason(
        width.shape, (~(width > shift), PlanReason.MARGIN_NOT_BEYOND_EFFECT), (~(per_unit > 0), Reason.ZERO_VARIANCE)
    )
    both = replace(design, power=(1 + design.power) / 2)
    # Between the answers for a single test and for two equally hard ones; power grows with units in between.
    low, high = (
        np.where(clear(reason), safe_divide(d.signal, np.where(clear(reason), width - shift, 1.0)), 1.0)
        for d in (design, both)
    )
    for _ in range(60):
        middle = (low + high) / 2
        enough = equivalence_power(design, width, safe_divide(1.0, middle), shift) >= design.power
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return _sized(design, per_unit * high**2, reason)


def equivalence_power(
    design: Design, margin: ArrayLike, standard_error: ArrayLike, anticipated: ArrayLike = 0.0
) -> Floats:
    """Probability that both one-sided tests of equivalence reject, when the true effect is `anticipated`."""
    error, shift = np.asarray(standard_error, dtype=np.float64), np.asarray(anticipated, dtype=np.float64)
    width = np.asarray(margin, dtype=np.float64)
    one = replace(design, sides=1)
    missed = 2 - achieved_power(one, width - shift, error) - achieved_power(one, width + shift, error)
    return np.asarray(np.maximum(1 - missed, 0.0), dtype=np.float64)


def _needed(signal: float, per_unit: Floats, size: Floats) -> Floats:
    with np.errstate(over="ignore"):  # then it is refused as too many
        return (signal * safe_divide(np.sqrt(per_unit), size)) ** 2


def _sized(design: Design, units: Floats, reason: Reasons) -> Size:
    reason = np.where((reason == "") & ~(units < MOST_UNITS), PlanReason.TOO_MANY_UNITS, reason)

    # Each arm is rounded up by itself, so that neither falls short; the guard keeps 400.00000001 at 400.
    def up(numbers: Floats) -> Ints:
        return np.ceil(np.where(clear(reason), numbers, 0.0) * (1 - 1e-12)).astype(np.int64)

    treatment, control = up(units * design.treatment_share), up(units * design.control_share)
    both = design.treatment_share + design.control_share
    everyone = treatment + control if both > 1 - 1e-9 else np.maximum(up(units), treatment + control)
    return Size(np.asarray(everyone), treatment, control, reason)


def minimum_detectable_effect(design: Design, sd: ArrayLike, units: ArrayLike, reduction: ArrayLike = 0.0) -> Floats:
    """Absolute effect detected with the design's power from `units` in all arms together; nan where there are none."""
    n = np.asarray(units, dtype=np.float64)
    per_unit, total = np.broadcast_arrays(_unit_variance(design, sd, reduction, None), n)
    return np.where(total > 0, design.signal * np.sqrt(per_unit / np.where(total > 0, total, 1.0)), np.nan)


def achieved_power(
    design: Design, effect: ArrayLike, standard_error: ArrayLike, critical: ArrayLike | None = None
) -> Floats:
    """Probability of a significant result, in either direction if two-sided, when the true effect is `effect`.

    `standard_error` is that of the end; a group-sequential test may have stopped before, by the power of all its looks
    (in the direction of the effect). `critical` overrides the design's: standard errors an estimate must reach (an
    interim look has its own). 0 where there is no standard error yet (inf).
    """
    z = np.asarray(effect, dtype=np.float64) / np.asarray(standard_error, dtype=np.float64)
    if design.monitoring == "group_sequential" and critical is None:
        return _power_of_looks(design.sequential, np.abs(z) if design.sides == 2 else z)
    needed = np.asarray(design.critical if critical is None else critical, dtype=np.float64)
    right = sc.ndtr(z - needed)
    return np.asarray(right + sc.ndtr(-z - needed) if design.sides == 2 else right, dtype=np.float64)


def _power_of_looks(design: SpendingDesign, drift: Floats) -> Floats:
    """Probability to cross the upper bound at some look, for drifts of any shape; 1 above the range of the grid."""
    bounds = boundaries(design, design.planned)
    lower = np.where(np.isnan(bounds.futility), -np.inf, bounds.futility)
    flat = np.clip(np.atleast_1d(drift).ravel(), -8.0, 20.0)
    paths = crossing(design.planned, bounds.upper.tolist(), lower.tolist(), (-8.0, 20.0))
    power = np.array([paths.above(float(d)).sum() for d in flat])
    return np.asarray(np.minimum(power, 1.0).reshape(np.shape(drift)), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A curve for one metric: at each of `days` (D,) the `units` so far, what can be seen, and how likely.

    `mde` absolute, `mde_lift` as a fraction of the baseline (nan where the baseline is zero), `power` to detect the
    target effect. `days_needed` is None, with `reason`, where the target is out of reach.
    """

    days: Floats
    units: Floats
    mde: Floats
    mde_lift: Floats
    power: Floats
    units_needed: int | None
    days_needed: float | None
    reason: str


def plan(
    design: Design,
    traffic: Accumulation,
    *,
    value: float,
    sd: float,
    effect: float,
    reduction: float = 0.0,
    days: ArrayLike | None = None,
) -> Plan:
    """Units and days to detect the absolute `effect` of a metric with baseline `value`, and the curve over `days`."""
    grid = np.arange(1.0, 85.0) if days is None else np.asarray(days, dtype=np.float64)
    units = traffic.units_at(grid)
    mde = minimum_detectable_effect(design, sd, units, reduction)
    per_unit = _unit_variance(design, sd, reduction, None)
    seen: Bools = (units > 0) & (per_unit > 0)
    error = np.sqrt(np.where(seen, per_unit / np.where(units > 0, units, 1.0), 1.0))
    power = np.where(seen, achieved_power(design, abs(effect), error), 0.0)
    size = required_units(design, sd, effect, reduction)
    reason, needed = str(size.reason[()]), int(size.units)
    days_needed: float | None = None
    if not reason:
        reached = traffic.days_to_reach(needed)
        days_needed, reason = (None, str(reached)) if isinstance(reached, Unreachable) else (reached, "")
    return Plan(
        days=grid,
        units=units,
        mde=mde,
        mde_lift=mde / abs(value) if value else np.full(grid.shape, np.nan),
        power=power,
        units_needed=needed or None,
        days_needed=days_needed,
        reason=reason,
    )
