"""Log lifts drawn from a prior, and as random variables of a row-level model."""

from __future__ import annotations

from typing import Any

import numpy as np

from stats.bayes.prior import Family, Prior


def drawn_lifts(rng: np.random.Generator, prior: Prior, count: int) -> np.ndarray:
    """Independent log lifts (count,)."""
    if prior.family is Family.STUDENT_T4:
        return prior.mean + prior.scale * rng.standard_t(4, count)
    weight, mean, sd = np.array(prior.components or [(1.0, prior.mean, prior.scale)]).T
    which = rng.choice(len(weight), count, p=weight / weight.sum())
    return np.asarray(rng.normal(mean[which], sd[which]))


def graph_lifts(name: str, prior: Prior, count: int) -> Any:
    """The same in a PyMC model."""
    import pymc as pm

    if prior.family is Family.STUDENT_T4:
        return pm.StudentT(name, nu=4, mu=prior.mean, sigma=prior.scale, shape=count)
    if prior.family is Family.LEARNED:
        weight, mean, sd = np.array(prior.components).T
        return pm.NormalMixture(name, w=weight, mu=mean, sigma=sd, shape=count)
    return pm.Normal(name, prior.mean, prior.scale, shape=count)
