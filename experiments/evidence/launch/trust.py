"""What speaks for and against an estimate: placebos, trends before the launch, donors (METHODS D2, D3, D7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from experiments.evidence.launch.data import LaunchData
from experiments.evidence.launch.estimates import SYNTHETIC, Estimates
from experiments.evidence.launch.fit_before import Fit, fit_before
from stats.launch.bsts import bsts_in_time
from stats.launch.contract import Estimated, Method, NotEstimable, Panel, PlaceboRuns
from stats.launch.did import did
from stats.launch.donors import LEAST_HISTORY
from stats.launch.group_time import group_time
from stats.launch.imputation import imputation
from stats.launch.placebo import KEPT, in_space, in_time
from stats.launch.rollout_order import permuted_order
from stats.launch.structural import structural_in_time
from stats.launch.synthetic_control import LeftOut, SyntheticMethod, leave_one_out, synthetic
from stats.launch.trends import MagnitudeBounds, PreTrendTest, pre_trend, relative_magnitudes
from stats.moments import Bools

PLACEBO_DRAWS: Final = 99
"""Of a bootstrap inside a placebo run: its standard error is all that is used."""
RUNS_WANTED: Final = 8
"""The time measured after a placebo date is cut for as many dates."""
RUNS_OF_LEADING: Final = 12
RUNS_BESIDE: Final = 6
"""Dates tried with estimators of panels that do not lead; those of a single series are quicker."""


@dataclass(frozen=True, slots=True, eq=False)
class Trust:
    """Whatever could be tested; absent where it does not apply or could not be.

    `fits` are of methods that weight donors. `weighted` is the one whose donors are shown: the leading method, else the
    first of them. `left_out` are its effects without single donors.
    """

    in_time: Mapping[Method, PlaceboRuns] = field(default_factory=dict)
    in_space: Mapping[Method, PlaceboRuns] = field(default_factory=dict)
    pre_trend: PreTrendTest | None = None
    magnitudes: MagnitudeBounds | None = None
    fits: Mapping[SyntheticMethod, Fit] = field(default_factory=dict)
    weighted: SyntheticMethod | None = None
    left_out: LeftOut | None = None
    order_p: float = float("nan")


def trust(
    data: LaunchData, estimates: Estimates, leading: Method | None, *, in_lot: Bools | None, level: float, seed: int
) -> Trust:
    """The battery for one measurement: complete for the leading method, what is cheap for the others.

    `in_lot` (N,) are the segments whose order was drawn by lot, None where there was no lot.
    """
    if data.reason or leading is None:
        return Trust()
    able = {method: each for method, each in estimates.by_method.items() if not each.reason}
    runs = _estimators(level, seed)
    time: dict[Method, PlaceboRuns] = {}
    space: dict[Method, PlaceboRuns] = {}
    for method in able:
        if method == "structural":
            time[method] = structural_in_time(data.series, horizon=data.after)
        elif method == "bsts":
            most = 2 * RUNS_OF_LEADING if method == leading else RUNS_OF_LEADING
            time[method] = bsts_in_time(data.series, horizon=data.after, most=most)
        elif method in runs and (method == leading or method not in SYNTHETIC):
            panel = data.compared if method in SYNTHETIC else data.panel
            most = RUNS_OF_LEADING if method == leading else RUNS_BESIDE
            time[method] = in_time(panel, runs[method], horizon=_horizon(data), most=most)
    for name, made in estimates.synthetic.items():
        if name in able:
            space[name] = made.placebos
    if leading in runs and leading not in space and len(data.untreated) > 1:
        space[leading] = in_space(data.compared, runs[leading])
    compared = leading in runs
    fits = {method: fit_before(data, made) for method, made in estimates.synthetic.items() if method in able}
    weighted = next((method for method in fits if method == leading), next(iter(fits), None))
    return Trust(
        in_time=time,
        in_space=space,
        pre_trend=_pre_trend(data, level) if compared else None,
        magnitudes=_magnitudes(data, able[leading], level) if compared else None,
        fits=fits,
        weighted=weighted,
        left_out=_left_out(data, weighted),
        order_p=_order_p(data, in_lot, seed) if leading == "imputation" else float("nan"),
    )


def _estimators(level: float, seed: int) -> Mapping[Method, Callable[[Panel], Estimated]]:
    """Estimators of panels as they are run on placebos."""

    def of_family(method: SyntheticMethod) -> Callable[[Panel], Estimated]:
        return lambda panel: synthetic(panel, method, level=level).estimated

    return {
        "did": lambda panel: did(panel, level=level),
        "imputation": lambda panel: imputation(panel, level=level, seed=seed, draws=PLACEBO_DRAWS),
        "group_time": lambda panel: group_time(panel, level=level, seed=seed, draws=PLACEBO_DRAWS),
        **{method: of_family(method) for method in SYNTHETIC},
    }


def _horizon(data: LaunchData) -> int:
    """As long as the launch was measured, or shorter so that some dates fit into the history."""
    room = data.panel.pre - max(LEAST_HISTORY, int(np.ceil(KEPT * data.panel.pre)))
    return max(1, min(data.after, max(room - RUNS_WANTED + 1, room // 2)))


def _pre_trend(data: LaunchData, level: float) -> PreTrendTest | None:
    found = pre_trend(data.panel, level=level)
    return None if found.reason else found


def _magnitudes(data: LaunchData, estimated: Estimated, level: float) -> MagnitudeBounds | None:
    found = relative_magnitudes(data.panel, estimated, level=level)
    return None if found.reason else found


def _order_p(data: LaunchData, in_lot: Bools | None, seed: int) -> float:
    try:
        return float("nan") if in_lot is None else permuted_order(data.panel, seed=seed, eligible=in_lot)
    except NotEstimable:
        return float("nan")


def _left_out(data: LaunchData, method: SyntheticMethod | None) -> LeftOut | None:
    try:
        return None if method is None else leave_one_out(data.compared, method)
    except NotEstimable:
        return None
