"""What a lattice of arms says in the words of every model: the answer of NUTS without draws (METHODS C2, C5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

import numpy as np
import scipy.interpolate as si

from stats.bayes.models.arm_effects import POINTS
from stats.bayes.models.arm_lattice import ArmCells, ArmLattice, LatticeArms, arm_lattice
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.fit import ArmPosteriors, Densities, EffectPosteriors, ModelFit, PredictiveCheck
from stats.bayes.models.lift_prior import components, log_density
from stats.bayes.normal import Direction
from stats.bayes.sampling.contract import Array
from stats.bayes.sensitivity import prior_sensitivity

_REPLICATIONS: Final = 2000
_FINE: Final = 1501
_TAILS: Final = 401


class LatticeQuestion(LatticeArms, Protocol):
    """A question of arms with log lifts that has an exact answer."""

    @property
    def definition(self) -> ModelDefinition:
        """The model that is asked."""
        ...

    @property
    def direction(self) -> Direction:
        """Of improvement."""
        ...

    @property
    def rope(self) -> float:
        """On the log lift."""
        ...

    @property
    def level(self) -> float:
        """Of highest-density intervals."""
        ...

    def check(self) -> None:
        """Raise `ImpossibleData`."""
        ...

    def checks(self, means: Array, rng: np.random.Generator) -> tuple[PredictiveCheck, ...]:
        """Predictive checks from draws (D, A) of arm means."""
        ...


def exact(question: LatticeQuestion, *, seed: int = 0) -> ModelFit:
    """The posterior by quadrature: what `fit` would say with infinitely many draws, in milliseconds.

    Predictive checks and prior sensitivity are from independent draws, seeded. Data that no parameter can have produced
    are `not_estimable`. Raises `LatticeTooLarge` where only sampling helps.
    """
    definition = question.definition
    blank = ModelFit(definition.name, definition.version, "not_estimable", method="grid", seed=seed)
    try:
        question.check()
        definition.size_for(len(question.coordinates().centre))
    except ImpossibleData as error:
        return replace(blank, reason=str(error))
    lattice = arm_lattice(question)
    lifts = [Curve(*lattice.lift(arm)) for arm in range(len(lattice.arms))]
    rng = np.random.default_rng(seed)
    means = lattice.draws(_REPLICATIONS, rng)
    log_lifts = np.log(means[:, 1:]) - np.log(means[:, :1])
    return replace(
        blank,
        status="ok",
        effects=_effects(question, lattice, lifts),
        arms=_arms(question, lattice),
        checks=question.checks(means, rng),
        prior_sensitivity=prior_sensitivity(
            log_density(log_lifts, components(question.prior)).sum(-1)[None],
            {str(arm): log_lifts[None, :, arm] for arm in range(len(lifts))},
        ),
        densities=_densities(question, lifts),
    )


class Curve:
    """A density of one quantity, from probabilities on an even axis: its cdf and the integral of that by splines."""

    def __init__(self, axis: Array, mass: Array) -> None:
        self.low, self.high = float(axis[0]), float(axis[-1])
        self.mean = float(axis @ mass)
        self.sd = float(np.sqrt(((axis - self.mean) ** 2) @ mass))
        self._density = si.CubicSpline(axis, mass / (axis[1] - axis[0]))
        self._cdf, self._below = self._density.antiderivative(1), self._density.antiderivative(2)
        self._total = float(self._cdf(self.high))

    def density(self, at: Array) -> Array:
        """Zero outside the axis."""
        inside = (at >= self.low) & (at <= self.high)
        return np.where(inside, np.maximum(self._density(np.clip(at, self.low, self.high)), 0.0), 0.0)

    def cdf(self, at: Array) -> Array:
        """P(x <= at)."""
        return np.asarray(np.clip(self._cdf(np.clip(at, self.low, self.high)) / self._total, 0.0, 1.0))

    def shortfall(self) -> float:
        """E[max(-x, 0)]: the integral of the cdf up to zero."""
        at = min(max(0.0, self.low), self.high)
        return max(float(self._below(at)) / self._total, 0.0) + max(-self.high, 0.0)

    def shortest(self, level: float) -> tuple[float, float]:
        """The shortest interval that holds `level`."""
        at = np.clip(self.mean + self.sd * np.linspace(-9, 9, _FINE), self.low, self.high)
        return _shortest(at, self.cdf(at), level)


def _shortest(at: Array, below: Array, level: float) -> tuple[float, float]:
    rising = np.flatnonzero(np.diff(below, prepend=-1.0) > 0)  # interpolation needs a strictly increasing axis
    tails = np.linspace(0.0, 1.0 - level, _TAILS)
    low, high = np.interp(tails, below[rising], at[rising]), np.interp(tails + level, below[rising], at[rising])
    best = int(np.argmin(high - low))
    return float(low[best]), float(high[best])


def _effects(question: LatticeQuestion, lattice: ArmLattice, lifts: list[Curve]) -> EffectPosteriors:
    rising = question.direction == "increase"
    zero, edge = np.zeros(1), np.array([-question.rope, question.rope])
    below = np.array([float(curve.cdf(zero)[0]) for curve in lifts])
    loss = np.array([curve.shortfall() for curve in lifts])
    log_mean = np.array([curve.mean for curve in lifts])
    gain = np.maximum(log_mean + loss, 0.0)
    lower, upper = np.array([curve.shortest(question.level) for curve in lifts]).T
    control = float(lattice.weight @ np.exp(lattice.control))
    means = np.array([cells.mass @ np.exp(cells.log_mean) for cells in lattice.arms])
    difference_lower, difference_upper = np.array(
        [_difference_hdi(lattice, cells, question.level) for cells in lattice.arms]
    ).T
    return EffectPosteriors(
        log_mean=log_mean,
        log_sd=np.array([curve.sd for curve in lifts]),
        mcse=np.zeros(len(lifts)),
        lift=np.expm1(log_mean),
        hdi_lower=np.expm1(lower),
        hdi_upper=np.expm1(upper),
        chance_to_win=1 - below if rising else below,
        expected_loss=loss if rising else gain,
        expected_loss_of_not_shipping=gain if rising else loss,
        rope_probability=np.array([float(np.diff(curve.cdf(edge))[0]) for curve in lifts]),
        difference=means - control,
        difference_hdi_lower=difference_lower,
        difference_hdi_upper=difference_upper,
        sign_differs=np.full(len(lifts), np.nan),
    )


def _difference_hdi(lattice: ArmLattice, cells: ArmCells, level: float) -> tuple[float, float]:
    """Of the arm's mean minus the control's: P(difference <= t) is a sum over the control's cells."""
    arm = cells.mass
    means, control = np.exp(cells.log_mean), np.exp(lattice.control)
    centre = arm @ means - lattice.weight @ control
    sd = np.sqrt(arm @ means**2 - (arm @ means) ** 2 + lattice.weight @ control**2 - (lattice.weight @ control) ** 2)
    at = centre + sd * np.linspace(-8, 8, _TAILS)
    below = np.concatenate(
        [np.zeros((len(control), 1)), (lattice.weight[:, None] * cells.given).cumsum(axis=1)], axis=1
    )
    threshold = np.log(np.maximum(control[:, None] + at, 1e-300))
    # Cells reach half a step to either side; `below` counts whole cells.
    place = np.clip((threshold - cells.log_mean[0]) / lattice.step + 0.5, 0.0, len(means))
    whole = np.minimum(place.astype(np.int64), len(means) - 1)
    rows = np.arange(len(control))[:, None]
    low, high = below[rows, whole], below[rows, whole + 1]
    return _shortest(at, (low + (place - whole) * (high - low)).sum(axis=0), level)


def _arms(question: LatticeQuestion, lattice: ArmLattice) -> ArmPosteriors:
    curves = [Curve(lattice.control, lattice.weight)]
    curves += [Curve(cells.log_mean, cells.mass) for cells in lattice.arms]
    axes = [(np.exp(c.mean + c.sd * np.linspace(-9, 9, _FINE)), c) for c in curves]
    lower, upper = np.array([_shortest(at, c.cdf(np.log(at)), question.level) for at, c in axes]).T
    means = [lattice.weight @ np.exp(lattice.control)]
    means += [cells.mass @ np.exp(cells.log_mean) for cells in lattice.arms]
    return ArmPosteriors(
        mean=np.array(means),
        hdi_lower=lower,
        hdi_upper=upper,
        chance_to_be_best=_best(lattice, rising=question.direction == "increase"),
    )


def _best(lattice: ArmLattice, *, rising: bool) -> Array:
    """P(an arm's mean is the largest, or the smallest): given the control's cell, the arms are independent."""
    rows = len(lattice.control)
    first = min([lattice.first, *(cells.first for cells in lattice.arms)])
    last = max([lattice.first + rows, *(cells.first + len(cells.log_mean) for cells in lattice.arms)])
    own = np.zeros((1 + len(lattice.arms), rows, last - first))
    diagonal = lattice.first - first + np.arange(rows)
    own[0, np.arange(rows), diagonal] = 1.0
    for arm, cells in enumerate(lattice.arms, start=1):
        start = cells.first - first
        own[arm, :, start : start + len(cells.log_mean)] = cells.given
    beaten = own.cumsum(axis=-1) - own / 2  # a tie is half a win
    if not rising:
        beaten = 1 - beaten
    ahead, behind = np.ones_like(beaten), np.ones_like(beaten)
    np.cumprod(beaten[:-1], axis=0, out=ahead[1:])
    behind[:-1] = np.cumprod(beaten[:0:-1], axis=0)[::-1]
    chance = np.einsum("r,vrc->v", lattice.weight, own * ahead * behind)
    return np.asarray(chance / chance.sum())


def _densities(question: LatticeQuestion, lifts: list[Curve]) -> Densities:
    axis = np.array([curve.mean + curve.sd * np.linspace(-4.5, 4.5, POINTS) for curve in lifts])
    jacobian = np.exp(-axis)
    return Densities(
        lift=np.expm1(axis),
        posterior=np.array([curve.density(at) for curve, at in zip(lifts, axis, strict=True)]) * jacobian,
        prior=np.exp(log_density(axis, components(question.prior))) * jacobian,
    )
