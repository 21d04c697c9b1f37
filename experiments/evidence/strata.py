"""Estimates of everybody compared within strata (METHODS A8), and who must be: rows and looks, not segments.

Segments stay as they are: their units are too few to be cut again. Where an arm has few successes, exact methods for
the plain shares (A2) are worth more than strata, unless the arms came in different mixtures of them: then only a
comparison within strata is one of the treatment.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import scipy.special as sc

from experiments.evidence.cells import Cells
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan
from stats.estimate import Estimates
from stats.moments import Bools, Moments, safe_divide
from stats.proportion import small_counts
from stats.stratification import estimate_stratified, merged_strata, with_cells

UNEVEN_ALPHA = 0.01
"""Arms whose mixtures of strata differ with a smaller p-value have different ones (as after a ramp)."""
PER_METRIC = ("adjusted", "note", "variance_reduction", "slope")
"""Fields of estimates that have no axis of arms."""


def with_strata(plan: AnalysisPlan, block: BlockShapes, cells: Cells, estimates: Estimates) -> tuple[Estimates, Bools]:
    """Estimates with the cells that have strata post-stratified, and (..., M) which of them are."""
    used = np.zeros(estimates.adjusted.shape, dtype=np.bool_)
    if cells.strata is None:
        return estimates, used
    here = cells.stratified
    several = merged_strata(cells.strata).count.any(axis=-1).sum(axis=-1) > 1
    used[here] = several[:, None]
    plain = small_counts(cells.moments, block.shapes)[here].any(axis=-2) & ~uneven(cells.strata)[:, None]
    used[here] &= ~plain
    found = estimate_stratified(cells.strata, block.shapes, plan.estimation.cuped, block.invalid)
    merged = with_cells(estimates, here, found)
    return merged if used.all() else _chosen(used, merged, estimates), used


def uneven(strata: Moments) -> Bools:
    """(...,) whether arms hold different mixtures of strata, cells (..., S, V); chi-square test of homogeneity."""
    count = strata.count.astype(float)
    rows, columns = count.sum(axis=-1, keepdims=True), count.sum(axis=-2, keepdims=True)
    expected = safe_divide(rows * columns, count.sum(axis=(-2, -1), keepdims=True))
    statistic = safe_divide((count - expected) ** 2, expected).sum(axis=(-2, -1))
    df = ((rows > 0).sum(axis=(-2, -1)) - 1.0) * ((columns > 0).sum(axis=(-2, -1)) - 1.0)
    return np.asarray((df > 0) & (sc.chdtrc(np.maximum(df, 1.0), statistic) < UNEVEN_ALPHA))


def _chosen(where: Bools, one: Estimates, other: Estimates) -> Estimates:
    """`one` in the cells and metrics of `where` (..., M), else `other`; covariances between metrics are `one`'s."""
    changed = {"freedom": np.where(where[..., None, :], one.arm_freedom, other.arm_freedom)}
    changed["baseline_covariance"] = np.where(where[..., None, :], one.control_covariance, other.control_covariance)
    for field in fields(Estimates):
        name = field.name
        if name in ("keys", "count", "mean_covariance", *changed):
            continue
        mask = where if name in PER_METRIC else where[..., None, :]
        array = getattr(one, name)
        mask = mask[..., None] if array.ndim > mask.ndim else mask
        changed[name] = np.where(mask, array, getattr(other, name))
    return replace(one, **changed)  # type: ignore[arg-type]  # the names are those of arrays
