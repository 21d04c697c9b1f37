"""Sentences about rows: every reason of a verdict carries the numbers it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from experiments.plan import AnalysisPlan
from experiments.result import Row
from experiments.verdict.situation import Situation

_NAMES = {"fixed": "interval", "always_valid": "always-valid interval", "group_sequential": "repeated interval"}


@dataclass(frozen=True)
class Words:
    """Variants are called by their names where they have one."""

    plan: AnalysisPlan
    situation: Situation

    @cached_property
    def names(self) -> dict[str, str]:
        return {variant.key: variant.name or variant.key for variant in self.plan.variants}

    def variant(self, key: str) -> str:
        return self.names.get(key, key)

    def _subject(self, row: Row) -> str:
        many = len(self.plan.variants) > 2
        return f"{row.metric_name} of {self.variant(row.variant_key)}" if many else row.metric_name

    def _numbers(self, row: Row) -> str:
        if row.lift is None:
            return f"difference {row.difference:+.4g}" if row.difference is not None else "no estimate"
        # Scheduled looks are about primaries; everything else is read by what may be read at any time.
        kind = self.situation.interval if row.role == "primary" else self.situation.margins
        name = f"{row.ci_level * 100:g} % {_NAMES[kind]}"
        low, high = row.decision_lower, row.decision_upper
        span = f"no {name}" if low is None or high is None else f"{name} {low * 100:+.2f} % to {high * 100:+.2f} %"
        return f"lift {row.lift * 100:+.2f} %, {span}"

    def moved(self, row: Row, conclusion: str) -> str:
        return f"{self._subject(row)} is {conclusion}: {self._numbers(row)}."

    def harmed(self, row: Row) -> str:
        if row.harm_p_value is None:
            return self.moved(row, "worse than control")
        return f"{self.moved(row, 'worse than control')[:-1]}, one-sided always-valid p = {row.harm_p_value:.2g}."

    def equivalent(self, row: Row) -> str:
        return f"{self._subject(row)} is within ±{(row.mde or 0) * 100:g} % of control: {self._numbers(row)}."

    def non_inferior(self, row: Row) -> str:
        margin = (row.non_inferiority_margin or 0) * 100
        kind = "Guardrail" if row.role == "guardrail" else "North Star"
        return f"{kind} {self._subject(row)} stays within its margin of {margin:g} %: {self._numbers(row)}."

    def not_cleared(self, row: Row) -> str:
        margin = (row.non_inferiority_margin or 0) * 100
        kind = "Guardrail" if row.role == "guardrail" else "North Star"
        why = (
            "cannot be judged"
            if row.non_inferior is None
            else f"is not shown to stay within its margin of {margin:g} %"
        )
        return f"{kind} {self._subject(row)} {why}: {self._numbers(row)}."

    def open(self, row: Row) -> str:
        if not row.estimable:
            return f"{self._subject(row)} cannot be estimated ({row.reason})."
        if not self.situation.deciding:
            return f"{self._subject(row)} is not judged before the planned end."
        if row.decision_p_value is None:
            if self.situation.interval == "group_sequential":
                return f"{self._subject(row)} has had no scheduled look that could decide yet."
            return f"{self._subject(row)} has too few or too skewed data for an always-valid interval yet."
        return f"{self._subject(row)} is undecided: {self._numbers(row)}."
