"""A family of metrics adjusted by its covariates, with the reasons where it is not (METHODS A7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stats.covariate import EVERYTHING_SERVES, Usable, optimal_slopes, usable
from stats.influence import ArmMeans, Family, Points, pick, pick_pair, points
from stats.moments import Bools, Floats, safe_divide

EXHAUSTED = 1e-10
"""Covariates that leave less than this share of the variance of a comparison are the metric itself."""


@dataclass(frozen=True, slots=True, eq=False)
class AdjustedFamily:
    """`value`, `variance` and `cross` (covariance with the unadjusted value), all (..., V, M), at the pooled covariate
    mean; one slope (..., M) per covariate. `adjusted` (..., M) where it was done, None for nowhere; `serving`,
    `exhausted` and `collinear` say why not, or not entirely.
    """

    plain: Points
    value: Floats
    variance: Floats
    cross: Floats
    slopes: list[Floats]
    adjusted: Bools | None
    serving: Usable
    exhausted: Bools | None
    collinear: Bools | None


def adjusted_family(means: ArmMeans, family: Family) -> AdjustedFamily:
    """The family's metrics, adjusted where covariates serve. Without covariates: as they are."""
    plain = points(means, family)
    raw, covariates = plain.variance, family.covariates
    if not covariates:
        return AdjustedFamily(plain, plain.value, raw, raw, [], None, EVERYTHING_SERVES, None, None)
    serving = usable([pick(means.varies, columns) for columns in covariates], family.real, means.count)
    own = [plain.with_column(means, family, columns) for columns in covariates]
    between = [
        [pick_pair(means.covariance, left, right) for right in covariates[: i + 1]] for i, left in enumerate(covariates)
    ]
    totals = [[entry.sum(axis=-2) for entry in row] for row in between]
    slopes, collinear = optimal_slopes(totals, [part.sum(axis=-2) for part in own], serving, family.real)

    wide = [theta[..., None, :] for theta in slopes]
    shared = _total([theta * part for theta, part in zip(wide, own, strict=True)])
    squared = _total(
        [(1 if i == j else 2) * wide[i] * wide[j] * between[i][j] for i in range(len(wide)) for j in range(i + 1)]
    )
    cross = raw - shared
    variance = np.maximum(cross - shared + squared, 0.0)
    exhausted = _exhausted(raw, variance)
    adjusted = ~exhausted
    if serving.where is not None:
        adjusted &= np.logical_or.reduce(serving.where)
    if not adjusted.all():
        slopes = [np.where(adjusted, theta, 0.0) for theta in slopes]
        variance = np.where(adjusted[..., None, :], variance, raw)
        cross = np.where(adjusted[..., None, :], cross, raw)
    share = safe_divide(means.count, means.count.sum(axis=-1, keepdims=True))[..., None]
    value = plain.value
    for theta, columns in zip(slopes, covariates, strict=True):
        x = pick(means.mean, columns)
        gaps = x - x[..., :1, :]  # from control first, so that a common offset cancels
        value = value - theta[..., None, :] * (gaps - (share * gaps).sum(axis=-2, keepdims=True))
    return AdjustedFamily(plain, value, variance, cross, slopes, adjusted, serving, exhausted, collinear)


def _total(terms: Sequence[Floats]) -> Floats:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _exhausted(raw: Floats, left: Floats) -> Bools:
    """(..., M) whether some comparison with control (or the only arm) had a variance and has none left."""
    if raw.shape[-2] > 1:
        raw, left = raw[..., 1:, :] + raw[..., :1, :], left[..., 1:, :] + left[..., :1, :]
    return np.asarray(((left <= EXHAUSTED * raw) & (raw > 0)).any(axis=-2))
