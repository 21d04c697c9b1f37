"""From the statistics of a metric's units to the question of its likelihood (METHODS C2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.models import beta_binomial, gamma_poisson, hurdle_lognormal, negative_binomial, student_t
from stats.bayes.models.beta_binomial import BetaBinomialQuestion
from stats.bayes.models.definition import ModelDefinition
from stats.bayes.models.fit import Question
from stats.bayes.models.gamma_poisson import GammaPoissonQuestion
from stats.bayes.models.hurdle_lognormal import HurdleLognormalQuestion
from stats.bayes.models.negative_binomial import NegativeBinomialQuestion
from stats.bayes.models.student_t import StudentTQuestion
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


def _negative_binomial(summary: UnitSummary, options: Mapping[str, Any]) -> Question:
    table = summary.table
    assert table is not None
    return NegativeBinomialQuestion(
        _floats(summary.count),
        np.rint(summary.total),
        summary.squares,
        _floats(table.frequency),
        _floats(table.tail_units),
        **options,
    )


def _hurdle_lognormal(summary: UnitSummary, options: Mapping[str, Any]) -> Question:
    amounts = summary.amounts
    assert amounts is not None
    return HurdleLognormalQuestion(
        _floats(summary.count),
        _floats(amounts.count),
        amounts.log_mean,
        amounts.log_squares,
        mean=_mean(summary),
        percentile_99=amounts.percentile_99,
        **options,
    )


def _student_t(summary: UnitSummary, options: Mapping[str, Any]) -> Question:
    histogram = summary.histogram
    assert histogram is not None
    return StudentTQuestion(histogram.edges, _floats(histogram.frequency), mean=_mean(summary), **options)


def _mean(summary: UnitSummary) -> Floats:
    return np.asarray(summary.total / np.maximum(summary.count, 1))


def _floats(values: Ints | Floats) -> Floats:
    return np.asarray(values, dtype=np.float64)


LIKELIHOODS: Final[Mapping[str, Likelihood]] = {
    "beta_binomial": Likelihood(beta_binomial.DEFINITION, _beta_binomial),
    "gamma_poisson": Likelihood(gamma_poisson.DEFINITION, _gamma_poisson),
    "hurdle_lognormal": Likelihood(hurdle_lognormal.DEFINITION, _hurdle_lognormal),
    "negative_binomial": Likelihood(negative_binomial.DEFINITION, _negative_binomial),
    "student_t": Likelihood(student_t.DEFINITION, _student_t),
}
"""By the name that a metric's `likelihood` has."""
