"""One compiled program for every family of exchangeable effects: segments, arms, metrics, replications (METHODS C4).

The program sees rotated, scaled estimates (`stats.bayes.hierarchy`), so it has two parameters and takes any number of
effects. Which families there are is told by the questions of the sibling modules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from stats.bayes.hierarchy import Array, BoolArray, Hierarchy, between_scale
from stats.bayes.models.definition import ImpossibleData, ModelDefinition
from stats.bayes.models.exchangeable_density import coordinates, density
from stats.bayes.models.family_effects import among, outlier_check, posteriors, sensitivity
from stats.bayes.models.fit import Method, ModelFit
from stats.bayes.models.lift_prior import components
from stats.bayes.models.written_density import log_density
from stats.bayes.normal import Direction
from stats.bayes.pooling import Joint, pooled
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Data, Draws


def build(size: int) -> Any:
    """The PyMC model of (mu, tau); `size` is always 1, because no parameter has the length of the data."""
    import pymc as pm

    with pm.Model() as model:
        value, loading, variance, prior, constants = (pm.Data(name, seen) for name, seen in example(size).items())
        position = pm.Flat("position", shape=2)
        mu, tau = coordinates(position, value, loading, variance, constants)
        pm.Deterministic("mu", mu)
        pm.Deterministic("tau", tau)
        # One term, effects integrated out, with its gradient in the same pass: a third of the cost of a graph.
        pm.Potential("posterior", log_density(density, position, value, loading, variance, prior, constants))
    return model


def example(size: int) -> Data:
    """Three estimates under the default prior."""
    prior = Prior.default()
    estimates, errors = np.array([0.01, -0.02, 0.03]), np.array([0.01, 0.02, 0.015])
    return data_of(Hierarchy.independent(estimates, errors, prior, between_scale(prior)))


def data_of(family: Hierarchy) -> Data:
    """What the program needs to know of a family. A t4 prior is centred as if it were a normal as wide as it is."""
    prior = family.prior
    sd = prior.scale * np.sqrt(2.0) if prior.family is Family.STUDENT_T4 else prior.scale
    return {
        "value": family.value,
        "loading": family.loading,
        "variance": family.variance,
        "prior": components(prior),
        "constants": np.array([prior.mean, sd**-2.0, family.between_scale]),
    }


DEFINITION: Final = ModelDefinition(
    name="exchangeable",
    version=1,
    story=(
        "Effects of one family (segments of an experiment, arms, metrics, replications of a hypothesis) are alike: each"
        " is drawn from a normal around a common mean mu with standard deviation tau, in units of its own scale."
        " Estimates see the effects with normal errors of known covariance. mu has the metric's prior on the log lift,"
        " whatever its family and exactly so: normal, Student-t4, or the mixture that past experiments have taught. tau"
        " is half-normal with half the prior's standard deviation, because parts of one experiment seldom differ by"
        " more than effects are large. Metrics share half of the variance of their own priors, each in units of its own"
        " scale. Effects are integrated out: (mu, tau) is sampled, effects are exact given each"
        " draw."
    ),
    methods=("A15", "C4"),
    sizes=(1,),
    build=build,
    example=example,
    kept=("mu", "tau"),
    target_accept=0.8,
)


class Exchangeable(ABC):
    """What all families share of `stats.bayes.models.fit.Question`; each says what its `hierarchy` is.

    Families add `level`, `direction` and `rope`, the half-width of the region of practical equivalence on the log lift.
    """

    __slots__ = ()

    level: float
    direction: Direction
    rope: float

    @property
    def definition(self) -> ModelDefinition:
        """The one model of all families."""
        return DEFINITION

    @property
    def size(self) -> int:
        """The one size class."""
        return 1

    @property
    @abstractmethod
    def known(self) -> BoolArray:
        """(E,) which of the effects that were asked about have an estimate."""

    @abstractmethod
    def hierarchy(self) -> Hierarchy:
        """The effects that have an estimate. Raises `ImpossibleData`."""

    def data(self) -> Data:
        """See `Question.data`."""
        return data_of(self.hierarchy())

    def monitored(self, draws: Draws) -> Mapping[str, Array]:
        """Both parameters; every reported number is a smooth function of these two."""
        return {"mean": draws.values["mu"], "between": draws.values["tau"]}

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """See `Question.summarise`; `hyper` has the `mean` and the sd `between` effects."""
        return self.told(Joint.sampled(draws.values["mu"], draws.values["tau"]), seed, "nuts")

    def told(self, joint: Joint, seed: int, method: Method) -> ModelFit:
        """The posterior as numbers, from the posterior of (mu, tau) however it was found."""
        family = self.hierarchy()
        good = np.sign(family.scale) * (1.0 if self.direction == "increase" else -1.0)
        effects = posteriors(family, joint, good=good, rope=self.rope, level=self.level)
        return ModelFit(
            model=DEFINITION.name,
            version=DEFINITION.version,
            status="ok",
            method=method,
            seed=seed,
            effects=among(effects, self.known),
            hyper=joint.parameters(),
            checks=(outlier_check(family, joint, seed),),
            prior_sensitivity=sensitivity(family, joint, seed),
        )


def pool_questions(questions: Sequence[Exchangeable], *, seed: int = 0) -> list[ModelFit]:
    """Every question by the grid, in order: the same numbers as by sampling, without its noise and its seconds.

    A family without enough data is `not_estimable`; the others are unaffected. `seed` is for predictive checks.
    """
    return [_by_grid(question, seed) for question in questions]


def _by_grid(question: Exchangeable, seed: int) -> ModelFit:
    try:
        family = question.hierarchy()
    except ImpossibleData as error:
        return ModelFit(
            DEFINITION.name, DEFINITION.version, "not_estimable", reason=str(error), method="grid", seed=seed
        )
    return question.told(pooled(family), seed, "grid")
