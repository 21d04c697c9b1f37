"""Do segments differ in effect, and what is each one's effect then (METHODS A15)?

Segment effects come as estimates with standard errors, a family (a metric and a treatment over the levels of one
dimension) along the last axis; arrays are (..., S) and a mask or nan marks levels without an estimate. The question is
answered by one test of all levels together, and by shrinking every level towards the others. "Significant here, not
there" is no evidence that two segments differ (Gelman & Stern 2006): `segment_contrast` tests their difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.bayes.mixture import Mixture
from stats.bayes.pooling import opposite_signs
from stats.moments import Bools, Floats, Ints, safe_divide

TAU_SHARE = 0.5
"""tau ~ HalfNormal(TAU_SHARE x the scale of effects): segments seldom differ by more than effects are large."""
# Log-spaced nodes of tau in units of its prior scale; the half-normal prior is exp(-32) at the last one. The first node
# also stands for everything below it, where tau cannot be told from zero (a full tail instead of half a step).
_LOG_TAU = np.linspace(np.log(1e-3), np.log(8.0), 145)
_FIRST = float(np.log(1 / (_LOG_TAU[1] - _LOG_TAU[0]) + 0.5))


@dataclass(frozen=True, slots=True, eq=False)
class HeterogeneityTest:
    """Cochran's Q (1954), arrays (...,): nan with fewer than two `levels`.

    `centre` is the inverse-variance mean of the levels, `centre_error` its standard error. `i_squared` is the share of
    the variation between estimates that is not sampling noise, max(0, (Q - df) / Q) (Higgins & Thompson 2002).
    """

    levels: Ints
    centre: Floats
    centre_error: Floats
    q: Floats
    df: Floats
    p_value: Floats
    i_squared: Floats


def usable(estimates: Floats, errors: Floats) -> Bools:
    """Which levels carry information: a finite estimate with a finite positive standard error."""
    return np.asarray(np.isfinite(estimates) & np.isfinite(errors) & (errors > 0), dtype=np.bool_)


def q_test(estimates: ArrayLike, errors: ArrayLike) -> HeterogeneityTest:
    """`Q = sum((estimate_s - centre)^2 / error_s^2)`, chi-square with S - 1 degrees of freedom if effects are equal.

    Shapes (..., S). Assumes independent levels with normal estimates (disjoint units, not too few in any).
    """
    known, value, weight = _weights(estimates, errors)
    levels = known.sum(axis=-1)
    enough = levels >= 2
    total = weight.sum(axis=-1)
    centre = safe_divide((weight * value).sum(axis=-1), total)
    q = (weight * (value - centre[..., None]) ** 2).sum(axis=-1)
    df = np.maximum(levels - 1.0, 1.0)
    return HeterogeneityTest(
        levels=levels,
        centre=np.where(enough, centre, np.nan),
        centre_error=np.where(enough, np.sqrt(safe_divide(1.0, total)), np.nan),
        q=np.where(enough, q, np.nan),
        df=np.where(enough, df, np.nan),
        p_value=np.where(enough, sc.chdtrc(df, q), np.nan),
        i_squared=np.where(enough, np.maximum(safe_divide(q - df, q), 0.0), np.nan),
    )


@dataclass(frozen=True, slots=True, eq=False)
class ShrunkenEffects:
    """Posterior of the effects of all levels, and of what they share; nan where there is nothing to show.

    Per level (..., S): `mean`, `sd`, the shortest interval `lower` to `upper`, and `sign_differs`, the probability that
    the level moves against the overall effect. Per family (...,): `overall` with its `overall_sd`, and the posterior
    mean `tau` of the sd between levels.
    """

    mean: Floats
    sd: Floats
    lower: Floats
    upper: Floats
    sign_differs: Floats
    overall: Floats
    overall_sd: Floats
    tau: Floats


def shrink(estimates: ArrayLike, errors: ArrayLike, scale: ArrayLike, level: float = 0.95) -> ShrunkenEffects:
    """Partial pooling: `effect_s ~ N(mu, tau^2)`, mu flat, `tau ~ HalfNormal(TAU_SHARE * scale)`; shapes (..., S).

    `scale` (...,) is how large effects are, positive: the larger of the estimated overall effect and of what such
    effects usually are, because levels may well differ where their mean is zero. Given tau everything is normal, so
    only tau is integrated numerically, on a grid. Assumes exchangeable levels: put ordered ones through `linear_trend`
    first. Memory is levels x 145 doubles per family.
    """
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    known, value, variance = _known(estimates, errors)
    enough = known.sum(axis=-1) >= 2
    shown, seen = known & enough[..., None], value[..., None]
    grid = _over_tau(known, value, variance, scale)
    tau, total, precision, centre, weight = grid.tau, grid.total, grid.precision, grid.centre, grid.weight
    variance = variance[..., None]

    keep = tau[..., None, :] ** 2 / total  # how much of a level's own estimate survives
    mean = keep * seen + (1 - keep) * centre[..., None, :]
    sd = np.sqrt(keep * variance + (1 - keep) ** 2 / precision[..., None, :])
    overall, overall_sd = np.broadcast_to(centre[..., None, :], mean.shape), precision[..., None, :] ** -0.5
    against = opposite_signs(mean / sd, overall / overall_sd, np.minimum((1 - keep) * overall_sd / sd, 1.0))
    effects = Mixture(np.broadcast_to(weight[..., None, :], mean.shape), mean, sd)
    effect_mean, effect_sd = effects.moments()
    lower, upper = effects.hdi(level)
    mu, mu_sd = Mixture(weight, centre, precision**-0.5).moments()
    return ShrunkenEffects(
        mean=np.where(shown, effect_mean, np.nan),
        sd=np.where(shown, effect_sd, np.nan),
        lower=np.where(shown, lower, np.nan),
        upper=np.where(shown, upper, np.nan),
        sign_differs=np.where(shown, (weight[..., None, :] * against).sum(axis=-1), np.nan),
        overall=np.where(enough, mu, np.nan),
        overall_sd=np.where(enough, mu_sd, np.nan),
        tau=np.where(enough, (weight * tau).sum(axis=-1), np.nan),
    )


def between_levels(estimates: ArrayLike, errors: ArrayLike, scale: ArrayLike) -> Floats:
    """(...,) only the posterior mean of the sd between levels, as `shrink` has it, without each level's posterior."""
    known, value, variance = _known(estimates, errors)
    grid = _over_tau(known, value, variance, scale)
    return np.where(known.sum(axis=-1) >= 2, (grid.weight * grid.tau).sum(axis=-1), np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """What is known at each node of tau: `tau`, `precision` and `centre` of mu, posterior `weight`, all (..., K);
    `total` variance (..., S, K) of each level's estimate."""

    tau: Floats
    total: Floats
    precision: Floats
    centre: Floats
    weight: Floats


def _over_tau(known: Bools, value: Floats, variance: Floats, scale: ArrayLike) -> _Grid:
    sizes = np.broadcast_to(np.asarray(scale, dtype=np.float64), known.shape[:-1])
    if not (sizes > 0).all():
        raise ValueError("scale must be positive")
    here, seen = known[..., None].astype(np.float64), value[..., None]
    tau = TAU_SHARE * sizes[..., None] * np.exp(_LOG_TAU)
    total = variance[..., None] + tau[..., None, :] ** 2
    precision = np.where(known.any(axis=-1)[..., None], (here / total).sum(axis=-2), 1.0)
    centre = (here * seen / total).sum(axis=-2) / precision
    residual = (here * (seen - centre[..., None, :]) ** 2 / total).sum(axis=-2)
    log_weight = -0.5 * ((here * np.log(total)).sum(axis=-2) + np.log(precision) + residual)
    log_weight = log_weight + _LOG_TAU - 0.5 * np.exp(2 * _LOG_TAU)  # Jacobian of ln tau, half-normal prior
    log_weight[..., 0] += _FIRST
    weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
    return _Grid(tau, total, precision, centre, weight / weight.sum(axis=-1, keepdims=True))


def _known(estimates: ArrayLike, errors: ArrayLike) -> tuple[Bools, Floats, Floats]:
    """Which levels are known, their values (0 elsewhere) and variances (1 elsewhere)."""
    known, value, weight = _weights(estimates, errors)
    return known, value, np.where(known, 1 / np.where(known, weight, 1.0), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """A difference of two effects, arrays (...,): two-sided normal test."""

    value: Floats
    standard_error: Floats
    z: Floats
    p_value: Floats


def segment_contrast(first: ArrayLike, first_error: ArrayLike, second: ArrayLike, second_error: ArrayLike) -> Contrast:
    """`second` minus `first`, two segments of disjoint units: the interaction of segment and treatment."""
    value = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    return _tested(value, np.hypot(np.asarray(first_error, dtype=np.float64), np.asarray(second_error, np.float64)))


@dataclass(frozen=True, slots=True, eq=False)
class Trend:
    """A straight line through the effects of ordered levels; arrays (...,), nan with fewer than three levels.

    `slope` per unit of the scores. `rest` is the Q that the line leaves, `rest_p_value` tests it with S - 2 degrees of
    freedom: whether levels differ beyond the trend.
    """

    slope: Contrast
    rest: Floats
    rest_p_value: Floats


def linear_trend(estimates: ArrayLike, errors: ArrayLike, scores: ArrayLike) -> Trend:
    """Weighted least squares of effects on `scores`, both (..., S), weights 1 / error^2: Q is slope^2 plus a rest."""
    known, value, weight = _weights(estimates, errors)
    x = np.where(known, np.broadcast_to(np.asarray(scores, dtype=np.float64), known.shape), 0.0)
    total = weight.sum(axis=-1, keepdims=True)
    x = x - safe_divide((weight * x).sum(axis=-1, keepdims=True), total)
    square = (weight * x**2).sum(axis=-1)
    enough = (known.sum(axis=-1) >= 3) & (square > 0)
    slope = np.where(enough, safe_divide((weight * x * value).sum(axis=-1), square), np.nan)
    tested = _tested(slope, np.where(enough, safe_divide(1.0, np.sqrt(square)), np.nan))
    whole = q_test(estimates, errors)
    rest = np.maximum(whole.q - tested.z**2, 0.0)
    return Trend(tested, rest, np.where(enough, sc.chdtrc(np.maximum(known.sum(axis=-1) - 2, 1), rest), np.nan))


def _weights(estimates: ArrayLike, errors: ArrayLike) -> tuple[Bools, Floats, Floats]:
    """Which levels are known, their values (0 elsewhere) and inverse variances (0 elsewhere)."""
    value, error = np.broadcast_arrays(np.asarray(estimates, dtype=np.float64), np.asarray(errors, dtype=np.float64))
    known = usable(value, error)
    return known, np.where(known, value, 0.0), np.where(known, 1 / np.where(known, error, 1.0) ** 2, 0.0)


def _tested(value: Floats, error: Floats) -> Contrast:
    good = usable(value, error)
    z = np.where(good, value / np.where(good, error, 1.0), np.nan)
    return Contrast(
        np.where(good, value, np.nan), np.where(good, error, np.nan), z, np.asarray(2 * sc.ndtr(-np.abs(z)))
    )
