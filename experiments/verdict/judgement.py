"""METHODS H2: what rows and checks say about shipping, as a verdict and a recommendation that cannot contradict.

First match wins. 1 a failed check: investigate (`unreliable`). 2 a primary, guardrail or the North Star is harmed: roll
back (`worse`). 3 a primary superior at its decision interval in a variant that is safe, after a full week: ship
(`better`). 4 no chance left (predictive power below 10 %, a futility bound, or all primaries within +-mde): iterate,
archive, or neutral. 5 looks remain: keep running. 6 the last look was taken: extend or iterate where something won but
is not shown safe, else iterate, archive or neutral.

Errors (A11): superiority spends alpha over success tests; guardrails need no correction because all must clear. Harm
is Holm-corrected over primaries, guardrails and the North Star: alpha / 2 by one-sided always-valid bounds at any time,
and alpha / 2 by the decision interval of the planned end, together at most alpha. A guardrail shown to stay within its
margin is not harmed: its owner accepted that much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from experiments.plan import AnalysisPlan
from experiments.result import Action, Check, Recommendation, Row
from experiments.verdict.situation import Situation
from experiments.verdict.words import Words
from stats.multiplicity import adjusted

type Outcome = Literal["better", "worse", "equivalent", "inconclusive", "unreliable"]

FUTILE_BELOW = 0.1
"""Predictive power below which nothing is left to wait for (METHODS H2)."""
FUTILE_FROM = 0.5
"""Part of the planned sample before which predictive power is too noisy to give up on: with weekly looks and an effect

of the planned size, giving up from a quarter on cost 5 points of power in simulation, from a half on none."""
UNPROVEN_LINK = "unproven_link"
UNMARGINED_NORTH_STAR = "north_star_without_margin"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`variant` is the one the verdict is about (best or most harmed), None when it is about all of them."""

    outcome: Outcome
    variant: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the rest of the experiment may bring.

    `predictive_power` of the most promising primary at the planned end, flat prior (METHODS H4); `fraction` of the
    planned sample so far; `days` until it is complete. `futile` and `harmed` are (metric, variant) pairs that crossed
    a group-sequential bound.
    """

    predictive_power: float | None = None
    fraction: float | None = None
    days: float | None = None
    futile: frozenset[tuple[str, str]] = frozenset()
    harmed: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdict and recommendation of one result."""

    verdict: Verdict
    recommendation: Recommendation


def verdict(plan: AnalysisPlan, rows: Sequence[Row], checks: Sequence[Check], situation: Situation) -> Verdict:
    """The verdict alone: see `judge`."""
    return judge(plan, rows, checks, situation).verdict


def judge(
    plan: AnalysisPlan,
    rows: Sequence[Row],
    checks: Sequence[Check],
    situation: Situation,
    forecast: Forecast | None = None,
) -> Judgement:
    """Judge rows over everybody (rows of segments are ignored), whose decision numbers are filled in.

    Pure: the same rows give the same judgement.
    """
    return _Case(plan, rows, checks, situation, forecast or Forecast()).judge()


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm-adjusted p-values, in the order given; missing ones stay missing and do not count (TRAPS 18)."""
    numbers = adjusted([np.nan if p is None else p for p in p_values], "holm").tolist()
    return [None if p is None else found for p, found in zip(p_values, numbers, strict=True)]


def good(row: Row) -> bool:
    """Whether the difference points where the plan wants it."""
    change = row.difference or 0.0
    return change > 0 if row.direction == "increase" else change < 0


@dataclass(frozen=True)
class _Case:
    plan: AnalysisPlan
    rows: Sequence[Row]
    checks: Sequence[Check]
    situation: Situation
    forecast: Forecast
    words: Words = field(init=False)
    star: str | None = field(init=False)
    primaries: list[Row] = field(init=False)
    guardrails: list[Row] = field(init=False)
    """Guardrails, and the North Star where it is none of the primaries: at least non-inferior in every experiment."""

    def __post_init__(self) -> None:
        star = self.plan.north_star.spec.metric_key if self.plan.north_star else None
        whole = [row for row in self.rows if row.segment is None]
        found = {
            "words": Words(self.plan, self.situation),
            "star": star,
            "primaries": [row for row in whole if row.role == "primary"],
            "guardrails": [
                row for row in whole if row.role == "guardrail" or (row.metric_key == star and row.role != "primary")
            ],
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def judge(self) -> Judgement:
        failed = [check for check in self.checks if check.status == "fail"]
        if failed:
            return self._say("unreliable", "investigate", 1, (_sentence(check) for check in failed))
        if self.plan.purpose == "aa":
            return self._same_on_purpose()
        harmed = self.harmed()
        if harmed:
            worst = max(harmed, key=lambda row: abs(row.lift or 0.0))
            others = self._winner({row.variant_key for row in harmed})
            if others is None:
                return self._say("worse", "roll_back", 2, map(self.words.harmed, harmed), worst.variant_key)
        wins = [row for row in self.primaries if row.significant and good(row)]
        best = self._winner({row.variant_key for row in harmed})
        if best is not None:
            return self._ship(best, wins)
        if self._hopeless(wins):
            return self._nothing_to_find(4)
        if self._looks_remain():
            return self._keep_running(wins)
        return self._won_but_unsafe(wins) if wins else self._nothing_to_find(6)

    def harmed(self) -> list[Row]:
        """Rows that are shown to be worse than control (rule 2)."""
        alpha = (1 - self.plan.estimation.ci_level) / 2
        watched = [*self.primaries, *self.guardrails]
        # A bound that has not begun counts as a test that was not passed, so that its beginning cannot take alpha back.
        monitored = adjusted([1.0 if row.harm_p_value is None else row.harm_p_value for row in watched], "holm")
        found = {id(row) for row, p in zip(watched, monitored.tolist(), strict=True) if p <= alpha}
        if self.situation.interval == "fixed" and self.situation.complete:
            at_the_end = holm([row.p_value for row in watched])
            ended = zip(watched, at_the_end, strict=True)
            found |= {id(row) for row, p in ended if p is not None and p <= 2 * alpha and not good(row)}
        found |= {id(row) for row in self.primaries if (row.metric_key, row.variant_key) in self.forecast.harmed}
        return [row for row in watched if id(row) in found and not (row.role != "primary" and row.non_inferior)]

    def _winner(self, harmed: set[str]) -> Row | None:
        """The best primary that is superior in a variant that may be shipped (rule 3)."""
        if self.situation.full_weeks < 1:
            return None
        wins = [row for row in self.primaries if row.significant and good(row) and row.variant_key not in harmed]
        cleared = [row for row in wins if self._safe(row.variant_key)]
        return max(cleared, key=lambda row: abs(row.lift or 0.0), default=None)

    def _safe(self, variant: str) -> bool:
        """All guardrails non-inferior; a North Star without a margin is reported and does not block."""
        return all(
            row.non_inferior
            for row in self.guardrails
            if row.variant_key == variant and (row.role == "guardrail" or row.non_inferiority_margin is not None)
        )

    def _ship(self, best: Row, wins: Sequence[Row]) -> Judgement:
        variant = best.variant_key
        won = [row for row in wins if row.variant_key == variant]
        reasons = [self.words.moved(row, "better than control") for row in won]
        for row in self.guardrails:
            if row.variant_key != variant or row.non_inferior is None:
                continue
            note = " It did move the wrong way, by less than its margin." if row.significant and not good(row) else ""
            reasons.append(self.words.non_inferior(row) + note)
        unmargined = [r for r in self.guardrails if r.variant_key == variant and r.non_inferiority_margin is None]
        tags = [UNMARGINED_NORTH_STAR] if unmargined else []
        if best.metric_key in self._drivers() and not any(row.metric_key == self.star for row in won):
            tags.append(UNPROVEN_LINK)
            reasons.append(f"{best.metric_name} is a driver of the North Star whose pass-through is not proven.")
        return self._say("better", "ship", 3, reasons, variant, tags)

    def _drivers(self) -> set[str]:
        star = self.plan.north_star
        return {item.metric_key for item in star.spec.input_metrics if item.edge == "driver"} if star else set()

    def _looks_remain(self) -> bool:
        """Whether more data can come: exposure or the last windows go on, and the last look has not been taken."""
        return (self.situation.running or self.situation.ripening) and not self.situation.complete

    def _hopeless(self, wins: Sequence[Row]) -> bool:
        """Rule 4: nothing has won, and nothing will."""
        if wins or not self.primaries or self.situation.full_weeks < 1 or not self._looks_remain():
            return False
        if all(row.equivalent for row in self.primaries):
            return True
        if all((row.metric_key, row.variant_key) in self.forecast.futile for row in self.primaries):
            return True
        power, fraction = self.forecast.predictive_power, self.forecast.fraction
        return power is not None and power < FUTILE_BELOW and (fraction or 0.0) >= FUTILE_FROM

    def _nothing_to_find(self, rule: int) -> Judgement:
        """Nothing won: neutral under a rule of doing no harm, archive where the effect is shown small, else iterate."""
        outcome: Outcome = "equivalent" if self._equivalent() else "inconclusive"
        if not self.primaries:
            return self._say(outcome, "iterate", rule, ["The plan has no primary metric, so nothing can decide."])
        if outcome == "equivalent":
            reasons = [self.words.equivalent(row) for row in self.primaries]
        else:
            reasons = [self.words.open(row) for row in self.primaries]
        if rule == 4 and outcome != "equivalent":
            reasons.append(self._why_futile())
        if self.situation.early:
            reasons.append("Exposure ended before its planned end.")
        harmless = self._harmless()
        if harmless is not None:
            guards = [row for row in self.guardrails if row.variant_key == harmless and row.non_inferior]
            reasons += [self.words.non_inferior(row) for row in guards]
            reasons.append(f"{self.words.variant(harmless)} does no harm, which is what its plan asks for.")
            return self._say(outcome, "neutral", rule, reasons, harmless)
        action: Action = "archive" if outcome == "equivalent" else "iterate"
        return self._say(outcome, action, rule, reasons)

    def _why_futile(self) -> str:
        power = self.forecast.predictive_power
        if power is None or power >= FUTILE_BELOW:
            return "A futility bound was crossed: more data will hardly change this."
        return f"The chance that the planned end shows a win is {power:.0%}: more data will hardly change this."

    def _harmless(self) -> str | None:
        """The variant that may be kept under `do_no_harm`: every guardrail and the North Star are non-inferior."""
        if self.plan.estimation.decision_rule != "do_no_harm":
            return None
        for variant in self.plan.variants[1:]:
            watched = [row for row in self.guardrails if row.variant_key == variant.key]
            star = [row for row in self.primaries if (row.metric_key, row.variant_key) == (self.star, variant.key)]
            if [*watched, *star] and all(row.non_inferior for row in [*watched, *star]):
                return variant.key
        return None

    def _keep_running(self, wins: Sequence[Row]) -> Judgement:
        outcome: Outcome = "equivalent" if not wins and self._equivalent() else "inconclusive"
        reasons = self._why_not(wins)
        days = self.forecast.days
        if days is not None and days > 0:
            reasons.append(f"The planned sample is complete in about {max(1, round(days))} days.")
        elif self.forecast.fraction is not None and self.forecast.fraction >= 1:
            reasons.append("The planned sample is complete: stop exposure, so that the planned end can decide.")
        return self._say(outcome, "keep_running", 5, reasons)

    def _won_but_unsafe(self, wins: Sequence[Row]) -> Judgement:
        action: Action = "extend" if self.situation.running else "iterate"
        return self._say("inconclusive", action, 6, self._why_not(wins))

    def _same_on_purpose(self) -> Judgement:
        """A/A: the variants are equal, so a difference beyond chance is a fault of the pipeline."""
        moved = [row for row in self.primaries if row.significant]
        moved += [row for row in self.harmed() if row not in moved]
        if moved:
            reasons = [f"{self.words.moved(row, 'different')[:-1]}, though nothing should be." for row in moved]
            reasons.append("Find out what differs between the variants before the next experiment is believed.")
            return self._say("unreliable", "investigate", 1, reasons)
        if self._looks_remain():
            judgement = self._keep_running([])
            return judgement
        outcome: Outcome = "equivalent" if self._equivalent() else "inconclusive"
        reasons = ["The variants are the same on purpose, and nothing differs beyond chance."]
        return self._say(outcome, "archive", 6, reasons)

    def _equivalent(self) -> bool:
        return bool(self.primaries) and all(row.equivalent for row in self.primaries)

    def _why_not(self, wins: Sequence[Row]) -> list[str]:
        if not self.primaries:
            return ["The plan has no primary metric, so nothing can decide."]
        if not wins and self._equivalent():
            return [self.words.equivalent(row) for row in self.primaries]
        reasons = [self.words.open(row) for row in self.primaries if row not in wins]
        for row in wins:
            reasons.append(self.words.moved(row, "better than control"))
            reasons.extend(
                self.words.not_cleared(guard)
                for guard in self.guardrails
                if guard.variant_key == row.variant_key
                and guard.non_inferiority_margin is not None
                and not guard.non_inferior
            )
        if wins and self.situation.full_weeks < 1:
            reasons.append("Less than one full week was observed, and weekdays differ.")
        return reasons

    def _say(
        self,
        outcome: Outcome,
        action: Action,
        rule: int,
        reasons: Iterable[str],
        variant: str | None = None,
        tags: Sequence[str] = (),
    ) -> Judgement:
        sentences = list(dict.fromkeys(reasons))
        advice = Recommendation(
            action=action,
            variant_key=variant,
            rule=rule,
            reasons=sentences,
            tags=list(tags),
            predictive_power=self.forecast.predictive_power,
            expected_days=self.forecast.days if self._looks_remain() else None,
        )
        about = variant if outcome in ("better", "worse") else None
        return Judgement(Verdict(outcome, about, tuple(sentences)), advice)


def _sentence(check: Check) -> str:
    return f"{check.detail} {check.remedy}".strip()
