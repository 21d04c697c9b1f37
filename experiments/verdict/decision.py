"""The decisions of all engines of a plan on one result, which of them leads, and why they differ (METHODS H2, H3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from experiments.plan import AnalysisPlan
from experiments.result import (
    Agreement,
    Check,
    EngineDecision,
    GuardrailChance,
    NorthStarEffect,
    Recommendation,
    Row,
    WaitingValue,
)
from experiments.verdict.agreement import agreement
from experiments.verdict.bayesian import BayesianCase, stakes_of
from experiments.verdict.judgement import FrequentistCase
from experiments.verdict.outcomes import Forecast, Judgement, Verdict
from experiments.verdict.situation import Situation

_PER_UNIT: Final = ("mean", "formula")
_UNITS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Decided:
    """Verdict and recommendation of the engine that leads; the decisions of all; None where only one was asked."""

    verdict: Verdict
    recommendation: Recommendation
    decisions: tuple[EngineDecision, ...]
    agreement: Agreement | None


def decide(
    plan: AnalysisPlan,
    rows: Sequence[Row],
    checks: Sequence[Check],
    standing: Situation,
    forecast: Forecast,
    impact: Sequence[NorthStarEffect] = (),
    waiting: Sequence[WaitingValue] = (),
    guardrail_chances: Sequence[GuardrailChance] = (),
) -> Decided:
    """Judge rows over everybody by every engine of the plan. Pure: the same rows give the same decisions.

    With `engine` both the frequentist engine leads, with bayesian the Bayesian one; the other stands beside it.
    """
    engine = plan.estimation.engine
    ahead = forecast if engine == "frequentist" else _with_worth(forecast, waiting)
    frequentist = FrequentistCase(plan, rows, checks, standing, ahead)
    first = frequentist.judge()
    alone = _decision("frequentist", first, leads=engine != "bayesian")
    if engine == "frequentist":
        return Decided(first.verdict, first.recommendation, (alone,), None)
    stakes = stakes_of(plan, impact, guardrail_chances)
    bayesian = BayesianCase(plan, rows, checks, standing, ahead, stakes=stakes)
    second = bayesian.judge()
    beside = _with_beliefs(
        _decision("bayesian", second, leads=engine == "bayesian"), plan, bayesian, second, guardrail_chances
    )
    leading = second if engine == "bayesian" else first
    ordered = (beside, alone) if engine == "bayesian" else (alone, beside)
    return Decided(leading.verdict, leading.recommendation, ordered, agreement(frequentist, first, bayesian, second))


def _with_worth(forecast: Forecast, waiting: Sequence[WaitingValue]) -> Forecast:
    """The forecast with the primary and variant that gain most by waiting, and the best chance of a win."""
    known = [item for item in waiting if item.net_gain is not None]
    chances = [item.predictive_power_with_prior for item in waiting if item.predictive_power_with_prior is not None]
    return replace(
        forecast,
        waiting=max(known, key=lambda item: item.net_gain or 0.0, default=None),
        predictive_power_with_prior=max(chances, default=None),
    )


def _decision(engine: str, judged: Judgement, *, leads: bool) -> EngineDecision:
    return EngineDecision.model_validate(
        {
            "engine": engine,
            "leads": leads,
            "outcome": judged.verdict.outcome,
            "action": judged.recommendation.action,
            "variant_key": judged.recommendation.variant_key,
            "rule": judged.recommendation.rule,
            "reasons": judged.recommendation.reasons,
        }
    )


def _with_beliefs(
    decision: EngineDecision,
    plan: AnalysisPlan,
    case: BayesianCase,
    judged: Judgement,
    guardrail_chances: Sequence[GuardrailChance],
) -> EngineDecision:
    """The numbers the decision rests on: of the primary that ships, or else of the one closest to it."""
    row = focus(case, judged)
    numbers: dict[str, object] = {
        "loss_threshold": plan.estimation.beliefs.expected_loss,
        "guardrails": list(guardrail_chances),
    }
    if row is not None:
        loss, unit = case.stakes.loss(row)
        numbers |= {
            "chance_to_win": row.chance_to_win,
            "expected_loss": loss,
            "loss_unit": unit,
            "expected_loss_per_thousand": _per_thousand(plan, case.rows, row, loss, unit),
        }
    return decision.model_copy(update=numbers)


def focus(case: BayesianCase, judged: Judgement) -> Row | None:
    """The primary that a decision is about: the largest win of its variant, else the most promising one."""
    about = [row for row in case.primaries if row.variant_key == judged.recommendation.variant_key]
    candidates = [row for row in about or case.primaries if row.chance_to_win is not None]
    wins = [row for row in candidates if row in case.wins()]
    if wins:
        return max(wins, key=case.size)
    return max(candidates, key=lambda row: row.chance_to_win or 0.0, default=None)


def _per_thousand(plan: AnalysisPlan, rows: Sequence[Row], row: Row, loss: float | None, unit: str) -> float | None:
    """The loss in units of its metric per 1,000 exposed units, where the metric is something that units have each."""
    star = plan.north_star.spec.metric_key if plan.north_star else None
    key = star if unit == "north_star" else row.metric_key
    spec = next((metric.spec for metric in plan.metrics if metric.metric_key == key), None)
    mine = (r for r in rows if r.segment is None and (r.metric_key, r.variant_key) == (key, row.variant_key))
    mean = next((r.mean_control for r in mine), None)
    if loss is None or mean is None or spec is None:
        return None
    if spec.kind not in _PER_UNIT and spec.estimated_as != "proportion":
        return None
    return loss * abs(mean) * _UNITS
