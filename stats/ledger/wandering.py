"""Draws of a wandering level and its slope given what they add up to with noise: forward filter, backward draws.

Carter & Kohn 1994 "On Gibbs sampling for state space models"; Fruehwirth-Schnatter 1994 "Data augmentation and dynamic
linear models". All draws in parallel, each with its own scales and its own series.
"""

from __future__ import annotations

import numpy as np

from stats.ledger.contract import Array
from stats.ledger.series_covariance import START_SD, Flags


def wandered(
    outcome: Array,
    known: Flags,
    scales: tuple[Array, Array, Array],
    slope_sd: float,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Level and slope, (S, T) each, given `outcome` (S, T) in `known` weeks (T,).

    `scales` are those of noise, level steps and slope steps, (S,) each. Before the data the first level is N(0, 1) and
    the first slope N(0, slope_sd²).
    """
    noise, by_level, by_slope = (scale**2 for scale in scales)
    draws, weeks = outcome.shape
    if weeks == 0:
        return np.empty((draws, 0)), np.empty((draws, 0))
    filtered: Array = np.empty((weeks, 5, draws))
    state: Array = np.zeros((5, draws))  # level, slope; variances of level, both, slope
    state[2], state[4] = START_SD**2, slope_sd**2
    for t in range(weeks):
        if t:
            state = _ahead(state, by_level, by_slope)
        if known[t]:
            state = _told(state, np.ones(draws), np.zeros(draws), outcome[:, t], noise)
        filtered[t] = state
    normal = rng.standard_normal((weeks, 2, draws))
    level, slope = np.empty((weeks, draws)), np.empty((weeks, draws))
    for t in range(weeks - 1, -1, -1):
        state = filtered[t]
        if t < weeks - 1:
            # The next slope is this one, and the next level is level + slope, but for independent steps.
            state = _told(state, np.zeros(draws), np.ones(draws), slope[t + 1], by_slope)
            state = _told(state, np.ones(draws), np.ones(draws), level[t + 1], by_level)
        centre, slope_centre, variance, both, slope_variance = state
        sd = np.sqrt(np.maximum(variance, 0.0))
        level[t] = centre + sd * normal[t, 0]
        share = np.where(variance > 0, both / np.where(variance > 0, variance, 1.0), 0.0)
        rest = np.sqrt(np.maximum(slope_variance - share * both, 0.0))
        slope[t] = slope_centre + share * (level[t] - centre) + rest * normal[t, 1]
    return np.ascontiguousarray(level.T), np.ascontiguousarray(slope.T)


def _ahead(state: Array, by_level: Array, by_slope: Array) -> Array:
    level, slope, variance, both, slope_variance = state
    return np.stack(
        [
            level + slope,
            slope,
            variance + 2 * both + slope_variance + by_level,
            both + slope_variance,
            slope_variance + by_slope,
        ]
    )


def _told(state: Array, of_level: Array, of_slope: Array, value: Array, error: Array) -> Array:
    """The state (5, S) after seeing `of_level * level + of_slope * slope` with an independent error."""
    level, slope, variance, both, slope_variance = state
    with_level = of_level * variance + of_slope * both
    with_slope = of_level * both + of_slope * slope_variance
    total = of_level * with_level + of_slope * with_slope + error
    surprise = (value - of_level * level - of_slope * slope) / total
    return np.stack(
        [
            level + with_level * surprise,
            slope + with_slope * surprise,
            variance - with_level * with_level / total,
            both - with_level * with_slope / total,
            slope_variance - with_slope * with_slope / total,
        ]
    )
