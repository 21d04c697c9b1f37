"""The recommendation of a result in the words of the page, and which decisions follow it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor

from app.pages import words
from experiments.decision import AGREES
from experiments.evidence.schedule import ripening
from experiments.plan import AnalysisPlan
from experiments.result import ExperimentResult, Recommendation, SequentialMonitor


@dataclass(frozen=True, slots=True)
class Advice:
    """`reasons` are those that the verdict has not given already; `agrees` the outcomes that follow it."""

    recommendation: Recommendation
    title: str
    reasons: Sequence[str]
    tags: Sequence[str]
    agrees: Sequence[str]


def advice(document: ExperimentResult, variant_names: dict[str, str]) -> Advice | None:
    """None in documents that are older than recommendations."""
    found = document.recommendation
    if found is None:
        return None
    return Advice(
        recommendation=found,
        title=action_title(found.action, found.variant_key, variant_names),
        reasons=[reason for reason in found.reasons if reason not in document.verdict_reasons],
        tags=[words.ADVICE_TAGS.get(tag, words.titled(tag)) for tag in found.tags],
        agrees=sorted(AGREES[found.action]),
    )


def action_title(action: str, variant_key: str | None, variant_names: Mapping[str, str]) -> str:
    """What to do, and with which variant: `Ship One page`."""
    title = words.ACTIONS[action].text
    if variant_key is None or action not in ("ship", "neutral"):
        return title
    arm = variant_names.get(variant_key, variant_key)
    return f"{title} {arm}" if action == "ship" else f"{title}: {arm} may stay"


def next_look(plan: AnalysisPlan, started_at: datetime | None, document: ExperimentResult) -> datetime | None:
    """When a group-sequential plan looks next; None when it has no scheduled looks or has taken the last one."""
    if started_at is None or document.decision_interval != "group_sequential" or not document.sequential:
        return None
    if all(monitor.stopped_for in ("efficacy", "harm") or not _looks_ahead(monitor) for monitor in document.sequential):
        return None
    wait, step = ripening(plan), timedelta(days=plan.estimation.sequential.look_every_days)
    first = started_at + wait
    coming = first + max(1, floor((document.data_as_of - first) / step) + 1) * step
    end = None if plan.planned_end_at is None else plan.planned_end_at + wait
    return coming if end is None or coming < end + step else None


def _looks_ahead(monitor: SequentialMonitor) -> bool:
    """A planned look that was not taken, or none taken so far."""
    return not monitor.looks or monitor.looks[-1].z is None
