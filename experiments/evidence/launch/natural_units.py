"""What an effect comes to in units of the outcome, by period and in total, with all its errors (METHODS D7)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import scipy.special as sc

from experiments.evidence.launch.data import LaunchData, shares
from stats.launch.contract import Estimated
from stats.moments import Bools, Floats


@dataclass(frozen=True, slots=True)
class Total:
    """An effect and its interval, on whatever scale."""

    value: float
    lower: float
    upper: float


def total_interval(estimated: Estimated, bias_sd: float, level: float) -> Total:
    """The effect with an interval that holds sampling error and bias, on the scale of the estimator.

    Each half of the estimator's own interval (whatever its shape: Student's t, posterior, placebo) is widened by the
    bias, as independent errors are: without bias it is the estimator's own.
    """
    reach = float(sc.ndtri(0.5 + level / 2)) * bias_sd
    below = float(np.hypot(estimated.effect - estimated.lower, reach))
    above = float(np.hypot(estimated.upper - estimated.effect, reach))
    return Total(estimated.effect, estimated.effect - below, estimated.effect + above)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Every array (T,), in units of the outcome; nan where the estimator does not say.

    Before the launch `effect` is what the model did not explain, without a band. `cumulative` adds up the effects from
    the launch on: its last value is that of the whole time measured, over `measured` periods.
    """

    counterfactual: Floats
    counterfactual_lower: Floats
    counterfactual_upper: Floats
    effect: Floats
    effect_lower: Floats
    effect_upper: Floats
    cumulative: Floats
    cumulative_lower: Floats
    cumulative_upper: Floats
    measured: int

    @property
    def total(self) -> Total | None:
        """The cumulative effect of all periods measured."""
        known = np.flatnonzero(np.isfinite(self.cumulative))
        if not known.size:
            return None
        last = known[-1]
        return Total(
            float(self.cumulative[last]), float(self.cumulative_lower[last]), float(self.cumulative_upper[last])
        )


def course(data: LaunchData, estimated: Estimated, bias_sd: float, level: float) -> Course:
    """What would have been, period by period, and what the launch came to.

    With the effect `e` of a period on the log scale, the outcome `a` would have been `a exp(-e)`. The bias is one draw
    for all periods, in proportion to their coverage. The interval of a sum is that of the logarithm of the summed
    counterfactual, to first order, so that it agrees with the interval of a single period where there is one only. On
    the scale `level` everything is linear and exact. Sampling error is taken at the estimator's own quantile (Student's
    t, posterior), the bias at the normal one.
    """
    empty = np.full(len(data.starts), np.nan)
    kept = np.isfinite(data.actual[estimated.periods])
    at = estimated.periods[kept]
    actual, (effect, slope) = data.actual[at], _of_the_total(data, estimated, kept)
    own, reach = _quantile(estimated, level), float(sc.ndtri(0.5 + level / 2)) * bias_sd
    covariance = own**2 * estimated.covariance[np.ix_(kept, kept)] * np.outer(slope, slope)
    error = _Error(covariance, reach * data.series.coverage[at])
    half = error.half(np.eye(at.size))
    out = {name: empty.copy() for name in _PATHS}
    if data.scale == "log":
        without, low, high = (actual * np.exp(-(effect + side * half)) for side in (0.0, 1.0, -1.0))
        summed = np.cumsum(without)
        share = np.tril(without[None, :] / summed[:, None]) if at.size else np.empty((0, 0))
        spread = error.half(share)
        so_far = np.cumsum(actual)
        sums = [so_far - summed * np.exp(side * spread) for side in (0.0, 1.0, -1.0)]
    else:
        without, low, high = (actual - data.size * (effect + side * half) for side in (0.0, 1.0, -1.0))
        spread = error.half(np.tril(np.ones((at.size, at.size))))
        sums = [data.size * (np.cumsum(effect) + side * spread) for side in (0.0, -1.0, 1.0)]
    past, gap = unexplained(data, estimated)
    out["counterfactual"][past] = (
        data.actual[past] * np.exp(-gap[past]) if data.scale == "log" else data.actual[past] - data.size * gap[past]
    )
    out["counterfactual"][at], out["counterfactual_lower"][at], out["counterfactual_upper"][at] = without, low, high
    out["effect"] = data.actual - out["counterfactual"]
    out["effect_lower"] = data.actual - out["counterfactual_upper"]
    out["effect_upper"] = data.actual - out["counterfactual_lower"]
    out["cumulative"][at], out["cumulative_lower"][at], out["cumulative_upper"][at] = sums
    return Course(**out, measured=at.size)


def _of_the_total(data: LaunchData, estimated: Estimated, kept: Bools) -> tuple[Floats, Floats]:
    """Effects (P,) per period on the treated segments together, and by how much they move with the estimator's (P,).

    Estimators of panels average logarithms over segments, and the logarithm of a total is no such average while some
    segments have the change and others do not yet. Each period's effect is taken to be the same at full coverage in
    every segment, so that with `c` of it a segment would have been smaller by `exp(-c * effect)`.
    """
    effect, at = estimated.by_period[kept], estimated.periods[kept]
    treated = data.panel.treated
    coverage, weight = data.panel.coverage[treated][:, at], shares(data.panel.weight[treated])
    mean = weight @ coverage
    if data.scale == "level" or estimated.method in _WITHOUT_FIT | _OF_ONE_SERIES or not (mean > 0).all():
        return effect, np.ones(effect.size)
    values = np.exp(data.panel.y[treated])
    parts = (weight / np.nanmean(values[:, : data.launched], axis=1))[:, None] * values[:, at]
    without = parts / parts.sum(axis=0) * np.exp(-coverage * (effect / mean))
    total = without.sum(axis=0)
    return -np.log(total), (without * coverage).sum(axis=0) / (total * mean)


_PATHS: Final = tuple(part.name for part in fields(Course) if part.name != "measured")
_OF_ONE_SERIES: Final = frozenset({"structural", "bsts"})
_WITHOUT_FIT: Final = frozenset({"experiment", "staged", "switchback"})


@dataclass(frozen=True, slots=True, eq=False)
class _Error:
    """Sampling error as a covariance (P, P) already at its quantile, and the reach of one bias for all, (P,)."""

    covariance: Floats
    reach: Floats

    def half(self, share: Floats) -> Floats:
        """(Q,) half-widths of the weighted sums `share` (Q, P) of effects."""
        sampling = np.einsum("qp,pr,qr->q", share, self.covariance, share)
        return np.asarray(np.sqrt(np.maximum(sampling, 0.0) + (share @ self.reach) ** 2), dtype=np.float64)


def _quantile(estimated: Estimated, level: float) -> float:
    """Half the estimator's own interval in standard errors."""
    half = (estimated.upper - estimated.lower) / 2
    known = np.isfinite(half) and estimated.standard_error > 0
    return half / estimated.standard_error if known else float(sc.ndtri(0.5 + level / 2))


def unexplained(data: LaunchData, estimated: Estimated) -> tuple[Bools, Floats]:
    """Periods (T,) without the change for which the estimator says what to expect, and how far the outcome was off."""
    outcome = data.series.y
    if estimated.method in _WITHOUT_FIT:
        return np.zeros(outcome.size, dtype=np.bool_), np.full(outcome.size, np.nan)
    if estimated.method not in _OF_ONE_SERIES:
        treated = data.panel.treated
        outcome = shares(data.panel.weight[treated]) @ data.panel.y[treated]
    gap = outcome - estimated.fitted
    known = np.isfinite(gap) & np.isfinite(data.actual) & (data.series.coverage == 0) & ~data.series.excluded
    return known, gap
