"""Post-stratified estimates: compare within strata, then average (METHODS A8; Miratrix, Sekhon & Yu 2013).

With w_k = N_k / N the share of stratum k among all units, a post-stratified arm mean is sum_k w_k m_ak: a mean again,
with covariance sum_k w_k^2 S_ak / n_ak. Means, ratios, formulas and covariate adjustment follow from it like from any
other mean. The shares are themselves a sample, which adds sum_k w_k (D_k - D)^2 / N to the variance of a difference D.

Mandatory where the allocation changed during a ramp (strata are its stages): pooled over stages, arms hold different
mixtures of early and late units, and a trend in time looks like an effect (Simpson's paradox).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np

from stats.covariate import varies
from stats.estimate import Estimates, estimate_means
from stats.influence import ArmMeans
from stats.metric_shape import MetricShape
from stats.moments import Bools, Floats, Ints, Moments, safe_divide

MINIMUM_UNITS = 20
"""A stratum with fewer units in an arm is merged with others (A8)."""
COMPLETE = {"freedom": "arm_freedom", "baseline_covariance": "control_covariance"}
"""Fields of `Estimates` that may be None, and the property that always has the array."""


def estimate_stratified(
    by_stratum: Moments,
    shapes: Sequence[MetricShape],
    adjust: bool = True,
    invalid: Mapping[int, str] | None = None,
    minimum: int = MINIMUM_UNITS,
) -> Estimates:
    """Estimate every metric as if each arm had everybody's mixture of strata; `by_stratum` has cells (..., S, V).

    The result has cells (...,), like `estimate` on the union of the strata. Its `variance` holds the part between
    strata in the treatments, so control plus treatment is exactly the variance of their difference, and two treatments
    are to be compared by way of control only; `baseline_covariance` and `freedom` (Satterthwaite over strata) are
    given. Slopes of covariates minimise the variance within strata. The joint covariances (`mean_covariance`, and what
    is made of it) take the shares of the strata as known.

    Strata with fewer than `minimum` units in an arm are merged as `merged_strata` says. An arm that lacks a stratum
    even so has no estimate: `too_few_units`.
    """
    if len(by_stratum.cells) < 2:
        raise ValueError("the last two axes of the cells must hold the strata and the arms")
    strata = merged_strata(by_stratum, minimum)
    pooled = by_stratum.merge_axis(-2)
    n = strata.count
    units = n.sum(axis=-1)
    total = units.sum(axis=-1)
    weight = safe_divide(units, total[..., None])
    lacking = ((n < 2) & (units > 0)[..., None]).any(axis=-2)
    # Deviations from the arm's own mean, so that a common offset never enters a product.
    gap = np.where((n > 0)[..., None], strata.mean - pooled.mean[..., None, :, :], 0.0)
    shift = (weight[..., None, None] * gap).sum(axis=-3)
    freedom = n * np.maximum(n - 1.0, 0.0)
    per_stratum = strata.comoment * safe_divide(weight[..., None] ** 2, freedom)[..., None, None]
    means = ArmMeans(np.where(lacking, 0, pooled.count), pooled.mean + shift, per_stratum.sum(axis=-4), varies(pooled))
    within = estimate_means(means, shapes, adjust, invalid)

    between = gap - shift[..., None, :, :]
    own, raw = _along(within.residual_gradient, between), _along(within.gradient, between)
    change = own[..., 1:, :] - own[..., :1, :]
    share = safe_divide(weight, total[..., None])[..., None, None]
    variance, cross = within.variance.copy(), within.cross + (share * own * raw).sum(axis=-3)
    variance[..., 1:, :] += (share * change**2).sum(axis=-3)
    return replace(
        within,
        count=pooled.count,
        variance=variance,
        raw_variance=within.raw_variance + (share * raw**2).sum(axis=-3),
        cross=cross,
        freedom=_freedom(within, per_stratum, n),
        baseline_covariance=(share * raw[..., :1, :] * change).sum(axis=-3) - within.cross[..., :1, :],
    )


def _along(gradient: Floats, deviations: Floats) -> Floats:
    """(..., S, V, M): gradients (..., V, M, k) times deviations (..., S, V, k)."""
    product: Floats = (gradient[..., None, :, :, :] @ deviations[..., None])[..., 0]
    return product


def _freedom(estimates: Estimates, per_stratum: Floats, count: Ints) -> Floats:
    """(..., V, M) Satterthwaite: (sum_k v_k)^2 / sum_k v_k^2 / (n_k - 1), v_k what stratum k adds to the variance."""
    rows = estimates.residual_gradient[..., None, :, :, :]
    parts = np.maximum(((rows @ per_stratum) * rows).sum(axis=-1), 0.0)
    shares = safe_divide(parts, parts.sum(axis=-3, keepdims=True))
    spread = (shares**2 / np.maximum(count - 1, 1)[..., None]).sum(axis=-3)
    return np.where(spread > 0, safe_divide(1.0, spread), np.maximum(estimates.count - 1, 1)[..., None])


def merged_strata(by_stratum: Moments, minimum: int = MINIMUM_UNITS) -> Moments:
    """Cells (..., S + 1, V): strata with `minimum` units in every arm as they are, the others together in the last.

    If those together are still too few, the smallest of the others (by its smallest arm, the first among equals) joins
    them until they are enough or everything is one stratum. Emptied strata have no units. Arms with fewer than
    `minimum` units in total have no say, unless that leaves less than two arms.
    """
    count = by_stratum.count
    total = count.sum(axis=-2)
    enough = total >= minimum
    judged = np.where(enough.sum(axis=-1, keepdims=True) >= 2, enough, total > 0)[..., None, :]
    beyond = np.iinfo(np.int64).max
    used = count.any(axis=-1)
    smallest = np.where(used, np.where(judged, count, beyond).min(axis=-1), beyond)
    small = (smallest < minimum).sum(axis=-1, keepdims=True)
    order = np.argsort(smallest, axis=-1, kind="stable")
    gathered = np.cumsum(np.take_along_axis(count, order[..., None], axis=-2), axis=-2)
    suffices = np.where(judged, gathered, beyond).min(axis=-1) >= minimum
    position = np.arange(count.shape[-2])
    done = suffices & (position >= small - 1)
    last = np.where(done.any(axis=-1), done.argmax(axis=-1), count.shape[-2] - 1)[..., None]
    together = (np.argsort(order, axis=-1) <= last) & (small > 0) & used
    kept, pool = _only(by_stratum, ~together), _only(by_stratum, together).merge_axis(-2)
    axis = count.ndim - 2
    count, mean, comoment, third = (
        np.concatenate([getattr(kept, name), np.expand_dims(getattr(pool, name), axis)], axis=axis)
        for name in ("count", "mean", "comoment", "third")
    )
    return Moments(count, mean, comoment, third)


def _only(moments: Moments, where: Bools) -> Moments:
    """The strata of `where` (..., S), the others without units."""
    mask = where[..., None]
    return Moments(
        np.where(mask, moments.count, 0),
        np.where(mask[..., None], moments.mean, 0.0),
        np.where(mask[..., None, None], moments.comoment, 0.0),
        np.where(mask[..., None], moments.third, 0.0),
    )


def with_cells(whole: Estimates, where: slice, part: Estimates) -> Estimates:
    """`whole` with the cells `where` (along the first axis) replaced by those of `part`, of the same metrics."""
    changed: dict[str, Floats] = {}
    for field in fields(Estimates):
        if field.name == "keys":
            continue
        source = COMPLETE.get(field.name, field.name)
        array = np.array(getattr(whole, source))
        array[where] = getattr(part, source)
        changed[field.name] = array
    return replace(whole, **changed)  # type: ignore[arg-type]
