"""All metrics of one variant together: how much of an experiment's effect do they share (METHODS C4)?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from stats.bayes.hierarchy import Array, BoolArray, Hierarchy, usable
from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.exchangeable import Exchangeable
from stats.bayes.models.family_effects import densities
from stats.bayes.models.fit import Method, ModelFit
from stats.bayes.models.replications import with_tails
from stats.bayes.normal import Direction
from stats.bayes.pooling import Joint
from stats.bayes.prior import Family, Prior

TOO_FEW: Final = "fewer than two metrics have an estimate"
_SHARE: Final = float(np.sqrt(0.5))
"""mu ~ N(0, 1/2) and tau with E[tau²] = 1/2: together each metric keeps its own prior scale, half of it shared."""
_SHARED: Final = Prior(Family.NORMAL, 0.0, _SHARE, "half of every metric's prior variance is shared by all of them")
_DRAWS: Final = 4000


@dataclass(frozen=True, slots=True, eq=False)
class MetricsQuestion(Exchangeable):
    """Log lifts (M,) of one variant's metrics with the covariance (M, M) of their errors, from joint moments.

    `scales` (M,) are how large effects on each metric usually are (its prior's standard deviation, log lift), negative
    where the metric should decrease: effects are alike in these units, good being positive. Metrics without an
    estimate, a variance or a scale are left out and come back as NaN. `hyper` is in the same units: the `mean` of all
    metrics, the sd `between` them, and `common`, the share of the mean in an effect's size, mu² / (mu² + tau²).
    """

    estimates: Array
    covariance: Array
    scales: Array
    rope: float = 0.005
    level: float = 0.95

    @property
    def prior(self) -> Prior:
        """Of mu, in units of the scales."""
        return _SHARED

    @property
    def direction(self) -> Direction:  # type: ignore[override]  # never set: the scales carry the directions
        """Up, in units of the scales."""
        return "increase"

    @property
    def known(self) -> BoolArray:
        """(M,) which metrics have an estimate, a variance and a scale."""
        errors = np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))
        return np.asarray(usable(self.estimates, errors) & np.isfinite(self.scales) & (self.scales != 0))

    def hierarchy(self) -> Hierarchy:
        """The metrics that have an estimate. Raises `ImpossibleData` where fewer than two have."""
        known = self.known
        if known.sum() < 2:
            raise ImpossibleData(TOO_FEW)
        try:
            return Hierarchy.correlated(
                self.estimates[known], self.covariance[known][:, known], self.scales[known], _SHARED, _SHARE
            )
        except ValueError as error:
            raise ImpossibleData(str(error)) from error

    def told(self, joint: Joint, seed: int, method: Method) -> ModelFit:
        """See `Exchangeable.told`."""
        fit = Exchangeable.told(self, joint, seed, method)
        mu, tau = joint.drawn(_DRAWS, np.random.default_rng(seed))
        hyper = {**fit.hyper, "common": with_tails(mu**2 / (mu**2 + tau**2))}
        return replace(fit, hyper=hyper, densities=densities(self.hierarchy(), joint))
