"""What each engine makes of the same rows, beside each other: where they differ, both are right to be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.pages import formats, words
from app.pages.advice import action_title
from app.pages.naming import Names
from experiments.result import EngineDecision, ExperimentResult, GuardrailChance

ENGINES: Final = {
    "frequentist": ("By intervals", "Frequentist: how often would chance alone show this?"),
    "bayesian": ("By beliefs", "Bayesian: after the data, what is likely, and what would being wrong cost?"),
}

_LEAST: Final = 0.001
"""Losses below are told apart by nobody."""


@dataclass(frozen=True, slots=True)
class GuardrailLine:
    name: str
    chance: GuardrailChance


@dataclass(frozen=True, slots=True)
class EngineCard:
    """One engine: `action` in words, `loss` and `loss_of_thousand` as sentences (empty where there is no loss)."""

    decision: EngineDecision
    title: str
    question: str
    action: str
    loss: str
    loss_of_thousand: str
    affordable: bool | None
    guardrails: Sequence[GuardrailLine]


@dataclass(frozen=True, slots=True)
class Engines:
    """All engines of the plan, the one that leads first. `agrees` is None where only one was asked."""

    cards: Sequence[EngineCard]
    agrees: bool | None
    reasons: Sequence[str]
    monitoring: str | None
    star: str


def engines(document: ExperimentResult, names: Names, variants: Mapping[str, str]) -> Engines | None:
    """None in documents that have no Bayesian engine, or are older than it."""
    if not any(decision.engine == "bayesian" for decision in document.decisions):
        return None
    star = next((effect.metric_key for effect in document.north_star), None)
    agreement = document.agreement
    return Engines(
        cards=[_card(decision, document, names, variants, star) for decision in document.decisions],
        agrees=None if agreement is None else agreement.agrees,
        reasons=[] if agreement is None else agreement.reasons,
        monitoring=document.monitoring,
        star="" if star is None else names.metric(star),
    )


def _card(
    decision: EngineDecision,
    document: ExperimentResult,
    names: Names,
    variants: Mapping[str, str],
    star: str | None,
) -> EngineCard:
    title, question = ENGINES[decision.engine]
    loss, threshold = decision.expected_loss, decision.loss_threshold
    of = "of the North Star" if decision.loss_unit == "north_star" else "of the metric"
    return EngineCard(
        decision=decision,
        title=title,
        question=question,
        action=action_title(decision.action, decision.variant_key, variants),
        loss="" if loss is None else f"{small_share(loss)} {of}",
        loss_of_thousand=_of_thousand(decision, document, star),
        affordable=None if loss is None or threshold is None else loss <= threshold,
        guardrails=[
            GuardrailLine(names.comparison(item.metric_key, item.variant_key), item) for item in decision.guardrails
        ],
    )


def _of_thousand(decision: EngineDecision, document: ExperimentResult, star: str | None) -> str:
    """The loss in what the metric counts: `0.42 orders per 1,000 exposed units`."""
    value = decision.expected_loss_per_thousand
    if value is None:
        return ""
    key = star if decision.loss_unit == "north_star" else None
    units = {row.unit for row in document.rows if row.metric_key == key} if key else set()
    if key is None:  # the primary that the decision is about; its unit is known where all primaries share one
        units = {row.unit for row in document.rows if row.role == "primary" and row.segment is None}
    unit = units.pop() if len(units) == 1 else ""
    what = f" {unit}" if unit else ""
    amount = f"less than {_LEAST:g}" if abs(value) < _LEAST else formats.number(value, 2)
    return f"{amount}{what} per 1,000 exposed units"


def small_share(value: float) -> str:
    """A loss as a share, with two significant digits."""
    return formats.share(float(f"{value:.2g}"))


def outcome_words(decision: EngineDecision) -> str:
    """The verdict of this engine in a word."""
    return words.VERDICTS[decision.outcome].text
