"""Priors on a log lift (METHODS C1, C3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

import scipy.special as sc

FLAT_FROM: Final = 0.5
"""A stated scale this wide says that lifts of 60 % are ordinary: flat in all but name (METHODS C5)."""
FLAT_SCALE: Final = 1e3


class Family(StrEnum):
    """Shape of the prior: Normal, Student-t with 4 degrees of freedom for fat tails, learned from past experiments

    (a mixture of normals), or flat (a normal so wide that the posterior is the likelihood).
    """

    NORMAL = "normal"
    STUDENT_T4 = "student_t4"
    LEARNED = "learned"
    FLAT = "flat"


@dataclass(frozen=True, slots=True)
class Prior:
    """`log lift ~ family(mean, scale)`; `source` tells a reader where it came from and is shown on every report.

    For Student-t `scale` is the scale parameter, not the standard deviation (which is `scale * sqrt(2)`). A learned
    prior is given by `components` (weight, mean, sd), weights summing to one; `mean` and `scale` are then its mean and
    standard deviation.
    """

    family: Family
    mean: float
    scale: float
    source: str
    components: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"a prior needs a finite mean and a positive finite scale, not {self.mean}, {self.scale}")
        if (self.family is Family.LEARNED) != bool(self.components):
            raise ValueError("a learned prior, and only a learned prior, has components")
        if self.components:
            if not all(weight >= 0 and sd > 0 for weight, _, sd in self.components):
                raise ValueError("components need weights of at least 0 and positive standard deviations")
            if not math.isclose(sum(weight for weight, _, _ in self.components), 1.0, rel_tol=1e-6):
                raise ValueError("the weights of a learned prior must sum to one")

    @property
    def chance_above_zero(self) -> float:
        """How sure it is of a positive log lift before any data; a half for a flat prior around zero."""
        if self.family is Family.LEARNED:
            return float(sum(weight * sc.ndtr(mean / sd) for weight, mean, sd in self.components))
        score = self.mean / self.scale
        return float(sc.stdtr(4, score) if self.family is Family.STUDENT_T4 else sc.ndtr(score))

    @property
    def is_flat(self) -> bool:
        """Whether it says nothing: monitoring with it is refused (METHODS C5)."""
        return self.family is Family.FLAT or (self.family is not Family.LEARNED and self.scale >= FLAT_FROM)

    @classmethod
    def default(cls, family: Family = Family.NORMAL) -> Self:
        """The weakly informative default of METHODS C3: N(0, 0.05²) or t₄ with scale 0.03 on the log lift."""
        if family is Family.NORMAL:
            return cls(family, 0.0, 0.05, "default: Normal(0, 0.05) on the log lift")
        return cls(family, 0.0, 0.03, "default: Student-t4(0, 0.03) on the log lift")

    @classmethod
    def flat(cls) -> Self:
        """No opinion: the posterior is the likelihood."""
        return cls(Family.FLAT, 0.0, FLAT_SCALE, "flat: every lift is as likely as any other")
