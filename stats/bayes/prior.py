"""Priors on a log lift (METHODS C1, C3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Family(StrEnum):
    """Shape of the prior: Normal, or Student-t with 4 degrees of freedom for fat tails."""

    NORMAL = "normal"
    STUDENT_T4 = "student_t4"


@dataclass(frozen=True, slots=True)
class Prior:
    """`log lift ~ family(mean, scale)`; `source` tells a reader where it came from and is shown on every report.

    For Student-t `scale` is the scale parameter, not the standard deviation (which is `scale * sqrt(2)`).
    """

    family: Family
    mean: float
    scale: float
    source: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"a prior needs a finite mean and a positive finite scale, not {self.mean}, {self.scale}")

    @classmethod
    def default(cls, family: Family = Family.NORMAL) -> Self:
        """The weakly informative default of METHODS C3: N(0, 0.05²) or t₄ with scale 0.03 on the log lift."""
        if family is Family.NORMAL:
            return cls(family, 0.0, 0.05, "default: Normal(0, 0.05) on the log lift")
        return cls(family, 0.0, 0.03, "default: Student-t4(0, 0.03) on the log lift")
