"""The verdict: what rows and checks of a result say about shipping, and what to do (METHODS A10, A11, H2)."""

from experiments.verdict.judgement import (
    FUTILE_BELOW,
    UNMARGINED_NORTH_STAR,
    UNPROVEN_LINK,
    Forecast,
    Judgement,
    Outcome,
    Verdict,
    good,
    holm,
    judge,
    verdict,
)
from experiments.verdict.situation import Situation, decision_interval, situation

__all__ = [
    "FUTILE_BELOW",
    "UNMARGINED_NORTH_STAR",
    "UNPROVEN_LINK",
    "Forecast",
    "Judgement",
    "Outcome",
    "Situation",
    "Verdict",
    "decision_interval",
    "good",
    "holm",
    "judge",
    "situation",
    "verdict",
]
