"""Units that convert or do not: a binomial likelihood with priors on the log lift of the rate (METHODS C2).

The family is called beta-binomial after its conjugate prior, which `stats.bayes.conjugate` has. Here the priors are the
ones people think in: how far a variant can move the rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.special as sc

from stats.bayes.models.arrowhead import Local, RoundMap, padded, round_map
from stats.bayes.models.count_densities import binomial_density
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.fit import ModelFit, PredictiveCheck
from stats.bayes.models.lift_prior import components
from stats.bayes.models.lifted_arms import named, predictive_checks, refuse_impossible_arms, summary
from stats.bayes.models.written_density import log_density
from stats.bayes.normal import Direction
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Array, Data, Draws

STORY: Final = (
    "Every unit of arm v converts with probability p_v, independently: conversions are binomial. The log of the "
    "control's rate is normal (around the data's own with scale 1, where nothing is stated); every other rate is "
    "p_v = p_0 exp(delta_v), its log lift delta_v drawn from the metric's prior: normal, Student-t4 or the learned "
    "mixture as it is. Rates of 1 and more are ruled out, so the joint prior is the stated one where all p_v < 1, and "
    "zero elsewhere. Sampled on logits, where there is no edge to run into."
)


def _build(size: int) -> Any:
    import pymc as pm
    import pytensor.tensor as pt
    from pytensor.link.numba.dispatch.basic import numba_njit

    ones, zeros = np.ones(size), np.zeros(size)
    with pm.Model() as model:
        centre, pull, width = pm.Data("centre", zeros), pm.Data("pull", zeros), pm.Data("width", ones)
        data = [
            pm.Data("units", 10 * ones),
            pm.Data("successes", ones),
            pm.Data("real", ones),
            pm.Data("treated", zeros),
            pm.Data("baseline", np.array([-2.0, 1.0])),
            pm.Data("lift_prior", np.array([[0.0, 0.0, 1.0, 0.0]])),
        ]
        z = pm.Flat("z", shape=size)
        pm.Potential("log_density", log_density(binomial_density(numba_njit), z, centre, pull, width, *data))
        pm.Deterministic("mean", pt.sigmoid(centre + pull * z[0] + width * z))
    return model


def _example(size: int) -> Data:
    units = np.linspace(900.0, 1100.0, max(2, size - 1))
    question = BetaBinomialQuestion(units, np.round(units * np.linspace(0.1, 0.12, len(units))), Prior.default())
    return question.data()


DEFINITION: Final = ModelDefinition(
    name="beta_binomial",
    version=1,
    story=STORY,
    methods=("C2",),
    sizes=(3, 8, 16),
    build=_build,
    example=_example,
    kept=("mean",),
    target_accept=0.8,
)


@dataclass(frozen=True, slots=True, eq=False)
class BetaBinomialQuestion:
    """`successes` among `units`, each (A,), control first.

    `baseline` is location and scale of the log of the control's rate, None for weak and centred on the data. `rope` is
    on the log lift, `level` that of the highest-density intervals.
    """

    units: Array
    successes: Array
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
        """Location and scale of the log of the control's rate."""
        if self.baseline is not None:
            return self.baseline
        return float(np.log((self.successes[0] + 0.5) / (self.units[0] + 1))), 1.0

    def check(self) -> None:
        """Raise `ImpossibleData` for counts that no rates could have produced."""
        refuse_impossible_arms(self.units, self.successes, self.prior, "conversions")
        if (self.successes > self.units).any():
            raise ImpossibleData("an arm has more conversions than units")

    def coordinates(self) -> RoundMap:
        """Logits in which the posterior is round."""

        def local(logit: Array) -> Local:
            log_rate = -np.logaddexp(0.0, -logit)
            rate = np.exp(log_rate)
            # The Jacobian adds one failure per arm.
            return Local(
                slope=self.successes - (self.units + 1) * rate,
                information=(self.units + 1) * rate * (1 - rate),
                log_mean=log_rate,
                log_mean_slope=1 - rate,
            )

        start = np.log((self.successes + 0.5) / (self.units - self.successes + 1.5))
        return round_map(local, start, self.control_prior, components(self.prior))

    @property
    def largest_log_mean(self) -> float:
        """See `LatticeArms`."""
        return 0.0

    def log_means(self, position: Array) -> tuple[Array, Array]:
        """See `LatticeArms`: positions are logits."""
        return sc.log_expit(position), sc.expit(-position)

    def log_likelihood(self, arm: int, log_mean: Array) -> Array:
        """See `LatticeArms`."""
        failures = self.units[arm] - self.successes[arm]
        return np.asarray(self.successes[arm] * log_mean + sc.xlogy(failures, -np.expm1(log_mean)))

    def data(self) -> Data:
        """See `Question`."""
        self.check()
        arms = len(self.units)
        return {
            "units": padded(self.units, self.size),
            "successes": padded(self.successes, self.size),
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
        """The conversions of each arm, which a prior far from the data gets wrong, from draws (D, A) of rates."""
        units = self.units.astype(np.int64)
        return predictive_checks(
            "conversions", self.successes, lambda arm: rng.binomial(units[arm], means[:, arm]), range(len(units))
        )

    def _means(self, draws: Draws) -> Array:
        return draws.values["mean"][..., : len(self.units)]
