"""A launched series made ready for its sampled model: units, priors and donors in the columns (METHODS D4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from stats.bayes.models.definition import ImpossibleData
from stats.bayes.sampling.contract import Array
from stats.launch.contract import NotEstimable, Series
from stats.launch.reasons import LaunchReason
from stats.launch.series_design import Design, Part, Scales, design, usable_donors
from stats.launch.series_design import scales as scales_of
from stats.launch.state_space import Indices

_SENTENCES: Final = {
    LaunchReason.NO_COVERAGE: "nobody has the change in any period",
    LaunchReason.NO_PERIOD_AFTER_LAUNCH: "no period with the change has a value",
    LaunchReason.TOO_LITTLE_HISTORY: "there are too few periods before the launch",
    LaunchReason.NO_DATA: "the outcome has no values",
    LaunchReason.CONSTANT_SERIES: "the outcome did not move before the launch",
}
_STILL: Final = 1e-9
"""Of the largest value: a donor whose standard deviation is below did not move."""


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A series and what explains it.

    `design` has the outcome in standard deviations of its changes, and which periods count. `explained` (T, 1 + F + R)
    are the constant, F influences whose coefficients are standard normal a priori (trend, season, regressors, in units
    of what they may do), and R standardised donors, nan where a donor has no value. `donors` (R,) says which these
    are, `donor_sd` (R,) their standard deviations. `slab` is how much one donor may do, in the outcome's unit: as much
    as the outcome moved.
    """

    design: Design
    explained: Array
    donors: Indices
    donor_sd: Array
    slab: float

    @property
    def fixed(self) -> int:
        """Number of influences F."""
        return self.explained.shape[1] - 1 - self.donors.size

    @property
    def before(self) -> Indices:
        """(n,) usable periods before the launch."""
        return np.flatnonzero(self.design.usable[: self.design.begin])


def history_of(series: Series, *, trend: bool, scales: Scales | None = None) -> History:
    """The series made ready; `scales` None are those of `stats.launch.series_design`. Raises `ImpossibleData`.

    Donors that miss a tenth of the periods, that did not move before the launch, or that are the outcome itself, are
    left out; so are periods in which one of the others has no value.
    """
    fit, _ = usable_donors(series, np.isfinite(series.y) & ~series.excluded)
    donors = series.donors[:, fit]
    missing = ~np.isfinite(donors).all(axis=1)
    try:
        ready = design(replace(series, excluded=series.excluded | missing), donors=False, trend=trend)
        scales = scales or scales_of(ready.unit * ready.outcome[: ready.begin][ready.usable[: ready.begin]])
    except NotEstimable as problem:
        raise ImpossibleData(_SENTENCES[LaunchReason(problem.code)]) from problem
    ready = replace(ready, outcome=ready.outcome * (ready.unit / scales.change), unit=scales.change)
    relative = Scales(1.0, scales.trend / scales.change, scales.swing / scales.change)
    precision = ready.columns.precision(ready.usable, ready.begin, relative)
    linear = ready.columns.part != Part.LEVEL
    before = donors[: ready.begin][ready.usable[: ready.begin]]
    spread = before.std(axis=0)
    moving = spread > _STILL * np.abs(before).max(axis=0, initial=0.0)
    return History(
        design=ready,
        explained=np.column_stack(
            [
                np.ones(series.y.size),
                np.where(
                    ready.explained[:, None], ready.columns.values[:, linear] / np.sqrt(precision[linear]), np.nan
                ),
                (donors - before.mean(axis=0))[:, moving] / spread[moving],
            ]
        ),
        donors=np.flatnonzero(fit)[moving],
        donor_sd=spread[moving],
        slab=relative.swing,
    )


def rotated(columns: Array, times: Array) -> tuple[Array, Array]:
    """Columns (C, n) at increasing `times` (n,) as (C, n - 1) coordinates, and the roughness (n - 1,) of each.

    Changes over the root of the time they took are s² I + e² R for a random walk with steps s under noise e, with R
    tridiagonal: in the eigenvectors of R they are independent with variances s² + e² roughness, whatever s and e are,
    and whatever level the walk began from. O(n²), and 10 ms for a year of days.
    """
    import scipy.linalg as sl  # here: the process that samples other models answers without it

    gap = np.diff(times)
    roughness, vectors = sl.eigh_tridiagonal(2 / gap, -1 / np.sqrt(gap[1:] * gap[:-1]))
    return np.ascontiguousarray(np.diff(columns, axis=1) / np.sqrt(gap) @ vectors), roughness
