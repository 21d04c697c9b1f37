"""What the frequentist engine makes of rows and checks, by the rules of `experiments.verdict.case` (METHODS H2).

A win is a primary superior at its decision interval; a guardrail is safe when shown to stay within its margin (A10).
Errors (A11): superiority spends alpha over success tests; guardrails need no correction because all must clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.plan import AnalysisPlan
from experiments.result import Check, Row
from experiments.verdict.case import Case, good
from experiments.verdict.outcomes import Forecast, Judgement, Verdict
from experiments.verdict.situation import Situation


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
    return FrequentistCase(plan, rows, checks, situation, forecast or Forecast()).judge()


@dataclass(frozen=True)
class FrequentistCase(Case):
    """Judged by intervals and p-values that are paid for."""

    def wins(self) -> list[Row]:
        return [row for row in self.primaries if row.significant and good(row)]

    def cleared(self, row: Row) -> bool:
        return bool(row.non_inferior)

    def equivalent(self, row: Row) -> bool:
        return bool(row.equivalent)

    def size(self, row: Row) -> float:
        return abs(row.lift or 0.0)

    def futile(self) -> bool:
        return self.bound_crossed() or self.powerless(self.forecast.predictive_power)
