"""The weekly series as the ledger sees it: a wandering base, known shapes, noise; whitened for many draws at once.

`y_t = level_t + season_t + influences_t b + sum_j path_tj theta_j + noise_t` with `level_t = level_(t-1) + slope_(t-1)
+ step`, `slope_t = slope_(t-1) + step` (METHODS F6). Base and noise have the covariance `sigma² I + sigma_l² K_l +
sigma_v² K_v` plus where they begin; `covariance` writes it out. The engines never do: a Kalman filter whitens outcome
and columns by it in O(T) (Harvey 1989, "Forecasting, structural time series models and the Kalman filter"; de Jong
1991, "The diffuse Kalman filter"), so that only small cross products remain. The base wanders on over unknown weeks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.ledger.contract import Array, Indices, LedgerData, LedgerPriors

type Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

START_SD: Final = 1.0
"""Of where the level begins, about the first known value: on the log scale as good as flat."""
FULL_SEASON_YEARS: Final = 1.5
"""A shorter series cannot tell two harmonics from its trend: it has one, with half the prior's scale."""
_BLOCK: Final = 64  # draws whose columns stay in the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What does not change from draw to draw. `T` weeks, `F` fixed columns, `J` launches, `H` holdouts.

    `value` (T,) is the log value from `origin`, 0 where not `known` (T,). `fixed` (T, F) are season (the first
    `harmonics` columns) and outside influences, each times the standard deviation of its coefficient. `age` (T, J) is
    in weeks since a launch's first coverage, 0 before. Holdout rows are those of the contract. `slope_sd` is that of
    the first week's slope.
    """

    value: Array
    known: Flags
    origin: float
    fixed: Array
    harmonics: int
    coverage: Array
    age: Array
    held_out: Array
    holdout_week: Indices
    holdout_estimate: Array
    holdout_error: Array
    slope_sd: float


@dataclass(frozen=True, slots=True, eq=False)
class Whitened:
    """Cross products of S draws' whitened columns: fixed, launches, outcome last. `count` is the known rows.

    `cross` (S, F + J + 1, F + J + 1) is `Z' C^-1 Z` with C the covariance of base, noise and holdout errors, and
    `log_determinant` (S,) is `ln |C|`.
    """

    cross: Array
    log_determinant: Array
    count: int

    def at(self, chosen: Indices | Flags) -> Whitened:
        """These draws only."""
        return Whitened(self.cross[chosen], self.log_determinant[chosen], self.count)


def series(data: LedgerData, priors: LedgerPriors, *, use: bool = True) -> Series:
    """Prepare `data`. With `use` false no week is known: only experiments and holdouts speak."""
    known = np.isfinite(data.log_values) & use
    origin = float(data.log_values[known][0]) if known.any() else 0.0
    seasons = _season(data.season_phase, priors.season)
    first = np.argmax(data.coverage > 0, axis=0) if data.coverage.size else np.zeros(data.coverage.shape[1], np.intp)
    age = np.maximum(np.arange(len(data.log_values))[:, None] - first, 0).astype(float)
    return Series(
        value=np.where(known, data.log_values, origin) - origin,
        known=known,
        origin=origin,
        fixed=np.hstack([seasons, data.influences * priors.influence]),
        harmonics=seasons.shape[1],
        coverage=data.coverage,
        age=age,
        held_out=data.held_out,
        holdout_week=data.holdout_week,
        holdout_estimate=data.holdout_estimate,
        holdout_error=data.holdout_error,
        slope_sd=priors.slope,
    )


def path(series: Series, remaining: Array, weeks: Array) -> Array:
    """How much of each launch works in each week (S, T, J): coverage times `r + (1 - r) exp(-age / weeks)`.

    `remaining`, `weeks` (S, J) are the long-run share and the time constant of the transient.
    """
    fading = np.exp(-series.age / weeks[:, None])
    fading *= (1 - remaining)[:, None]
    fading += remaining[:, None]
    fading *= series.coverage
    return fading


def covariance(series: Series, noise: float, level_step: float, slope_step: float) -> Array:
    """Of base and noise in the known weeks, (n, n): the formula of METHODS, for one set of scales."""
    week = np.flatnonzero(series.known).astype(float)
    least = np.minimum(week[:, None], week)
    total, product = week[:, None] + week, week[:, None] * week
    # Step i of the slope moves the level of week s by s - i, for i = 1 .. min(s, t).
    of_slope = least * product - total * least * (least + 1) / 2 + least * (least + 1) * (2 * least + 1) / 6
    start = START_SD**2 + series.slope_sd**2 * product
    return np.asarray(noise**2 * np.eye(week.size) + level_step**2 * least + slope_step**2 * of_slope + start)


def whitened(series: Series, scales: tuple[Array, Array, Array], remaining: Array, weeks: Array) -> Whitened:
    """Cross products of the whitened columns for S draws.

    `scales` are those of noise, level steps and slope steps, (S,) each; `remaining`, `weeks` (S, J) shape the paths.
    """
    noise, level_step, slope_step = scales
    draws, fixed, launches = noise.size, series.fixed.shape[1], series.coverage.shape[1]
    gain, log_determinant = _gains(series, noise, level_step, slope_step)
    cross = np.empty((draws, fixed + launches + 1, fixed + launches + 1))
    holdouts = series.holdout_estimate.size
    rows = np.zeros((draws, holdouts, fixed + launches + 1))
    for start in range(0, draws, _BLOCK):
        part = slice(start, start + _BLOCK)
        columns = np.empty((noise[part].size, series.value.size, fixed + launches + 1))
        columns[..., :fixed] = series.fixed
        columns[..., fixed:-1] = paths = path(series, remaining[part], weeks[part])
        rows[part, :, fixed:-1] = paths[:, series.holdout_week] * series.held_out
        columns[..., -1] = series.value
        white = _whiten(columns, series.known, gain[..., part, None])
        cross[part] = np.swapaxes(white, 1, 2) @ white
    if holdouts:
        rows[..., -1] = series.holdout_estimate
        rows /= series.holdout_error[:, None]
        cross += np.swapaxes(rows, 1, 2) @ rows
        log_determinant = log_determinant + 2 * np.log(series.holdout_error).sum()
    return Whitened(cross, log_determinant, int(series.known.sum()) + holdouts)


def _gains(series: Series, noise: Array, level_step: Array, slope_step: Array) -> tuple[Array, Array]:
    """Gain of level and slope and 1 / sd of the surprise by week and draw (3, T, S), and ln |C| (S,)."""
    found = np.zeros((3, series.value.size, noise.size))
    log_determinant = np.zeros(noise.size)
    square, by_level, by_slope = noise**2, level_step**2, slope_step**2
    level, both, slope = np.full(noise.size, START_SD**2), np.zeros(noise.size), np.full(noise.size, series.slope_sd**2)
    for t, known in enumerate(series.known):
        if t:
            level = level + 2 * both + slope + by_level
            both = both + slope
            slope = slope + by_slope
        if known:
            total = level + square
            log_determinant += np.log(total)
            found[:, t] = level / total, both / total, 1 / np.sqrt(total)
            slope = slope - both * both / total
            level, both = level * square / total, both * square / total
    return found, log_determinant


def _whiten(columns: Array, known: Flags, gain: Array) -> Array:
    """Surprises over their standard deviations (s, n, C), in the place of columns (s, T, C); `gain` (3, T, s, 1)."""
    level, slope = np.zeros((2, columns.shape[0], columns.shape[2]))
    scratch = np.empty_like(level)
    row = 0
    for t, observed in enumerate(known):
        if t:
            level += slope
        if not observed:
            continue
        surprise = columns[:, t] - level
        np.multiply(surprise, gain[0, t], out=scratch)
        level += scratch
        np.multiply(surprise, gain[1, t], out=scratch)
        slope += scratch
        np.multiply(surprise, gain[2, t], out=columns[:, row])
        row += 1
    return columns[:, :row]


def _season(phase: Array, scale: float) -> Array:
    """Sines and cosines (T, 2 h) times the standard deviation of their coefficients."""
    full = phase.size > 0 and float(phase.max() - phase.min()) >= FULL_SEASON_YEARS - 0.02  # 78 weeks span 77
    if phase.size == 0:
        return np.zeros((0, 4))
    turns = [2 * np.pi * h * phase for h in ((1, 2) if full else (1,))]
    return np.column_stack([wave(turn) for turn in turns for wave in (np.sin, np.cos)]) * (scale if full else scale / 2)
