"""Experiments with effects on a North Star and its inputs, as the model tells their story."""

from __future__ import annotations

from typing import Any

import numpy as np

from stats.bayes.models.effect_covariance import EffectCovarianceQuestion
from stats.bayes.models.effect_covariance_density import SHARE, VARIANCE, coordinates_of, covariances_at
from stats.bayes.sampling.contract import Array

SCALE = 0.01


def error_covariances(rng: np.random.Generator, experiments: int, metrics: int, correlation: float) -> Array:
    """(K, M, M): experiments of different sizes, the same people in all metrics."""
    variance = (SCALE * np.exp(rng.normal(0, 0.3, experiments))) ** 2
    shared = correlation + (1 - correlation) * np.eye(metrics)
    return np.asarray(variance[:, None, None] * shared)


def measured(rng: np.random.Generator, effects: Array, errors: Array) -> Array:
    """(K, M) estimates of the effects (K, M)."""
    noise = np.linalg.cholesky(errors) @ rng.standard_normal((*effects.shape, 1))
    return np.asarray(effects + noise[..., 0])


def drawn_question(
    rng: np.random.Generator, experiments: int, spread: Array, correlation: float = 0.8
) -> EffectCovarianceQuestion:
    """True effects with this covariance, in units of the scale, and no common mean."""
    effects = SCALE * rng.multivariate_normal(np.zeros(len(spread)), spread, experiments)
    errors = error_covariances(rng, experiments, len(spread), correlation)
    return EffectCovarianceQuestion(measured(rng, effects, errors), errors, np.full(len(spread), SCALE))


def simulate(
    rng: np.random.Generator, metrics: int = 2, experiments: int = 20
) -> tuple[dict[str, float], EffectCovarianceQuestion]:
    """Covariance and means from the prior, and the question about data that they made; truths as they are monitored."""
    lkj = np.diag(np.ones(metrics))
    while True:  # LKJ(1) by rejection: all correlation matrices alike
        upper = rng.uniform(-1, 1, metrics * (metrics - 1) // 2)
        lkj[np.triu_indices(metrics, 1)] = upper
        matrix = np.triu(lkj) + np.triu(lkj, 1).T
        if np.linalg.eigvalsh(matrix)[0] > 0:
            break
    spread = np.abs(rng.standard_normal(metrics))
    mean = rng.standard_normal(metrics)
    from_mean = rng.multivariate_normal(np.zeros(metrics), spread[:, None] * matrix * spread, experiments)
    effects = SCALE * (mean + np.sqrt(rng.choice(VARIANCE, (experiments, 1), p=SHARE)) * from_mean)
    errors = error_covariances(rng, experiments, metrics, 0.8)
    question = EffectCovarianceQuestion(measured(rng, effects, errors), errors, np.full(metrics, SCALE))
    truth = {f"standard deviation {m}": float(spread[m]) for m in range(metrics)}
    return truth | {f"correlation {m}": float(matrix[0, m]) for m in range(1, metrics)}, question


def at_random(rng: np.random.Generator, room: int, metrics: int) -> tuple[Array, Array]:
    """Coordinates of a program with this much room, and the covariance of effects that they stand for."""
    z = rng.normal(size=coordinates_of(room))
    return z, covariances_at(z, np.ones(metrics))


def row_level(question: EffectCovarianceQuestion) -> Any:
    """The model as anybody would write it: every true effect a parameter, PyMC's own prior on covariances."""
    import pymc as pm
    import pytensor.tensor as pt

    data = question.data()
    experiments, metrics = data["estimate"].shape
    inverse = np.linalg.inv(np.linalg.cholesky(data["error"]))
    with pm.Model() as model:
        half_normal = pm.HalfNormal.dist(1.0, shape=metrics)
        factor, _, _ = pm.LKJCholeskyCov("factor", n=metrics, eta=1.0, sd_dist=half_normal)
        mean = pm.Normal("mean", 0.0, 1.0, shape=metrics)
        latent = pm.Flat("latent", shape=(experiments, metrics))
        given = np.log(SHARE) - metrics / 2 * np.log(VARIANCE) - 0.5 * (latent**2).sum(axis=1)[:, None] / VARIANCE
        pm.Potential("fat", pm.math.logsumexp(given, axis=1).sum())
        left = data["estimate"] - mean - latent @ factor.T
        pm.Potential("seen", -0.5 * ((inverse * left[:, None, :]).sum(axis=-1) ** 2).sum())
        pm.Deterministic("spread", pt.sqrt(pt.diag(factor @ factor.T)))
        pm.Deterministic("covariance", factor @ factor.T)
    return model
