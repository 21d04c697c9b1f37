"""METHODS H2: the rules every engine judges by, in their order; engines differ in what they call a win and safe.

First match wins. 1 a failed check: investigate (`unreliable`). 2 a primary, guardrail or the North Star is harmed: roll
back (`worse`). 3 a primary wins in a variant that is safe, after a full week: ship (`better`). 4 nothing left to wait
for: iterate, archive, or neutral. 5 looks remain: keep running. 6 the last look was taken: extend or iterate where
something won but is not shown safe, else iterate, archive or neutral.

Rules 1 and 2 are the same for all engines. Harm is Holm-corrected over primaries, guardrails and the North Star (A11):
alpha / 2 by one-sided always-valid bounds at any time, and alpha / 2 by the decision interval of the planned end,
together at most alpha. A guardrail shown to stay within its margin is not harmed: its owner accepted that much.

Rule 4 gives up when the chance of a win at the planned end is below 10 % and, where the Bayesian engine can tell, more
data are not expected to bring more than they cost (METHODS H4).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments.plan import AnalysisPlan
from experiments.result import Action, Check, Recommendation, Row
from experiments.verdict.outcomes import (
    FUTILE_BELOW,
    FUTILE_FROM,
    UNMARGINED_NORTH_STAR,
    UNPROVEN_LINK,
    Forecast,
    Judgement,
    Outcome,
    Verdict,
)
from experiments.verdict.situation import Situation
from experiments.verdict.words import Words
from stats.multiplicity import adjusted


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm-adjusted p-values, in the order given; missing ones stay missing and do not count (TRAPS 18)."""
    numbers = adjusted([np.nan if p is None else p for p in p_values], "holm").tolist()
    return [None if p is None else found for p, found in zip(p_values, numbers, strict=True)]


def good(row: Row) -> bool:
    """Whether the difference points where the plan wants it."""
    change = row.difference or 0.0
    return change > 0 if row.direction == "increase" else change < 0


@dataclass(frozen=True)
class Case(ABC):
    """One result before one engine. Rows of segments are ignored."""

    plan: AnalysisPlan
    rows: Sequence[Row]
    checks: Sequence[Check]
    situation: Situation
    forecast: Forecast

    @cached_property
    def words(self) -> Words:
        return Words(self.plan, self.situation)

    @abstractmethod
    def wins(self) -> list[Row]:
        """The primaries that would ship their variant if it is safe."""

    @abstractmethod
    def cleared(self, row: Row) -> bool:
        """Whether a guardrail, or a North Star with a margin, is shown to stay within it."""

    @abstractmethod
    def equivalent(self, row: Row) -> bool:
        """Whether the effect is shown to be smaller than what matters."""

    @abstractmethod
    def size(self, row: Row) -> float:
        """How large the effect is held to be: the largest win is shipped."""

    @abstractmethod
    def futile(self) -> bool:
        """Whether what is still to come will hardly show a win."""

    @cached_property
    def star(self) -> str | None:
        return self.plan.north_star.spec.metric_key if self.plan.north_star else None

    @cached_property
    def primaries(self) -> list[Row]:
        return [row for row in self.rows if row.segment is None and row.role == "primary"]

    @cached_property
    def guardrails(self) -> list[Row]:
        """Guardrails, and the North Star where it is no primary: at least non-inferior in every experiment."""
        whole = [row for row in self.rows if row.segment is None and row.role != "primary"]
        return [row for row in whole if row.role == "guardrail" or row.metric_key == self.star]

    def judge(self) -> Judgement:
        """The first rule that matches."""
        failed = [check for check in self.checks if check.status == "fail"]
        if failed:
            return self._say("unreliable", "investigate", 1, (_sentence(check) for check in failed))
        if self.plan.purpose == "aa":
            return self._same_on_purpose()
        wins, harmed = self.wins(), self.harmed()
        if self.plan.purpose == "holdout":
            return self._held_out(wins, harmed)
        best = self._winner(wins, {row.variant_key for row in harmed})
        if harmed and best is None:
            worst = max(harmed, key=lambda row: abs(row.lift or 0.0))
            return self._say("worse", "roll_back", 2, map(self.words.harmed, harmed), worst.variant_key)
        if best is not None:
            return self._ship(best, wins)
        if self.hopeless(wins):
            return self._nothing_to_find(4)
        if self.looks_remain():
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

    def looks_remain(self) -> bool:
        """Whether more data can come: exposure or the last windows go on, and the last look has not been taken."""
        return (self.situation.running or self.situation.ripening) and not self.situation.complete

    def _winner(self, wins: Sequence[Row], harmed: set[str]) -> Row | None:
        """The best primary that wins in a variant that may be shipped (rule 3)."""
        if self.situation.full_weeks < 1:
            return None
        cleared = [row for row in wins if row.variant_key not in harmed and self._safe(row.variant_key)]
        return max(cleared, key=self.size, default=None)

    def _safe(self, variant: str) -> bool:
        """All guardrails non-inferior; a North Star without a margin is reported and does not block."""
        return all(
            self.cleared(row)
            for row in self.guardrails
            if row.variant_key == variant and (row.role == "guardrail" or row.non_inferiority_margin is not None)
        )

    def _ship(self, best: Row, wins: Sequence[Row]) -> Judgement:
        variant = best.variant_key
        won = [row for row in wins if row.variant_key == variant]
        reasons = [self.words.won(row) for row in won]
        for row in self.guardrails:
            if row.variant_key != variant or not self.cleared(row):
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

    def hopeless(self, wins: Sequence[Row]) -> bool:
        """Rule 4: nothing has won, and nothing will."""
        if wins or not self.primaries or self.situation.full_weeks < 1 or not self.looks_remain():
            return False
        return self._equivalent() or self.futile()

    def bound_crossed(self) -> bool:
        """Whether every primary has crossed a futility bound of a group-sequential plan."""
        return all((row.metric_key, row.variant_key) in self.forecast.futile for row in self.primaries)

    def powerless(self, power: float | None) -> bool:
        """Whether so little chance of a win is left, late enough, and more data are not known to be worth more."""
        if power is None or power >= FUTILE_BELOW or (self.forecast.fraction or 0.0) < FUTILE_FROM:
            return False
        return not self.forecast.worth_waiting

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
            reasons.append(self.words.futile(self.forecast))
        if self.situation.early:
            reasons.append("Exposure ended before its planned end.")
        harmless = self._harmless()
        if harmless is not None:
            guards = [row for row in self.guardrails if row.variant_key == harmless and self.cleared(row)]
            reasons += [self.words.non_inferior(row) for row in guards]
            reasons.append(f"{self.words.variant(harmless)} does no harm, which is what its plan asks for.")
            return self._say(outcome, "neutral", rule, reasons, harmless)
        action: Action = "archive" if outcome == "equivalent" else "iterate"
        return self._say(outcome, action, rule, reasons)

    def _harmless(self) -> str | None:
        """The variant that may be kept under `do_no_harm`: every guardrail and the North Star are non-inferior."""
        if self.plan.estimation.decision_rule != "do_no_harm":
            return None
        for variant in self.plan.variants[1:]:
            watched = [row for row in self.guardrails if row.variant_key == variant.key]
            star = [row for row in self.primaries if (row.metric_key, row.variant_key) == (self.star, variant.key)]
            if [*watched, *star] and all(self.cleared(row) for row in [*watched, *star]):
                return variant.key
        return None

    def _keep_running(self, wins: Sequence[Row]) -> Judgement:
        outcome: Outcome = "equivalent" if not wins and self._equivalent() else "inconclusive"
        reasons = self._why_not(wins)
        days = self.forecast.days
        if days is not None and days > 0:
            whole = max(1, round(days))
            reasons.append(f"The planned sample is complete in about {whole} {'day' if whole == 1 else 'days'}.")
        elif self.forecast.fraction is not None and self.forecast.fraction >= 1:
            reasons.append("The planned sample is complete: stop exposure, so that the planned end can decide.")
        if self.forecast.worth_waiting and self.forecast.waiting is not None:
            reasons.append(self.words.worth(self.forecast.waiting))
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
        if self.looks_remain():
            return self._keep_running([])
        outcome: Outcome = "equivalent" if self._equivalent() else "inconclusive"
        reasons = ["The variants are the same on purpose, and nothing differs beyond chance."]
        return self._say(outcome, "archive", 6, reasons)

    def _held_out(self, wins: Sequence[Row], harmed: Sequence[Row]) -> Judgement:
        """A holdout: what is measured has shipped already, so it is kept up until the group is released."""
        outcome: Outcome = "equivalent" if self._equivalent() else "inconclusive"
        reasons = [self.words.open(row) for row in self.primaries if row not in wins]
        if harmed:
            outcome, reasons = "worse", [self.words.harmed(row) for row in harmed]
        elif wins:
            outcome, reasons = "better", [self.words.won(row) for row in wins]
        reasons.append("This is what everything that shipped did together: there is nothing to ship or to roll back.")
        going_on = self.looks_remain()
        variant = self.plan.variants[1].key if harmed or wins else None
        return self._say(outcome, "keep_running" if going_on else "archive", 5 if going_on else 6, reasons, variant)

    def _equivalent(self) -> bool:
        return bool(self.primaries) and all(self.equivalent(row) for row in self.primaries)

    def _why_not(self, wins: Sequence[Row]) -> list[str]:
        if not self.primaries:
            return ["The plan has no primary metric, so nothing can decide."]
        if not wins and self._equivalent():
            return [self.words.equivalent(row) for row in self.primaries]
        reasons = [self.words.open(row) for row in self.primaries if row not in wins]
        for row in wins:
            reasons.append(self.words.won(row))
            reasons.extend(
                self.words.not_cleared(guard)
                for guard in self.guardrails
                if guard.variant_key == row.variant_key
                and guard.non_inferiority_margin is not None
                and not self.cleared(guard)
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
            expected_days=self.forecast.days if self.looks_remain() else None,
        )
        about = variant if outcome in ("better", "worse") else None
        return Judgement(Verdict(outcome, about, tuple(sentences)), advice)


def _sentence(check: Check) -> str:
    return f"{check.detail} {check.remedy}".strip()
