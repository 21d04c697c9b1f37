"""Intervals and p-values that stay valid however often one looks (METHODS B1: Robbins' normal mixture).

With V the squared standard error and N the units behind it, the mixing variance is tau^2 = rho^2 N V with one constant
rho (GAVI, asymptotic confidence sequence; Howard et al. 2021, Waudby-Smith et al. 2024). rho makes the interval
tightest at a planned number of units: set that from the pre-registered sample size, not from a global constant.
The guarantee is asymptotic, so monitoring starts late: see `ready`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.moments import Bools, Floats

MINIMUM_UNITS = 100
MINIMUM_CONVERSIONS = 25
MAXIMUM_SKEWNESS = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class AlwaysValid:
    """Arrays of the broadcast shape of the inputs. One-sided intervals have an infinite other end (never stored)."""

    ci_lower: Floats
    ci_upper: Floats
    p_value: Floats
    log_e: Floats


def tuned_rho2(planned_units: ArrayLike, alpha: float) -> Floats:
    """rho^2 that makes the two-sided interval tightest at `planned_units` (both arms together)."""
    if not 0 < alpha < 1:
        raise ValueError("alpha must be between 0 and 1")
    planned = np.asarray(planned_units, dtype=np.float64)
    if not (planned > 0).all():
        raise ValueError("planned units must be positive")
    evidence = -2 * np.log(alpha)
    return np.asarray((evidence + np.log1p(evidence)) / planned, dtype=np.float64)


def multiplier(units: ArrayLike, planned_units: ArrayLike, alpha: float = 0.05) -> Floats:
    """Half-width in standard errors of the two-sided interval: 3.04 at the planned units for alpha = 0.05."""
    r = np.asarray(units, dtype=np.float64) * tuned_rho2(planned_units, alpha)
    return np.asarray(np.sqrt((r + 1) / r * (np.log1p(r) - 2 * np.log(alpha))), dtype=np.float64)


def one_sided_multiplier(units: ArrayLike, planned_units: ArrayLike, alpha: float = 0.05) -> Floats:
    """Half-width in standard errors of a one-sided bound with error `alpha` (harm monitoring)."""
    r = np.asarray(units, dtype=np.float64) * tuned_rho2(planned_units, min(2 * alpha, 0.999))
    return np.asarray(np.sqrt(2 * (r + 1) / r * np.log1p(np.sqrt(r + 1) / (2 * alpha))), dtype=np.float64)


def widened(weight: ArrayLike, alpha: float, share: float) -> Floats:
    """Factor by which the two-sided interval for `alpha` grows when its error may only be `share` of alpha.

    `weight` is N rho^2 of the mixture, which stays the one tuned for `alpha`: corrected intervals then exclude zero
    exactly when the p-value is at most `share` alpha (METHODS A11, B1).
    """
    if not 0 < share <= 1:
        raise ValueError("share must be above 0 and at most 1")
    evidence = np.log1p(np.asarray(weight, dtype=np.float64)) - 2 * np.log(alpha)
    return np.asarray(np.sqrt((evidence - 2 * np.log(share)) / evidence), dtype=np.float64)


def two_sided(
    estimate: ArrayLike, variance: ArrayLike, units: ArrayLike, planned_units: ArrayLike, alpha: float = 0.05
) -> AlwaysValid:
    """Interval with error `alpha` over all looks, and the p-value of "no effect" at this look.

    `estimate` and its sampling `variance` may be of any asymptotically normal estimator (difference or log lift, with
    or without covariates); `units` of both arms now, `planned_units` of both arms at the planned end. Elements with
    zero or nan variance, or no units, come out nan.
    """
    value, v, n = (np.asarray(a, dtype=np.float64) for a in (estimate, variance, units))
    usable = (v > 0) & (n > 0) & np.isfinite(value)
    safe_n, safe_v = np.where(usable, n, 1.0), np.where(usable, v, 1.0)
    half = np.sqrt(safe_v) * multiplier(safe_n, planned_units, alpha)
    log_e = log_e_value(np.where(usable, value, 0.0), safe_v, safe_n, tuned_rho2(planned_units, alpha))
    p = np.exp(-np.maximum(log_e, 0.0))
    return AlwaysValid(*(np.where(usable, a, np.nan) for a in (value - half, value + half, p, log_e)))


def log_e_value(estimate: ArrayLike, variance: ArrayLike, units: ArrayLike, rho2: ArrayLike) -> Floats:
    """Natural log of the mixture e-value against "no effect"; also the Bayes factor of N(0, tau^2) against zero."""
    value, v = np.asarray(estimate, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    r = np.asarray(units, dtype=np.float64) * np.asarray(rho2, dtype=np.float64)
    return np.asarray(r / (r + 1) * value**2 / (2 * v) - np.log1p(r) / 2, dtype=np.float64)


def one_sided(
    estimate: ArrayLike,
    variance: ArrayLike,
    units: ArrayLike,
    planned_units: ArrayLike,
    alpha: float = 0.05,
    direction: int = 1,
) -> AlwaysValid:
    """Bound with one-sided error `alpha`: `direction` 1 bounds the effect from below (is it above zero?), -1 above.

    The p-value inverts the bound, so p <= alpha exactly when the bound excludes zero; it is 1 against the direction.
    """
    if direction not in (1, -1):
        raise ValueError("direction is 1 or -1")
    value, v, n = (np.asarray(a, dtype=np.float64) for a in (estimate, variance, units))
    usable = (v > 0) & (n > 0) & np.isfinite(value)
    safe_n, safe_v = np.where(usable, n, 1.0), np.where(usable, v, 1.0)
    toward = direction * np.where(usable, value, 0.0)
    half = np.sqrt(safe_v) * one_sided_multiplier(safe_n, planned_units, alpha)
    r = safe_n * tuned_rho2(planned_units, min(2 * alpha, 0.999))
    exponent = r / (r + 1) * np.maximum(toward, 0.0) ** 2 / (2 * safe_v)
    # ln of 2 (exp(exponent) - 1) / sqrt(r + 1), in a form that neither overflows nor cancels.
    with np.errstate(divide="ignore"):
        log_e = np.log(2.0) + exponent + np.log(-np.expm1(-exponent)) - np.log1p(r) / 2
    log_e = np.maximum(log_e, -745.0)
    p = np.exp(-np.maximum(log_e, 0.0))
    lower = np.where(direction > 0, value - half, -np.inf)
    upper = np.where(direction > 0, np.inf, value + half)
    return AlwaysValid(*(np.where(usable, a, np.nan) for a in (lower, upper, p, log_e)))


def running(path: AlwaysValid, axis: int = 0) -> AlwaysValid:
    """What may be claimed at each look: intersection of the intervals and smallest p of all looks so far.

    Looks run along `axis`, ascending. Looks without an interval (nan) leave the claim as it was. When the
    intersection becomes empty (the effect drifted over time) lower exceeds upper: callers must report that.
    """
    best = np.fmax.accumulate(path.log_e, axis=axis)
    return AlwaysValid(
        np.fmax.accumulate(path.ci_lower, axis=axis),
        np.fmin.accumulate(path.ci_upper, axis=axis),
        np.fmin.accumulate(path.p_value, axis=axis),
        best,
    )


def ready(count: ArrayLike, skewness: ArrayLike, conversions: ArrayLike | None = None) -> Bools:
    """Whether monitoring may begin (Bibaut, Kallus & Lindon 2022): units, conversions and skewness.

    `count` (..., V) units of every arm, `conversions` (..., V) for proportions (None otherwise), `skewness` (...,) of
    the difference (nan = unknown, not held against it).
    """
    n = np.asarray(count, dtype=np.float64)
    fine = (n >= MINIMUM_UNITS).all(axis=-1) & ~(np.abs(np.asarray(skewness, dtype=np.float64)) >= MAXIMUM_SKEWNESS)
    if conversions is not None:
        fine &= (np.asarray(conversions, dtype=np.float64) >= MINIMUM_CONVERSIONS).all(axis=-1)
    return np.asarray(fine, dtype=np.bool_)
