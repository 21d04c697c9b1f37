"""Which periods of a launch count, what share of each segment had it, and which cells count for nothing (D6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from experiments.definitions import Confounder, LaunchMeasurement, RolloutStep
from experiments.plan import LaunchPlan
from experiments.rollout import mean_coverage, segments_named
from stats.moments import Bools, Floats

ARM: Final = "arm"
ON: Final = "on"
OFF: Final = "off"
"""The segments of a series by `arm`: units that had the change, and units that had not."""

MOST_BEFORE, MOST_AFTER = 1500, 800
"""Periods used: four years of days, two months of hours; matrices of periods by periods follow their square."""


@dataclass(frozen=True, slots=True)
class Window:
    """The times between which a launch is measured: history from `begin`, the change from `launched`, until `end`.

    `last_step` is the last one known at the time of the data: later ones may still be changed. `cut` says that there
    were more periods than can be worked with.
    """

    begin: datetime
    launched: datetime
    last_step: datetime
    end: datetime
    cut: bool = False


def window_of(plan: LaunchPlan, options: LaunchMeasurement, data_as_of: datetime, period: timedelta) -> Window:
    """From `history_days` before anybody had it to `measure_for_days` after the last step, or to the data's end.

    Of more than `MOST_BEFORE` and `MOST_AFTER` periods those nearest to the launch.
    """
    launched = next(step.at for step in plan.rollout if step.coverage > 0)
    last = max((step.at for step in plan.rollout if step.at <= data_as_of), default=launched)
    closes = min(plan.rollout[-1].at + timedelta(days=options.measure_for_days), data_as_of)
    begin = launched - history_used(options, period)
    end = min(closes, launched + MOST_AFTER * period)
    return Window(begin, launched, last, end, cut=end < closes)


def history_used(options: LaunchMeasurement, period: timedelta) -> timedelta:
    """How far back from the launch a series counts."""
    return min(timedelta(days=options.history_days), MOST_BEFORE * period)


def coverage_of(
    plan: LaunchPlan, dimension: str, segments: Sequence[str], starts: Sequence[datetime], period: timedelta
) -> Floats:
    """(N, T) share of each segment that had the change, averaged over each period.

    Segments that are not eligible never have it, nor have the units of the arm `off`. Segments with the same steps
    share one path.
    """
    covered = np.zeros((len(segments), len(starts)))
    paths: dict[tuple[int, ...], Floats] = {}
    for i, segment in enumerate(segments):
        mine = _steps(plan, dimension, segment)
        if mine not in paths:
            steps = [plan.rollout[k].model_copy(update={"segments": []}) for k in mine]
            paths[mine] = _path(steps, starts, period)
        covered[i] = paths[mine]
    return covered


def reached(plan: LaunchPlan, dimension: str, segments: Sequence[str]) -> Bools:
    """(N,) segments that some step gives the change to, whenever that is."""
    mine = [_steps(plan, dimension, segment) for segment in segments]
    return np.array([any(plan.rollout[k].coverage > 0 for k in steps) for steps in mine], dtype=np.bool_)


def eligible(plan: LaunchPlan, dimension: str, segments: Sequence[str]) -> Bools:
    """(N,) segments that could get the change at all, as far as that is recorded by this dimension."""
    recorded = plan.eligible
    if recorded is None or recorded.dimension != dimension:
        return np.ones(len(segments), dtype=np.bool_)
    return np.array([segment in recorded.segments for segment in segments], dtype=np.bool_)


def unknown_segments(plan: LaunchPlan, dimension: str, segments: Sequence[str]) -> tuple[str, ...]:
    """Those that get the change and that a series by this dimension has no values of."""
    recorded = plan.eligible
    named = segments_named(plan.rollout)
    if recorded is not None and recorded.dimension == dimension:
        named |= set(recorded.segments)
    return tuple(sorted(named - set(segments))) if dimension not in ("", ARM) else ()


def _steps(plan: LaunchPlan, dimension: str, segment: str) -> tuple[int, ...]:
    """The steps that are about a segment, by their place in the rollout."""
    if not eligible(plan, dimension, [segment])[0] or (dimension == ARM and segment != ON):
        return ()
    return tuple(k for k, step in enumerate(plan.rollout) if not step.segments or segment in step.segments)


def _path(steps: Sequence[RolloutStep], starts: Sequence[datetime], period: timedelta) -> Floats:
    if not steps:
        return np.zeros(len(starts))
    return np.array(
        [
            0.0 if start + period <= steps[0].at else mean_coverage(steps, start, start + period, segment=None)
            for start in starts
        ]
    )


def announced_cells(
    plan: LaunchPlan, coverage: Floats, window: Window, starts: Sequence[datetime], period: timedelta
) -> Bools:
    """(N, T) cells of segments that get the change, between its announcement and the first step."""
    cells = np.zeros(coverage.shape, dtype=np.bool_)
    if plan.announced_at is None:
        return cells
    known = np.array(
        [start + period > plan.announced_at and start < window.launched for start in starts], dtype=np.bool_
    )
    gets = (coverage > 0).any(axis=1)
    cells[np.ix_(gets, known)] = True
    return np.asarray(cells & (coverage == 0), dtype=np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Confounded:
    """`cells` (N, T) that something else moved and that are left out; names of confounders by what became of them."""

    cells: Bools
    left_out: tuple[str, ...]
    not_separable: tuple[str, ...]


def confounded_cells(
    confounders: Sequence[Confounder],
    segments: Sequence[str],
    coverage: Floats,
    window: Window,
    starts: Sequence[datetime],
    period: timedelta,
) -> Confounded:
    """Cells that a confounder of some segments took part in are left out, where enough is left to measure by.

    One without segments or without a time hit everything alike: nothing is left to tell it from the launch. So does one
    that covers every period in which some segment had the change.
    """
    cells = np.zeros(coverage.shape, dtype=np.bool_)
    left_out: list[str] = []
    not_separable: list[str] = []
    for confounder in sorted(confounders, key=lambda item: item.name):
        if not _matters(confounder, window):
            continue
        rows = np.array([segment in confounder.segments for segment in segments], dtype=np.bool_)
        if confounder.segments and not rows.any() and any(segments):
            continue
        columns = np.array([_overlaps(confounder, start, start + period) for start in starts], dtype=np.bool_)
        proposed = cells | (rows[:, None] & columns[None, :])
        timed = confounder.began_at is not None or confounder.ended_at is not None
        if not rows.any() or not timed or not _measurable(coverage, proposed):
            not_separable.append(confounder.name)
            continue
        cells = proposed
        left_out.append(confounder.name)
    return Confounded(cells, tuple(left_out), tuple(not_separable))


def _matters(confounder: Confounder, window: Window) -> bool:
    """Whether it differs between before and after: not over before the launch, not there all the time."""
    began, ended = confounder.began_at, confounder.ended_at
    over = ended is not None and ended <= window.launched
    not_yet = began is not None and began >= window.end
    always = began is not None and began <= window.begin and (ended is None or ended >= window.end)
    return not (over or not_yet or always)


def _overlaps(confounder: Confounder, begin: datetime, end: datetime) -> bool:
    began, ended = confounder.began_at, confounder.ended_at
    return (began is None or began < end) and (ended is None or ended > begin)


def _measurable(coverage: Floats, left_out: Bools) -> bool:
    """Whether every treated segment keeps a period with the change and one before it."""
    treated = (coverage > 0).any(axis=1)
    after = ((coverage > 0) & ~left_out).any(axis=1)
    before = ((coverage == 0) & ~left_out).any(axis=1)
    return bool((after & before)[treated].all())
