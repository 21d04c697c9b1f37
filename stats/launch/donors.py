"""One averaged outcome with the launch beside outcomes without it: what synthetic control methods compare (D3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stats.launch.contract import NotEstimable, Panel
from stats.launch.reasons import LaunchReason
from stats.moments import Floats

type Places = np.ndarray[tuple[int, ...], np.dtype[np.intp]]

LEAST_HISTORY = 10
"""Periods before the launch below which weights follow noise (METHODS D3)."""
LEAST_DONORS = 2
CELLS_LEFT_OUT = "cells_without_comparison_left_out"
FEW_DONORS = 5
"""Below this many donors the estimate stands, with a note: its placebos say little of its error."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """An outcome (S,) with the launch, `donors` (J, S) without, and nothing missing.

    The first `before` of the S periods are before the launch; `coverage` (S - before,) is the launch's in the others.
    `treated` is the number of units that the outcome averages: 1 / sum of their squared weights.
    """

    outcome: Floats
    donors: Floats
    before: int
    coverage: Floats
    treated: float

    @property
    def share(self) -> Floats:
        """(S - before,) how much each period after the launch counts in that average; sums to 1."""
        return np.asarray(self.coverage / self.coverage.sum())

    @property
    def share_at_full_coverage(self) -> Floats:
        """(S - before,) by which effects per period make the average effect at full coverage."""
        return np.asarray(self.coverage / (self.coverage @ self.coverage))

    def without(self, donor: int) -> Comparison:
        """The same, one donor left out."""
        kept = np.delete(self.donors, donor, axis=0)
        return Comparison(self.outcome, kept, self.before, self.coverage, self.treated)

    def placebo(self, members: Places, weight: Floats) -> Comparison:
        """As if these donors (M,), averaged by `weight` (M,), had had the launch; they are donors no more."""
        rest = np.delete(self.donors, members, axis=0)
        return Comparison(weight @ self.donors[members], rest, self.before, self.coverage, 1 / float(weight @ weight))


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """Weights of donors (J,) and of periods before the launch (before,), all 0 where a method uses none."""

    unit: Floats
    time: Floats

    def intercept(self, case: Comparison) -> float:
        """The gap that was there before the launch, by the weights of periods."""
        return float(self.time @ (case.outcome - self.unit @ case.donors)[: case.before])

    def gaps(self, case: Comparison) -> Floats:
        """(S,) outcome less its synthetic self."""
        return np.asarray(case.outcome - self.unit @ case.donors - self.intercept(case))


@dataclass(frozen=True, slots=True, eq=False)
class Concurrent:
    """A panel whose treated units start together, made into a comparison.

    `treated`, `donors` index its units, `periods` (S,) its periods; `weight` are the treated units', summing to 1.
    """

    case: Comparison
    treated: Places
    donors: Places
    periods: Places
    weight: Floats
    notes: tuple[str, ...]


def concurrent(panel: Panel) -> Concurrent:
    """Treated units averaged by size, beside units that never have the launch and lack no period.

    A period serves if every treated unit was observed in it and is not excluded, and if half the donors were: after
    that, donors with gaps are left out. Raises `NotEstimable`.
    """
    treated, never = np.flatnonzero(panel.treated), np.flatnonzero(~panel.treated)
    if treated.size == 0:
        raise NotEstimable(LaunchReason.NO_COVERAGE)
    if never.size == 0:
        raise NotEstimable(LaunchReason.NO_COMPARISON_UNITS)
    starts = panel.first[treated]
    if np.ptp(starts) > 0:
        raise NotEstimable(LaunchReason.NOT_CONCURRENT)
    usable = np.isfinite(panel.y) & ~panel.excluded
    weight = panel.weight[treated]
    weight = weight / weight.sum() if weight.sum() > 0 else np.full(treated.size, 1 / treated.size)
    coverage = weight @ panel.coverage[treated]

    time = np.arange(panel.y.shape[1])
    past = time < starts[0]
    serves = usable[treated].all(axis=0) & (2 * usable[never].sum(axis=0) >= never.size)
    before, after = np.flatnonzero(serves & past), np.flatnonzero(serves & ~past & (coverage > 0))
    if before.size < LEAST_HISTORY:
        enough = np.count_nonzero(past & ~panel.excluded[treated].any(axis=0)) >= LEAST_HISTORY
        raise NotEstimable(LaunchReason.GAPS_IN_SERIES if enough else LaunchReason.TOO_LITTLE_HISTORY)
    if after.size == 0:
        raise NotEstimable(LaunchReason.NO_PERIOD_AFTER_LAUNCH)
    measured = np.count_nonzero(usable[treated].all(axis=0) & ~past & (coverage > 0))
    periods = np.concatenate([before, after])
    complete = usable[np.ix_(never, periods)].all(axis=1)
    donors = never[complete]
    if donors.size < LEAST_DONORS:
        raise NotEstimable(LaunchReason.TOO_FEW_COMPARISON_UNITS)
    outcome = weight @ panel.y[np.ix_(treated, periods)]
    if np.ptp(outcome[: before.size]) == 0:
        raise NotEstimable(LaunchReason.CONSTANT_SERIES)
    case = Comparison(
        outcome, panel.y[np.ix_(donors, periods)], before.size, coverage[after], 1 / float(weight @ weight)
    )
    notes = (
        *(("few_donors",) if donors.size < FEW_DONORS else ()),
        *(() if complete.all() else ("donors_with_gaps",)),
        *(() if after.size == measured else (CELLS_LEFT_OUT,)),
    )
    return Concurrent(case, treated, donors, periods, weight, notes)
