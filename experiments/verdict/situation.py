"""Which numbers may decide now: how the plan pays for looks, and how far the experiment has come (METHODS B1-B3).

`always_valid`: the always-valid interval at any look; the fixed-horizon interval once exposure has ended as planned and
the last windows are complete. Each may give one wrong sign with probability alpha / 2, so a false win has at most alpha
over both. `fixed`: only the planned end decides, and an experiment that was stopped before it decides nothing.
`group_sequential`: the scheduled looks by error spending. Harm is monitored by always-valid bounds under every plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from experiments.plan import AnalysisPlan
from experiments.result import DecisionInterval


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the experiment stands.

    `complete`: no further look is planned, so fixed-horizon numbers may be read. `running`: exposure goes on.
    `early`: exposure ended before its planned end. `full_weeks` of exposure so far. `ripening`: exposure has ended, but
    windows of the last units are not complete.
    """

    interval: DecisionInterval
    complete: bool
    running: bool
    early: bool
    full_weeks: int
    ripening: bool = False

    @property
    def margins(self) -> DecisionInterval:
        """The interval that safety is shown by: fixed-horizon bounds are for the last look only (METHODS A10)."""
        return "fixed" if self.complete else "always_valid"

    @property
    def deciding(self) -> bool:
        """Whether anything but harm can be decided now."""
        return self.complete or self.interval != "fixed"


def decision_interval(
    plan: AnalysisPlan, *, running: bool, exposed_until: datetime, ripening: bool = False
) -> DecisionInterval:
    """Which interval decides. With `always_valid`: the fixed one once exposure has ended as planned and every window is

    complete (until then each new analysis is another look), else that one.
    """
    method = plan.estimation.sequential.method
    if method != "always_valid":
        return method
    open_ended = running or ripening or ended_early(plan, running=running, exposed_until=exposed_until)
    return "always_valid" if open_ended else "fixed"


def ended_early(plan: AnalysisPlan, *, running: bool, exposed_until: datetime) -> bool:
    """Whether exposure ended before the plan said so."""
    return not running and plan.planned_end_at is not None and exposed_until < plan.planned_end_at


def situation(
    plan: AnalysisPlan,
    *,
    running: bool,
    exposed_until: datetime,
    full_weeks: int,
    ripening: bool = False,
    last_look_taken: bool = False,
) -> Situation:
    """The situation of one analysis. `last_look_taken` says whether a group-sequential plan has used its last look.

    Fixed-horizon numbers wait until every window is complete, so that they are looked at only once.
    """
    interval = decision_interval(plan, running=running, exposed_until=exposed_until, ripening=ripening)
    early = ended_early(plan, running=running, exposed_until=exposed_until)
    ended = not running and not early and not ripening
    complete = last_look_taken if interval == "group_sequential" else ended
    return Situation(interval, complete, running, early, full_weeks, ripening)
