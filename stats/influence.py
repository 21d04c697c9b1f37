"""The arms' column means with their covariance, and each metric's value and influence on them (METHODS 1).

Metrics of the same structure (how many columns they average, how many covariates adjust them) form a family and are
computed together. Only the entries of the covariance that a family needs are touched, so a thousand metrics over
thousands of columns cost what a thousand single metrics do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stats.covariate import CONSTANT, varies
from stats.metric_shape import Evaluate, MetricShape
from stats.moments import Bools, Floats, Ints, Moments, safe_divide

DENOMINATOR_PRECISION = 0.1
"""A ratio needs a denominator mean known to 10 % (A4); the delta method is not trusted beyond."""
CANCELLATION = 1e-12
"""A variance below this share of the terms it was summed from is rounding."""

type Columns = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ArmMeans:
    """Column means per arm and how they vary.

    `count` (..., V) units; `mean` (..., V, k); `covariance` (..., V, k, k) of the means, arms are independent;
    `varies` (..., k) whether a column differs between units at all.
    """

    count: Ints
    mean: Floats
    covariance: Floats
    varies: Bools


def arm_means(moments: Moments) -> ArmMeans:
    """Plain means of independent units: covariance S / n, zero where an arm has fewer than two units."""
    n = moments.count
    freedom = n * (n - 1.0)
    per = 1.0 / freedom if n.size and n.min() > 1 else safe_divide(1.0, np.maximum(freedom, 0.0))
    return ArmMeans(n, moments.mean, moments.comoment * per[..., None, None], varies(moments))


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics of one structure. `columns` and `covariates` list, position by position, a column for each member.

    The first `real` covariates are measured values, the others indicators. A formula is a family of its own.
    """

    members: tuple[int, ...]
    columns: tuple[Columns, ...]
    covariates: tuple[Columns, ...]
    real: int
    evaluate: Evaluate | None = None


def families(shapes: Sequence[MetricShape], adjust: bool, refused: Mapping[int, str]) -> list[Family]:
    """The metrics by structure. Refused covariates are left out, and indicators with them when none remains."""
    found: dict[tuple[object, ...], list[tuple[int, Columns, Columns]]] = {}
    evaluators: dict[tuple[object, ...], Evaluate | None] = {}
    for m, shape in enumerate(shapes):
        real = tuple(c for c in shape.covariates if c not in refused) if adjust else ()
        marks = tuple(c for c in shape.indicators if c not in refused) if real else ()
        key = (m if shape.evaluate is not None else -1, len(shape.columns), len(real), len(marks))
        found.setdefault(key, []).append((m, shape.columns, (*real, *marks)))
        evaluators[key] = shape.evaluate
    return [
        Family(
            tuple(m for m, _, _ in rows),
            tuple(zip(*(columns for _, columns, _ in rows), strict=True)),
            tuple(zip(*(covariates for _, _, covariates in rows), strict=True)),
            int(str(key[2])),
            evaluators[key],
        )
        for key, rows in found.items()
    ]


def pick[Values: (Floats, Bools)](array: Values, columns: Columns) -> Values:
    """(..., M) columns of (..., k); a view where there is only one."""
    return array[..., columns[0] : columns[0] + 1] if len(columns) == 1 else array[..., np.array(columns)]


def pick_pair(matrix: Floats, left: Columns, right: Columns) -> Floats:
    """(..., M) entries of (..., k, k); a view where there is only one."""
    if len(left) == 1:
        return matrix[..., left[0], right[0] : right[0] + 1]
    result: Floats = matrix[..., np.array(left), np.array(right)]
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """A family without adjustment, all (..., V, M): `value` (nan where there is none), its `slopes` on each of the
    columns (None: one everywhere), its `variance`; where a denominator is `vague` and where nothing varies (`flat`).
    """

    value: Floats
    slopes: tuple[Floats | None, ...]
    variance: Floats
    vague: Bools | None
    flat: Bools

    def with_column(self, means: ArmMeans, family: Family, column: Columns) -> Floats:
        """(..., V, M) covariance of the values with the mean of one column each."""
        total: Floats | None = None
        for slope, own in zip(self.slopes, family.columns, strict=True):
            part = pick_pair(means.covariance, own, column)
            part = part if slope is None else slope * part
            total = part if total is None else total + part
        assert total is not None
        return total

    def gradient(self, family: Family, k: int) -> Floats:
        """(..., V, M, k) the slopes at their columns."""
        if self.slopes[0] is None:
            rows = np.zeros((len(family.members), k))
            rows[np.arange(len(family.members)), np.array(family.columns[0])] = 1.0
            return np.broadcast_to(rows, (*self.value.shape, k))
        full = np.zeros((*self.value.shape, k))
        for slope, columns in zip(self.slopes, family.columns, strict=True):
            full[..., np.arange(len(columns)), np.array(columns)] += 1.0 if slope is None else slope
        return full


def points(means: ArmMeans, family: Family) -> Points:
    """Values, slopes and variances of a family's metrics (METHODS A1, A4, E1)."""
    value, slopes, vague = _values(means, family)
    sizes = [pick_pair(means.covariance, columns, columns) for columns in family.columns]
    if slopes[0] is None:
        variance = np.maximum(sizes[0], 0.0)
        flat = variance * means.count[..., None] <= (CONSTANT * value) ** 2
        return Points(value, slopes, variance, vague, np.asarray(flat))
    spread = np.zeros(value.shape)
    variance = np.zeros(value.shape)
    for i, (slope, columns) in enumerate(zip(slopes, family.columns, strict=True)):
        assert slope is not None
        spread += np.abs(slope) * np.sqrt(np.maximum(sizes[i], 0.0))
        variance += slope * slope * sizes[i]
        for j in range(i):
            other = slopes[j]
            assert other is not None
            variance += 2 * slope * other * pick_pair(means.covariance, columns, family.columns[j])
    variance = np.maximum(variance, 0.0)
    n = means.count[..., None]
    rounding = np.maximum(CANCELLATION * n * spread**2, (CONSTANT * np.nan_to_num(value)) ** 2)
    return Points(value, slopes, variance, vague, np.asarray(variance * n <= rounding))


def _values(means: ArmMeans, family: Family) -> tuple[Floats, tuple[Floats | None, ...], Bools | None]:
    if family.evaluate is not None:
        inputs = np.array([columns[0] for columns in family.columns])
        with np.errstate(all="ignore"):
            point, gradient = family.evaluate(means.mean[..., inputs])
        defined = np.isfinite(point) & np.isfinite(gradient).all(axis=-1)
        rows = np.where(defined[..., None], gradient, 0.0)
        value = np.where(defined, point, np.nan)[..., None]
        return value, tuple(rows[..., i : i + 1] for i in range(len(inputs))), None
    if len(family.columns) == 1:
        return pick(means.mean, family.columns[0]), (None,), None
    top, bottom = (pick(means.mean, columns) for columns in family.columns)
    ratio, inverse = safe_divide(top, bottom), safe_divide(1.0, bottom)
    error = np.sqrt(np.maximum(pick_pair(means.covariance, family.columns[1], family.columns[1]), 0.0))
    vague = (bottom == 0) | (error >= DENOMINATOR_PRECISION * np.abs(bottom))
    return np.where(bottom == 0, np.nan, ratio), (inverse, -safe_divide(ratio, bottom)), np.asarray(vague)
