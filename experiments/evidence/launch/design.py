"""The strongest design that the recorded facts allow, chosen before any effect is computed (METHODS D6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Final

import numpy as np

from experiments.evidence.launch.data import LaunchData
from experiments.evidence.launch.window import ARM
from experiments.plan import LaunchPlan, PlannedMeasurement
from experiments.result import DesignOption
from stats.launch.contract import Method
from stats.launch.grade import Design

FEWEST_CHANGES: Final = 4
"""Of a switchback: with fewer, no arrangement of blocks is surprising."""
FEWEST_BY_LOT: Final = 2
"""Segments on each side of a lot."""
SDID_DONORS, SDID_PERIODS = 5, 10
"""Fewer comparison units or periods before the launch do not carry weights for both."""


class Why(StrEnum):
    """Why a design is possible or not; codes, the words for people are with the pages."""

    EXPERIMENT_MEASURED_IT = "experiment_measured_it"
    NO_EXPERIMENT = "no_experiment"
    EXPERIMENT_NOT_USABLE = "experiment_not_usable"
    ARMS_BY_STAGE = "arms_by_stage"
    NO_ARM_SERIES = "no_arm_series"
    NO_RANDOM_STAGE = "no_random_stage"
    STATES_BY_LOT = "states_by_lot"
    NOT_BY_LOT = "not_by_lot"
    TOO_FEW_CHANGES = "too_few_changes"
    SEGMENTS_BY_LOT = "segments_by_lot"
    NO_SEGMENTS = "no_segments"
    TOO_FEW_SEGMENTS = "too_few_segments"
    SEVERAL_WAVES = "several_waves"
    ONE_WAVE = "one_wave"
    UNTREATED_SEGMENTS = "untreated_segments"
    EVERYONE_HAS_IT = "everyone_has_it"
    CONTROL_SERIES = "control_series"
    NO_CONTROLS = "no_controls"
    HISTORY_BEFORE = "history_before"
    NOTHING_ELSE = "nothing_else"
    ARMS_ONLY = "arms_only"


@dataclass(frozen=True, slots=True)
class _Option:
    possible: bool
    why: str
    numbers: dict[str, float]


def designs(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> tuple[DesignOption, ...]:
    """Every design in order of strength; `chosen` is the first that is possible.

    Effects take no part in this: what a trend test or a placebo finds later lowers the grade and changes no choice.
    """
    found: list[DesignOption] = []
    for design, rule in _RULES:
        option = rule(plan, measurement, data)
        chosen = option.possible and not any(earlier.chosen for earlier in found)
        found.append(
            DesignOption(design=design, possible=option.possible, chosen=chosen, why=option.why, numbers=option.numbers)
        )
    return tuple(found)


def leading_methods(design: Design, data: LaunchData) -> tuple[Method, ...]:
    """Methods that may lead a design, the best first; the next one leads where one finds too little to work with."""
    if design != "concurrent":
        return _LEADING[design]
    donors = len(data.untreated)
    chain: list[Method] = ["bsts"]
    if donors >= 2:
        chain.insert(0, "did")
    if donors >= SDID_DONORS and data.before >= SDID_PERIODS:
        chain.insert(0, "synthetic_did")
    return tuple(chain)


_LEADING: Final[dict[Design, tuple[Method, ...]]] = {
    "experiment": ("experiment",),
    "staged": ("staged",),
    "switchback": ("switchback",),
    "random_order": ("imputation",),
    "staggered": ("imputation",),
    "donors": ("bsts",),
    "before_after": ("structural",),
    "none": (),
}


def _experiment(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> _Option:
    measured = measurement.experiment
    if measured is None:
        return _Option(False, Why.NO_EXPERIMENT, {})
    numbers = {"days": measured.days, "failed_checks": float(len(measured.failed_checks))}
    usable = not measured.failed_checks and measured.verdict != "unreliable" and measured.standard_error > 0
    return _Option(usable, Why.EXPERIMENT_MEASURED_IT if usable else Why.EXPERIMENT_NOT_USABLE, numbers)


def _staged(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> _Option:
    if measurement.outcome.spec.dimension != ARM:
        return _Option(False, Why.NO_ARM_SERIES, {})
    stages = sum(step.mechanism == "random" and 0 < step.coverage < 1 for step in plan.rollout)
    return _Option(stages > 0, Why.ARMS_BY_STAGE if stages else Why.NO_RANDOM_STAGE, {"stages": float(stages)})


def _switchback(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> _Option:
    if measurement.outcome.spec.dimension == ARM:
        return _Option(False, Why.ARMS_ONLY, {})
    drawn = states_by_lot(plan, data.window.end)
    changes = sum(before != after for (_, before), (_, after) in pairwise(drawn))
    numbers = {"changes": float(changes), "needed": float(FEWEST_CHANGES), "blocks": float(len(drawn))}
    if len(drawn) < 2:
        return _Option(False, Why.NOT_BY_LOT, numbers)
    enough = changes >= FEWEST_CHANGES
    return _Option(enough, Why.STATES_BY_LOT if enough else Why.TOO_FEW_CHANGES, numbers)


def states_by_lot(plan: LaunchPlan, end: datetime) -> tuple[tuple[datetime, bool], ...]:
    """When everybody was switched on or off by lot: the first steps that are about everybody and random, until `end`.

    Empty where a step is about some segments or reaches a share only: blocks of time have one state.
    """
    drawn: list[tuple[datetime, bool]] = []
    for step in plan.rollout:
        if step.mechanism != "random" or step.at >= end:
            break
        if step.segments or step.coverage not in (0.0, 1.0):
            return ()
        drawn.append((step.at, step.coverage == 1.0))
    return tuple(drawn)


def _random_order(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> _Option:
    if refused := _without_segments(measurement, data):
        return refused
    reached = [step for step in plan.rollout if step.at < data.window.end and step.segments]
    by_lot = bool(reached) and all(step.mechanism == "random" for step in reached)
    on = len(data.treated)
    first = data.panel.first[data.panel.treated]
    later = len(data.untreated) + int(np.count_nonzero(first > first.min(initial=data.panel.y.shape[1])))
    numbers = {"with_it": float(on), "without_it_at_first": float(later), "needed": float(FEWEST_BY_LOT)}
    if not by_lot:
        return _Option(False, Why.NOT_BY_LOT, numbers)
    enough = min(on, later) >= FEWEST_BY_LOT
    return _Option(enough, Why.SEGMENTS_BY_LOT if enough else Why.TOO_FEW_SEGMENTS, numbers)


def _staggered(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> _Option:
    if refused := _without_segments(measurement, data):
        return refused
    waves = _waves(data)
    numbers = {"waves": float(waves), "with_it": float(len(data.treated)), "without_it": float(len(data.untreated))}
    return _Option(waves >= 2, Why.SEVERAL_WAVES if waves >= 2 else Why.ONE_WAVE, numbers)


def _concurrent(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> _Option:
    if refused := _without_segments(measurement, data):
        return refused
    numbers = {"with_it": float(len(data.treated)), "without_it": float(len(data.untreated))}
    if _waves(data) > 1:
        return _Option(False, Why.SEVERAL_WAVES, numbers)
    found = bool(data.untreated)
    return _Option(found, Why.UNTREATED_SEGMENTS if found else Why.EVERYONE_HAS_IT, numbers)


def _donors(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> _Option:
    if refused := _unmeasured(measurement, data):
        return refused
    segments = len(data.donors) - data.controls
    numbers = {"controls": float(data.controls), "segments": float(segments)}
    return _Option(bool(data.donors), Why.CONTROL_SERIES if data.donors else Why.NO_CONTROLS, numbers)


def _before_after(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> _Option:
    return _unmeasured(measurement, data) or _Option(True, Why.HISTORY_BEFORE, _lengths(data))


def _none(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData) -> _Option:
    return _Option(True, Why.NOTHING_ELSE, {})


def _lengths(data: LaunchData) -> dict[str, float]:
    return {"before": float(data.before), "after": float(data.after)}


def _unmeasured(measurement: PlannedMeasurement, data: LaunchData) -> _Option | None:
    """Arms have no history of their own: nothing but their comparison can be made of them."""
    if measurement.outcome.spec.dimension == ARM:
        return _Option(False, Why.ARMS_ONLY, {})
    return _Option(False, data.reason, _lengths(data)) if data.reason else None


def _without_segments(measurement: PlannedMeasurement, data: LaunchData) -> _Option | None:
    if not measurement.outcome.spec.dimension:
        return _Option(False, Why.NO_SEGMENTS, {})
    return _unmeasured(measurement, data)


def _waves(data: LaunchData) -> int:
    """Different first periods of segments that have the change."""
    return len(np.unique(data.panel.first[data.panel.treated]))


type _Rule = Callable[[LaunchPlan, PlannedMeasurement, LaunchData], _Option]
_RULES: Final[Sequence[tuple[Design, _Rule]]] = (
    ("experiment", _experiment),
    ("staged", _staged),
    ("switchback", _switchback),
    ("random_order", _random_order),
    ("staggered", _staggered),
    ("concurrent", _concurrent),
    ("donors", _donors),
    ("before_after", _before_after),
    ("none", _none),
)
