"""Differences of differences, cell by cell: treated cells less their base, less the same of untreated units (D2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stats.launch.contract import NotEstimable, Panel
from stats.launch.reasons import LaunchReason
from stats.launch.treated_cells import TreatedCells, usable
from stats.launch.two_way import TwoWay, two_way
from stats.launch.unit_errors import Errors, few, unit_errors
from stats.moments import Bools, Floats, Ints, safe_divide


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Treated `units` (m,) with one `base` (T,): the periods that their outcomes are compared with.

    `own` (m, T) and `others` (N, T) are weights of each unit's base mean; `compared` (N, T) are the comparison's cells.
    """

    units: Ints
    own: Floats
    others: Floats
    compared: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """All of them: `cells` have the effects, `comparisons` is the smallest number of units compared with.

    `expected` (N, T) is what treated units would have been: their base and how the compared units moved from theirs;
    nan for other units and where fewer than 2 could be compared with.
    """

    panel: Panel
    expected: Floats
    cells: TreatedCells
    comparisons: int
    fit: TwoWay
    groups: tuple[_Group, ...]

    def fitted(self, size: Floats) -> Floats:
        """(T,) `expected`, averaged over units by `size` (N,); nan where it is not known of all that count."""
        return np.asarray(size[size > 0] @ self.expected[size > 0])

    def errors(self, targets: Floats) -> Errors:
        """Errors of averages of the effects with `targets` (K, N, T) on known cells."""
        weights = np.zeros_like(targets)
        for group in self.groups:
            mine = targets[:, group.units]
            compared = safe_divide(group.compared, group.compared.sum(axis=0))
            lent = mine.sum(axis=1)[:, None, :] * compared
            weights -= lent - lent.sum(axis=-1, keepdims=True) * group.others
        # What a treated unit adds as a treated one is its deviation; beside that it may serve as a comparison.
        adds = np.einsum("knt,nt->kn", weights, self.fit.residual)
        adds += np.einsum("knt,nt->kn", targets, self.cells.deviations)
        for group in self.groups:
            mine = targets[:, group.units]
            weights[:, group.units] += mine - mine.sum(axis=-1, keepdims=True) * group.own
        return unit_errors(
            weights,
            adds,
            fit=self.fit,
            treated=self.panel.treated,
            comparisons=self.comparisons,
            by_untreated=few(self.cells.size),
        )


def differences(panel: Panel, asked: Bools, base: Bools, comparison: Bools) -> Differences:
    """Effects of the cells `asked` (N, T) of treated units, each unit against the mean of its `base` (N, T) cells.

    `comparison` (N, T) are untreated cells that may be compared with; a unit takes part where it has cells in the base
    too, and no unit is compared with those that share its base. Cells with fewer than 2 units to compare with are
    left out. Raises `NotEstimable` where none is left.
    """
    untreated, _ = usable(panel)
    fit = two_way(panel.y, untreated)
    y = np.where(np.isfinite(panel.y), panel.y, 0.0)
    known, expected = np.zeros_like(asked), np.full(asked.shape, np.nan)
    groups, fewest, most = [], len(y), 0
    with_base = np.flatnonzero(asked.any(axis=1) & base.any(axis=1))
    if with_base.size == 0:
        raise NotEstimable(LaunchReason.TOO_LITTLE_HISTORY)
    patterns, member = np.unique(base[with_base], axis=0, return_inverse=True)
    for g, pattern in enumerate(patterns):
        units = with_base[member == g]
        within = comparison & pattern
        within[units] = False
        others = safe_divide(within, within.sum(axis=1, keepdims=True))
        compared = comparison & within.any(axis=1, keepdims=True)
        compared[units] = False
        count = compared.sum(axis=0)
        most = max(most, int(count[asked[units].any(axis=0)].max()))
        change = np.where(compared, y - (y * others).sum(axis=1, keepdims=True), 0.0).sum(axis=0)
        own = base[units] / base[units].sum(axis=1, keepdims=True)
        usual = np.where(count >= 2, safe_divide(change, count), np.nan)
        expected[units] = (y[units] * own).sum(axis=1, keepdims=True) + usual
        known[units] = asked[units] & (count >= 2)
        fewest = min(fewest, int(count[known[units].any(axis=0)].min(initial=len(y))))
        groups.append(_Group(units, own, others, compared))
    if not known.any():
        raise NotEstimable(LaunchReason.TOO_FEW_COMPARISON_UNITS if most else LaunchReason.NO_COMPARISON_UNITS)
    effect = np.where(known, y - np.where(known, expected, 0.0), 0.0)
    return Differences(panel, expected, TreatedCells(panel, known, effect, untreated), fewest, fit, tuple(groups))
