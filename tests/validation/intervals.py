"""Intervals of simulated launches against what was true: how often they hold it, how far off and how wide they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from stats.launch.contract import Estimated
from tests.validation.cells import Cell, Rule

LEVEL = 0.95
NORMAL = 1.96


@dataclass(slots=True)
class Intervals:
    """What one method said of launches whose effect is known; what it refused to say is counted and left out."""

    error: list[float] = field(default_factory=list)
    half: list[float] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    p_value: list[float] = field(default_factory=list)
    refused: int = 0

    def add(self, truth: float, effect: float, lower: float, upper: float, p_value: float = float("nan")) -> None:
        self.error.append(effect - truth)
        self.half.append((upper - lower) / 2)
        self.held.append(bool(lower <= truth <= upper))
        self.p_value.append(p_value)

    def of(self, truth: float, estimated: Estimated) -> None:
        """Add the estimator's own interval."""
        if estimated.reason:
            self.refused += 1
        else:
            self.add(truth, estimated.effect, estimated.lower, estimated.upper, estimated.p_value)

    @property
    def made(self) -> int:
        return len(self.error)

    def coverage(self, table: str, case: dict[str, str], method: str, rule: Rule, slack: float) -> Cell:
        """The share that holds the truth; `extra` has how wide they are, as a share of 1.96 standard deviations of the
        errors, and the share that were refused."""
        spread = NORMAL * float(np.std(self.error))
        extra = {
            "half width": float(np.mean(self.half)),
            "half width / 1.96 sd": float(np.mean(self.half)) / spread if spread > 0 else float("nan"),
            "refused": self.refused / (self.refused + self.made),
        }
        held = float(np.mean(self.held))
        return Cell(table, case, f"{method}: coverage", held, LEVEL, self.made, rule, slack, extra=extra)

    def width(self, table: str, case: dict[str, str], method: str) -> Cell:
        """How wide intervals are, beside those of somebody who knows the spread of the errors."""
        wide = float(np.mean(self.half)) / (NORMAL * float(np.std(self.error)))
        return Cell(table, case, f"{method}: half width / 1.96 sd of errors", wide, 1.0, self.made, "report")

    def bias(self, table: str, case: dict[str, str], method: str, rule: Rule = "equal") -> Cell:
        """The mean error: chance may take it three standard errors from 0, and a fiftieth of the spread is allowed."""
        reach = (3 / sqrt(self.made) + 0.02) * float(np.std(self.error))
        return Cell(table, case, f"{method}: bias", float(np.mean(self.error)), 0.0, self.made, rule, within=reach)


def shares_below(
    p_values: Iterable[float], table: str, case: dict[str, str], what: str, rule: Rule, slack: float
) -> list[Cell]:
    """Uniform p-values are below 0.1, 0.25 and 0.5 as often as they say."""
    p = np.array([each for each in p_values if np.isfinite(each)])
    return [
        Cell(table, case, f"{what}: p ≤ {alpha:g}", float(np.mean(p <= alpha + 1e-9)), alpha, p.size, rule, slack)
        for alpha in (0.1, 0.25, 0.5)
    ]
