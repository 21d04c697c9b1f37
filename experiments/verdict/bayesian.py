"""What the Bayesian engine makes of the same rows, by the same rules (METHODS C5, H3).

A win is a primary with the plan's chance to win and an expected loss of at most the plan's, as a share of the North
Star where the link is known. A guardrail is safe with the plan's chance to stay within its margin. Failed checks and
harm are judged as the frequentist engine does; nothing is shipped before the planned end on a prior that was not
learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from experiments.plan import AnalysisPlan
from experiments.result import GuardrailChance, NorthStarEffect, Row
from experiments.verdict.case import Case
from experiments.verdict.monitoring import learned
from experiments.verdict.north_star import north_star_share
from experiments.verdict.outcomes import FUTILE_BELOW, Forecast
from experiments.verdict.words import Words

type LossUnit = Literal["north_star", "metric"]


@dataclass(frozen=True, slots=True)
class Stakes:
    """What the plan asks of a win, and what each row offers."""

    plan: AnalysisPlan
    impact: Sequence[NorthStarEffect]
    chances: Mapping[tuple[str, str], float | None]
    """To stay within the margin, by metric and variant."""

    def loss(self, row: Row) -> tuple[float | None, LossUnit]:
        """Expected loss of shipping as a share of the North Star, or of the metric where the link is not known."""
        share = north_star_share(self.plan, self.impact, row.metric_key, row.variant_key)
        unit: LossUnit = "metric" if share is None else "north_star"
        return None if row.expected_loss is None else row.expected_loss * (1.0 if share is None else share), unit

    def likely(self, row: Row) -> bool:
        """Whether it has the chance to win that shipping takes."""
        return row.chance_to_win is not None and row.chance_to_win >= self.plan.estimation.beliefs.chance_to_win

    def affordable(self, row: Row) -> bool:
        """Whether being wrong would cost little enough."""
        loss, _ = self.loss(row)
        return loss is not None and loss <= self.plan.estimation.beliefs.expected_loss

    def chance(self, row: Row) -> float | None:
        """The chance that a guardrail stays within its margin."""
        return self.chances.get((row.metric_key, row.variant_key))

    def safe(self, row: Row) -> bool:
        """Whether a guardrail has the chance that shipping takes."""
        chance = self.chance(row)
        return chance is not None and chance >= self.plan.estimation.beliefs.guardrail_chance


def stakes_of(
    plan: AnalysisPlan, impact: Sequence[NorthStarEffect], guardrail_chances: Sequence[GuardrailChance]
) -> Stakes:
    """The stakes of one result."""
    return Stakes(plan, impact, {(item.metric_key, item.variant_key): item.chance for item in guardrail_chances})


@dataclass(frozen=True)
class BayesianCase(Case):
    """Judged by posteriors."""

    stakes: Stakes = field(kw_only=True)

    @cached_property
    def words(self) -> Words:
        return BayesianWords(self.plan, self.situation, self.stakes, self.early)

    @cached_property
    def early(self) -> frozenset[str]:
        """Metrics that may not ship anything yet, though looks may decide: their priors were not learned."""
        if self.situation.complete:
            return frozenset()
        return frozenset(metric.metric_key for metric in self.plan.metrics if not learned(self.plan, metric))

    def wins(self) -> list[Row]:
        if not self.situation.deciding:
            return []
        return [row for row in self.convincing() if row.metric_key not in self.early]

    def convincing(self) -> list[Row]:
        """Primaries with the chance and the loss that shipping takes, whether they may decide yet or not."""
        return [row for row in self.primaries if self.stakes.likely(row) and self.stakes.affordable(row)]

    def cleared(self, row: Row) -> bool:
        return self.stakes.safe(row)

    def equivalent(self, row: Row) -> bool:
        """The HDI lies within +-mde: the region of practical equivalence is what the plan calls too small (C5)."""
        if row.mde is None or row.hdi_lower is None or row.hdi_upper is None or not self.situation.deciding:
            return False
        return -row.mde < row.hdi_lower and row.hdi_upper < row.mde

    def size(self, row: Row) -> float:
        return abs(row.posterior_lift or 0.0)

    def hopeless(self, wins: Sequence[Row]) -> bool:
        """A prior of small effects alone makes a posterior small: not given up while more data are worth their days."""
        return not self.forecast.worth_waiting and super().hopeless(wins)

    def futile(self) -> bool:
        power = self.forecast.predictive_power_with_prior
        return self.bound_crossed() or self.powerless(self.forecast.predictive_power if power is None else power)


@dataclass(frozen=True)
class BayesianWords(Words):
    """Sentences with posteriors in them. Harm is said in the words of the bounds that show it."""

    stakes: Stakes
    early: frozenset[str]

    def believed(self, row: Row) -> str:
        """The numbers of a posterior."""
        if row.posterior_lift is None or row.chance_to_win is None:
            return "no posterior"
        span = ""
        if row.hdi_lower is not None and row.hdi_upper is not None:
            level = f"{row.ci_level * 100:g} %"
            span = f" ({level} HDI {row.hdi_lower * 100:+.2f} % to {row.hdi_upper * 100:+.2f} %)"
        return (
            f"chance to win {chance_words(row.chance_to_win)}, posterior lift {row.posterior_lift * 100:+.2f} %{span}"
        )

    def lost(self, row: Row) -> str:
        """The expected loss in its unit."""
        loss, unit = self.stakes.loss(row)
        if loss is None:
            return "no expected loss"
        of = "of the North Star" if unit == "north_star" else f"of {row.metric_name}"
        return f"expected loss of {small_share(loss)} {of}"

    def won(self, row: Row) -> str:
        return f"{self.subject(row)} is better than control: {self.believed(row)}, {self.lost(row)}."

    def equivalent(self, row: Row) -> str:
        return f"{self.subject(row)} is within ±{(row.mde or 0) * 100:g} % of control: {self.believed(row)}."

    def non_inferior(self, row: Row) -> str:
        return self._guarded(row, "stays")

    def not_cleared(self, row: Row) -> str:
        return self._guarded(row, "is not sure enough to stay")

    def _guarded(self, row: Row, verb: str) -> str:
        margin = (row.non_inferiority_margin or 0) * 100
        kind = "Guardrail" if row.role == "guardrail" else "North Star"
        chance, asked = self.stakes.chance(row), self.plan.estimation.beliefs.guardrail_chance
        if chance is None:
            return f"{kind} {self.subject(row)} cannot be judged: it has no posterior."
        said = f"chance {chance_words(chance)}, at least {asked * 100:g} % is asked"
        return f"{kind} {self.subject(row)} {verb} within its margin of {margin:g} %: {said}."

    def open(self, row: Row) -> str:
        if not row.estimable or not self.situation.deciding:
            return super().open(row)
        if row.chance_to_win is None:
            return f"{self.subject(row)} has no posterior{_why_none(row)}, so no chance to win."
        numbers = f"{self.believed(row)}, {self.lost(row)}"
        if self.stakes.likely(row) and self.stakes.affordable(row) and row.metric_key in self.early:
            return (
                f"{self.subject(row)} would ship, but waits for the planned end: {numbers}. Its prior was stated and "
                "not learned from past experiments, so its chance is not calibrated when a look stops the experiment."
            )
        beliefs = self.plan.estimation.beliefs
        asked = f"at least {beliefs.chance_to_win * 100:g} % and at most {small_share(beliefs.expected_loss)} are asked"
        return f"{self.subject(row)} is undecided: {numbers}; {asked}."

    def futile(self, forecast: Forecast) -> str:
        power = forecast.predictive_power_with_prior
        if power is None or power >= FUTILE_BELOW:
            return super().futile(forecast)
        known = " It would not be worth its days either." if forecast.worth_waiting is False else ""
        return (
            f"The chance that the planned end shows a win, given the prior, is {power:.0%}: more data will hardly "
            f"change this.{known}"
        )


def _why_none(row: Row) -> str:
    if row.reason:
        return f" ({row.reason})"
    means = (row.mean_control, row.mean_treatment)
    return " (its means are not positive: no log lift)" if any(mean is not None and mean <= 0 for mean in means) else ""


def chance_words(chance: float) -> str:
    """A chance as a percentage that never rounds to certainty."""
    if chance > 0.9995:
        return "over 99.9 %"
    return "under 0.1 %" if chance < 0.0005 else f"{chance * 100:.1f} %"


def small_share(share: float) -> str:
    """A small share as a percentage with two significant digits."""
    if 0 < share < 5e-7:
        return "under 0.0001 %"
    text = f"{share * 100:.2g}" if share < 0.1 else f"{share * 100:.1f}"
    return f"{float(text):.6f}".rstrip("0").rstrip(".") + " %"
