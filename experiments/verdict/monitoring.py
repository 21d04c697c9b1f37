"""When Bayesian numbers may be read, and when they may decide (METHODS C5).

A posterior is calibrated at any look only if its prior is right. Stopping when a posterior looks good under a prior
four times too wide claims 96 % and is right 77 % of the time; without a prior, and nothing to find, daily looks "win"
in almost every fourth experiment. So shipping before the planned end needs a learned prior, and without any prior
nothing may be looked at before it.
"""

from __future__ import annotations

from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.verdict.situation import Situation
from stats.bayes.prior import FLAT_FROM


def learned(plan: AnalysisPlan, metric: PlannedMetric) -> bool:
    """Whether the metric's prior was learned from past experiments."""
    return plan.estimation.beliefs.prior == "learned" and metric.prior is not None


def flat(plan: AnalysisPlan, metric: PlannedMetric) -> bool:
    """Whether the metric has no prior, or one so wide that it says nothing."""
    if learned(plan, metric):
        return False
    return plan.estimation.beliefs.prior == "flat" or plan.estimation.prior_scale >= FLAT_FROM


def withheld(plan: AnalysisPlan, situation: Situation) -> str | None:
    """Why Bayesian numbers of metrics without a prior are not shown yet; None when they may be."""
    if plan.estimation.engine == "frequentist" or situation.complete:
        return None
    if not any(flat(plan, metric) for metric in plan.metrics):
        return None
    return (
        "Bayesian numbers are withheld until the planned end: without a prior they mislead whoever looks early. "
        "With nothing to find, 28 daily looks show a chance to win above 95 % in 23 % of experiments."
    )


def monitoring(plan: AnalysisPlan, situation: Situation) -> str | None:
    """Why Bayesian numbers are withheld, or may not decide yet; None when they may."""
    if plan.estimation.engine == "frequentist" or situation.complete:
        return None
    hidden = withheld(plan, situation)
    if hidden is not None:
        return hidden
    if not situation.deciding:
        return "Chances to win may be read, but only the planned end decides."
    stated = [m.spec.name for m in plan.metrics if m.role.value == "primary" and not learned(plan, m)]
    if not stated:
        return None
    verb = "has" if len(stated) == 1 else "have"
    return (
        f"Chances to win may be read, but do not ship before the planned end: {_listed(stated)} {verb} a stated prior, "
        "and stopping on a posterior is calibrated only under a prior learned from past experiments."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
