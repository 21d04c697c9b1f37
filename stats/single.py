"""One metric, two arms, in plain numbers: what a calculator or a quick look needs, without the cost of arrays.

The everyday case (a mean or proportion with at most one covariate and nothing wrong with the data) is spelled out in
scalars, an order of magnitude faster than arrays of one element; everything else goes through the arrays. Both give the
same numbers (METHODS A1, A3, A7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy.special as sc

from stats.adjustment import EXHAUSTED
from stats.covariate import CONSTANT, UNITS_PER_COVARIATE
from stats.difference import difference
from stats.estimate import estimate
from stats.lift import FIELLER_FROM, LOG_DELTA_FROM, lift
from stats.metric_shape import MetricShape
from stats.moments import Moments
from stats.tails import TINY


@dataclass(slots=True)
class Comparison:
    """One treatment against control. Names and meaning as in `Differences` and `Lifts`; nan where there is none."""

    value: float
    standard_error: float
    df: float
    p_value: float
    log10_p: float
    ci_lower: float
    ci_upper: float
    reason: str
    lift: float
    lift_standard_error: float
    lift_ci_lower: float
    lift_ci_upper: float
    interval_kind: str
    lift_reason: str
    adjusted: bool


def compare(moments: Moments, shape: MetricShape, level: float = 0.95) -> Comparison:
    """Difference and lift of the second arm over the first, `moments` with cells (2,)."""
    if moments.cells != (2,):
        raise ValueError("a single comparison takes moments of two arms, control first")
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    everyday = shape.kind in ("mean", "proportion") and len(shape.covariates) <= 1 and not shape.indicators
    found = _everyday(moments, shape, level) if everyday else None
    return _by_arrays(moments, shape, level) if found is None else found


def _everyday(moments: Moments, shape: MetricShape, level: float) -> Comparison | None:
    """None where anything needs more care than the plain formulas take."""
    y = shape.value
    (n_c, n_t), (mean_c, mean_t), (co_c, co_t) = (
        moments.count.tolist(),
        moments.mean.tolist(),
        moments.comoment.tolist(),
    )
    if n_c < 2 or n_t < 2:
        return None
    per_c, per_t = 1.0 / (n_c * (n_c - 1.0)), 1.0 / (n_t * (n_t - 1.0))
    c, raw_c, raw_t = mean_c[y], co_c[y][y] * per_c, co_t[y][y] * per_t
    if not (raw_c * n_c > (CONSTANT * c) ** 2 and raw_t * n_t > (CONSTANT * mean_t[y]) ** 2):
        return None
    d, v_c, v_t, cross = mean_t[y] - c, raw_c, raw_t, raw_c
    if shape.covariates:
        x = shape.covariates[0]
        xx_c, xx_t, xy_c, xy_t = co_c[x][x] * per_c, co_t[x][x] * per_t, co_c[x][y] * per_c, co_t[x][y] * per_t
        floor_c, floor_t = (CONSTANT * mean_c[x]) ** 2, (CONSTANT * mean_t[x]) ** 2
        varies = xx_c * (n_c - 1) > floor_c or xx_t * (n_t - 1) > floor_t
        if min(n_c, n_t) < UNITS_PER_COVARIATE or not varies:
            return None
        theta = (xy_c + xy_t) / (xx_c + xx_t)
        cross = raw_c - theta * xy_c
        v_c, v_t = cross - theta * xy_c + theta * theta * xx_c, raw_t - 2 * theta * xy_t + theta * theta * xx_t
        if not (v_c > 0 and v_t > 0 and v_c + v_t > EXHAUSTED * (raw_c + raw_t)):
            return None
        d -= theta * (mean_t[x] - mean_c[x])

    total = v_c + v_t
    share = v_t / total
    df = 1 / (share * share / (n_t - 1) + (1 - share) * (1 - share) / (n_c - 1))
    error = math.sqrt(total)
    p = min(2 * float(sc.stdtr(df, -abs(d) / error)), 1.0)
    se_c, top = math.sqrt(raw_c), c + d
    z = float(sc.ndtri(0.5 + level / 2))
    clear = se_c > 0 and c / se_c >= max(LOG_DELTA_FROM, z)
    clear = clear and top > 0 and top * top >= FIELLER_FROM**2 * (total + raw_c - 2 * cross)
    relative = d / c if clear else 0.0
    variance = total + relative * (relative * raw_c + 2 * cross)
    if not (p >= TINY and clear and variance > 0):
        return None
    half = float(sc.stdtrit(df, 0.5 + level / 2)) * error
    lift_error, log_lift = math.sqrt(variance), math.log1p(relative)
    wide = z * lift_error / top
    return Comparison(
        d,
        error,
        df,
        p,
        math.log10(p),
        d - half,
        d + half,
        "",
        relative,
        lift_error / c,
        math.expm1(log_lift - wide),
        math.expm1(log_lift + wide),
        "log_delta",
        "",
        bool(shape.covariates),
    )


def _by_arrays(moments: Moments, shape: MetricShape, level: float) -> Comparison:
    estimates = estimate(moments, (shape,))
    absolute, relative = difference(estimates, level), lift(estimates, level)
    where = (0, 0)
    return Comparison(
        float(absolute.value[where]),
        float(absolute.standard_error[where]),
        float(absolute.df[where]),
        float(absolute.p_value[where]),
        float(absolute.log10_p[where]),
        float(absolute.ci_lower[where]),
        float(absolute.ci_upper[where]),
        str(absolute.reason[where]),
        float(relative.value[where]),
        float(relative.standard_error[where]),
        float(relative.ci_lower[where]),
        float(relative.ci_upper[where]),
        str(relative.interval_kind[where]),
        str(relative.reason[where]),
        bool(estimates.adjusted[0]),
    )
