"""What judging says: a verdict and a recommendation that cannot contradict, and the forecast it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from experiments.result import Recommendation, WaitingValue

type Outcome = Literal["better", "worse", "equivalent", "inconclusive", "unreliable"]

FUTILE_BELOW: Final = 0.1
"""Predictive power below which nothing is left to wait for (METHODS H2)."""
FUTILE_FROM: Final = 0.5
"""Part of the planned sample before which predictive power is too noisy to give up on: with weekly looks and an effect

of the planned size, giving up from a quarter on cost 5 points of power in simulation, from a half on none."""
UNPROVEN_LINK: Final = "unproven_link"
UNMARGINED_NORTH_STAR: Final = "north_star_without_margin"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`variant` is the one the verdict is about (best or most harmed), None when it is about all of them."""

    outcome: Outcome
    variant: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the rest of the experiment may bring.

    `predictive_power` of the most promising primary at the planned end, flat prior (METHODS H4), and with its prior;
    `fraction` of the planned sample so far; `days` until it is complete. `futile` and `harmed` are (metric, variant)
    pairs that crossed a group-sequential bound. `waiting` is the primary and variant that more data are worth most for,
    None where the Bayesian engine is off or cannot say.
    """

    predictive_power: float | None = None
    fraction: float | None = None
    days: float | None = None
    futile: frozenset[tuple[str, str]] = frozenset()
    harmed: frozenset[tuple[str, str]] = frozenset()
    predictive_power_with_prior: float | None = None
    waiting: WaitingValue | None = None

    @property
    def worth_waiting(self) -> bool | None:
        """Whether more data are expected to bring more than they cost; None where that is not known."""
        gain = self.waiting.net_gain if self.waiting is not None else None
        return None if gain is None else gain > 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdict and recommendation of one result."""

    verdict: Verdict
    recommendation: Recommendation
