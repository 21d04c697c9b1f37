"""How an effect changes with the days since exposure: novelty that wears off, or learning (METHODS E6).

The same units are measured on every day, so the days' effects share their noise: the test that they are all equal and
the line through them use the joint covariance over days. Comparing the intervals of two days by eye does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.covariate import CONDITION
from stats.difference import Differences, difference
from stats.estimate import MetricShape, estimate
from stats.lift import Lifts, lift
from stats.moments import Bools, Floats, Moments, safe_divide
from stats.reasons import Reason, Reasons

FEWEST_UNITS = 100
"""Units per arm from which daily means are near normal and their covariance is known well enough."""


@dataclass(frozen=True, slots=True, eq=False)
class AgeEffects:
    """Effects by day since exposure: `difference` and `lift` have arrays (V-1, A), days along the last axis.

    `used` (V-1, A) marks the days that enter the test and the slope: those with a relative effect on a clearly positive
    baseline (METHODS A3). `covariance` (V-1, A, A) is that of the lifts over days. Per treatment (V-1,): `statistic`,
    `df` and `p_value` of the test that all used days have the same lift; `slope`, the change of the lift per day by
    generalised least squares, with `slope_error` and the two-sided `slope_p_value`; nan where `reason` is not empty.
    """

    difference: Differences
    lift: Lifts
    used: Bools
    covariance: Floats
    statistic: Floats
    df: Floats
    p_value: Floats
    slope: Floats
    slope_error: Floats
    slope_p_value: Floats
    reason: Reasons


def age_effects(moments: Moments, level: float = 0.95) -> AgeEffects:
    """From moments of arms (V,), control first, whose columns are the metric on day 0, 1, ... after exposure.

    All units must have lived through all days, whether they came back or not: comparing those who returned compares
    survivors. The test is Wald's; it and the slope are corrected for the covariance being estimated (Hotelling, Rao).
    """
    if len(moments.cells) != 1 or moments.cells[0] < 2 or moments.columns < 1:
        raise ValueError("moments must have cells (arms,) and a column per day")
    shapes = [MetricShape(f"day {day}", "mean", value=day) for day in range(moments.columns)]
    found = estimate(moments, shapes, adjust=False)
    differences, lifts = difference(found, level), lift(found, level)
    treatments, days = lifts.value.shape
    used = np.asarray(lifts.interval_kind == "log_delta", dtype=np.bool_)
    units = moments.count.astype(np.float64)
    fewest = np.minimum(units[1:], units[0])
    covariance = _lift_covariance(found.unadjusted, found.mean_covariance, used)
    numbers = np.full((6, treatments), np.nan)
    reason = np.full(treatments, "", dtype=object)
    for v in range(treatments):
        days_used = np.flatnonzero(used[v])
        if fewest[v] < max(FEWEST_UNITS, 2 * days + 1):
            reason[v] = str(Reason.TOO_FEW_UNITS)
        elif len(days_used) < 2:
            reason[v] = str(Reason.BASELINE_NOT_DISTINGUISHABLE_FROM_ZERO)
        else:
            numbers[:, v] = _course(
                lifts.value[v, days_used],
                covariance[v][np.ix_(days_used, days_used)],
                days_used.astype(np.float64),
                float(fewest[v]) - 1,
            )
    statistic, df, p_value, slope, error, slope_p = numbers
    return AgeEffects(
        differences, lifts, used, covariance, statistic, df, p_value, slope, error, slope_p, reason=reason
    )


def _lift_covariance(means: Floats, mean_covariance: Floats, used: Bools) -> Floats:
    """(V-1, A, A) of T / C - 1 by the delta method; zero on days that are not used."""
    control, treatment = means[:1], means[1:]
    by_treatment = np.where(used, safe_divide(1.0, control), 0.0)
    by_control = np.where(used, safe_divide(-treatment, control**2), 0.0)
    own = by_treatment[:, :, None] * mean_covariance[1:] * by_treatment[:, None, :]
    shared = by_control[:, :, None] * mean_covariance[:1] * by_control[:, None, :]
    return np.asarray(own + shared)


def _course(value: Floats, covariance: Floats, day: Floats, freedom: float) -> tuple[float, ...]:
    """Test of equality and slope in whitened coordinates, without directions that hold no variance."""
    scale = np.sqrt(np.diagonal(covariance))
    roots, vectors = np.linalg.eigh(covariance / scale[:, None] / scale)
    kept = roots > CONDITION * roots[-1]
    whiten = (vectors[:, kept] / np.sqrt(roots[kept])).T / scale
    one, line, seen = whiten @ np.ones(len(day)), whiten @ (day - day.mean()), whiten @ value
    apart = seen - one * (one @ seen) / (one @ one)
    df = float(kept.sum()) - 1
    statistic = float(apart @ apart)
    p_value = float(sc.fdtrc(df, freedom - df + 1, statistic * (freedom - df + 1) / (freedom * df))) if df else 1.0
    along = line - one * (one @ line) / (one @ one)
    square = float(along @ along)
    if square <= CONDITION * float(line @ line):
        return statistic, df, p_value, np.nan, np.nan, np.nan
    # The weights were estimated too: a degree of freedom goes for every contrast that the line does not use (Rao 1967).
    spent = df - 1
    slope, error = float(along @ seen) / square, (square * (1 - spent / (freedom - 1))) ** -0.5
    return statistic, df, p_value, slope, error, float(2 * sc.stdtr(freedom - spent, -abs(slope) / error))
