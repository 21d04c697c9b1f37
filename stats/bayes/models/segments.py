"""Effects in the segments of one dimension, shrunk towards each other (METHODS A15, C4)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from stats.bayes.hierarchy import Array, BoolArray, Hierarchy, between_scale, normals, usable
from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.exchangeable import (
    DEFINITION,
    Exchangeable,
    hyper_of,
    outlier_check,
    sampled_effects,
)
from stats.bayes.models.fit import EffectPosteriors, ModelFit
from stats.bayes.normal import Direction
from stats.bayes.prior import Prior
from stats.bayes.sampling.contract import Draws

TOO_FEW: Final = "too_few_segments"


@dataclass(frozen=True, slots=True, eq=False)
class SegmentsQuestion(Exchangeable):
    """Log lifts and standard errors (S,) of disjoint segments, the prior of the overall log lift.

    Segments without an estimate (not finite, or no positive standard error) are left out of the pooling and come back
    as NaN. `rope` is a half-width on the log lift. Assumes exchangeable segments: put an ordered dimension (tenure)
    through a trend first.
    """

    estimates: Array
    errors: Array
    prior: Prior
    level: float = 0.95
    direction: Direction = "increase"
    rope: float = 0.005

    @property
    def known(self) -> BoolArray:
        """(S,) which segments have an estimate."""
        return usable(self.estimates, self.errors)

    def hierarchy(self) -> Hierarchy:
        """The segments that have an estimate. Raises `ImpossibleData` where fewer than two have."""
        known = self.known
        if known.sum() < 2:
            raise ImpossibleData(TOO_FEW)
        return Hierarchy.independent(
            self.estimates[known], self.errors[known], normals(self.prior), between_scale(self.prior)
        )

    def summarise(self, draws: Draws, seed: int) -> ModelFit:
        """See `Question.summarise`; `hyper` has the overall log lift `mean` and the sd `between` segments."""
        family = self.hierarchy()
        mu, tau = draws.values["mu"].ravel(), draws.values["tau"].ravel()
        effects = sampled_effects(family, draws, direction=self.direction, rope=self.rope, level=self.level)
        return ModelFit(
            model=DEFINITION.name,
            version=DEFINITION.version,
            status="ok",
            seed=seed,
            effects=among(effects, self.known),
            hyper=hyper_of(mu, tau),
            checks=(outlier_check(family, mu, tau, seed),),
        )


def among(effects: EffectPosteriors, known: BoolArray) -> EffectPosteriors:
    """The effects at their places among all that were asked about, NaN elsewhere."""

    def spread(values: Array) -> Array:
        everywhere = np.full(known.shape, np.nan)
        everywhere[known] = values
        return everywhere

    return EffectPosteriors(**{field.name: spread(getattr(effects, field.name)) for field in fields(effects)})
