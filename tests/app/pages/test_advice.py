"""When a plan looks next, and how rows in lists are judged."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from app.pages.advice import next_look
from app.pages.glance import row_tone
from experiments.plan import AnalysisPlan
from experiments.result import SequentialLook, SequentialMonitor
from tests.app.complete_document import complete, monitor
from tests.app.documents import START
from tests.app.world import spec_of

LOOKING = {"stopped_for": None, "stopped_at": None}


def plan(**changes: Any) -> AnalysisPlan:
    """As frozen, as far as the schedule of looks goes: weekly looks, no metrics, so a window of one day."""
    spec = spec_of("scheduled", "Scheduled")
    values: dict[str, Any] = {"planned_end_at": START + timedelta(days=35), **changes}
    sequential = spec.estimation.sequential.model_copy(update={"method": "group_sequential", "look_every_days": 7})
    estimation = spec.estimation.model_copy(update={"sequential": sequential})
    return AnalysisPlan.model_construct(data="events", metrics=[], estimation=estimation, **values)


def looking(*, days: float, **changes: Any) -> Any:
    course: SequentialMonitor = monitor(**{**LOOKING, **changes})
    return complete(sequential=[course], data_as_of=START + timedelta(days=days))


@pytest.mark.parametrize(("days", "expected"), [(0.5, 8), (8, 15), (9, 15), (14.9, 15), (30, 36)])
def test_the_next_look_is_the_first_scheduled_one_after_the_data(days: float, expected: float) -> None:
    assert next_look(plan(), START, looking(days=days)) == START + timedelta(days=expected)


def test_there_is_no_next_look_after_the_last_one_or_a_stop_or_without_a_schedule() -> None:
    taken: list[SequentialLook] = [look for look in monitor().looks if look.z is not None]
    assert next_look(plan(), START, looking(days=9, looks=taken)) is None
    assert next_look(plan(), START, complete(data_as_of=START + timedelta(days=9))) is None
    assert next_look(plan(), START, looking(days=60)) is None
    assert next_look(plan(), None, looking(days=9)) is None
    assert next_look(plan(), START, complete(decision_interval="fixed")) is None


def test_rows_in_lists_are_coloured_after_correction_only() -> None:
    row: Any = SimpleNamespace(
        family="success", significant=True, lift=0.03, difference=0.1, role="primary", ci_lower=0.01, ci_upper=0.05
    )
    assert row_tone(row, "increase") == "good"
    assert row_tone(row, "decrease") == "bad"
    row.significant = False
    assert row_tone(row, "increase") == "neutral"
    row.family = None
    assert row_tone(row, "increase") == "good"
