"""Every method that the recorded facts allow, run on one measurement (METHODS D)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np
import scipy.special as sc

from experiments.definitions import Grain
from experiments.evidence.launch.data import LaunchData
from experiments.evidence.launch.design import states_by_lot
from experiments.evidence.launch.fit_before import fit_before
from experiments.evidence.launch.segments import Scale
from experiments.evidence.launch.window import OFF, ON
from experiments.plan import LaunchPlan, MeasuredBefore, PlannedMeasurement
from experiments.result import DesignOption
from experiments.rollout import coverage_at
from experiments.series_table import PERIOD, SeriesTable
from stats.launch.bsts import bsts
from stats.launch.contract import Estimated, Method, NotEstimable, Series, nothing
from stats.launch.did import did
from stats.launch.group_time import group_time
from stats.launch.imputation import imputation
from stats.launch.reasons import LaunchReason
from stats.launch.staged import Staged, Stages, staged
from stats.launch.structural import structural
from stats.launch.switchback import switchback
from stats.launch.synthetic_control import Synthetic, SyntheticMethod, synthetic
from stats.sample_ratio import FIXED_ALPHA

TIMES: Final = 10.0
"""An interval that reaches this far up and down is no measurement."""
SYNTHETIC: Final[tuple[SyntheticMethod, ...]] = ("synthetic_did", "synthetic_control", "augmented_synthetic_control")


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Answers by method, the strongest first. `synthetic` has what those of that family are made of.

    `sample_ratio_p` is that of a staged rollout, nan elsewhere (METHODS A12).
    """

    by_method: Mapping[Method, Estimated]
    synthetic: Mapping[SyntheticMethod, Synthetic] = field(default_factory=dict)
    sample_ratio_p: float = float("nan")


def estimates(
    plan: LaunchPlan,
    measurement: PlannedMeasurement,
    data: LaunchData,
    table: SeriesTable,
    options: Sequence[DesignOption],
    *,
    seed: int,
) -> Estimates:
    """The answers of all methods whose design is possible; one that cannot say anything says why."""
    level = measurement.options.level
    possible = {option.design for option in options if option.possible}
    found: dict[Method, Estimated] = {}
    family: dict[SyntheticMethod, Synthetic] = {}
    ratio_p = float("nan")
    periods = len(data.starts)
    if "experiment" in possible and measurement.experiment is not None:
        found["experiment"] = _of_experiment(measurement.experiment, data, level)
    if "staged" in possible:
        stages = _staged(plan, measurement, data, table)
        found["staged"], ratio_p = stages.estimated, stages.sample_ratio_p
        if ratio_p < FIXED_ALPHA:
            found["staged"] = nothing("staged", LaunchReason.SAMPLE_RATIO_MISMATCH, periods=periods)
    if "switchback" in possible:
        found["switchback"] = _switchback(plan, measurement, data, seed)
    by_segment = possible & {"random_order", "staggered", "concurrent"}
    if by_segment:
        panel = data.panel
        found["imputation"] = answer("imputation", periods, lambda: imputation(panel, level=level, seed=seed))
        found["group_time"] = answer("group_time", periods, lambda: group_time(panel, level=level, seed=seed))
    if "concurrent" in possible:
        for method in SYNTHETIC:
            family[method] = synthetic(data.compared, method, level=level)
            found[method] = _if_donors_follow(data, family[method])
        found["did"] = answer("did", periods, lambda: did(data.panel, level=level))
    series = settled(data.series, measurement.options.carry_over_periods)
    if "donors" in possible:
        found["bsts"] = answer("bsts", periods, lambda: bsts(series, level=level))
    if "before_after" in possible:
        found["structural"] = answer("structural", periods, lambda: structural(series, level=level))
    for name, each in found.items():
        if not each.reason and not says_something(each, data.scale):
            found[name] = nothing(name, LaunchReason.TOO_NOISY, periods=periods)
    return Estimates(found, family, ratio_p)


def answer(method: Method, periods: int, ask: Callable[[], Estimated]) -> Estimated:
    """What an estimator says; one that refuses by raising has said why."""
    try:
        return ask()
    except NotEstimable as refusal:
        return nothing(method, refusal.code, periods=periods)


def settled(series: Series, carry_over: int) -> Series:
    """The series without the periods after a change of coverage in which the former state may still act.

    Not for a switchback, which repeats its own burn-in under every arrangement of its blocks.
    """
    worn = np.zeros(series.y.size, dtype=np.bool_)
    for change in np.flatnonzero(np.diff(series.coverage)) + 1:
        worn[change : change + carry_over] = True
    return replace(series, excluded=series.excluded | worn)


def says_something(estimated: Estimated, scale: Scale) -> bool:
    """Whether the interval tells more than: anything from a tenth of what would have been to ten times as much."""
    return (estimated.upper - estimated.lower) / 2 < furthest(scale)


def furthest(scale: Scale) -> float:
    """Half the width of an interval that says nothing, on the scale of the estimate."""
    return float(np.log(TIMES)) if scale == "log" else TIMES - 1


def _if_donors_follow(data: LaunchData, made: Synthetic) -> Estimated:
    """The estimate, unless no mix of donors comes near the treated; a method with an intercept needs no such mix."""
    estimated = made.estimated
    if estimated.reason or estimated.method == "synthetic_did" or fit_before(data, made).follows:
        return estimated
    return nothing(estimated.method, LaunchReason.POOR_DONOR_FIT, periods=estimated.fitted.size)


def _of_experiment(measured: MeasuredBefore, data: LaunchData, level: float) -> Estimated:
    """The lift that the experiment found, carried over the periods of the launch at their coverage."""
    margin = float(sc.ndtri(0.5 + level / 2)) * measured.standard_error
    effect, error = measured.log_lift, measured.standard_error
    if data.scale == "level":
        effect, error, margin = float(np.expm1(effect)), error * float(np.exp(effect)), margin * float(np.exp(effect))
    on = np.flatnonzero((data.series.coverage > 0) & np.isfinite(data.actual) & ~data.series.excluded)
    share = data.series.coverage[on]
    return Estimated(
        method="experiment",
        effect=effect,
        standard_error=error,
        lower=effect - margin,
        upper=effect + margin,
        p_value=float(2 * sc.ndtr(-abs(effect / error))),
        interval_kind="normal",
        periods=on,
        by_period=effect * share,
        covariance=error**2 * np.outer(share, share),
        fitted=np.full(len(data.starts), np.nan),
    )


def _staged(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData, table: SeriesTable) -> Staged:
    spec, moment = measurement.outcome.spec, PERIOD[measurement.outcome.spec.grain]
    used = set(data.starts)
    places = [t for t, at in enumerate(table.periods) if at in used]
    n, mean, variance = {}, {}, {}
    for arm in (ON, OFF):
        row = table.segments.index(arm) if arm in table.segments else None
        nan = np.full(len(places), np.nan)
        n[arm] = nan if row is None else table.n[row, places]
        values = nan if row is None else table.values[row, places]
        mean[arm] = values / n[arm] if spec.aggregation == "total" else values
        variance[arm] = nan if row is None else table.variance[row, places]
    tick = moment / 10**6
    coverage = np.array([coverage_at(plan.rollout, start + moment - tick) for start in data.starts])
    return staged(
        Stages(n[ON], mean[ON], variance[ON], n[OFF], mean[OFF], variance[OFF], coverage),
        level=measurement.options.level,
    )


def _switchback(plan: LaunchPlan, measurement: PlannedMeasurement, data: LaunchData, seed: int) -> Estimated:
    """Blocks as they were drawn; the last one ends with the next step, or when it is as long as the longest before."""
    period, drawn = PERIOD[data.grain], states_by_lot(plan, data.window.end)
    following = [step.at for step in plan.rollout if step.at > drawn[-1][0]]
    begins = [at for at, _ in drawn]
    longest = max(later - earlier for earlier, later in pairwise(begins))
    end = min([data.window.end, begins[-1] + longest, *following])
    places = [t for t, at in enumerate(data.starts) if at >= begins[0] and at + period <= end]
    if not places:
        return nothing("switchback", LaunchReason.NO_PERIOD_AFTER_LAUNCH, periods=len(data.starts))
    rows = slice(places[0], places[-1] + 1)
    block = np.array([bisect_right(begins, start) - 1 for start in data.starts[rows]], dtype=np.intp)
    on = np.array([state for _, state in drawn])[block]
    whole = (data.series.coverage[rows] == 0) | (data.series.coverage[rows] == 1)
    found = switchback(
        data.series.y[rows],
        on,
        block,
        _strata(data, rows),
        carry_over=measurement.options.carry_over_periods,
        usable=whole & ~data.series.excluded[rows],
        level=measurement.options.level,
        seed=seed,
    )
    fitted = np.full(len(data.starts), np.nan)
    fitted[rows] = found.fitted
    return replace(found, periods=found.periods + places[0], fitted=fitted)


_CYCLE: Final[dict[Grain, tuple[int, ...]]] = {"hour": (168, 24), "day": (7,), "week": ()}
_REPEATS: Final = 4
"""A cycle is a stratum when it comes round so often that every part of it can be on and off."""


def _strata(data: LaunchData, rows: slice) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """What repeats: the hour of the week, the hour of the day, the day of the week, as far as there is time for it."""
    length = rows.stop - rows.start
    cycle = next((each for each in _CYCLE[data.grain] if length >= _REPEATS * each), 1)
    number = np.array([int(start.timestamp() // PERIOD[data.grain].total_seconds()) for start in data.starts[rows]])
    return np.asarray(number % cycle, dtype=np.intp)
