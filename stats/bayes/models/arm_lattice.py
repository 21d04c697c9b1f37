"""Posteriors of arms around a control by quadrature: exact, no draws (METHODS C2).

Given the control's mean the arms are independent. So with `x` the control's log mean and `y` an arm's, the joint
posterior of both is `baseline(x) L_0(x) prior(y - x) L_v(y)` times what every other arm, summed out, says about `x`:
one matrix per arm. All log means lie on one lattice, so that a log lift `y - x` is a whole number of its steps too and
its density a sum along a diagonal. The trapezoid rule on such integrands, analytic and dying at both ends, is exact to
many digits from a few points per standard deviation (Trefethen & Weideman 2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from stats.bayes.models.arrowhead import RoundMap
from stats.bayes.models.lift_prior import components, log_density
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Array

type Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

MOST_CELLS: Final = 3_000_000
"""Control's cells times all cells from the lowest to the highest, times arms: beyond that sampling is as quick."""
_STEPS_PER_SD: Final = 5.0
_REACH: Final = 7.0
_NEGLIGIBLE: Final = 1e-9
_WIDENINGS: Final = 40
_NEAR_AN_EDGE: Final = np.array([3 / 8, 7 / 6, 23 / 24])
"""Gregory's weights: a density that is cut off at an edge of the lattice keeps fourth-order accuracy."""


class LatticeTooLarge(ValueError):
    """Prior and data have widths too different for one lattice: sample instead."""


class LatticeArms(Protocol):
    """What the lattice needs to know of a model of arms with log lifts."""

    @property
    def prior(self) -> Prior:
        """Of every log lift."""
        ...

    @property
    def control_prior(self) -> tuple[float, float]:
        """Location and scale of the normal prior of the control's log mean."""
        ...

    @property
    def largest_log_mean(self) -> float:
        """Where log means end: 0 for rates, infinity where they do not."""
        ...

    def coordinates(self) -> RoundMap:
        """Where the posterior is, in the coordinates of the sampler."""
        ...

    def log_means(self, position: Array) -> tuple[Array, Array]:
        """Log means (A,) at positions of the sampler, and how fast they change with position."""
        ...

    def log_likelihood(self, arm: int, log_mean: Array) -> Array:
        """Of one arm, at log means (G,)."""
        ...


@dataclass(frozen=True, slots=True)
class ArmCells:
    """One arm: probabilities `given` (G, H) of its log means (H,) given each of the control's, and their mean `mass`.

    `first` is the index of its first log mean on the common lattice.
    """

    first: int
    log_mean: Array
    given: Array
    mass: Array


@dataclass(frozen=True, slots=True)
class ArmLattice:
    """The posterior on a lattice of spacing `step`: index i is the log mean `i * step`."""

    step: float
    first: int
    control: Array
    weight: Array
    arms: tuple[ArmCells, ...]

    def lift(self, arm: int) -> tuple[Array, Array]:
        """Log lifts (L,) of arm 0, 1, ... after control and their posterior probabilities (L,)."""
        cells = self.arms[arm]
        rows, columns = cells.given.shape
        lowest = cells.first - (self.first + rows - 1)
        offset = np.arange(columns) - np.arange(rows)[:, None] + rows - 1
        mass = np.bincount(
            offset.ravel(), weights=(self.weight[:, None] * cells.given).ravel(), minlength=rows + columns - 1
        )
        return np.asarray((lowest + np.arange(rows + columns - 1)) * self.step, np.float64), mass

    def draws(self, count: int, rng: np.random.Generator) -> Array:
        """Independent draws (count, A) of all arms' means, to replicate data with; correct to the step."""
        row = rng.choice(len(self.weight), size=count, p=self.weight / self.weight.sum())
        out = [self.control[row]]
        for cells in self.arms:
            below = cells.given.cumsum(axis=1)
            column = (below[row] < rng.random(count)[:, None]).sum(axis=1)
            out.append(cells.log_mean[np.minimum(column, len(cells.log_mean) - 1)])
        return np.exp(np.stack(out, axis=1))


def arm_lattice(arms: LatticeArms) -> ArmLattice:
    """The posterior of all arms. Raises `LatticeTooLarge`."""
    around = arms.coordinates()
    centre, slope = arms.log_means(around.centre)
    prior = components(arms.prior)
    narrowest = min(float((around.width * slope).min()), 2 * float(prior[:, 2].min()))
    step = narrowest / _STEPS_PER_SD
    reach = _REACH * around.spread * slope
    low = np.floor((centre - reach) / step).astype(np.int64)
    high = np.ceil((centre + reach) / step).astype(np.int64)
    highest = arms.largest_log_mean / step
    for _ in range(_WIDENINGS):
        high = np.minimum(high, highest).astype(np.int64)
        if (high[0] - low[0] + 1) * (high.max() - low.min() + 1) * len(low) > MOST_CELLS:
            raise LatticeTooLarge(f"the posterior needs more than {MOST_CELLS} cells of {step:.2g}")
        lattice = _on(arms, prior, step, low, high)
        profiles = [lattice.weight, *(cells.mass for cells in lattice.arms)]
        left = np.array([p[0] > _NEGLIGIBLE * p.max() for p in profiles])
        right = np.array([p[-1] > _NEGLIGIBLE * p.max() for p in profiles]) & (high < highest)
        if not (left.any() or right.any()):
            return lattice
        wider = np.maximum((high - low) // 2, 1)
        low, high = low - left * wider, high + right * wider
    raise LatticeTooLarge("the posterior has no end")


def _on(arms: LatticeArms, prior: Array, step: float, low: Ints, high: Ints) -> ArmLattice:
    indices = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    log_likelihoods = [
        arms.log_likelihood(arm, index * step) + np.log(_weights(index, arms.largest_log_mean))
        for arm, index in enumerate(indices)
    ]
    location, scale = arms.control_prior
    control = indices[0] * step
    log_weight = log_likelihoods[0] - 0.5 * ((control - location) / scale) ** 2
    tables = []
    for index, log_likelihood in zip(indices[1:], log_likelihoods[1:], strict=True):
        lifts = np.arange(index[0] - indices[0][-1], index[-1] - indices[0][0] + 1)
        table = log_density(lifts * step, prior)[index - indices[0][:, None] - lifts[0]] + log_likelihood
        top = table.max(axis=1, keepdims=True)
        np.exp(table - top, out=table)
        total = table.sum(axis=1, keepdims=True)
        log_weight = log_weight + (top + np.log(total))[:, 0]
        table /= total
        tables.append(table)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    return ArmLattice(
        step,
        int(low[0]),
        control,
        weight,
        tuple(
            ArmCells(int(index[0]), index * step, table, weight @ table)
            for index, table in zip(indices[1:], tables, strict=True)
        ),
    )


def _weights(index: Array, largest: float) -> Array:
    weights = np.ones(len(index))
    if np.isfinite(largest) and index[-1] == 0:
        cut = min(len(index), len(_NEAR_AN_EDGE))
        weights[-cut:] = _NEAR_AN_EDGE[:cut][::-1]
    return weights
