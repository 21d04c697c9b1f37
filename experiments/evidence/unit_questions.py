"""From the statistics of a metric's units to the question of its likelihood (METHODS C2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.models import beta_binomial, gamma_poisson
from stats.bayes.models.beta_binomial import BetaBinomialQuestion
from stats.bayes.models.definition import ModelDefinition
from stats.bayes.models.fit import Question
from stats.bayes.models.gamma_poisson import GammaPoissonQuestion
from stats.moments import Floats, Ints
from stats.unit_summary import UnitSummary


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A model of units, and how a summary becomes its question; options are those that every question takes."""

    definition: ModelDefinition
    question: Callable[[UnitSummary, Mapping[str, Any]], Question]


def _beta_binomial(summary: UnitSummary, options: Mapping[str, Any]) -> Question:
    return BetaBinomialQuestion(_floats(summary.count), np.rint(summary.total), **options)


def _gamma_poisson(summary: UnitSummary, options: Mapping[str, Any]) -> Question:
    return GammaPoissonQuestion(_floats(summary.count), np.rint(summary.total), summary.squares, **options)


def _floats(values: Ints | Floats) -> Floats:
    return np.asarray(values, dtype=np.float64)


LIKELIHOODS: Final[Mapping[str, Likelihood]] = {
    "beta_binomial": Likelihood(beta_binomial.DEFINITION, _beta_binomial),
    "gamma_poisson": Likelihood(gamma_poisson.DEFINITION, _gamma_poisson),
}
"""By the name that a metric's `likelihood` has."""
