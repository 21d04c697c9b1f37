"""Partial pooling of segment effects from sufficient statistics (METHODS A15, C4).

Segment effects of one family (a metric x variant) are exchangeable: `delta_s ~ N(mu, tau²)` with `mu ~ prior` and
`tau ~ HalfNormal(prior.scale / 2)`, seen through `estimate_s ~ N(delta_s, standard_error_s²)`. Given (mu, tau) each
effect is exactly normal, so only those two are ever integrated numerically: `pool` does it on a grid over tau, closed
form in everything else and vectorised over families; `stats.bayes.segment_model.SegmentModel` samples them with NUTS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.diagnostics import Diagnostics
from stats.bayes.mixture import Mixture
from stats.bayes.prior import Family, Prior

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type BoolArray = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
type TextArray = np.ndarray[tuple[int, ...], np.dtype[np.str_]]

TAU_SHARE: Final = 0.5  # tau ~ HalfNormal(TAU_SHARE * prior.scale)
TOO_FEW: Final = "too_few_segments"

# Log-spaced: fine where tau is small and its posterior narrow; 40 prior scales out the prior is exp(-800). The first
# node also stands for everything below it, where tau cannot be told from zero (a full tail instead of half a step).
_LOG_TAU: Final = np.linspace(np.log(1e-3), np.log(40.0), 197)
_FIRST: Final = float(np.log(1 / (_LOG_TAU[1] - _LOG_TAU[0]) + 0.5))


@dataclass(frozen=True, slots=True)
class SegmentPosterior:
    """Shrunken effects of every segment (F families, S segments); NaN where there is no number to show.

    `mean`, `sd` are log lifts; `lift`, `hdi_lower`, `hdi_upper` fractions (F, S). `sign_differs` is the posterior
    probability that a segment moves against the overall effect mu. `overall_*` (F,) describe mu (log mean and sd, HDI
    as a lift), `between_*` (F,) the spread tau between segments in log lift (mean and 95 % equal-tail interval).
    `status` (F,) is `ok`, `unreliable` (failed diagnostics) or `not_estimable`, with a `reason`.
    """

    mean: Array
    sd: Array
    lift: Array
    hdi_lower: Array
    hdi_upper: Array
    sign_differs: Array
    overall_mean: Array
    overall_sd: Array
    overall_hdi_lower: Array
    overall_hdi_upper: Array
    between_mean: Array
    between_lower: Array
    between_upper: Array
    estimable: BoolArray
    status: TextArray
    reason: TextArray
    diagnostics: tuple[Diagnostics | None, ...]
    hdi_level: float
    prior: Prior
    method: str


def estimable_segments(estimates: Array, errors: Array) -> BoolArray:
    """Which segments carry information: finite estimate, finite positive standard error."""
    return np.asarray(np.isfinite(estimates) & np.isfinite(errors) & (errors > 0))


def check_inputs(estimates: Array, errors: Array, prior: Prior) -> None:
    """Shapes (F, S) that match and a Normal prior (its conjugacy is what makes the model collapse), else ValueError."""
    if estimates.ndim != 2 or estimates.shape != errors.shape:
        raise ValueError(f"estimates and errors must both be (families, segments): {estimates.shape}, {errors.shape}")
    if prior.family is not Family.NORMAL:
        raise ValueError("segment pooling needs a Normal prior on the overall effect")


def pool(estimates: Array, errors: Array, prior: Prior, *, level: float = 0.95) -> SegmentPosterior:
    """Posterior of all segments of all families by a grid over tau; deterministic and exact to about 1e-4 sd.

    `estimates`, `errors` are (F, S) log lifts and their standard errors; non-estimable segments are left out of the
    pooling and come back masked. Memory is F x S x 197 doubles.
    """
    check_inputs(estimates, errors, prior)
    known = estimable_segments(estimates, errors)
    enough = known.sum(-1) >= 2
    shown = known & enough[:, None]
    value, variance = np.where(known, estimates, 0.0)[..., None], np.where(known, errors, 1.0)[..., None] ** 2
    here = known[..., None].astype(np.float64)

    scale = TAU_SHARE * prior.scale
    tau = scale * np.exp(_LOG_TAU)
    total = variance + tau**2
    precision = 1 / prior.scale**2 + (here / total).sum(1)
    centre = (prior.mean / prior.scale**2 + (here * value / total).sum(1)) / precision
    residual = (here * (value - centre[:, None, :]) ** 2 / total).sum(1) + ((centre - prior.mean) / prior.scale) ** 2
    log_weight = -0.5 * ((here * np.log(total)).sum(1) + np.log(precision) + residual)
    log_weight += _LOG_TAU - 0.5 * (tau / scale) ** 2  # Jacobian of ln tau, half-normal prior
    log_weight[:, 0] += _FIRST
    weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)

    keep = tau**2 / total  # how much of a segment's own estimate survives
    mean = keep * value + (1 - keep) * centre[:, None, :]
    sd = np.sqrt(keep * variance + (1 - keep) ** 2 / precision[:, None, :])
    correlation = (1 - keep) / np.sqrt(precision)[:, None, :] / sd
    overall_sd = np.broadcast_to((precision**-0.5)[:, None, :], mean.shape)
    overall = np.broadcast_to(centre[:, None, :], mean.shape)
    opposite = opposite_signs(mean / sd, overall / overall_sd, correlation)

    effects = Mixture(np.broadcast_to(weight[:, None, :], mean.shape), mean, sd)
    segment_mean, segment_sd = effects.moments()
    lower, upper = effects.hdi(level)
    mu = Mixture(weight, centre, precision**-0.5)
    mu_mean, mu_sd = mu.moments()
    mu_lower, mu_upper = mu.hdi(level)
    cumulative = np.cumsum(weight, axis=-1) - weight / 2
    tails = [np.exp([np.interp(q, row, np.log(tau)) for row in cumulative]) for q in (0.025, 0.975)]
    return SegmentPosterior(
        mean=np.where(shown, segment_mean, np.nan),
        sd=np.where(shown, segment_sd, np.nan),
        lift=np.where(shown, np.expm1(segment_mean), np.nan),
        hdi_lower=np.where(shown, np.expm1(lower), np.nan),
        hdi_upper=np.where(shown, np.expm1(upper), np.nan),
        sign_differs=np.where(shown, (weight[:, None, :] * opposite).sum(-1), np.nan),
        overall_mean=np.where(enough, mu_mean, np.nan),
        overall_sd=np.where(enough, mu_sd, np.nan),
        overall_hdi_lower=np.where(enough, np.expm1(mu_lower), np.nan),
        overall_hdi_upper=np.where(enough, np.expm1(mu_upper), np.nan),
        between_mean=np.where(enough, (weight * tau).sum(-1), np.nan),
        between_lower=np.where(enough, tails[0], np.nan),
        between_upper=np.where(enough, tails[1], np.nan),
        estimable=shown,
        status=np.where(enough, "ok", "not_estimable"),
        reason=np.where(enough, "", TOO_FEW),
        diagnostics=(None,) * len(estimates),
        hdi_level=level,
        prior=prior,
        method="grid",
    )


def opposite_signs(h: Array, k: Array, correlation: Array) -> Array:
    """P(X Y < 0) for normals of unit variance with means h, k, by Owen's T (Owen 1956)."""
    h, k = (np.where(np.abs(z) < 1e-12, 1e-12, z) for z in (h, k))  # the ratio below must exist; no effect on P
    root = np.sqrt(np.maximum(1 - correlation**2, 1e-16))
    t = sc.owens_t(h, (k / h - correlation) / root) + sc.owens_t(k, (h / k - correlation) / root)
    both_below = 0.5 * (sc.ndtr(-h) + sc.ndtr(-k)) - t - 0.5 * (h * k < 0)
    return np.asarray(np.clip(sc.ndtr(-h) + sc.ndtr(-k) - 2 * both_below, 0.0, 1.0))
