"""Whether units moved in parallel before the launch, and what an effect is worth if they did not after it (D2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.launch.contract import Estimated, NotEstimable, Panel
from stats.launch.leads import Leads, on_untreated
from stats.launch.panel_answer import two_sided
from stats.launch.reasons import LaunchReason
from stats.launch.treated_cells import before_launch, since_launch, sizes_of, usable
from stats.launch.two_way import TwoWay, two_way
from stats.moments import Floats, safe_divide

BLOCKS = 3
"""Parts of the history between which units may have parted."""
FREEDOM_PER_BLOCK = 3
"""Degrees of freedom that each tested difference needs."""
CAP = 10.0
"""Beyond this the largest violation that an effect survives is not told apart."""


@dataclass(frozen=True, slots=True)
class PreTrendTest:
    """Did treated units move apart before the launch? Weak evidence when it passes (Roth 2022).

    `p_value` of no difference in the last `periods` periods before it. `slope` per period with its interval. With a
    `reason` nothing could be tested and all numbers are nan.
    """

    p_value: float
    periods: int
    slope: float
    slope_lower: float
    slope_upper: float
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class MagnitudeBounds:
    """Intervals (M,) of the effect when trends may have parted by `m` (M,) times the most that they did before.

    `breakdown` is the largest m at which the interval keeps its sign, at most `CAP`; nan where it never does. With a
    `reason` there are no bounds and all numbers but `m` are nan.
    """

    m: Floats
    lower: Floats
    upper: Floats
    breakdown: float
    reason: str = ""


def pre_trend(panel: Panel, *, level: float = 0.95) -> PreTrendTest:
    """Test whether treated units' outcomes moved in parallel with the others' before the launch.

    The later half of the history, in up to 3 blocks, is compared with the earlier: a joint F test (Hotelling's, with
    the errors of `unit_errors`), with as many blocks as units allow. With few units it is the t test of the
    difference in slope. Treated units count equally.
    """
    try:
        fit = _history(panel)
        since = since_launch(panel)
        slope = on_untreated(np.where(panel.treated[:, None], since, 0.0)[None], panel, fit)
        test = _joint(panel, fit)
        if not slope.known[0] and test is None:
            raise NotEstimable(LaunchReason.NO_COMPARISON_UNITS)
        error, df = float(slope.errors.standard_error[0]), float(slope.errors.df[0])
        value = float(slope.effect[0]) if slope.known[0] else float("nan")
        half = float(sc.stdtrit(df, 0.5 + level / 2)) * error
        if test is None:
            if error <= 0:
                raise NotEstimable(LaunchReason.CONSTANT_SERIES)
            test = two_sided(value / error, df)
        return PreTrendTest(test, panel.pre // 2, value, value - half, value + half)
    except NotEstimable as problem:
        nan = float("nan")
        return PreTrendTest(nan, 0, nan, nan, nan, problem.code)


def relative_magnitudes(
    panel: Panel,
    estimated: Estimated,
    *,
    level: float = 0.95,
    m: Sequence[float] = (0, 0.25, 0.5, 1, 1.5, 2),
) -> MagnitudeBounds:
    """How an effect's interval widens when units did not move in parallel (Rambachan & Roth 2023, Delta^RM).

    The history is cut into 3 blocks of time before the launch; the largest change between neighbouring blocks in how
    treated units differ, per period, is the unit of `m`. After the launch they may have parted by up to m times that
    in every period, all in one direction, counted from the middle of the history, which estimators compare with: m = 1
    covers a trend that goes on as it was. The interval is the estimator's own, or a normal one of `level` where that is
    wider, with this bound added on both sides. That is a closed form in place of the source's conditional intervals,
    and wider: the largest change is taken as estimated, with its noise, and the whole bound is added to the interval.
    It is cautious for estimators that compare with the end of the history.
    """
    levels = np.asarray(m, dtype=np.float64)
    try:
        if estimated.reason:
            raise NotEstimable(estimated.reason)
        bound = _largest_change(panel) * _distance(panel)
    except NotEstimable as problem:
        nan = np.full(levels.shape, np.nan)
        return MagnitudeBounds(levels, nan, nan, float("nan"), problem.code)
    half = float(sc.ndtri(0.5 + level / 2)) * estimated.standard_error
    lower = min(estimated.lower, estimated.effect - half)
    upper = max(estimated.upper, estimated.effect + half)
    nearest = max(lower, -upper)
    breakdown = float("nan")
    if nearest > 0:
        breakdown = CAP if nearest >= CAP * bound else nearest / bound
    return MagnitudeBounds(levels, lower - levels * bound, upper + levels * bound, breakdown)


def _joint(panel: Panel, fit: TwoWay) -> float | None:
    """The p-value of no difference in the later half of the history; None with too few units or periods for it."""
    window = panel.pre // 2
    if window < 2:
        return None
    freedom = _blocks(panel, fit, since=-window, number=1).errors.df[0]
    most = int(min(BLOCKS, window, freedom // FREEDOM_PER_BLOCK))
    found = _blocks(panel, fit, since=-window, number=most) if most >= 2 else None
    if found is None or found.known.sum() < 2:
        return None
    number = int(found.known.sum())
    errors, effect = found.errors.of(found.known), found.effect[found.known]
    df = float(errors.df.min()) - number + 1
    wald = float(effect @ np.linalg.pinv(errors.covariance, hermitian=True) @ effect)
    return float(sc.fdtrc(number, df, wald * df / ((df + number - 1) * number)))


def _blocks(panel: Panel, fit: TwoWay, *, since: int, number: int, skip: int = 0) -> Leads:
    """Differences of treated units in so many blocks of time from `since` to the launch, without the first `skip`."""
    edges = np.linspace(since, 0, number + 1).round()[skip:]
    time = since_launch(panel)
    inside = [(time >= start) & (time < end) & panel.treated[:, None] for start, end in itertools.pairwise(edges)]
    return on_untreated(np.array(inside, dtype=np.float64).reshape(-1, *panel.y.shape), panel, fit)


def _largest_change(panel: Panel) -> float:
    """The largest change per period between neighbouring blocks of the history in how treated units differ."""
    number = min(BLOCKS, panel.pre)
    if number < 2:
        raise NotEstimable(LaunchReason.TOO_LITTLE_HISTORY)
    found = _blocks(panel, _history(panel, longest=panel.pre), since=-panel.pre, number=number, skip=1)
    if not found.known.any():
        raise NotEstimable(LaunchReason.NO_COMPARISON_UNITS)
    edges = np.linspace(-panel.pre, 0, number + 1).round()
    middle = (edges[:-1] + edges[1:]) / 2
    seen = np.concatenate([[True], found.known])
    path = np.concatenate([[0.0], found.effect])[seen]
    return float(np.abs(np.diff(path) / np.diff(middle[seen])).max())


def _distance(panel: Panel) -> float:
    """Periods from the middle of a unit's history to its treated cells, averaged with their weights in the effect."""
    untreated, treated = usable(panel)
    before = before_launch(panel, untreated)
    time = np.arange(panel.y.shape[1])
    middle = safe_divide((before * time).sum(axis=1), before.sum(axis=1))
    treated &= before.any(axis=1, keepdims=True)
    if not treated.any():
        raise NotEstimable(LaunchReason.TOO_LITTLE_HISTORY)
    share = treated * sizes_of(treated.any(axis=1), panel)[:, None] * panel.coverage
    return float((share * (time - middle[:, None])).sum() / (share * panel.coverage).sum())


def _history(panel: Panel, *, longest: int | None = None) -> TwoWay:
    """Unit and period effects of the time before the last unit's launch, from treated units' last `longest` periods."""
    untreated, _ = usable(panel)
    recent = since_launch(panel) >= -(panel.y.shape[1] if longest is None else longest)
    before = (before_launch(panel, untreated) & recent) | (untreated & ~panel.treated[:, None])
    return two_way(panel.y, before & (np.arange(panel.y.shape[1]) < panel.first[panel.treated].max()))
