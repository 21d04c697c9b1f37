"""How exchangeable effects come about: as rows of users, and as the models a user would write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stats.bayes.hierarchy import TAU_SHARE, between_scale
from stats.bayes.models.arms import ArmsQuestion
from stats.bayes.models.metrics import MetricsQuestion
from stats.bayes.models.replications import ReplicationsQuestion
from stats.bayes.models.segments import SegmentsQuestion
from stats.bayes.prior import Family, Prior
from stats.bayes.sampling.contract import Array

PRIOR: Final = Prior.default()
T4: Final = Prior.default(Family.STUDENT_T4)
LEARNED: Final = Prior(
    Family.LEARNED, 0.0025, 0.0306, "three normals", ((0.5, 0.0, 0.01), (0.3, 0.0, 0.03), (0.2, 0.0125, 0.06))
)
NOISE: Final = 0.6
"""Of one user's log outcome, known: then the mean of a segment's users is all there is to know of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One row per user: the segment, and the log outcome over what control makes of such users; both (n,)."""

    segment: np.ndarray
    outcome: np.ndarray


def make_rows(rng: np.random.Generator, users_per_arm: int, *, segments: int = 6) -> Rows:
    """Users of segments whose effects are drawn from the model."""
    effects = drawn_effects(rng, segments)[0]
    segment = np.arange(users_per_arm) % segments
    return Rows(segment, effects[segment] + NOISE * rng.standard_normal(users_per_arm))


def question_of(rows: Rows, prior: Prior = PRIOR, **options: Any) -> SegmentsQuestion:
    """The rows reduced to a mean and its standard error per segment."""
    count = np.bincount(rows.segment)
    return SegmentsQuestion(
        np.bincount(rows.segment, rows.outcome) / count, NOISE / np.sqrt(count.astype(np.float64)), prior, **options
    )


def row_level(rows: Rows, prior: Prior = PRIOR) -> Any:
    """The same model on rows: every effect a parameter, non-centred; for a normal prior."""
    import pymc as pm

    with pm.Model() as model:
        mean = pm.Normal("mean", prior.mean, prior.scale)
        between = pm.HalfNormal("between", TAU_SHARE * prior.scale)
        unit = pm.Normal("unit", 0.0, 1.0, shape=int(rows.segment.max()) + 1)
        effect = pm.Deterministic("effect", mean + between * unit)
        pm.Normal("outcome", effect[rows.segment], NOISE, observed=rows.outcome)
    return model


def metrics_level(question: MetricsQuestion) -> Any:
    """All metrics of one variant with their joint errors: every effect a parameter, non-centred."""
    import pymc as pm

    half = float(np.sqrt(0.5))
    with pm.Model() as model:
        mean = pm.Normal("mean", 0.0, half)
        between = pm.HalfNormal("between", half)
        unit = pm.Normal("unit", 0.0, 1.0, shape=len(question.estimates))
        effect = pm.Deterministic("effect", question.scales * (mean + between * unit))
        pm.MvNormal("estimate", effect, question.covariance, observed=question.estimates)
    return model


def drawn_effects(rng: np.random.Generator, count: int, prior: Prior = PRIOR) -> tuple[Array, float, float]:
    """Effects of one family with their mu and tau, for a normal prior."""
    mu, tau = rng.normal(prior.mean, prior.scale), abs(rng.normal(0.0, TAU_SHARE * prior.scale))
    return mu + tau * rng.standard_normal(count), float(mu), float(tau)


def drawn_family(
    rng: np.random.Generator, count: int, prior: Prior = PRIOR, smallest: float = 0.005, largest: float = 0.05
) -> tuple[SegmentsQuestion, Array, float, float]:
    """A question with the truth behind it: effects, mu, tau."""
    effects, mu, tau = drawn_effects(rng, count, prior)
    errors = rng.uniform(smallest, largest, count)
    return SegmentsQuestion(effects + errors * rng.standard_normal(count), errors, prior), effects, mu, tau


def drawn_prior(rng: np.random.Generator, prior: Prior) -> float:
    """One mu from a prior of any family."""
    if prior.family is Family.STUDENT_T4:
        return float(prior.mean + prior.scale * rng.standard_t(4))
    if prior.family is Family.LEARNED:
        weights, means, sds = np.array(prior.components).T
        k = rng.choice(len(weights), p=weights)
        return float(rng.normal(means[k], sds[k]))
    return float(rng.normal(prior.mean, prior.scale))


def drawn_arms(rng: np.random.Generator) -> tuple[ArmsQuestion, Array, float, float]:
    """Five treatments and their control under a learned prior, their estimates adjusted by one covariate."""
    mu, tau = drawn_prior(rng, LEARNED), abs(rng.normal(0.0, between_scale(LEARNED)))
    effects, errors = mu + tau * rng.standard_normal(5), rng.uniform(0.01, 0.03, 6)
    covariance = np.outer(errors, errors) * (0.2 + 0.8 * np.eye(6))
    means = rng.normal(2.0, 0.5) + np.append(0.0, effects) + np.linalg.cholesky(covariance) @ rng.standard_normal(6)
    return ArmsQuestion(means, errors, LEARNED, covariance=covariance), effects, mu, float(tau)


def drawn_metrics(rng: np.random.Generator) -> tuple[MetricsQuestion, Array, float, float]:
    """Six metrics of very different scales, two of which should decrease, with joint errors."""
    mu, tau = rng.normal(0.0, np.sqrt(0.5)), abs(rng.normal(0.0, np.sqrt(0.5)))
    scales = np.exp(rng.uniform(np.log(0.01), np.log(0.1), 6)) * np.array([1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    effects = scales * (mu + tau * rng.standard_normal(6))
    root = scales[:, None] * rng.standard_normal((6, 8)) * 0.25
    estimates = effects + root @ rng.standard_normal(8)
    return MetricsQuestion(estimates, root @ root.T, scales), effects, float(mu), float(tau)


def drawn_replications(rng: np.random.Generator) -> tuple[ReplicationsQuestion, Array, float, float]:
    """Three replications under a fat-tailed prior."""
    mu, tau = drawn_prior(rng, T4), abs(rng.normal(0.0, between_scale(T4)))
    effects, errors = mu + tau * rng.standard_normal(3), rng.uniform(0.01, 0.03, 3)
    return ReplicationsQuestion(effects + errors * rng.standard_normal(3), errors, T4), effects, mu, float(tau)


def simulate(rng: np.random.Generator) -> tuple[dict[str, float], SegmentsQuestion]:
    """Parameters from the prior; eight segments of 300 to 6,000 users, as rows, from the parameters; rows reduced."""
    effects, mu, tau = drawn_effects(rng, 8)
    users = np.exp(rng.uniform(np.log(300), np.log(6000), 8)).astype(np.int64)
    segment = np.repeat(np.arange(8), users)
    rows = Rows(segment, effects[segment] + NOISE * rng.standard_normal(len(segment)))
    return {"mean": mu, "between": tau}, question_of(rows)
