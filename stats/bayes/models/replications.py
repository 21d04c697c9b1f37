"""Experiments that tested the same hypothesis: the effect they share, and how much it varies (METHODS C4, H5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.hierarchy import Array, BoolArray, Hierarchy, between_scale, usable
from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.exchangeable import Exchangeable
from stats.bayes.models.family_effects import densities
from stats.bayes.models.fit import Method, ModelFit
from stats.bayes.normal import Direction
from stats.bayes.pooling import Joint
from stats.bayes.prior import Prior

TOO_FEW: Final = "fewer than two replications have an estimate"
_DRAWS: Final = 4000


@dataclass(frozen=True, slots=True, eq=False)
class ReplicationsQuestion(Exchangeable):
    """Log lifts and standard errors (R,) of experiments with different units, and the prior of the effect they share.

    Replications without an estimate are left out and come back as NaN. Effects are those of each replication, shrunk.
    `hyper` has the shared effect `mean` and the sd `between` replications, and what both say of the next replication:
    its log lift `next`, and `next_same_sign`, the chance that it points where the shared effect points. Between
    replications effects are expected to vary as between segments; two replications hardly move that expectation.
    """

    estimates: Array
    errors: Array
    prior: Prior
    direction: Direction = "increase"
    rope: float = 0.005
    level: float = 0.95

    @property
    def known(self) -> BoolArray:
        """(R,) which replications have an estimate."""
        return usable(self.estimates, self.errors)

    def hierarchy(self) -> Hierarchy:
        """The replications that have an estimate. Raises `ImpossibleData` where fewer than two have."""
        known = self.known
        if known.sum() < 2:
            raise ImpossibleData(TOO_FEW)
        return Hierarchy.independent(self.estimates[known], self.errors[known], self.prior, between_scale(self.prior))

    def told(self, joint: Joint, seed: int, method: Method) -> ModelFit:
        """See `Exchangeable.told`."""
        fit = Exchangeable.told(self, joint, seed, method)
        rng = np.random.default_rng(seed)
        mu, tau = joint.drawn(_DRAWS, rng)
        coming = mu + tau * rng.standard_normal(mu.size)
        same = sc.ndtr(np.abs(mu) / np.maximum(tau, 1e-300))
        hyper = {**fit.hyper, "next": with_tails(coming), "next_same_sign": with_tails(same)}
        return replace(fit, hyper=hyper, densities=densities(self.hierarchy(), joint))


def with_tails(values: Array) -> tuple[float, float, float]:
    """Mean and 95 % interval (equal tails) of draws (D,)."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
