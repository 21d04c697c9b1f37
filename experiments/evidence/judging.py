"""Judging rows: kept with a draft, because models of units may change what rows say after it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.evidence.guardrail_chances import guardrail_chances
from experiments.plan import AnalysisPlan
from experiments.result import Check, NorthStarEffect, Row, WaitingValue
from experiments.verdict import Forecast, Situation, decide, monitoring


@dataclass(frozen=True, slots=True, eq=False)
class Judging:
    """Everything but the rows that decisions rest on. Picklable."""

    plan: AnalysisPlan
    checks: tuple[Check, ...]
    standing: Situation
    forecast: Forecast
    impact: tuple[NorthStarEffect, ...] = ()
    waiting: tuple[WaitingValue, ...] = ()

    def fields(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What the document says about these rows: the fields of `ExperimentResult` that decisions fill."""
        chances = guardrail_chances(self.plan, rows)
        decided = decide(self.plan, rows, self.checks, self.standing, self.forecast, self.impact, self.waiting, chances)
        return {
            "verdict": decided.verdict.outcome,
            "verdict_variant": decided.verdict.variant,
            "verdict_reasons": list(decided.verdict.reasons),
            "recommendation": decided.recommendation,
            "decisions": list(decided.decisions),
            "agreement": decided.agreement,
            "monitoring": monitoring(self.plan, self.standing),
        }
