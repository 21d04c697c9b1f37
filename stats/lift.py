"""Relative lifts with intervals that respect the uncertainty of the baseline (METHODS A3).

With c the unadjusted control mean and d the (adjusted) difference, lift = d / |c|: its sign is the sign of the
difference, also for a negative baseline. How the interval is made depends on z = |c| / se(c) and on the signs:
log-delta when z >= 10 and both means are clearly positive, Fieller (1954) for 3 <= z < 10 or when a sign is ambiguous,
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
    """c, d and their second moments; (..., V-1, M)."""

    control: Floats
    change: Floats
    v_control: Floats
    v_change: Floats
    covariance: Floats


def _parts(estimates: Estimates) -> _Parts:
    """The pooled covariate mean cancels in the difference, so only the arms' own parts matter."""
    change = estimates.value[..., 1:, :] - estimates.value[..., :1, :]
    return _Parts(
        control=np.broadcast_to(estimates.unadjusted[..., :1, :], change.shape),
        change=change,
        v_control=np.broadcast_to(estimates.raw_variance[..., :1, :], change.shape),
        v_change=estimates.variance[..., 1:, :] + estimates.variance[..., :1, :],
        covariance=np.broadcast_to(-estimates.cross[..., :1, :], change.shape),
    )


def lift(estimates: Estimates, level: float = 0.95) -> Lifts:
    """Relative lift of every treatment in every cell, with the interval that its baseline allows."""
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    z = float(sc.ndtri(0.5 + level / 2))
    parts = _parts(estimates)
    blocked = pair_reasons(estimates)
    c, d = np.nan_to_num(parts.control), np.nan_to_num(parts.change)
    se_c = np.sqrt(parts.v_control)
    baseline_z = np.where(c == 0, 0.0, np.where(se_c > 0, safe_divide(np.abs(c), se_c), np.inf))
    # The second condition only bites at levels beyond 99.7 %, where 3 standard errors leave the set unbounded.
    weak = (baseline_z < FIELLER_FROM) | (baseline_z <= z)
    safe_c = np.where(clear(blocked) & ~weak, c, 1.0)
    relative = d / safe_c
    variance = parts.v_change + relative**2 * parts.v_control - 2 * relative * parts.covariance
    # A treatment arm in which everybody has 0 divides to exactly -100 %, whatever the control: no interval can be had.
    certain = variance <= 0
    reason = first_reason(
        blocked.shape,
        (clear(blocked) & weak, str(Reason.BASELINE_NOT_DISTINGUISHABLE_FROM_ZERO)),
        (clear(blocked) & certain, str(Reason.ZERO_VARIANCE)),
    )
    reason = np.where(clear(blocked), reason, blocked)
    estimable = clear(reason)

    top = c + d
    v_top = np.maximum(parts.v_change + parts.v_control + 2 * parts.covariance, 0.0)
    positive = estimable & (c > 0) & (top > 0)
    clearly = top >= FIELLER_FROM * np.sqrt(v_top)
    by_log = positive & clearly & (baseline_z >= LOG_DELTA_FROM)
    value = d / np.abs(safe_c)

    log_value = np.log1p(np.where(positive, relative, 0.0))
    log_se = np.sqrt(np.maximum(variance, 0.0)) / np.where(positive, top, 1.0)
    low, high = _fieller(parts, d, safe_c, z)
    flip = safe_c < 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    half = np.where(by_log, z * log_se, 0.0)
    ci_lower = np.where(by_log, np.expm1(log_value - half), low)
    ci_upper = np.where(by_log, np.expm1(log_value + half), high)

    def shown(numbers: Floats, where: Bools = estimable) -> Floats:
        return np.where(where, numbers, np.nan)

    return Lifts(
        value=shown(value),
        standard_error=shown(np.sqrt(np.maximum(variance, 0.0)) / np.abs(safe_c)),
        ci_lower=shown(ci_lower),
        ci_upper=shown(ci_upper),
        ci_level=level,
        interval_kind=first_reason(value.shape, (by_log, "log_delta"), (estimable, "fieller"), (~estimable, "none")),
        log_value=shown(log_value, positive),
        log_standard_error=shown(log_se, positive),
        estimable=estimable,
        reason=reason,
        baseline_z=baseline_z,
    )


def _fieller(parts: _Parts, d: Floats, c: Floats, z: float) -> tuple[Floats, Floats]:
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
    c, top = np.nan_to_num(parts.control), np.nan_to_num(parts.control + parts.change)
    defined = ((c > 0) & (top > 0))[..., None]
    per_top = np.where(defined, safe_divide(1.0, top)[..., None], 0.0)
    per_control = np.where(defined, safe_divide(1.0, c)[..., None], 0.0)
    treatment = estimates.residual_gradient[..., 1:, :, :] * per_top
    raw, residual = estimates.gradient[..., :1, :, :], estimates.residual_gradient[..., :1, :, :]
    return raw * (per_top - per_control) - residual * per_top, treatment
