"""Relative lifts with intervals that respect the uncertainty of the baseline (METHODS A3).

With c the unadjusted control mean and d the (adjusted) difference, lift = d / |c|: its sign is the sign of the
difference, also for a negative baseline. How the interval is made depends on z = |c| / se(c) and on the signs:
log-delta when both means are positive by 10 standard errors, Fieller (1954) for 3 <= z < 10 or a weaker treatment mean,
and no relative statement below 3, because dividing by something that may be zero says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.difference import pair_reasons
from stats.estimate import Estimates
from stats.moments import Bools, Floats, safe_divide
from stats.reasons import Reason, Reasons, clear, first_reason

FIELLER_FROM = 3.0
LOG_DELTA_FROM = 10.0
FEW_DF = 1000.0
"""With fewer degrees of freedom intervals use Student's t where asked to; beyond it is the normal within 0.12 %."""


@dataclass(frozen=True, slots=True, eq=False)
class Lifts:
    """Lift of each treatment over control, arrays (..., V-1, M); lifts are fractions (0.031 is +3.1 %).

    `log_value` and `log_standard_error` (natural log of treatment over control) exist where both means are positive
    and the lift is estimable, nan elsewhere. `interval_kind` is 'log_delta', 'fieller' or 'none'. `baseline_z` is
    |control mean| / its standard error (0 where neither exists, inf for a constant non-zero control).
    """

    value: Floats
    standard_error: Floats
    ci_lower: Floats
    ci_upper: Floats
    ci_level: float
    interval_kind: Reasons
    log_value: Floats
    log_standard_error: Floats
    estimable: Bools
    reason: Reasons
    baseline_z: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """c, d and their second moments; (..., V-1, M), or broadcast to it."""

    control: Floats
    change: Floats
    v_control: Floats
    v_change: Floats
    covariance: Floats


def _parts(estimates: Estimates) -> _Parts:
    """The pooled covariate mean cancels in the difference, so only the arms' own parts matter."""
    return _Parts(
        control=estimates.unadjusted[..., :1, :],
        change=estimates.value[..., 1:, :] - estimates.value[..., :1, :],
        v_control=estimates.raw_variance[..., :1, :],
        v_change=estimates.variance[..., 1:, :] + estimates.variance[..., :1, :],
        covariance=estimates.control_covariance,
    )


def lift(estimates: Estimates, level: float = 0.95, df: Floats | None = None) -> Lifts:
    """Relative lift of every treatment in every cell, with the interval that its baseline allows.

    With `df` (..., V-1, M), the degrees of freedom of the differences, intervals use the t quantile where those are
    few: with ten units in an arm the normal one covers 90 % instead of 95 %. Standard errors stay what they are.
    """
    return _lift(_parts(estimates), pair_reasons(estimates), level, df)


def freedom_of_lifts(df: Floats) -> Floats:
    """The degrees of freedom that an interval of `lift` with this `df` has: infinite where it is normal."""
    return np.where(np.asarray(df) < FEW_DF, df, np.inf)


def lift_from(
    control: Floats,
    change: Floats,
    v_control: Floats,
    v_change: Floats,
    covariance: Floats,
    reason: Reasons,
    level: float = 0.95,
) -> Lifts:
    """The same from any control mean, difference, their variances and `covariance` between the two.

    All broadcast to the shape (..., V-1, M) of `change`. Elements with a non-empty `reason` have no lift; their numbers
    may be nan.
    """
    return _lift(_Parts(control, change, v_control, v_change, covariance), reason, level)


def _quantile(level: float, df: Floats | None) -> float | Floats:
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    z = float(sc.ndtri(0.5 + level / 2))
    if df is None or not (few := df < FEW_DF).any():
        return z
    quantile = np.full(df.shape, z)
    quantile[few] = sc.stdtrit(df[few], 0.5 + level / 2)
    return quantile


def _lift(given: _Parts, blocked: Reasons, level: float, df: Floats | None = None) -> Lifts:
    z = _quantile(level, df)
    free = clear(blocked)
    parts = given if free.all() else _without_blocked(given, free)
    c, d = parts.control, parts.change
    se_c = np.sqrt(parts.v_control)
    if (se_c > 0).all():
        baseline_z = np.abs(c) / se_c
    else:
        baseline_z = np.where(c == 0, 0.0, np.where(se_c > 0, safe_divide(np.abs(c), se_c), np.inf))
    # The second condition only bites at levels beyond 99.7 %, where 3 standard errors leave the set unbounded.
    weak = (baseline_z < FIELLER_FROM) | (baseline_z <= z)
    safe_c = np.where(weak, 1.0, c) if weak.any() else c
    relative = d / safe_c
    variance = parts.v_change + relative * (relative * parts.v_control - 2 * parts.covariance)
    # A treatment arm in which everybody has 0 divides to exactly -100 %, whatever the control: no interval can be had.
    certain = variance <= 0
    estimable = free & ~(weak | certain)
    everywhere = bool(estimable.all())
    reason = blocked
    if not everywhere:
        reason = first_reason(
            free.shape,
            (free & weak, Reason.BASELINE_NOT_DISTINGUISHABLE_FROM_ZERO),
            (free & certain, Reason.ZERO_VARIANCE),
        )
        reason = np.where(free, reason, blocked)
    size = np.abs(safe_c)
    se = np.sqrt(variance if everywhere else np.maximum(variance, 0.0))

    top = c + d
    v_top = parts.v_change + parts.v_control + 2 * parts.covariance
    positive = estimable & (c > 0) & (top > 0)
    by_log = positive & (baseline_z >= LOG_DELTA_FROM) & (top * np.abs(top) >= LOG_DELTA_FROM**2 * v_top)
    always_log = bool(by_log.all())
    always_positive = always_log or bool(positive.all())
    log_value = np.log1p(relative if always_positive else np.where(positive, relative, 0.0))
    log_se = se / (top if always_positive else np.where(positive, top, 1.0))
    half = z * log_se
    if always_log:
        ci_lower, ci_upper = np.expm1(log_value - half), np.expm1(log_value + half)
    else:
        low, high = _fieller(parts, d, safe_c, z)
        flip = safe_c < 0
        half = np.where(by_log, half, 0.0)
        ci_lower = np.where(by_log, np.expm1(log_value - half), np.where(flip, -high, low))
        ci_upper = np.where(by_log, np.expm1(log_value + half), np.where(flip, -low, high))

    def shown(numbers: Floats, everything: bool = everywhere, where: Bools = estimable) -> Floats:
        return numbers if everything else np.where(where, numbers, np.nan)

    return Lifts(
        value=shown(d / size),
        standard_error=shown(se / size),
        ci_lower=shown(ci_lower),
        ci_upper=shown(ci_upper),
        ci_level=level,
        interval_kind=first_reason(d.shape, (by_log, "log_delta"), (estimable, "fieller"), (~estimable, "none")),
        log_value=shown(log_value, always_positive, positive),
        log_standard_error=shown(log_se, always_positive, positive),
        estimable=estimable,
        reason=reason,
        baseline_z=np.broadcast_to(baseline_z, d.shape),
    )


def _without_blocked(parts: _Parts, free: Bools) -> _Parts:
    """Blocked elements may hold anything; none of it is computed with, except a known control mean (`baseline_z`)."""
    return _Parts(
        np.broadcast_to(np.nan_to_num(parts.control), free.shape),
        np.where(free, parts.change, 0.0),
        np.broadcast_to(np.nan_to_num(parts.v_control), free.shape),
        np.where(free, parts.v_change, 1.0),
        np.where(free, parts.covariance, 0.0),
    )


def _fieller(parts: _Parts, d: Floats, c: Floats, z: float | Floats) -> tuple[Floats, Floats]:
    """Roots of the quadratic {r : (d - r c)^2 <= z^2 Var(d - r c)}; bounded because |c| > z se(c) where it is used."""
    square = c**2 - z**2 * parts.v_control
    bounded = square > 0
    half = d * c - z**2 * parts.covariance
    rest = d**2 - z**2 * parts.v_change
    root = np.sqrt(np.maximum(half**2 - square * rest, 0.0))
    divisor = np.where(bounded, square, 1.0)
    return (half - root) / divisor, (half + root) / divisor


def log_lift_covariance(estimates: Estimates) -> Floats:
    """(..., V-1, M, M) covariance of the log lifts of all metrics, arm by arm (METHODS E2).

    Metrics measured on the same units move together; a metric tree needs this, not the separate standard errors. Rows
    and columns of metrics whose log lift is undefined (see `Lifts.log_value`) are nan.
    """
    control, treatment = log_lift_gradients(estimates)
    middle = estimates.mean_covariance
    shared = control @ middle[..., :1, :, :] @ np.swapaxes(control, -1, -2)
    own = treatment @ middle[..., 1:, :, :] @ np.swapaxes(treatment, -1, -2)
    defined = np.isfinite(lift(estimates).log_value)
    both = defined[..., :, None] & defined[..., None, :]
    return np.where(both, shared + own, np.nan)


def log_lift_gradients(estimates: Estimates) -> tuple[Floats, Floats]:
    """Influence rows of the log lifts on the control and treatment column means, both (..., V-1, M, k).

    log lift = ln((c + d) / c) with c unadjusted and d adjusted; rows are zero where c or c + d is not positive.
    """
    parts = _parts(estimates)
    top = np.nan_to_num(parts.control + parts.change)
    c = np.broadcast_to(np.nan_to_num(parts.control), top.shape)
    defined = ((c > 0) & (top > 0))[..., None]
    per_top = np.where(defined, safe_divide(1.0, top)[..., None], 0.0)
    per_control = np.where(defined, safe_divide(1.0, c)[..., None], 0.0)
    treatment = estimates.residual_gradient[..., 1:, :, :] * per_top
    raw, residual = estimates.gradient[..., :1, :, :], estimates.residual_gradient[..., :1, :, :]
    return raw * (per_top - per_control) - residual * per_top, treatment
