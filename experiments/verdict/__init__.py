"""The verdict: what rows and checks of a result say about shipping, and what to do (METHODS A10, A11, C5, H2, H3)."""

from experiments.verdict.case import good, holm
from experiments.verdict.judgement import judge, verdict
from experiments.verdict.outcomes import (
    FUTILE_BELOW,
    UNMARGINED_NORTH_STAR,
    UNPROVEN_LINK,
    Forecast,
    Judgement,
    Outcome,
    Verdict,
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
