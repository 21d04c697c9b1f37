"""Judging rows: kept with a draft, because models of units may change what rows say after it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.plan import AnalysisPlan
from experiments.result import Check, Row
from experiments.verdict import Forecast, Situation, judge


@dataclass(frozen=True, slots=True, eq=False)
class Judging:
    """Everything but the rows that decisions rest on. Picklable."""

    plan: AnalysisPlan
    checks: tuple[Check, ...]
    standing: Situation
    forecast: Forecast

    def fields(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What the document says about these rows: the fields of `ExperimentResult` that decisions fill."""
        judged = judge(self.plan, rows, self.checks, self.standing, self.forecast)
        return {
            "verdict": judged.verdict.outcome,
            "verdict_variant": judged.verdict.variant,
            "verdict_reasons": list(judged.verdict.reasons),
            "recommendation": judged.recommendation,
        }
