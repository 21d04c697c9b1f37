"""Counts per unit that are genuinely Poisson, with priors on the log lift of the rate (METHODS C2).

The family is called gamma-Poisson after its conjugate prior, which `stats.bayes.conjugate` has. Most counts of users
vary more than a Poisson allows; the model then says so in its checks, and `negative_binomial` or the normal log lift is
the model to take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.models.arrowhead import Local, RoundMap, padded, round_map
from stats.bayes.models.count_densities import poisson_density
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.fit import ModelFit, PredictiveCheck
from stats.bayes.models.lift_prior import components
from stats.bayes.models.lifted_arms import named, predictive_checks, refuse_impossible_arms, summary
from stats.bayes.models.written_density import log_density
from stats.bayes.normal import Direction
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Array, Data, Draws

STORY: Final = (
    "Every unit of arm v has a Poisson number of events with mean r_v, independently of other units: one event is no "
    "reason for another. The log of the control's mean is normal (around the data's own with scale 1, where nothing is "
    "stated); every other mean is r_v = r_0 exp(delta_v), its log lift delta_v drawn from the metric's prior: normal, "
    "Student-t4 or the learned mixture as it is."
)
TOLERATED: Final = 1.2
"""A variance so many times the mean, or the mean so many times the variance, is near enough to Poisson (METHODS C2)."""


def _build(size: int) -> Any:
    import pymc as pm
    import pytensor.tensor as pt
    from pytensor.link.numba.dispatch.basic import numba_njit

    ones, zeros = np.ones(size), np.zeros(size)
    with pm.Model() as model:
        centre, pull, width = pm.Data("centre", zeros), pm.Data("pull", zeros), pm.Data("width", ones)
        data = [
            pm.Data("units", ones),
            pm.Data("total", ones),
            pm.Data("real", ones),
            pm.Data("treated", zeros),
            pm.Data("baseline", np.array([0.0, 1.0])),
            pm.Data("lift_prior", np.array([[0.0, 0.0, 1.0, 0.0]])),
        ]
        z = pm.Flat("z", shape=size)
        pm.Potential("log_density", log_density(poisson_density(numba_njit), z, centre, pull, width, *data))
        pm.Deterministic("mean", pt.exp(centre + pull * z[0] + width * z))
    return model


def _example(size: int) -> Data:
    units = np.linspace(900.0, 1100.0, max(2, size - 1))
    total = np.round(units * np.linspace(2.0, 2.1, len(units)))
    return GammaPoissonQuestion(units, total, total * 1.1, Prior.default()).data()


DEFINITION: Final = ModelDefinition(
    name="gamma_poisson",
    version=1,
    story=STORY,
    methods=("C2",),
    sizes=(3, 8, 16),
    build=_build,
    example=_example,
    kept=("mean",),
)


@dataclass(frozen=True, slots=True, eq=False)
class GammaPoissonQuestion:
    """`total` events of `units`, each (A,), control first; `squares` are summed squared deviations from the arm's mean.

    `baseline` is location and scale of the log of the control's mean, None for weak and centred on the data. `rope` is
    on the log lift, `level` that of the highest-density intervals.
    """

    units: Array
    total: Array
    squares: Array
    prior: Prior
    baseline: tuple[float, float] | None = None
    direction: Direction = "increase"
    rope: float = 0.005
    level: float = 0.95

    @property
    def definition(self) -> ModelDefinition:
        """See `Question`."""
        return DEFINITION

    @property
    def size(self) -> int:
        """See `Question`."""
        return DEFINITION.size_for(len(self.units))

    @property
    def control_prior(self) -> tuple[float, float]:
        """Location and scale of the log of the control's mean."""
        if self.baseline is not None:
            return self.baseline
        return float(np.log((self.total[0] + 0.5) / self.units[0])), 1.0

    def check(self) -> None:
        """Raise `ImpossibleData` for sums that no rates could have produced."""
        refuse_impossible_arms(self.units, self.total, self.prior, "events")
        if self.squares.shape != self.units.shape or not (self.squares >= 0).all():
            raise ImpossibleData("a sum of squared deviations is missing or negative")

    @property
    def largest_log_mean(self) -> float:
        """See `LatticeArms`."""
        return np.inf

    def coordinates(self) -> RoundMap:
        """Log means in which the posterior is round."""

        def local(log_mean: Array) -> Local:
            expected = self.units * np.exp(log_mean)
            return Local(self.total - expected, expected, log_mean, np.ones_like(log_mean))

        return round_map(local, np.log((self.total + 0.5) / self.units), self.control_prior, components(self.prior))

    def log_means(self, position: Array) -> tuple[Array, Array]:
        """See `LatticeArms`."""
        return position, np.ones_like(position)

    def log_likelihood(self, arm: int, log_mean: Array) -> Array:
        """See `LatticeArms`."""
        return np.asarray(self.total[arm] * log_mean - self.units[arm] * np.exp(log_mean))

    def data(self) -> Data:
        """See `Question`."""
        self.check()
        arms = len(self.units)
        return {
            "units": padded(self.units, self.size),
            "total": padded(self.total, self.size),
            "real": padded(np.ones(arms), self.size),
            "treated": padded(np.minimum(np.arange(arms), 1.0), self.size),
            "baseline": np.array(self.control_prior),
            "lift_prior": components(self.prior),
            **self.coordinates().padded(self.size),
        }

    def monitored(self, draws: Draws) -> dict[str, Array]:
        """See `Question`: `mean[arm]` and `log_lift[arm]`."""
        return named(self._means(draws))

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """See `Question`."""
        means = self._means(draws)
        return summary(
            DEFINITION,
            means,
            self.prior,
            direction=self.direction,
            rope=self.rope,
            level=self.level,
            checks=self.checks(means.reshape(-1, len(self.units)), np.random.default_rng(seed)),
        )

    def checks(self, means: Array, rng: np.random.Generator) -> tuple[PredictiveCheck, ...]:
        """Each arm's events, and where there are several its variance over its mean, from draws (D, A) of arm means.

        Replications of the latter are scaled chi-squares, the classical law of a Poisson's index of dispersion, with
        the exact variance `2 / (n - 1) * (1 - 1 / S)` given the sum S. Within `TOLERATED` the units are compared with
        themselves: with millions of them no count is exactly Poisson.
        """
        arms = range(len(self.units))
        events = predictive_checks("events", self.total, lambda arm: rng.poisson(self.units[arm] * means[:, arm]), arms)
        known = [arm for arm in arms if self.units[arm] > 1 and self.total[arm] > 1]
        mean = self.total / self.units
        ratio = self.squares / np.maximum(self.units - 1, 1) / np.where(mean > 0, mean, 1)

        def dispersion(arm: int) -> Array:
            freedom = (self.units[arm] - 1) / (1 - 1 / self.total[arm])
            near = 1 / TOLERATED < ratio[arm] < TOLERATED
            return np.asarray((ratio[arm] if near else 1.0) * rng.chisquare(freedom, len(means)) / freedom)

        return events + predictive_checks("variance over mean", ratio, dispersion, known)

    def _means(self, draws: Draws) -> Array:
        return draws.values["mean"][..., : len(self.units)]
