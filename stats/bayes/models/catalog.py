"""The models of the library by name."""

from __future__ import annotations

from typing import Final

from stats.bayes.models import (
    beta_binomial,
    effect_covariance,
    exchangeable,
    gamma_poisson,
    hurdle_lognormal,
    launch_series,
    ledger,
    negative_binomial,
    population,
    student_t,
)
from stats.bayes.models.definition import ModelDefinition

_ALL: Final[tuple[ModelDefinition, ...]] = (
    beta_binomial.DEFINITION,
    effect_covariance.DEFINITION,
    exchangeable.DEFINITION,
    gamma_poisson.DEFINITION,
    hurdle_lognormal.DEFINITION,
    launch_series.DEFINITION,
    ledger.DEFINITION,
    negative_binomial.DEFINITION,
    population.DEFINITION,
    student_t.DEFINITION,
)

DEFINITIONS: Final[dict[str, ModelDefinition]] = {definition.name: definition for definition in _ALL}
