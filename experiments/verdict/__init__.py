"""The verdict: what rows and checks of a result say about shipping, and what to do (METHODS A10, A11, C5, H2, H3)."""

from experiments.verdict.case import good, holm
from experiments.verdict.decision import Decided, decide
from experiments.verdict.judgement import judge, verdict
from experiments.verdict.monitoring import monitoring, withheld
from experiments.verdict.north_star import north_star_share
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
    "Decided",
    "Forecast",
    "Judgement",
    "Outcome",
    "Situation",
    "Verdict",
    "decide",
    "decision_interval",
    "good",
    "holm",
    "judge",
    "monitoring",
    "north_star_share",
    "situation",
    "verdict",
    "withheld",
]
