"""Past experiments of a metric, as the population model tells their story."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stats.bayes.effect_grid import HyperPriors
from stats.bayes.models.population import PopulationQuestion
from stats.bayes.sampling.contract import Array

EXPERIMENTS = 24


@dataclass(frozen=True, slots=True)
class PastExperiments:
    """What each of K experiments measured on the log lift."""

    estimate: Array
    error: Array


def draw(rng: np.random.Generator, experiments: int, hyper: HyperPriors) -> tuple[dict[str, float], PastExperiments]:
    """Mean and tau from their priors, effects from the population, estimates from the effects."""
    mean = hyper.mean_scale * rng.standard_normal()
    tau = hyper.tau_scale * abs(rng.standard_cauchy())
    error = np.exp(rng.normal(np.log(0.01), 0.5, experiments))
    effect = mean + tau * rng.standard_t(4, experiments)
    return {"mean": mean, "tau": tau}, PastExperiments(effect + error * rng.standard_normal(experiments), error)


def simulate(rng: np.random.Generator) -> tuple[dict[str, float], PopulationQuestion]:
    """Parameters from the prior, and the question about data that they made."""
    truth, rows = draw(rng, EXPERIMENTS, HyperPriors())
    return truth, question_of(rows)


def make_rows(rng: np.random.Generator, experiments: int) -> PastExperiments:
    """Data of so many experiments."""
    return draw(rng, experiments, HyperPriors())[1]


def question_of(rows: PastExperiments) -> PopulationQuestion:
    """The question about them."""
    return PopulationQuestion(rows.estimate, rows.error)


def row_level(rows: PastExperiments) -> Any:
    """The model as anybody would write it: every effect a parameter with a Student-t prior."""
    import pymc as pm

    hyper = HyperPriors()
    with pm.Model() as model:
        mean = pm.Normal("mean", 0.0, hyper.mean_scale)
        tau = pm.HalfCauchy("tau", hyper.tau_scale)
        z = pm.StudentT("z", nu=4, mu=0.0, sigma=1.0, shape=len(rows.estimate))
        pm.Normal("estimate", pm.Deterministic("effect", mean + tau * z), rows.error, observed=rows.estimate)
    return model
