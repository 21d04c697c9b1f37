"""From series to what estimators take: a panel of segments, and the segments with the change as one series."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from experiments.definitions import Confounder, Grain
from experiments.evidence.launch.outside import outside_of
from experiments.evidence.launch.segments import (
    Omitted,
    Scale,
    Segments,
    chosen_segments,
    means,
    rows_of,
    sizes,
    together,
)
from experiments.evidence.launch.window import (
    ARM,
    Confounded,
    Window,
    announced_cells,
    confounded_cells,
    coverage_of,
    reached,
    unknown_segments,
    window_of,
)
from experiments.plan import LaunchPlan, PlannedMeasurement
from experiments.series_table import PERIOD, SeriesTable
from stats.launch.contract import Panel, Series
from stats.launch.reasons import LaunchReason
from stats.moments import Bools, Floats

MOST_DONORS: Final = 40
"""Of a single series: more columns than this say nothing more, and the largest segments say the most."""
MOST_RIVALS: Final = 60
"""Untreated segments that are weighted and that take the launch in turn: the effort grows by their square."""
FEWEST_BEFORE: Final = 4
"""Periods before the launch: with fewer, nothing tells a change from noise. Estimators ask for more."""
SEASONS: Final[dict[Grain, tuple[tuple[float, int], ...]]] = {
    "hour": ((24.0, 4), (168.0, 3)),
    "day": ((7.0, 3), (365.25, 3)),
    "week": ((52.18, 3),),
}


@dataclass(frozen=True, slots=True, eq=False)
class LaunchData:
    """A launch on one outcome, on the scale that its estimators work on.

    `panel` has N segments over T periods that begin at `starts`. `treated` are those that have the change, or will have
    it where nobody has it yet; `series` is them as one, with its `regressors` (K names) and `donors` (J names: the
    first `controls` are control series, the others untreated segments). `actual` (T,) is the outcome of the treated in
    its own units, nan where one of them has none. On the scale `level` outcomes are divided by the size of their mean
    before the launch; `size` is that of `actual`. `unplaced` counts facts in no segment; `unknown` segments get
    the launch and the outcome does not have them. With a `reason` there is nothing to estimate from.
    """

    grain: Grain
    window: Window
    starts: tuple[datetime, ...]
    scale: Scale
    panel: Panel
    treated: tuple[str, ...]
    series: Series
    actual: Floats
    size: float
    regressors: tuple[str, ...]
    donors: tuple[str, ...]
    controls: int
    outside_left_out: tuple[str, ...]
    left_out: Omitted
    confounders_left_out: tuple[str, ...]
    confounders_not_separable: tuple[str, ...]
    restated: int
    unplaced: int
    unknown: tuple[str, ...]
    reason: str

    @property
    def untreated(self) -> tuple[str, ...]:
        """The segments that never had it."""
        return tuple(name for name in self.panel.units if name not in self.treated)

    @property
    def launched(self) -> int:
        """The first period in which somebody had the change, T without any."""
        on = self.series.coverage > 0
        return int(on.argmax()) if on.any() else on.size

    @property
    def before(self) -> int:
        """Periods with an outcome before the launch; left out ones are not counted."""
        usable = np.isfinite(self.actual) & ~self.series.excluded
        return int(np.count_nonzero(usable[: self.launched]))

    @property
    def after(self) -> int:
        """Periods with an outcome in which somebody had the change."""
        return int(np.count_nonzero(np.isfinite(self.actual) & (self.series.coverage > 0) & ~self.series.excluded))

    @property
    def gaps(self) -> float:
        """The share of periods without an outcome, from the first outcome on."""
        known = np.flatnonzero(np.isfinite(self.actual))
        return 0.0 if known.size == 0 else 1.0 - known.size / (self.actual.size - known[0])

    @property
    def compared(self) -> Panel:
        """The panel with its treated segments and the largest of the others: for what is done segment by segment."""
        panel = self.panel
        if len(panel.units) - np.count_nonzero(panel.treated) <= MOST_RIVALS:
            return panel
        largest = np.argsort(-np.where(panel.treated, np.inf, panel.weight), kind="stable")
        kept = np.zeros(len(panel.units), dtype=np.bool_)
        kept[largest[: np.count_nonzero(panel.treated) + MOST_RIVALS]] = True
        return _rows(panel, kept)

    def without(self, names: Collection[str]) -> LaunchData:
        """The same without these comparison segments, controls and regressors."""
        if not names:
            return self
        left = np.array([name in names for name in self.panel.units], dtype=np.bool_)
        donors = np.array([name not in names for name in self.donors], dtype=np.bool_)
        regressors = np.array([name not in names for name in self.regressors], dtype=np.bool_)
        return replace(
            self,
            panel=_rows(self.panel, ~left | self.panel.treated),
            series=replace(
                self.series,
                donors=self.series.donors[:, donors],
                regressors=self.series.regressors[:, regressors],
            ),
            donors=tuple(name for name in self.donors if name not in names),
            controls=sum(name not in names for name in self.donors[: self.controls]),
            regressors=tuple(name for name in self.regressors if name not in names),
        )


def launch_data(
    plan: LaunchPlan, measurement: PlannedMeasurement, tables: Mapping[str, SeriesTable], data_as_of: datetime
) -> LaunchData:
    """What the estimators of one measurement take; a pure function of the plan and of what was known at the time.

    Segments are in the order of their names, so that the order in which they were sent changes nothing. What is missing
    stays missing.
    """
    spec, options = measurement.outcome.spec, measurement.options
    table, period = tables[spec.key], PERIOD[spec.grain]
    window = window_of(plan, options, data_as_of, period)
    columns = [t for t, at in enumerate(table.periods) if at >= window.begin and at + period <= window.end]
    starts = tuple(table.periods[t] for t in columns)
    names, values, counts = rows_of(table, columns)
    coverage = coverage_of(plan, spec.dimension, names, starts, period)
    after = np.array([start + period > window.launched for start in starts], dtype=np.bool_)
    before = ~after & ~announced_cells(plan, coverage, window, starts, period).any(axis=0)
    if spec.dimension == ARM:
        before[:] = False
    used = chosen_segments(names, values, counts, coverage, before, after, options.excluded_segments)
    units = sizes(used, spec.aggregation, before)
    others = [*plan.confounders, *measurement.beside]
    panel, confounded = _panel(plan, others, used, units, window, starts, period)
    has = used.treated if used.treated.any() else reached(plan, spec.dimension, used.names)
    mine = used.only(has)
    actual = together(mine, spec.aggregation, units[has])
    size = float(np.abs(means(actual, before)))
    share = shares(panel.weight[has])
    outside = outside_of(measurement, tables, starts, mine.names, share, used.scale, before)
    y = _on_scale(actual, size, used.scale)
    rivals = _rival_segments(panel, before, MOST_DONORS - outside.controls.shape[1])
    return LaunchData(
        grain=spec.grain,
        window=window,
        starts=starts,
        scale=used.scale,
        panel=panel,
        treated=mine.names,
        series=Series(
            y=y,
            coverage=np.minimum(share @ mine.coverage, 1.0),
            excluded=panel.excluded[has].any(axis=0),
            regressors=outside.regressors,
            donors=np.column_stack([outside.controls, panel.y[rivals].T]),
            season=SEASONS[spec.grain],
        ),
        actual=actual,
        size=size,
        regressors=outside.regressor_names,
        donors=(*outside.control_names, *(panel.units[i] for i in rivals)),
        controls=len(outside.control_names),
        outside_left_out=outside.left_out,
        left_out=used.left_out,
        confounders_left_out=confounded.left_out,
        confounders_not_separable=confounded.not_separable,
        restated=table.restated,
        unplaced=table.unplaced,
        unknown=unknown_segments(plan, spec.dimension, names),
        reason=_why_nothing(used, starts, actual, before, after),
    )


def _panel(
    plan: LaunchPlan,
    others: Sequence[Confounder],
    used: Segments,
    units: Floats,
    window: Window,
    starts: tuple[datetime, ...],
    period: timedelta,
) -> tuple[Panel, Confounded]:
    announced = announced_cells(plan, used.coverage, window, starts, period)
    confounded = confounded_cells(others, used.names, used.coverage, window, starts, period)
    size = units * np.abs(used.mean)
    size = np.where(np.isfinite(size), size, 0.0)
    return (
        Panel(
            units=used.names,
            y=np.log(used.values) if used.scale == "log" else used.values / np.abs(used.mean)[:, None],
            coverage=used.coverage,
            excluded=announced | confounded.cells,
            weight=shares(size),
        ),
        confounded,
    )


def shares(size: Floats) -> Floats:
    """Sizes as shares of their sum; equal ones where there is no size at all."""
    total = float(size.sum())
    return size / total if total > 0 else np.full(size.shape, 1.0 / max(size.size, 1))


def _on_scale(actual: Floats, size: float, scale: Scale) -> Floats:
    return np.log(actual) if scale == "log" else actual / size


def _rival_segments(panel: Panel, before: Bools, most: int) -> list[int]:
    """Untreated segments that a single series can lean on: complete, moving, none left out; the largest `most`."""
    complete = np.isfinite(panel.y).all(axis=1) & ~panel.excluded.any(axis=1) & ~panel.treated
    if not before.any():
        return []
    complete &= np.ptp(panel.y[:, before], axis=1) > 0
    largest = np.argsort(-panel.weight, kind="stable")
    return sorted(int(i) for i in largest[complete[largest]][: max(most, 0)])


def _rows(panel: Panel, kept: Bools) -> Panel:
    return Panel(
        units=tuple(name for name, keep in zip(panel.units, kept, strict=True) if keep),
        y=panel.y[kept],
        coverage=panel.coverage[kept],
        excluded=panel.excluded[kept],
        weight=shares(panel.weight[kept]),
    )


def _why_nothing(used: Segments, starts: Sequence[datetime], actual: Floats, before: Bools, after: Bools) -> str:
    if not used.treated.any():
        if used.treated_left_out or not starts:
            left_out = used.left_out
            absent = LaunchReason.GAPS_IN_SERIES if left_out.without_values else LaunchReason.NO_DATA
            return LaunchReason.BASELINE_NEAR_ZERO if left_out.near_zero else absent
        return LaunchReason.NO_COVERAGE if after.any() else LaunchReason.NO_PERIOD_AFTER_LAUNCH
    known = np.isfinite(actual)
    if not known.any():
        return LaunchReason.GAPS_IN_SERIES if np.isfinite(used.values).any() else LaunchReason.NO_DATA
    if not known[after].any():
        return LaunchReason.NO_PERIOD_AFTER_LAUNCH
    if np.count_nonzero(known[before]) < FEWEST_BEFORE:
        return LaunchReason.TOO_LITTLE_HISTORY
    return ""
