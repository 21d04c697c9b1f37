"""The verdict: what rows and checks of a result say about shipping, with the reasons in words (METHODS A10, A11, H2).

First match wins. A failed check: `unreliable`. A variant with a primary metric superior at the decision interval (Holm
over primaries x variants), every guardrail non-inferior, nothing harmed and at least one full week: `better`. A
primary or guardrail harmed at the decision interval (Holm over that family; a guardrail shown to stay within its
margin is not harmed, its owner accepted that much): `worse`. All primaries of all variants inside +-mde (two one-sided
tests by the decision interval): `equivalent`. Otherwise `inconclusive`.

Both error families are controlled at 1 - ci_level, two-sided, so on null data either wrong verdict has at most half of
that probability. Superiority needs no correction for guardrails, and guardrails none for each other (A11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from experiments.plan import AnalysisPlan
from experiments.result import Check, DecisionInterval, Row

type Outcome = Literal["better", "worse", "equivalent", "inconclusive", "unreliable"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`variant` is the one the verdict is about (best or most harmed), None when it is about all of them."""

    outcome: Outcome
    variant: str | None
    reasons: tuple[str, ...]


def decision_interval(plan: AnalysisPlan, *, running: bool, exposed_until: datetime) -> DecisionInterval:
    """Which interval decides: always-valid while running or when stopped early, else the fixed-horizon one (B1)."""
    if running:
        return "always_valid"
    early = plan.planned_end_at is not None and exposed_until < plan.planned_end_at
    return "always_valid" if early else "fixed"


def verdict(
    plan: AnalysisPlan, rows: Sequence[Row], checks: Sequence[Check], *, interval: DecisionInterval, full_weeks: int
) -> Verdict:
    """The verdict on rows over everybody (rows of segments are ignored). Pure: the same rows give the same verdict."""
    failed = [check for check in checks if check.status == "fail"]
    if failed:
        return Verdict("unreliable", None, tuple(f"{check.detail} {check.remedy}".strip() for check in failed))
    whole = [row for row in rows if row.segment is None]
    primaries = [row for row in whole if row.role == "primary"]
    guardrails = [row for row in whole if row.role == "guardrail"]
    alpha = 1 - plan.estimation.ci_level
    superior = [row for row in _significant(primaries, interval, alpha) if _good(row)]
    moved = [row for row in _significant([*primaries, *guardrails], interval, alpha) if not _good(row)]
    harmed = [row for row in moved if not (row.role == "guardrail" and row.non_inferior)]
    words = _Words(plan, interval)

    def cleared(variant: str) -> bool:
        safe = all(row.non_inferior for row in guardrails if row.variant_key == variant)
        return safe and not any(row.variant_key == variant for row in harmed)

    winners = [row for row in superior if cleared(row.variant_key)]
    if winners and full_weeks >= 1:
        best = max(winners, key=lambda row: abs(row.lift or 0.0))
        return Verdict("better", best.variant_key, _why_better(best.variant_key, winners, guardrails, moved, words))
    if harmed:
        worst = max(harmed, key=lambda row: abs(row.lift or 0.0))
        return Verdict("worse", worst.variant_key, tuple(words.moved(row, "worse than control") for row in harmed))
    if primaries and all(_equivalent(row, interval) for row in primaries):
        return Verdict("equivalent", None, tuple(words.equivalent(row) for row in primaries))
    return Verdict("inconclusive", None, _why_not(primaries, superior, guardrails, full_weeks, words))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm-adjusted p-values, in the order given; missing ones stay missing and do not count (TRAPS 18)."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = largest
    return adjusted


def decision_p(row: Row, interval: DecisionInterval) -> float | None:
    """The row's p-value at the decision interval."""
    return row.p_value if interval == "fixed" else row.always_valid_p_value


def bounds(row: Row, interval: DecisionInterval) -> tuple[float, float] | None:
    """The row's decision interval of the lift."""
    lower, upper = (
        (row.ci_lower, row.ci_upper) if interval == "fixed" else (row.always_valid_lower, row.always_valid_upper)
    )
    return None if lower is None or upper is None else (lower, upper)


def _significant(rows: Sequence[Row], interval: DecisionInterval, alpha: float) -> list[Row]:
    adjusted = holm([decision_p(row, interval) for row in rows])
    return [row for row, p in zip(rows, adjusted, strict=True) if p is not None and p <= alpha]


def _good(row: Row) -> bool:
    change = row.difference or 0.0
    return change > 0 if row.direction == "increase" else change < 0


def _equivalent(row: Row, interval: DecisionInterval) -> bool:
    within = bounds(row, interval)
    return row.mde is not None and within is not None and -row.mde < within[0] and within[1] < row.mde


def _why_better(
    variant: str, winners: Sequence[Row], guardrails: Sequence[Row], moved: Sequence[Row], words: _Words
) -> tuple[str, ...]:
    reasons = [words.moved(row, "better than control") for row in winners if row.variant_key == variant]
    for row in guardrails:
        if row.variant_key == variant:
            note = " It did move the wrong way, by less than its margin." if row in moved else ""
            reasons.append(words.non_inferior(row) + note)
    return tuple(reasons)


def _why_not(
    primaries: Sequence[Row], superior: Sequence[Row], guardrails: Sequence[Row], full_weeks: int, words: _Words
) -> tuple[str, ...]:
    if not primaries:
        return ("The plan has no primary metric, so nothing can decide.",)
    reasons = [words.open(row) for row in primaries if row not in superior]
    for row in superior:
        reasons.append(words.moved(row, "better than control"))
        reasons.extend(
            words.not_cleared(guard)
            for guard in guardrails
            if guard.variant_key == row.variant_key and not guard.non_inferior
        )
    if superior and full_weeks < 1:
        reasons.append("Less than one full week was observed, and weekdays differ.")
    return tuple(dict.fromkeys(reasons))


@dataclass(frozen=True, slots=True)
class _Words:
    """Sentences about rows."""

    plan: AnalysisPlan
    interval: DecisionInterval

    def _subject(self, row: Row) -> str:
        many = len(self.plan.variants) > 2
        return f"{row.metric_name} of {row.variant_key}" if many else row.metric_name

    def _numbers(self, row: Row) -> str:
        within = bounds(row, self.interval)
        name = f"{row.ci_level * 100:g} % {'always-valid ' if self.interval == 'always_valid' else ''}interval"
        if row.lift is None:
            return f"difference {row.difference:+.4g}" if row.difference is not None else "no estimate"
        span = f"{name} {within[0] * 100:+.2f} % to {within[1] * 100:+.2f} %" if within else f"no {name}"
        return f"lift {row.lift * 100:+.2f} %, {span}"

    def moved(self, row: Row, conclusion: str) -> str:
        return f"{self._subject(row)} is {conclusion}: {self._numbers(row)}."

    def equivalent(self, row: Row) -> str:
        return f"{self._subject(row)} is within ±{(row.mde or 0) * 100:g} % of control: {self._numbers(row)}."

    def non_inferior(self, row: Row) -> str:
        margin = (row.non_inferiority_margin or 0) * 100
        return f"Guardrail {self._subject(row)} stays within its margin of {margin:g} %: {self._numbers(row)}."

    def not_cleared(self, row: Row) -> str:
        margin = (row.non_inferiority_margin or 0) * 100
        why = (
            "cannot be judged"
            if row.non_inferior is None
            else f"is not shown to stay within its margin of {margin:g} %"
        )
        return f"Guardrail {self._subject(row)} {why}: {self._numbers(row)}."

    def open(self, row: Row) -> str:
        if not row.estimable:
            return f"{self._subject(row)} cannot be estimated ({row.reason})."
        if decision_p(row, self.interval) is None:
            return f"{self._subject(row)} has too few or too skewed data for an always-valid interval yet."
        return f"{self._subject(row)} is undecided: {self._numbers(row)}."
