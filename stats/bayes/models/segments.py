"""Effects in the segments of one dimension, shrunk towards each other (METHODS A15, C4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stats.bayes.hierarchy import Array, BoolArray, Hierarchy, between_scale, usable
from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.exchangeable import Exchangeable
from stats.bayes.normal import Direction
from stats.bayes.prior import Prior

TOO_FEW: Final = "too_few_segments"


@dataclass(frozen=True, slots=True, eq=False)
class SegmentsQuestion(Exchangeable):
    """Log lifts and standard errors (S,) of disjoint segments, and the prior of the overall log lift.

    Segments without an estimate (not finite, or no positive standard error) are left out of the pooling and come back
    as NaN. `rope` is a half-width on the log lift. Assumes exchangeable segments: put an ordered dimension (tenure)
    through a trend first. `hyper` has the overall log lift `mean` and the sd `between` segments.
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
        return Hierarchy.independent(self.estimates[known], self.errors[known], self.prior, between_scale(self.prior))
