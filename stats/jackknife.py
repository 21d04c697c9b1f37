"""Ratios whose denominator is too uncertain for the delta method: delete one hash bucket at a time (METHODS A4).

Units fall into buckets by a hash, so buckets are exchangeable groups of units. Leaving them out one by one shows bias
and variance of the ratio without linearising it. Buckets hold unequal numbers of units, so each counts by its size: the
delete-m_j jackknife (Busing, Meijer & van der Leeden 1999 "Delete-m jackknife for unequal m"), which is the usual
jackknife when they are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stats.estimate import Estimates
from stats.metric_shape import MetricShape
from stats.moment_set import HashBuckets
from stats.moments import Bools, Floats, safe_divide
from stats.reasons import Reason, Reasons, clear, first_reason, is_code

MINIMUM_BUCKETS = 50
"""Fewer buckets with units (of the hundred that A4 asks for) show neither the bias nor the variance well enough."""
DENOMINATOR_FROM_ZERO = 3.0
"""Standard errors between the denominator's mean and zero; nearer, no approximation of a ratio is any good."""


def with_jackknife(estimates: Estimates, buckets: HashBuckets, shapes: Sequence[MetricShape]) -> Estimates:
    """Estimates (V, M) in which ratios refused for `denominator_near_zero` are estimated by the jackknife.

    A ratio that is refused in any arm is estimated so in all of its arms, without covariate adjustment, and without
    bias to first order; `freedom` is the number of buckets - 1. It stays refused where the denominator is within three
    standard errors of zero or changes sign with one bucket, and becomes `too_few_buckets` where fewer than 50 buckets
    hold units of the arm. Joint covariances keep the linearised ratio.
    """
    vague = is_code(estimates.reason, Reason.DENOMINATOR_NEAR_ZERO)
    # Other reasons (data that cannot be used, no variance) are none that a jackknife could answer.
    open_ = vague | clear(estimates.reason)
    chosen = [m for m, shape in enumerate(shapes) if shape.denominator is not None and vague[:, m].any()]
    if not chosen:
        return estimates
    names = ("value", "unadjusted", "variance", "raw_variance", "cross", "reason", "residual_gradient", "slope")
    changed = {name: np.array(getattr(estimates, name)) for name in (*names, "adjusted", "variance_reduction")}
    changed["freedom"] = np.array(estimates.arm_freedom)
    changed["baseline_covariance"] = np.array(estimates.control_covariance)
    for m in chosen:
        point, variance, why, used = _ratio(estimates, buckets, shapes[m])
        changed["reason"][:, m] = np.where(open_[:, m], why, estimates.reason[:, m])
        done = open_[:, m] & clear(why)
        if not done.any():
            continue
        for name in ("value", "unadjusted"):
            changed[name][:, m] = np.where(done, point, estimates.unadjusted[:, m])
        for name in ("variance", "raw_variance", "cross"):
            changed[name][:, m] = np.where(done, variance, estimates.raw_variance[:, m])
        changed["baseline_covariance"][:, m] = -changed["cross"][0, m]
        changed["freedom"][:, m] = np.where(done, np.maximum(used - 1.0, 1.0), estimates.arm_freedom[:, m])
        changed["residual_gradient"][:, m] = estimates.gradient[:, m]
        changed["slope"][m], changed["adjusted"][m], changed["variance_reduction"][m] = 0.0, False, 0.0
    return replace(estimates, **changed)  # type: ignore[arg-type]


def _ratio(estimates: Estimates, buckets: HashBuckets, shape: MetricShape) -> tuple[Floats, Floats, Reasons, Floats]:
    """Value, variance, reason and number of buckets with units of one ratio, each (V,)."""
    assert shape.denominator is not None
    n = buckets.count.astype(np.float64)
    top, bottom = n * buckets.mean[..., shape.value], n * buckets.mean[..., shape.denominator]
    whole, size = bottom.sum(axis=0), n.sum(axis=0)
    used = n > 0
    without = whole - bottom
    one_sign: Bools = np.all((without * whole > 0) | ~used, axis=0) & (whole != 0)
    everything = safe_divide(top.sum(axis=0), whole)
    left_out = np.where(used, safe_divide(top.sum(axis=0) - top, without), 0.0)
    weight = safe_divide(n, size)  # 1 / h_j
    number = used.sum(axis=0).astype(np.float64)
    value = number * everything - ((1 - weight) * left_out).sum(axis=0)
    pseudo = safe_divide(everything - (1 - weight) * left_out, weight)
    spread = safe_divide((pseudo - value) ** 2 * weight, 1 - weight) * used
    variance = safe_divide(spread.sum(axis=0), number)

    mean, error = safe_divide(whole, size), np.sqrt(estimates.mean_covariance[:, shape.denominator, shape.denominator])
    near_zero = ~one_sign | (np.abs(mean) < DENOMINATOR_FROM_ZERO * error)
    why = first_reason(
        number.shape,
        (number < MINIMUM_BUCKETS, Reason.TOO_FEW_BUCKETS),
        (near_zero, Reason.DENOMINATOR_NEAR_ZERO),
        (variance <= 0, Reason.ZERO_VARIANCE),
    )
    return value, variance, why, number
