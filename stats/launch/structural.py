"""Interrupted time series with a wandering level: a launch that reached everybody at once (METHODS D1).

Before and after is the weakest design there is. Least squares takes a level that drifts for independent errors and is
wrong more often than right; here the drift is part of the model (Wagner et al. 2002 and Bernal, Cummins & Gasparrini
2017 for the design; Harvey 1989, "Forecasting, structural time series models and the Kalman filter", for the errors).
What the drift's model misses, placebos in time measure (METHODS D7).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import numpy as np

from stats.bayes.mixture import Mixture
from stats.launch.contract import Estimated, NotEstimable, PlaceboRuns, Series, nothing
from stats.launch.earlier_dates import no_runs, placebo_dates, placebo_runs
from stats.launch.series_design import (
    NOISE,
    STEP,
    Design,
    Scales,
    calendar,
    design,
    history_scales,
    hyper,
    least_history,
    scales,
)
from stats.launch.state_space import (
    Array,
    Flags,
    Posterior,
    equal_tails,
    filtered,
    posterior,
    ratios,
    smoothed,
    two_sided,
)
from stats.moments import Bools, Floats

_SERIES_AT_ONCE: Final = 64


def structural(series: Series, *, level: float = 0.95) -> Estimated:
    """The effect of a launch from one series alone, at full coverage (METHODS D1).

    `y = level + trend + season + regressors + effect * coverage + noise`: the level is a random walk, and the standard
    deviations of its steps and of the noise are integrated over a grid, so that the standard error and the interval
    (quantiles of the posterior, a mixture of normals) hold what is not known about them. The effect has a flat prior;
    the others are in `series_design`. `fitted` is the outcome without the launch given all periods. Assumes that
    nothing else happened at the launch; donors are not used.
    """
    try:
        ready = design(series, donors=False)
    except NotEstimable as problem:
        return nothing("structural", problem.code, periods=series.y.size)
    explained = np.column_stack([ready.columns.values, series.coverage])
    columns = np.column_stack([explained, ready.outcome])
    ratio = ratios(columns.shape[0])
    found = _posterior(ready, columns, ratio, [ready.begin], [columns.shape[0]])
    mean, variance = found.last()
    effect, error = (float(part[0]) * ready.unit for part in found.of_last())
    mixture = Mixture(found.weight.ravel(), mean.ravel(), np.sqrt(variance).ravel())
    lower, upper = equal_tails(mixture, level)
    at_the_time = series.coverage[ready.treated]
    return Estimated(
        method="structural",
        effect=effect,
        standard_error=error,
        lower=lower * ready.unit,
        upper=upper * ready.unit,
        p_value=two_sided(mixture),
        interval_kind="posterior",
        periods=ready.treated,
        by_period=effect * at_the_time,
        covariance=error**2 * np.outer(at_the_time, at_the_time),
        fitted=ready.centre + ready.unit * _without_launch(ready, columns, found, ratio),
        hyper=hyper(found, ready, level),
        notes=ready.notes,
    )


def structural_in_time(series: Series, *, horizon: int, most: int = 24) -> PlaceboRuns:
    """The same estimator at up to `most` earlier dates, on the history alone, as if the launch had been then.

    Each run sees the periods before its date and `horizon` after it, with the launch's coverage path moved there, its
    own prior scales and seasons. All come from one pass of the filter. Scores are absolute effects in standard errors.
    """
    try:
        ready = design(series, donors=False)
    except NotEstimable:
        return no_runs()
    placed = placebo_dates(ready, series.coverage, horizon, most)
    if not placed.dates:
        return no_runs()
    periods = series.y.size
    moved = [np.append(np.zeros(date), placed.path[: periods - date]) for date in placed.dates]
    columns = np.column_stack([ready.columns.values, *moved, series.coverage, ready.outcome])
    ends = [*(date + placed.horizon for date in placed.dates), periods]
    effect, error = _posterior(ready, columns, ratios(periods), [*placed.dates, ready.begin], ends).of_last()
    return placebo_runs(placed, effect * ready.unit, error * ready.unit)


def structural_many(
    y: Floats, coverage: Floats, excluded: Bools, season: tuple[tuple[float, int], ...] = ()
) -> tuple[Floats, Floats]:
    """Effects and standard errors (B,) of one launch on many series `y` (B, T): did this donor move by itself?

    `coverage`, `excluded` (T,) are the launch's. The model is that of `structural` without regressors; nan where a
    series says nothing. Series with equal gaps are filtered together.
    """
    effect, error = np.full(y.shape[0], np.nan), np.full(y.shape[0], np.nan)
    patterns, belongs = np.unique(np.isfinite(y) & ~excluded, axis=0, return_inverse=True)
    for number in range(patterns.shape[0]):
        alike = np.flatnonzero(belongs.ravel() == number)
        for start in range(0, alike.size, _SERIES_AT_ONCE):
            rows = alike[start : start + _SERIES_AT_ONCE]
            effect[rows], error[rows] = _together(y[rows], coverage, patterns[number], season)
    return effect, error


def _together(y: Floats, coverage: Floats, usable: Flags, season: tuple[tuple[float, int], ...]) -> tuple[Array, Array]:
    reached = coverage > 0
    begin = int(reached.argmax()) if reached.any() else 0
    history = y[:, :begin][:, usable[:begin]]
    effect, error = np.full(y.shape[0], np.nan), np.full(y.shape[0], np.nan)
    if not (reached & usable).any() or history.shape[1] < least_history(season):
        return effect, error
    found: list[tuple[int, Scales]] = []
    for row, values in enumerate(history):
        with suppress(NotEstimable):
            found.append((row, scales(values)))
    if not found:
        return effect, error
    rows = [row for row, _ in found]
    unit = np.array([scale.change for _, scale in found])
    outcome = np.where(usable, (y[rows] - history[rows].mean(axis=1)[:, None]) / unit[:, None], 0.0)
    explained = calendar(usable.size, begin, season)
    columns = np.column_stack([explained.values, coverage, outcome.T])
    ratio = ratios(usable.size)
    whole = filtered(columns, usable, ratio, [usable.size])
    shared = explained.values.shape[1] + 1
    place = np.array([[*range(shared), shared + number] for number in range(len(rows))])
    cross = np.moveaxis(whole.cross[0][:, place[:, :, None], place[:, None, :]], 1, 0)
    precision = np.stack([explained.precision(usable, begin, _relative(scale)) for _, scale in found])
    posteriors = posterior(
        cross,
        np.broadcast_to(whole.log_determinant, cross.shape[:2]),
        np.broadcast_to(whole.count, cross.shape[:1]),
        ratio,
        precision=np.column_stack([precision, np.zeros(len(rows))]),
        noise=np.full(len(rows), NOISE),
        step=np.full(len(rows), STEP),
    )
    centre, spread = posteriors.of_last()
    effect[rows], error[rows] = centre * unit, spread * unit
    return effect, error


def _relative(scale: Scales) -> Scales:
    return Scales(1.0, scale.trend / scale.change, scale.swing / scale.change)


def _posterior(ready: Design, columns: Array, ratio: Array, begins: Sequence[int], ends: Sequence[int]) -> Posterior:
    """One problem per launch: its history ends at `begins`, its data at `ends`; its coverage is a column of its own.

    `columns` (T, K + N + 1) are the design's, the N coverage paths and the outcome.
    """
    seen = filtered(columns, ready.usable, ratio, ends)
    shared, problems = ready.columns.values.shape[1], len(ends)
    place = np.array([[*range(shared), shared + number, shared + problems] for number in range(problems)])
    cross = np.stack([seen.cross[n][:, row[:, None], row] for n, row in enumerate(place)])
    histories = [history_scales(ready, begin) for begin in begins]
    change = np.array([scale.change for scale in histories])
    precision = [
        ready.columns.precision(ready.usable, begin, scale) for begin, scale in zip(begins, histories, strict=True)
    ]
    return posterior(
        cross,
        seen.log_determinant,
        seen.count,
        ratio,
        precision=np.column_stack([precision, np.zeros(problems)]),
        noise=NOISE * change,
        step=STEP * change,
    )


def _without_launch(ready: Design, columns: Array, found: Posterior, ratio: Array) -> Array:
    """The outcome (T,) given all periods, less what the launch did: what is linear, plus the level of what is left."""
    mean, _ = found.all()
    coefficients = np.einsum("qs,qsk->qk", found.weight, mean)
    explained: Array = ready.columns.values @ coefficients.sum(axis=0)[:-1]
    for share, place, own in zip(found.weight.sum(axis=1), found.place, coefficients, strict=True):
        levels = smoothed(columns, ready.usable, float(ratio[place]))
        explained = explained + share * levels[:, -1] - levels[:, :-1] @ own
    return np.where(ready.explained, explained, np.nan)
