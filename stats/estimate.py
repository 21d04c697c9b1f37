"""Arm estimates of every metric with their joint covariance, by the influence representation (METHODS 1, A1, A4, A7).

Each estimator is a function f of an arm's column means with gradient g; its sampling variance is g' S g / n and two
estimators of the same arm covary by g' S h / n. Means, proportions, ratios, formulas and covariate-adjusted versions of
them differ only in f and g, so everything downstream sees the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stats.adjustment import AdjustedFamily, adjusted_family
from stats.influence import ArmMeans, Family, arm_means, families
from stats.metric_shape import Evaluate, MetricShape
from stats.moments import Bools, Floats, Ints, Moments, safe_divide
from stats.reasons import CovariateNote, Reason, Reasons, clear, constant_reason, first_reason

__all__ = ["Estimates", "Evaluate", "MetricShape", "covariance_from_gradients", "estimate", "estimate_means"]


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Estimates per cell, arm and metric; control is arm 0. `...` are the leading cells, V arms, M metrics, k columns.

    value, unadjusted  (..., V, M)  with and without covariate adjustment, at the pooled covariate mean (A7)
    count              (..., V)     units
    variance           (..., V, M)  of the arm's own (residual) part: differences between arms add these up
    raw_variance       (..., V, M)  of `unadjusted`
    cross              (..., V, M)  covariance of the residual part with `unadjusted` (relative lifts need it, A3)
    reason             (..., V, M)  '' or why the arm has no estimate or no variance
    adjusted, note     (..., M)     whether covariates were used, and why not
    variance_reduction (..., M)     1 - adjusted / raw variance, summed over arms
    gradient, residual_gradient (..., V, M, k); slope (..., M, k); mean_covariance (..., V, k, k)
    freedom            (..., V, M)  degrees of freedom of `variance`, None: count - 1
    baseline_covariance (..., V-1, M) of control's `unadjusted` with each difference, None: -cross, arms independent
    """

    keys: tuple[str, ...]
    value: Floats
    unadjusted: Floats
    count: Ints
    variance: Floats
    raw_variance: Floats
    cross: Floats
    reason: Reasons
    adjusted: Bools
    note: Reasons
    variance_reduction: Floats
    gradient: Floats
    residual_gradient: Floats
    slope: Floats
    mean_covariance: Floats
    freedom: Floats | None = None
    baseline_covariance: Floats | None = None

    @property
    def estimable(self) -> Bools:
        """(..., V, M) whether the arm has an estimate with a positive variance."""
        return clear(self.reason)

    @property
    def arm_freedom(self) -> Floats:
        """(..., V, M) degrees of freedom of `variance`, at least 1."""
        if self.freedom is not None:
            return self.freedom
        return np.broadcast_to(np.maximum(self.count - 1.0, 1.0)[..., None], self.value.shape)

    @property
    def control_covariance(self) -> Floats:
        """(..., V-1, M) covariance of control's `unadjusted` with each difference (relative lifts need it, A3)."""
        if self.baseline_covariance is not None:
            return self.baseline_covariance
        return np.broadcast_to(-self.cross[..., :1, :], self.cross[..., 1:, :].shape)

    @property
    def covariance(self) -> Floats:
        """(..., V, M, V, M) of `value`, joint over arms and metrics.

        Adjusted arm means share the pooled covariate mean, so arms covary: by the slope's part only.
        """
        v, m = self.value.shape[-2:]
        share = safe_divide(self.count, self.count.sum(axis=-1, keepdims=True))
        pooled = share[..., None, None] * self.slope[..., None, :, :]
        own = _sandwich(self.residual_gradient, self.mean_covariance, self.residual_gradient)
        with_pooled = _sandwich(self.residual_gradient, self.mean_covariance, pooled)
        common = _sandwich(pooled, self.mean_covariance, pooled).sum(axis=-3)
        joint = np.zeros((*self.value.shape[:-2], v, m, v, m))
        joint += common[..., None, :, None, :]
        joint += with_pooled[..., :, :, None, :]
        joint += np.moveaxis(with_pooled, -1, -3)[..., None, :, :, :]
        arms = np.arange(v)
        joint[..., arms, :, arms, :] += np.moveaxis(own, -3, 0)
        return joint

    @property
    def standard_error(self) -> Floats:
        """(..., V, M) of `value`."""
        v, m = self.value.shape[-2:]
        flat = self.covariance.reshape(*self.value.shape[:-2], v * m, v * m)
        squared = np.diagonal(flat, axis1=-2, axis2=-1).reshape(self.value.shape)
        return np.asarray(np.sqrt(np.maximum(squared, 0.0)), dtype=np.float64)


def covariance_from_gradients(left: Floats, mean_covariance: Floats, right: Floats | None = None) -> Floats:
    """(..., E, F) covariance of estimators that are sums over arms of gradient rows times arm means.

    `left` (..., E, V, k), `right` (..., F, V, k) (default: `left`), `mean_covariance` (..., V, k, k) = S / n. The
    general form behind every variance here; formulas over metrics chain their own gradient onto these rows.
    """
    weighted = np.einsum("...evk,...vkl->...evl", left, mean_covariance)
    result: Floats = np.einsum("...evl,...fvl->...ef", weighted, left if right is None else right)
    return result


def _sandwich(left: Floats, middle: Floats, right: Floats) -> Floats:
    """(..., V, M, M) = left middle right' per arm."""
    product: Floats = left @ middle @ np.swapaxes(right, -1, -2)
    return product


def estimate(
    moments: Moments,
    shapes: Sequence[MetricShape],
    adjust: bool = True,
    invalid: Mapping[int, str] | None = None,
) -> Estimates:
    """Estimate every metric in every cell and arm; the last axis of `moments.cells` is the arms, control first.

    `invalid` maps a column index to the reason its data cannot be used: metrics on it are refused with that reason,
    covariates on it are left out. With `adjust` the estimates are covariate-adjusted where a metric has covariates and
    every arm has the units for it.
    """
    if not moments.cells or moments.cells[-1] < 1:
        raise ValueError("the last axis of the cells must hold the arms, control first")
    return estimate_means(arm_means(moments), shapes, adjust, invalid)


def estimate_means(
    means: ArmMeans, shapes: Sequence[MetricShape], adjust: bool = True, invalid: Mapping[int, str] | None = None
) -> Estimates:
    """The same from column means of any origin whose covariance is known, such as stratified ones (METHODS A8)."""
    refused = dict(invalid or {})
    found = families(shapes, adjust, refused)
    parts = _Parts(len(shapes), means.count.shape, found, [adjusted_family(means, family) for family in found])
    unadjusted, raw_variance = parts.numbers(lambda p: p.plain.value), parts.numbers(lambda p: p.plain.variance)
    value, variance, cross = unadjusted, raw_variance, raw_variance
    gradient = parts.gradient(means.mean.shape[-1])
    residual, slope = gradient, np.broadcast_to(0.0, (*gradient.shape[:-3], *gradient.shape[-2:]))
    adjusted = parts.mask(lambda p: p.adjusted)
    if any(family.covariates for family in found):
        value, variance = parts.numbers(lambda p: p.value), parts.numbers(lambda p: p.variance)
        cross, slope = parts.numbers(lambda p: p.cross), parts.slope(slope.shape)
        residual = gradient - slope[..., None, :, :]
    absent = [any(c in refused for c in shape.columns) for shape in shapes]
    gone = means.count == 0
    if any(absent) or gone.any():
        hidden = np.array(absent) | gone[..., None]
        value, unadjusted = np.where(hidden, np.nan, value), np.where(hidden, np.nan, unadjusted)
    reduction = 1 - safe_divide(variance.sum(axis=-2), raw_variance.sum(axis=-2))
    return Estimates(
        keys=tuple(shape.key for shape in shapes),
        value=value,
        unadjusted=unadjusted,
        count=means.count,
        variance=variance,
        raw_variance=raw_variance,
        cross=cross,
        reason=_arm_reasons(means, shapes, refused, unadjusted, parts),
        adjusted=adjusted,
        note=_notes(shapes, found, adjust, parts),
        variance_reduction=np.where(adjusted, reduction, 0.0),
        gradient=gradient,
        residual_gradient=residual,
        slope=slope,
        mean_covariance=means.covariance,
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """Families back in the order of the metrics, whose number is `metrics`; cells with arms have the shape `arms`."""

    metrics: int
    arms: tuple[int, ...]
    families: list[Family]
    parts: list[AdjustedFamily]

    def numbers(self, get: Callable[[AdjustedFamily], Floats]) -> Floats:
        """(..., V, M)."""
        if len(self.parts) == 1:
            return get(self.parts[0])
        full = np.empty((*self.arms, self.metrics))
        for family, part in zip(self.families, self.parts, strict=True):
            full[..., family.members] = get(part)
        return full

    def mask(self, get: Callable[[AdjustedFamily], Bools | None], per_arm: bool = False) -> Bools:
        """(..., M), or (..., V, M); false where a family has none."""
        if len(self.parts) == 1 and (only := get(self.parts[0])) is not None:
            return only
        full = np.zeros((*(self.arms if per_arm else self.arms[:-1]), self.metrics), dtype=np.bool_)
        for family, part in zip(self.families, self.parts, strict=True):
            mask = get(part)
            if mask is not None:
                full[..., family.members] = mask
        return full

    def gradient(self, k: int) -> Floats:
        """(..., V, M, k)."""
        if len(self.parts) == 1:
            return self.parts[0].plain.gradient(self.families[0], k)
        full = np.zeros((*self.arms, self.metrics, k))
        for family, part in zip(self.families, self.parts, strict=True):
            full[..., family.members, :] = part.plain.gradient(family, k)
        return full

    def slope(self, shape: tuple[int, ...]) -> Floats:
        """(..., M, k)."""
        full = np.zeros(shape)
        for family, part in zip(self.families, self.parts, strict=True):
            for theta, columns in zip(part.slopes, family.covariates, strict=True):
                full[..., family.members, columns] += theta
        return full


def _arm_reasons(
    means: ArmMeans, shapes: Sequence[MetricShape], refused: Mapping[int, str], value: Floats, parts: _Parts
) -> Reasons:
    """(..., V, M) why an arm's estimate cannot be used; the first that applies in the order written here."""
    vague = parts.mask(lambda p: p.plain.vague, per_arm=True)
    flat = parts.mask(lambda p: p.plain.flat, per_arm=True)
    rules: list[tuple[Bools, str]] = []
    for m, shape in enumerate(shapes):
        for column in shape.columns:
            if column in refused:
                rules.append((np.arange(len(shapes)) == m, refused[column]))
    rules += [
        (means.count[..., None] < 2, Reason.TOO_FEW_UNITS),
        (vague, Reason.DENOMINATOR_NEAR_ZERO),
        (np.isnan(value), Reason.FORMULA_UNDEFINED),
        (flat, Reason.ZERO_VARIANCE),
    ]
    return first_reason(value.shape, *rules)


def _notes(shapes: Sequence[MetricShape], found: Sequence[Family], adjust: bool, parts: _Parts) -> Reasons:
    """(..., M) why a metric is not adjusted, or not by all that was asked for."""
    cells = (*parts.arms[:-1], len(shapes))
    none = np.array([not shape.covariates or not adjust for shape in shapes])
    if none.all():
        return constant_reason(cells, CovariateNote.NONE)
    served = {m for family in found if family.covariates for m in family.members}
    lost = np.array([m not in served for m in range(len(shapes))]) & ~none
    fewer = np.zeros(len(shapes), dtype=np.bool_)
    for family in found:
        fewer[list(family.members)] = [family.real < len(shapes[m].covariates) for m in family.members]
    return first_reason(
        cells,
        (none, CovariateNote.NONE),
        (lost, CovariateNote.INVALID),
        (parts.mask(lambda p: p.serving.constant), CovariateNote.CONSTANT),
        (parts.mask(lambda p: p.exhausted), CovariateNote.EXPLAINS_EVERYTHING),
        (parts.mask(lambda p: p.serving.few), CovariateNote.TOO_FEW_UNITS),
        (parts.mask(lambda p: p.collinear), CovariateNote.COLLINEAR),
        (fewer, CovariateNote.PARTLY_INVALID),
        (parts.mask(lambda p: p.serving.partly), CovariateNote.PARTLY_CONSTANT),
    )
