"""Arm estimates of every metric with their joint covariance, by the influence representation (METHODS 1, A1, A4, A7).

Each estimator is a function f of an arm's column means with gradient g; its sampling variance is g' S g / n and two
estimators of the same arm covary by g' S h / n. Means, proportions, ratios, formulas and covariate-adjusted versions of
them differ only in f and g, so everything downstream sees the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stats.covariate import CONSTANT, optimal_slopes, varies
from stats.moments import Bools, Floats, Ints, Moments, safe_divide
from stats.reasons import CovariateNote, Reason, Reasons, clear, first_reason

type Evaluate = Callable[[Floats], tuple[Floats, Floats]]
"""Maps input means (..., c) to values (...,) and gradients (..., c)."""

DENOMINATOR_PRECISION = 0.1
"""A ratio needs a denominator mean known to 10 % (A4); the delta method is not trusted beyond."""
CANCELLATION = 1e-12
"""A variance below this share of the terms it was summed from is rounding."""


@dataclass(frozen=True, slots=True)
class MetricShape:
    """How one metric is computed from the moment columns.

    `value` is the column of a mean or proportion, or the numerator of a ratio whose `denominator` is given. A formula
    has `inputs` columns and an `evaluate` function instead. `covariates` are pre-exposure columns: the pre-period
    value, or pre-period numerator and denominator (two covariates are never worse than their ratio, A7). `indicators`
    mark units whose covariates are missing: covariates as well, but one that says nothing new is no news (A7).
    """

    key: str
    kind: Literal["mean", "proportion", "ratio", "formula"]
    value: int = -1
    denominator: int | None = None
    covariates: tuple[int, ...] = ()
    indicators: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    evaluate: Evaluate | None = None

    def __post_init__(self) -> None:
        if (self.kind == "ratio") != (self.denominator is not None):
            raise ValueError(f"metric {self.key!r}: a ratio, and only a ratio, has a denominator column")
        if (self.kind == "formula") != (self.evaluate is not None and bool(self.inputs)):
            raise ValueError(f"metric {self.key!r}: a formula, and only a formula, has inputs and an evaluate function")
        if self.kind != "formula" and self.value < 0:
            raise ValueError(f"metric {self.key!r}: no value column")

    @property
    def columns(self) -> tuple[int, ...]:
        """Columns the metric's value depends on (covariates not included)."""
        if self.kind == "formula":
            return self.inputs
        return (self.value,) if self.denominator is None else (self.value, self.denominator)


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

    @property
    def estimable(self) -> Bools:
        """(..., V, M) whether the arm has an estimate with a positive variance."""
        return clear(self.reason)

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
    covariates on it are left out. With `adjust` the estimates are covariate-adjusted where a metric has covariates.
    """
    if not moments.cells or moments.cells[-1] < 1:
        raise ValueError("the last axis of the cells must hold the arms, control first")
    refused = dict(invalid or {})
    freedom = moments.count * np.maximum(moments.count - 1.0, 0.0)
    mean_covariance: Floats = moments.comoment * safe_divide(1.0, freedom)[..., None, None]
    unadjusted, gradient = _points(moments, shapes)
    absent = np.array([any(c in refused for c in shape.columns) for shape in shapes])
    unadjusted = np.where(absent | (moments.count[..., None] == 0), np.nan, unadjusted)
    raw = gradient @ mean_covariance
    raw_variance = np.maximum((raw * gradient).sum(axis=-1), 0.0)
    reason = _arm_reasons(moments, shapes, refused, unadjusted, gradient, raw_variance)

    asked = [
        [c for c in (*shape.covariates, *shape.indicators) if c not in refused] if adjust and shape.covariates else []
        for shape in shapes
    ]
    slopes = optimal_slopes(mean_covariance, raw, varies(moments), asked)
    residual, variance, cross = gradient, raw_variance, raw_variance
    if any(asked):
        residual = gradient - slopes.value[..., None, :, :]
        variance = np.maximum(((residual @ mean_covariance) * residual).sum(axis=-1), 0.0)
    all_raw, all_left = raw_variance.sum(axis=-2), variance.sum(axis=-2)
    exhausted = (all_left <= 1e-10 * all_raw) & (all_raw > 0) & ~slopes.constant
    adjusted = ~slopes.constant & ~exhausted
    slope, value = slopes.value, unadjusted
    if any(asked):
        slope = np.where(adjusted[..., None], slopes.value, 0.0)
        residual = gradient - slope[..., None, :, :]
        variance = np.where(adjusted[..., None, :], variance, raw_variance)
        cross = (raw * residual).sum(axis=-1)
        share = safe_divide(moments.count, moments.count.sum(axis=-1, keepdims=True))[..., None]
        gaps = moments.mean - moments.mean[..., :1, :]  # from control first, so that a common offset cancels
        gaps -= (share * gaps).sum(axis=-2, keepdims=True)
        value = unadjusted - gaps @ np.swapaxes(slope, -1, -2)

    none = np.array([not shape.covariates or not adjust for shape in shapes])
    lost = np.array([bool(shape.covariates) and not left for shape, left in zip(shapes, asked, strict=True)])
    note = first_reason(
        adjusted.shape,
        (none, CovariateNote.NONE),
        (lost, CovariateNote.INVALID),
        (slopes.constant, CovariateNote.CONSTANT),
        (exhausted, CovariateNote.EXPLAINS_EVERYTHING),
        (slopes.collinear, CovariateNote.COLLINEAR),
    )
    return Estimates(
        keys=tuple(shape.key for shape in shapes),
        value=value,
        unadjusted=unadjusted,
        count=moments.count,
        variance=variance,
        raw_variance=raw_variance,
        cross=cross,
        reason=reason,
        adjusted=adjusted,
        note=note,
        variance_reduction=np.where(adjusted, 1 - safe_divide(variance.sum(axis=-2), all_raw), 0.0),
        gradient=gradient,
        residual_gradient=residual,
        slope=slope,
        mean_covariance=mean_covariance,
    )


def _points(moments: Moments, shapes: Sequence[MetricShape]) -> tuple[Floats, Floats]:
    """Values (..., V, M) and gradients (..., V, M, k); nan values where there is no value."""
    mean = moments.mean
    value = np.empty((*mean.shape[:-1], len(shapes)))
    gradient = np.zeros((*value.shape, mean.shape[-1]))
    for m, shape in enumerate(shapes):
        if shape.evaluate is not None:
            with np.errstate(all="ignore"):
                point, slopes = shape.evaluate(mean[..., list(shape.inputs)])
            defined = np.isfinite(point) & np.isfinite(slopes).all(axis=-1)
            value[..., m] = np.where(defined, point, np.nan)
            for position, column in enumerate(shape.inputs):
                gradient[..., m, column] += np.where(defined, slopes[..., position], 0.0)
        elif shape.denominator is not None:
            bottom = mean[..., shape.denominator]
            ratio = safe_divide(mean[..., shape.value], bottom)
            value[..., m] = np.where(bottom == 0, np.nan, ratio)
            gradient[..., m, shape.value] += safe_divide(1.0, bottom)
            gradient[..., m, shape.denominator] -= safe_divide(ratio, bottom)
        else:
            value[..., m] = mean[..., shape.value]
            gradient[..., m, shape.value] = 1.0
    return value, gradient


def _arm_reasons(
    moments: Moments,
    shapes: Sequence[MetricShape],
    refused: Mapping[int, str],
    value: Floats,
    gradient: Floats,
    variance: Floats,
) -> Reasons:
    """(..., V, M) why an arm's estimate cannot be used; the first that applies in the order written here."""
    count = moments.count[..., None]
    square = np.maximum(np.diagonal(moments.comoment, axis1=-2, axis2=-1), 0.0)
    spread = np.sqrt(safe_divide(square, np.maximum(count - 1, 0)))
    largest = (np.abs(gradient) @ spread[..., None])[..., 0] ** 2
    rounding = np.maximum(CANCELLATION * largest, (CONSTANT * np.nan_to_num(value)) ** 2)
    rules: list[tuple[Bools, str]] = []
    everywhere = np.ones(value.shape[:-1], dtype=np.bool_)
    for m, shape in enumerate(shapes):
        for column in shape.columns:
            if column in refused:
                rules.append((_only(value.shape, m, everywhere), refused[column]))
    rules.append((np.broadcast_to(count < 2, value.shape), Reason.TOO_FEW_UNITS))
    for m, shape in enumerate(shapes):
        if shape.denominator is not None:
            mean = moments.mean[..., shape.denominator]
            error = spread[..., shape.denominator] / np.sqrt(np.maximum(moments.count, 1))
            vague = (mean == 0) | (error >= DENOMINATOR_PRECISION * np.abs(mean))
            rules.append((_only(value.shape, m, vague), Reason.DENOMINATOR_NEAR_ZERO))
    rules.append((np.isnan(value), Reason.FORMULA_UNDEFINED))
    rules.append((variance * count <= rounding, Reason.ZERO_VARIANCE))
    return first_reason(value.shape, *rules)


def _only(shape: tuple[int, ...], metric: int, mask: Bools) -> Bools:
    """A mask of `shape` (..., M) that is `mask` (...,) for one metric and false for the others."""
    full = np.zeros(shape, dtype=np.bool_)
    full[..., metric] = mask
    return full
