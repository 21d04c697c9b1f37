"""Which looks a group-sequential plan has scheduled, of those that were taken (METHODS B2, B4).

Looks lie `look_every_days` apart, counted from when the first units' windows can be complete. The last one is the first
at or after the planned end (windows included), or when exposure has ended and every window is complete. Later data
never change which earlier looks counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from experiments.columns import layout
from experiments.evidence.contract import EvidenceContext
from experiments.plan import AnalysisPlan

_MOMENT = timedelta(seconds=1)
_UNKNOWN_END = (0.25, 0.5, 0.75, 1.0)
_MOST_PLANNED = 60
"""More planned looks than this change the planned maximum by less than they cost."""


@dataclass(frozen=True, slots=True)
class ScheduledLook:
    """A look by its position among all looks; `final` ends the design."""

    position: int
    at: datetime
    final: bool


def ripening(plan: AnalysisPlan) -> timedelta:
    """How long after its exposure a unit's longest window is complete (one day where every window is open-ended)."""
    if plan.data == "summary":
        return timedelta(0)
    longest = layout([metric.spec for metric in plan.metrics]).longest_window_days
    return timedelta(days=1 if longest is None else longest)


def still_ripening(plan: AnalysisPlan, context: EvidenceContext) -> bool:
    """Whether exposure has ended but windows of its last units are open."""
    if context.running or context.stopped_at is None:
        return False
    return context.data_as_of + _MOMENT < context.stopped_at + ripening(plan)


def planned_fractions(plan: AnalysisPlan, started_at: datetime) -> tuple[float, ...]:
    """Information at the looks as planned, evenly spaced; quarters where the plan has no end."""
    if plan.planned_end_at is None:
        return _UNKNOWN_END
    step = timedelta(days=plan.estimation.sequential.look_every_days)
    looks = min(max(1, ceil((plan.planned_end_at - started_at) / step - 1e-9)), _MOST_PLANNED)
    return tuple((k + 1) / looks for k in range(looks))


def scheduled_looks(plan: AnalysisPlan, context: EvidenceContext, looks: Sequence[datetime]) -> list[ScheduledLook]:
    """The scheduled ones among `looks` (ascending), until the final one.

    A scheduled time takes the latest look since the time before it. The look at the end of exposure counts too: as the
    final one if exposure ended as planned, else as one more look.
    """
    wait, step = ripening(plan), timedelta(days=plan.estimation.sequential.look_every_days)
    first = context.started_at + wait
    end = None if plan.planned_end_at is None else plan.planned_end_at + wait
    slots: dict[int, int] = {}
    for position, at in enumerate(looks):
        slot = ceil((at - first - _MOMENT) / step)
        if slot >= 1 and first + slot * step <= context.data_as_of + _MOMENT:
            slots[slot] = position
    found: list[ScheduledLook] = []
    for slot, position in sorted(slots.items()):
        final = end is not None and first + slot * step >= end - _MOMENT
        found.append(ScheduledLook(position, looks[position], final))
        if final:
            break
    if looks and not context.running and not still_ripening(plan, context) and not (found and found[-1].final):
        assert context.stopped_at is not None
        as_planned = plan.planned_end_at is not None and context.stopped_at >= plan.planned_end_at - _MOMENT
        last = len(looks) - 1
        if found and found[-1].position == last:
            found.pop()
        found.append(ScheduledLook(last, looks[last], as_planned))
    return found
