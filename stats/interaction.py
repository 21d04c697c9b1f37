"""Do two experiments on the same units change each other's effect (METHODS A16)?

With independent hashing each experiment's own effect stays valid, as an average over what the other one gave. What may
differ is the effect under one of the other's variants: the difference of differences between the four cells. It needs
about 16 times the units of a main effect of the same size, so finding nothing says little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.difference import difference
from stats.estimate import Estimates, MetricShape, estimate
from stats.moments import Bools, Floats, Moments, safe_divide
from stats.reasons import Reason, Reasons, clear, first_reason
from stats.tails import log10_chi_square

FEWEST_UNITS = 30
"""A cell with fewer units has no normal mean."""
MATERIAL_SHARE = 0.25
"""An interaction below this share of the smaller main effect changes no decision."""


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """Difference of differences per (other treatment, own treatment, metric), arrays (W-1, V-1, M).

    `value` = (m_11 - m_10) - (m_01 - m_00), in units of the metric: how much larger the own treatment's effect is under
    the other treatment than under the other control. Welch-Satterthwaite `df` over the four cells. nan where `reason`
    is not empty. `own` (V-1, M) and `other` (W-1, M) are the main effects, each averaged over the other's variants.
    """

    value: Floats
    standard_error: Floats
    df: Floats
    p_value: Floats
    reason: Reasons
    own: Floats
    other: Floats

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """Lower and upper bounds (W-1, V-1, M) at a two-sided `level`."""
        half = sc.stdtrit(self.df, 0.5 + level / 2) * self.standard_error
        return self.value - half, self.value + half

    @property
    def material(self) -> Bools:
        """(W-1, V-1, M) whether an interaction exceeds `MATERIAL_SHARE` of the smaller of the two main effects."""
        smaller = np.minimum(np.abs(self.own)[None], np.abs(self.other)[:, None])
        return np.asarray(np.abs(self.value) > MATERIAL_SHARE * smaller, dtype=np.bool_)


def interactions(
    cells: Moments, shapes: Sequence[MetricShape], adjust: bool = True, invalid: Mapping[int, str] | None = None
) -> Interactions:
    """Interactions of all pairs of treatments from cells (W, V): variants of the other experiment, then of this one.

    Controls come first on both axes. With `adjust`, effects under each of the other's variants are covariate-adjusted
    (METHODS A7). Fails where one experiment decides who enters the other: see `association`.
    """
    if len(cells.cells) != 2 or min(cells.cells) < 2:
        raise ValueError("cells must be (variants of the other experiment, variants of this one), at least two of each")
    found = estimate(cells, shapes, adjust, invalid)
    effect = difference(found)
    value = effect.value[1:] - effect.value[:1]
    variance = found.variance
    parts = np.stack(
        np.broadcast_arrays(variance[1:, 1:], variance[1:, :1], variance[:1, 1:], variance[:1, :1]), axis=-1
    )
    counts = cells.count[..., None].astype(np.float64)
    units = np.stack(np.broadcast_arrays(counts[1:, 1:], counts[1:, :1], counts[:1, 1:], counts[:1, :1]), axis=-1)
    total = parts.sum(axis=-1)
    reason = _reasons(found, np.broadcast_to(units.min(axis=-1), total.shape), total)
    known = clear(reason)
    df = safe_divide(total**2, safe_divide(parts**2, np.maximum(units - 1, 1)).sum(axis=-1))
    error = np.sqrt(np.where(known, total, np.nan))
    df = np.where(known, df, np.nan)
    value = np.where(known, value, np.nan)
    own = difference(estimate(cells.merge_axis(0), shapes, adjust, invalid)).value
    other = difference(estimate(cells.merge_axis(1), shapes, adjust, invalid)).value
    return Interactions(
        value=value,
        standard_error=error,
        df=df,
        p_value=np.where(known, 2 * sc.stdtr(df, -np.abs(safe_divide(value, error))), np.nan),
        reason=reason,
        own=own,
        other=other,
    )


def _reasons(found: Estimates, fewest: Floats, total: Floats) -> Reasons:
    """The first cell that cannot be used; constant cells are fine as long as one of the four varies."""
    arms = np.where(found.reason == Reason.ZERO_VARIANCE, "", found.reason)
    codes = np.array(
        first_reason(total.shape, (fewest < FEWEST_UNITS, Reason.TOO_FEW_UNITS), (total <= 0, Reason.ZERO_VARIANCE))
    )
    for part in (arms[:1, :1], arms[:1, 1:], arms[1:, :1], arms[1:, 1:]):
        source = np.broadcast_to(part, codes.shape)
        take = (codes == "") & (source != "")
        codes[take] = source[take]
    return codes


@dataclass(frozen=True, slots=True)
class Association:
    """Pearson's test that two assignments are independent."""

    statistic: float
    df: float
    p_value: float


def association(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Association:
    """Whether units' variants in two experiments depend on each other, from counts (W, V).

    Independent hashing makes them independent. Otherwise each experiment's effect contains a share of the other's, and
    neither its own effect nor their interaction can be read.
    """
    table = np.asarray(counts, dtype=np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    df = float((table.shape[0] - 1) * (table.shape[1] - 1)) if table.size else 0.0
    if df <= 0:
        return Association(0.0, 0.0, 1.0)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return Association(statistic, df, float(log10_chi_square(statistic, df)[0]))
