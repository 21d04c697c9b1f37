"""One number of a validation table: what was observed, what it should be, and how far chance may take it from there.

A cell passes if |observed - nominal| <= 3 sqrt(p (1 - p) / R) + slack. Outside, it is a bug, unless the engine itself
warns the user in most replications of that cell; a cell whose difference is truly skewed is never called a pass when
warned, and must be warned once its skewness is clear.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

type Rule = Literal["equal", "at_most", "at_least", "report"]
type Status = Literal["pass", "warn", "FAIL", "shown"]

SLACK = 0.005
SKEWED = 0.1
CLEARLY_SKEWED = 0.2
"""The engine sees an estimate of the skewness; one of 0.1 is seen as more or less than that equally often."""
MOSTLY = 0.5


@dataclass(frozen=True, slots=True)
class Cell:
    """`case` says which cell of the table; `warned` is the share of replications with a number that have a warning too.

    `skewness` is the true standardised skewness of the difference (METHODS A1). `within` replaces the binomial
    tolerance where the number is not a probability. Cells with the rule "report" are shown beside others and have no
    target: what a method that the engine does not use would have done.
    """

    table: str
    case: dict[str, str]
    quantity: str
    observed: float
    nominal: float
    replications: int
    rule: Rule = "equal"
    slack: float = SLACK
    warned: float | None = None
    skewness: float | None = None
    within: float | None = None
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def tolerance(self) -> float:
        if self.within is not None:
            return self.within
        return 3 * sqrt(self.nominal * (1 - self.nominal) / max(self.replications, 1)) + self.slack

    @property
    def inside(self) -> bool:
        gap = self.observed - self.nominal
        if self.rule == "at_most":
            return gap <= self.tolerance
        if self.rule == "at_least":
            return gap >= -self.tolerance
        return abs(gap) <= self.tolerance

    @property
    def status(self) -> Status:
        if self.rule == "report":
            return "shown"
        skewness = 0.0 if self.skewness is None else abs(self.skewness)
        if self.warned is not None and self.warned >= MOSTLY:
            return "warn" if skewness > SKEWED or not self.inside else "pass"
        return "pass" if self.inside and skewness <= CLEARLY_SKEWED else "FAIL"

    @property
    def name(self) -> str:
        return f"{self.table}: {', '.join(f'{k} {v}' for k, v in self.case.items())}: {self.quantity}"


def share(hits: ArrayLike) -> float:
    """Share of replications, over all axes; refused replications (nan) count as no."""
    return float(np.mean(np.asarray(hits, dtype=np.float64)))


def scaled(replications: int, part: float, fewest: int = 100) -> int:
    """Fewer replications for a shorter run."""
    return max(round(replications * part), min(fewest, replications))
