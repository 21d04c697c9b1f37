"""Averages of the effects of single treated cells: overall, by period and by time since launch (METHODS D2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stats.launch.contract import NotEstimable, Panel
from stats.launch.reasons import LaunchReason
from stats.moments import Bools, Floats, Ints, safe_divide

SETTLED = 0.5
"""Times since launch that at least this share of treated units reached have a mean of their own to deviate from."""


@dataclass(frozen=True, eq=False)
class TreatedCells:
    """Cells of treated units whose effect is known: `known` (N, T), their `effect` (N, T), 0 elsewhere, as it was.

    `beside` (N, T) are usable untreated cells: those of units with a known effect count as 0 in averages over treated
    units. Cells before the launch can be among the known ones where it is asked what happened then.
    """

    panel: Panel
    known: Bools
    effect: Floats
    beside: Bools

    @cached_property
    def size(self) -> Floats:
        """(N,) sizes of treated units with a known effect, summing to 1, 0 for others; equal where none has a size."""
        return sizes_of(self.known.any(axis=1), self.panel)

    @cached_property
    def time(self) -> Ints:
        return since_launch(self.panel)

    @cached_property
    def dose(self) -> Floats:
        """(N, T) what effects are proportional to: coverage, and 1 before the launch, where nothing is."""
        return np.where(self.time >= 0, self.panel.coverage, 1.0)

    @cached_property
    def counted(self) -> Bools:
        """(N, T) known cells of units that are of any size."""
        return self.known & (self.size > 0)[:, None]

    @property
    def periods(self) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
        return np.flatnonzero(self.counted.any(axis=0))

    @property
    def times(self) -> Ints:
        return np.unique(self.time[self.counted])

    def overall(self) -> Floats:
        """(1, N, T) weights of the average effect at full coverage: effects regressed on coverage, by size.

        The size-weighted mean over cells where coverage is 1.
        """
        share = np.where(self.known, self.size[:, None] * self.panel.coverage, 0.0)
        return (share / (share * self.panel.coverage).sum())[None]

    def of_periods(self, periods: Ints) -> Floats:
        """(P, N, T) weights of the effect in these periods, an average over all treated units, launched or not yet."""
        share = self.known * self.size[:, None]
        among = share + self.beside * self.size[:, None]
        share = share / np.where(share.sum(axis=0) > 0, among.sum(axis=0), 1.0)
        chosen = np.zeros((len(periods), *self.known.shape))
        chosen[np.arange(len(periods)), :, periods] = share[:, periods].T
        return chosen

    def of_times(self, times: Ints) -> Floats:
        """(E, N, T) weights of the size-weighted mean effect at these times since launch."""
        share = (self.time == times[:, None, None]) * (self.known * self.size[:, None])
        return np.asarray(share / share.sum(axis=(1, 2), keepdims=True))

    @cached_property
    def deviations(self) -> Floats:
        """(N, T) effects less the mean effect of their group, free of that mean's own error; 0 off known cells.

        A group is a time since launch; times that few units reached join the last one that half of them did. Means are
        at full coverage. A deviation holds a unit's error and what its effect differs by, which makes a variance built
        on it conservative (Borusyak, Jaravel & Spiess 2024, theorem 3). It is divided by the root of what taking the
        mean left of its variance, as if units varied alike.
        """
        unit, period = np.nonzero(self.known)
        dose, effect, size = self.dose[unit, period], self.effect[unit, period], self.size[unit]
        group = np.minimum(self.time[unit, period], self._last_settled())
        group -= group.min()
        groups, units = int(group.max()) + 1, len(self.known)
        pull = size * dose**2
        whole = np.bincount(group, pull, groups)
        mean = safe_divide(np.bincount(group, size * dose * effect, groups), whole)
        part = safe_divide(np.bincount(unit * groups + group, pull, units * groups).reshape(units, groups), whole)
        left = 1 - 2 * part + (part**2).sum(axis=0)
        found = np.zeros(self.known.shape)
        found[unit, period] = safe_divide(effect - mean[group] * dose, np.sqrt(np.maximum(left[unit, group], 0.0)))
        return found

    def _last_settled(self) -> int:
        time = self.time[self.known]
        reached = np.bincount(time - time.min())
        wide = reached >= max(2, SETTLED * reached.max())
        return int(time.min() + (np.flatnonzero(wide).max() if wide.any() else 0))


def since_launch(panel: Panel) -> Ints:
    """(N, T) periods since a unit's own launch, negative before it."""
    return np.arange(panel.y.shape[1])[None, :] - panel.first[:, None]


def sizes_of(units: Bools, panel: Panel) -> Floats:
    """(N,) sizes of these units (N,), summing to 1, 0 for others; equal where none has a size."""
    own = np.where(units, panel.weight, 0.0)
    own = own if own.sum() > 0 else units.astype(np.float64)
    return np.asarray(own / own.sum())


def usable(panel: Panel) -> tuple[Bools, Bools]:
    """Cells (N, T) that are observed and not excluded: untreated ones, and treated ones.

    Raises `NotEstimable` where the launch has no usable cell, or nothing is untreated.
    """
    seen = np.isfinite(panel.y) & ~panel.excluded
    if not panel.treated.any():
        raise NotEstimable(LaunchReason.NO_COVERAGE)
    untreated, treated = seen & (panel.coverage == 0), seen & (panel.coverage > 0)
    if not treated.any():
        raise NotEstimable(LaunchReason.NO_PERIOD_AFTER_LAUNCH)
    if not untreated.any():
        raise NotEstimable(LaunchReason.NO_UNTREATED_CELLS)
    return untreated, treated


def before_launch(panel: Panel, untreated: Bools) -> Bools:
    """(N, T) usable cells of treated units before their own launch; later ones are those of a launch taken back."""
    return np.asarray(untreated & panel.treated[:, None] & (np.arange(panel.y.shape[1]) < panel.first[:, None]))
