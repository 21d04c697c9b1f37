"""What was decided in the period and what it is worth, what was learned, and what is under way (METHODS H6)."""

from __future__ import annotations

from math import expm1

from experiments.plan import ReviewedDecision, ReviewPlan
from experiments.result import DecisionWorth, Learning, ProgrammeResult, RunningBet, ShrunkEffect


def decisions(plan: ReviewPlan, programme: ProgrammeResult, *, level: float | None) -> list[DecisionWorth]:
    """One entry per decision; `level` is the mean week of the period, in which worth per week is told."""
    effects = {effect.experiment_key: effect for effect in programme.effects}
    return [_worth(each, effects.get(each.experiment_key), level) for each in plan.decisions]


def believed_together(found: list[DecisionWorth]) -> float | None:
    """The sum of what the period's ships are believed to be worth; None where nothing is known of any."""
    known = [each.believed for each in found if each.outcome == "ship" and each.believed is not None]
    return sum(known) if known else None


def false_sign_rate(found: list[DecisionWorth]) -> float | None:
    """The mean chance that a ship of the period moved the North Star the wrong way (METHODS F4)."""
    known = [each.chance_wrong_sign for each in found if each.outcome == "ship" and each.chance_wrong_sign is not None]
    return sum(known) / len(known) if known else None


def learnings(plan: ReviewPlan) -> list[Learning]:
    """What people wrote down with their decisions."""
    return [
        Learning(experiment_key=each.experiment_key, name=each.name, at=each.decided_at, text=each.learnings)
        for each in plan.decisions
        if each.learnings.strip()
    ]


def running(plan: ReviewPlan) -> list[RunningBet]:
    """Experiments under way; those that are worth waiting for come first."""
    ordered = sorted(plan.running, key=lambda each: (-(each.value_of_waiting or 0.0), each.experiment_key))
    return [
        RunningBet(
            experiment_key=each.experiment_key,
            name=each.name,
            verdict=each.verdict,
            recommendation=each.recommendation,
            days_left=each.days_left,
            value_of_waiting=each.value_of_waiting,
            alarms=each.failed_checks,
        )
        for each in ordered
    ]


def _worth(decision: ReviewedDecision, effect: ShrunkEffect | None, level: float | None) -> DecisionWorth:
    wrong = None if effect is None else 1 - effect.chance_positive
    return DecisionWorth(
        experiment_key=decision.experiment_key,
        name=decision.name,
        outcome=decision.outcome,
        decided_at=decision.decided_at,
        against_recommendation=decision.against_recommendation,
        claimed=effect.claimed if effect else None,
        believed=effect.shrunk if effect else None,
        believed_lower_80=effect.shrunk_lower_80 if effect else None,
        believed_upper_80=effect.shrunk_upper_80 if effect else None,
        chance_wrong_sign=wrong,
        units_per_week=None if effect is None or level is None else level * expm1(effect.shrunk),
        avoided=decision.outcome == "roll_back" and wrong is not None and wrong > 0.5,
        learnings=decision.learnings,
    )
