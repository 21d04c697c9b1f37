"""Whether growth that nothing on record explains is under way or gone, and which inputs fall with it (METHODS F7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from experiments.definitions import Direction
from experiments.evidence.attribution import WeeksOfTree, attribution
from experiments.evidence.review.data import Told
from experiments.plan import ReviewPlan
from experiments.result import Stagnation
from stats.ledger.contract import LedgerData
from stats.ledger.stagnation import RECENT_WEEKS
from stats.ledger.stagnation import stagnation as followed

FLOOR: Final = 0.0
"""Growth of the base per week below which it has stagnated: none in the good direction."""
_WEEKS: Final = 8


def stagnation(plan: ReviewPlan, told: Told, *, seed: int) -> Stagnation:
    """The base's growth and the alarm, as known in each of the last eight weeks.

    For a North Star that should fall, growth is a fall: the slope is told with the sign of the metric, and the alarm is
    about its not falling.
    """
    falls = plan.direction is Direction.DECREASE
    found = followed(_mirrored(told.data) if falls else told.data, told.priors, floor=FLOOR, seed=seed, weeks=_WEEKS)
    if found.reason:
        return Stagnation(
            floor=FLOOR,
            slope=None,
            slope_lower_80=None,
            slope_upper_80=None,
            chances=[],
            alarm=False,
            surprise=None,
            changed=False,
            falling_inputs=[],
            reason=found.reason,
        )
    ends = (-found.upper, -found.lower) if falls else (found.lower, found.upper)
    return Stagnation(
        floor=FLOOR,
        slope=-found.slope if falls else found.slope,
        slope_lower_80=ends[0],
        slope_upper_80=ends[1],
        chances=found.chances.tolist(),
        alarm=found.alarm,
        surprise=found.surprise,
        changed=found.changed,
        falling_inputs=_falling_inputs(plan, seed) if found.alarm or found.changed else [],
    )


def _mirrored(data: LedgerData) -> LedgerData:
    """The same with everything upside down."""
    return replace(data, log_values=-data.log_values, estimate=-data.estimate, holdout_estimate=-data.holdout_estimate)


def _falling_inputs(plan: ReviewPlan, seed: int) -> list[dict[str, str]]:
    """Inputs that account for a turn for the worse, the last four weeks against the four before, and who is on them."""
    last = len(plan.weeks)
    if last < 2 * RECENT_WEEKS:
        return []
    known = WeeksOfTree(plan.weeks, plan.values, plan.inputs, plan.without)
    after = list(range(last - RECENT_WEEKS, last))
    before = [i - RECENT_WEEKS for i in after]
    found = attribution(plan.north_star.spec, plan.names, known, after=after, before=before, seed=seed)
    sign = -1 if plan.direction is Direction.DECREASE else 1
    falling = sorted((part for part in found.parts if sign * part.units < 0), key=lambda part: sign * part.units)
    return [
        {
            "metric_key": part.metric_key,
            "name": part.name,
            "units": f"{part.units:.6g}",
            "experiment_keys": ", ".join(
                each.experiment_key for each in plan.running if part.metric_key in each.metric_keys
            ),
        }
        for part in falling
    ]
