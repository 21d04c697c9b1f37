"""North Stars that are stocks: weekly active users, subscribers (METHODS E5).

A stock keeps the share `retention` of itself from one period to the next and gains `inflow`. A change of retention
compounds: +0.1 points at 95 % is +2 % in the end, and half of it after 14 periods. A fixed elasticity is wrong in size
and in timing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from stats.moments import Bools, Floats

RETENTION_REACHES_ONE: Final = "retention_reaches_one"
RISK_OF_ONE: Final = 0.001
"""More chance than this that retention reaches one, and the steady state is nothing to speak of."""
_QUANTILES: Final = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True, eq=False)
class StockCourse:
    """Lift of the stock after 1, 2, … periods: `median`, `lower_80`, `upper_80` (periods,); 0.02 is +2 %.

    `steady_state`, with its 80 % interval, is where the lift ends; `half_way` is the number of periods after which half
    of that change is there, from the steady state, at the median change of retention. All nan with a `reason`.
    """

    median: Floats
    lower_80: Floats
    upper_80: Floats
    steady_state: float
    steady_state_lower: float
    steady_state_upper: float
    half_way: float
    reason: str = ""


def path(
    retention: ArrayLike,
    inflow: ArrayLike,
    log_retention_change: ArrayLike,
    log_inflow_change: ArrayLike,
    start: ArrayLike | None,
    periods: int,
    *,
    weight: ArrayLike = 1.0,
) -> Floats:
    """Stock with the changes over stock without them after 1, 2, … `periods`: (..., periods).

    `retention` is a share per period, `inflow` and `start` are in the stock's units; `start` None begins in the steady
    state. Changes are natural logs of treatment over control; all five broadcast to the cells (...,). `weight` (...,
    periods) scales both changes by period: how many have them, and how much of them is left. Cells whose retention is
    not between 0 and 1, with or without the change, are nan: they have no steady state (`keeps_below_one`).
    """
    if periods < 1:
        raise ValueError("a path has at least one period")
    rho, flow, d_rho, d_flow = np.broadcast_arrays(
        *(np.asarray(a, dtype=np.float64) for a in (retention, inflow, log_retention_change, log_inflow_change))
    )
    good = keeps_below_one(rho, d_rho)
    rho, d_rho = np.where(good, rho, 0.5), np.where(good, d_rho, 0.0)
    first = flow / (1 - rho) if start is None else np.asarray(start, dtype=np.float64)
    cells = np.broadcast_shapes(rho.shape, first.shape)
    share = np.broadcast_to(np.asarray(weight, dtype=np.float64), (*cells, periods))
    without, with_it = np.broadcast_to(first, cells), np.broadcast_to(first, cells)
    ratio = np.empty((*cells, periods))
    for t in range(periods):
        without = rho * without + flow
        with_it = rho * np.exp(share[..., t] * d_rho) * with_it + flow * np.exp(share[..., t] * d_flow)
        ratio[..., t] = with_it / without
    return np.where(good[..., None], ratio, np.nan)


def steady_state_lift(retention: ArrayLike, log_retention_change: ArrayLike, log_inflow_change: ArrayLike) -> Floats:
    """Lift of the stock in the end: `e^dF (1 - rho) / (1 - rho e^drho) - 1`; nan where there is no steady state."""
    rho, d_rho, d_flow = np.broadcast_arrays(
        *(np.asarray(a, dtype=np.float64) for a in (retention, log_retention_change, log_inflow_change))
    )
    good = keeps_below_one(rho, d_rho)
    rho, d_rho = np.where(good, rho, 0.5), np.where(good, d_rho, 0.0)
    return np.where(good, np.exp(d_flow) * (1 - rho) / (1 - rho * np.exp(d_rho)) - 1, np.nan)


def keeps_below_one(retention: ArrayLike, log_retention_change: ArrayLike) -> Bools:
    """Where retention is between 0 and 1, before and after the change."""
    rho, change = np.asarray(retention, dtype=np.float64), np.asarray(log_retention_change, dtype=np.float64)
    return np.asarray((rho > 0) & (rho < 1) & (np.log(np.where(rho > 0, rho, 1.0)) + change < 0))


def course(
    retention: float,
    inflow: float,
    changes: ArrayLike,
    covariance: ArrayLike,
    *,
    start: float | None,
    periods: int,
    seed: int,
    draws: int = 4000,
) -> StockCourse:
    """What an experiment's effects on retention and inflow make of the stock, with their covariance.

    `changes` (2,) are the log effects on retention and inflow, `covariance` (2, 2) that of their errors: the same
    people are in both. Draws go through the recursion. Not estimable where retention is not below one, or reaches it
    with more than a chance of 0.1 %.
    """
    change = draws_of(changes, covariance, seed=seed, draws=draws)
    below = keeps_below_one(retention, change[:, 0])
    if not 0 < retention < 1 or np.mean(~below) > RISK_OF_ONE:
        nothing = np.full(periods, np.nan)
        return StockCourse(nothing, nothing, nothing, np.nan, np.nan, np.nan, np.nan, RETENTION_REACHES_ONE)
    change = change[below]
    ratio = path(retention, inflow, change[:, 0], change[:, 1], start, periods)
    lower, median, upper = np.quantile(ratio - 1, _QUANTILES, axis=0)
    ends = np.quantile(steady_state_lift(retention, change[:, 0], change[:, 1]), _QUANTILES)
    half_way = np.log(0.5) / (np.log(retention) + float(np.median(change[:, 0])))
    return StockCourse(median, lower, upper, float(ends[1]), float(ends[0]), float(ends[2]), float(half_way))


def draws_of(changes: ArrayLike, covariance: ArrayLike, *, seed: int, draws: int) -> Floats:
    """Antithetic draws (draws, 2) of the two log effects. Raises `ValueError` for what is no covariance."""
    centre, spread = np.asarray(changes, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if centre.shape != (2,) or spread.shape != (2, 2):
        raise ValueError("changes of retention and inflow are (2,), their covariance is (2, 2)")
    if draws < 2 or draws % 2:
        raise ValueError("draws come in antithetic pairs; ask for an even number")
    if not (np.isfinite(centre).all() and np.isfinite(spread).all()):
        raise ValueError("changes and covariance must be finite")
    roots, vectors = np.linalg.eigh(spread)
    if roots[0] < -1e-9 * max(float(np.trace(spread)), 0.0) or np.trace(spread) < 0:
        raise ValueError("the covariance is not one: it has a negative eigenvalue")
    half = np.random.default_rng(seed).standard_normal((draws // 2, 2))
    noise = np.concatenate([half, -half]) * np.sqrt(np.maximum(roots, 0.0))
    return np.asarray(centre + noise @ vectors.T)
