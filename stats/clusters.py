"""Inference when few clusters (accounts, stores, regions) were randomised instead of their users (METHODS A5).

Everything comes from cluster totals. With arms as the only regressors, the bias-reduced cluster-robust variance CR2 of
an individual-level regression needs no more: the adjustment matrix of cluster g acts on its residual total as
1 / sqrt(1 - h_g), with h_g the cluster's share of its arm's users (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018
"Small-sample methods for cluster-robust variance estimation"). The same holds for a ratio of totals with h_g the share
of the denominator. Below a dozen clusters in an arm the p-value is that of re-randomising them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.estimate import MetricShape
from stats.moment_set import ClusterTable
from stats.moments import Bools, Floats, Ints, safe_divide
from stats.reasons import Reason, Reasons, clear, first_reason
from stats.rerandomisation import DRAWS, assignments, rerandomised_p
from stats.tails import log10_t_two_sided

RANDOMISATION_BELOW = 12
"""With fewer clusters than this in an arm the p-value is a randomisation test's."""
ALONE = 1 - 1e-9
"""A cluster with this share of its arm is the arm."""


@dataclass(frozen=True, slots=True, eq=False)
class ClusterInference:
    """Treatment minus control from cluster totals, arrays (V-1, M) as in `Differences`.

    `standard_error` is CR2, the interval is by t. `df` is Bell & McCaffrey's, whose working model lets units vary alike
    in both arms, or that of joining the arms' own degrees of freedom as Welch and Satterthwaite do, if that is smaller.
    `p_value` is that of t, or of re-randomisation where `rerandomised` (V-1,): it has at least 1 / draws, and close to
    the limit it and the interval, being two methods, can disagree about 0. `control` is the control arm's estimate,
    `control_variance` and `variance` the CR2 variances of `control` and `difference` (relative lifts need them).
    Inferential numbers are nan where `reason` is given.
    """

    difference: Floats
    standard_error: Floats
    df: Floats
    p_value: Floats
    log10_p: Floats
    ci_lower: Floats
    ci_upper: Floats
    ci_level: float
    reason: Reasons
    rerandomised: Bools
    control: Floats
    control_variance: Floats
    variance: Floats

    @property
    def estimable(self) -> Bools:
        return clear(self.reason)


@dataclass(frozen=True, slots=True, eq=False)
class _Arm:
    """Estimates of one arm, (M,) each; `weight` is 1 / (units, or denominator)."""

    clusters: int
    value: Floats
    variance: Floats
    weight: Floats
    df: Floats
    reason: Reasons


def few_clusters(
    table: ClusterTable, shapes: Sequence[MetricShape], variants: int, level: float = 0.95, seed: int = 0
) -> ClusterInference:
    """Compare every treatment with control (arm 0) from the totals of each cluster.

    The last column of the table is the number of units in the cluster. A mean or a proportion is its column's total
    over that, a ratio is a ratio of totals, a formula is taken at the clusters' means of its columns. Assumes that
    whole clusters were randomised completely, so that numbers per arm are fixed; `seed` decides the re-draws.
    """
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    totals = _as_ratios(shapes, table.values.shape[1] - 1)
    rows = [table.values[table.variant == v] for v in range(variants)]
    arms = [_arm(values, totals) for values in rows]
    control = arms[0]
    value = np.stack([arm.value - control.value for arm in arms[1:]])
    reason = np.stack([np.where(clear(control.reason), arm.reason, control.reason) for arm in arms[1:]])
    variance = np.stack([arm.variance + control.variance for arm in arms[1:]])
    reason = np.where(clear(reason) & (variance <= 0), str(Reason.ZERO_VARIANCE), reason)
    estimable = clear(reason)
    spread = np.stack(
        [safe_divide(arm.variance**2, arm.df) + safe_divide(control.variance**2, control.df) for arm in arms[1:]]
    )
    df = np.where(estimable, np.minimum(safe_divide(variance**2, spread), _equal_spread_df(arms)), 1.0)
    error = np.sqrt(variance)
    p, log10_p = log10_t_two_sided(safe_divide(np.where(estimable, value, 0.0), error), df)
    few = np.array([min(arm.clusters, control.clusters) < RANDOMISATION_BELOW for arm in arms[1:]], dtype=np.bool_)
    for t in np.flatnonzero(few & estimable.any(axis=-1)):
        pair = np.concatenate([rows[t + 1], rows[0]])
        drawn = assignments(arms[t + 1].clusters, control.clusters, DRAWS, np.random.SeedSequence([seed, int(t)]))
        usable = np.flatnonzero(estimable[t])
        p[t, usable] = rerandomised_p(pair, [totals[m] for m in usable], arms[t + 1].clusters, drawn)
    log10_p = np.where(few[:, None], np.log10(p), log10_p)
    half = sc.stdtrit(df, 0.5 + level / 2) * error

    def shown(numbers: Floats) -> Floats:
        return np.where(estimable, numbers, np.nan)

    return ClusterInference(
        difference=value,
        standard_error=shown(error),
        df=shown(df),
        p_value=shown(p),
        log10_p=shown(log10_p),
        ci_lower=shown(value - half),
        ci_upper=shown(value + half),
        ci_level=level,
        reason=reason,
        rerandomised=few,
        control=np.broadcast_to(control.value, value.shape),
        control_variance=np.broadcast_to(control.variance, value.shape),
        variance=shown(variance),
    )


def _equal_spread_df(arms: Sequence[_Arm]) -> Floats:
    """(V-1, M) degrees of freedom if units vary alike in both arms: an arm weighs by the inverse of its size."""
    control = arms[0]
    spread = np.stack(
        [safe_divide(arm.weight**2, arm.df) + safe_divide(control.weight**2, control.df) for arm in arms[1:]]
    )
    total = np.stack([arm.weight + control.weight for arm in arms[1:]])
    return np.where(spread > 0, safe_divide(total**2, spread), 1.0)


def cluster_freedom(count: Ints) -> Floats:
    """Degrees of freedom G - 2 of each treatment with control, (..., V-1) from clusters (..., V): where no table is.

    At least 1, so that it can be used before anything is known to be estimable.
    """
    return np.asarray(np.maximum(count[..., 1:] + count[..., :1] - 2.0, 1.0), dtype=np.float64)


def _as_ratios(shapes: Sequence[MetricShape], size: int) -> list[MetricShape]:
    """Means and proportions as ratios to the cluster size."""
    return [
        MetricShape(shape.key, "ratio", shape.value, size) if shape.kind in ("mean", "proportion") else shape
        for shape in shapes
    ]


def _arm(values: Floats, shapes: Sequence[MetricShape]) -> _Arm:
    """Estimate, CR2 variance and degrees of freedom in one arm; `values` (G, k), sizes last."""
    clusters, metrics = len(values), len(shapes)
    influence, share = np.zeros((clusters, metrics)), np.zeros((clusters, metrics))
    value = np.full(metrics, np.nan)
    undefined = np.zeros(metrics, dtype=np.bool_)
    ratios = np.array([m for m, shape in enumerate(shapes) if shape.denominator is not None], dtype=np.int64)
    top = values[:, [shapes[m].value for m in ratios]]
    bottom = values[:, [shapes[m].denominator or 0 for m in ratios]]
    whole = bottom.sum(axis=0)
    undefined[ratios] = whole <= 0
    ratio = safe_divide(top.sum(axis=0), whole)
    value[ratios] = np.where(whole > 0, ratio, np.nan)
    influence[:, ratios] = safe_divide(top - ratio * bottom, whole)
    share[:, ratios] = safe_divide(bottom, whole)
    weight = np.full(metrics, float(safe_divide(1.0, values[:, -1].sum())))
    weight[ratios] = safe_divide(1.0, np.maximum(whole, 0.0))
    mean = values.mean(axis=0) if clusters else np.zeros(values.shape[1])
    for m, shape in enumerate(shapes):
        if shape.evaluate is None or not clusters:
            continue
        columns = list(shape.inputs)
        with np.errstate(all="ignore"):
            point, gradient = shape.evaluate(mean[columns])
        undefined[m] = not (np.isfinite(point) and np.isfinite(gradient).all())
        if not undefined[m]:
            value[m] = float(point)
            influence[:, m] = (values[:, columns] - mean[columns]) @ gradient / clusters
            share[:, m] = safe_divide(values[:, -1], values[:, -1].sum())
    share = np.clip(share, 0.0, 1.0)
    alone = (share >= ALONE).any(axis=0)
    left = np.where(alone, 1.0, 1 - share)
    # A variance that is the rounding of equal clusters is none.
    residual = np.where(np.abs(influence) <= 1e-12 * np.abs(np.nan_to_num(value)) * share, 0.0, influence)
    formula = np.array([shape.evaluate is not None for shape in shapes], dtype=np.bool_)
    reason = first_reason(
        (metrics,),
        (np.full(metrics, clusters < 2), Reason.TOO_FEW_CLUSTERS),
        (undefined & formula, Reason.FORMULA_UNDEFINED),
        (undefined, Reason.DENOMINATOR_NEAR_ZERO),
        (alone, Reason.TOO_FEW_CLUSTERS),
    )
    pull = share**2 / left
    inverse_df = (share**2).sum(axis=0) + pull.sum(axis=0) ** 2 - (pull**2).sum(axis=0)
    df = safe_divide(1.0, inverse_df)
    variance = (residual**2 / left).sum(axis=0)
    return _Arm(clusters, value, variance, weight, np.where(df > 0, df, 1.0), reason)
