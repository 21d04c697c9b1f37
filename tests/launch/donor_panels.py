"""Panels of known truth for synthetic controls and their placebos, and the published one."""

import numpy as np
import polars as pl

from stats.launch.contract import Panel
from stats.moments import Bools, Floats
from tests.shared_data import shared_path


def panel_of(
    y: Floats, treated: int, start: int, *, coverage: Floats | None = None, excluded: Bools | None = None
) -> Panel:
    """The first `treated` units have the launch from `start` on, at `coverage` (T - start,) or wholly."""
    units, periods = y.shape
    path = np.zeros((units, periods))
    path[:treated, start:] = 1.0 if coverage is None else coverage
    none = np.zeros((units, periods), dtype=np.bool_)
    names = tuple(f"unit {place}" for place in range(units))
    return Panel(names, y, path, none if excluded is None else excluded, np.full(units, 1 / units))


def factor_panel(
    rng: np.random.Generator, *, units: int = 20, treated: int = 1, before: int = 52, after: int = 8, uneven: float = 0
) -> Panel:
    """Levels, a common random walk, two persistent factors with loadings of units' own, noise; no effect.

    `uneven` is the standard deviation of the logarithm of units' noise.
    """
    periods = before + after
    shocks = 0.3 * rng.standard_normal((periods, 2))
    factors = np.empty_like(shocks)
    factors[0] = shocks[0]
    for t in range(1, periods):
        factors[t] = 0.9 * factors[t - 1] + shocks[t]
    noise = 0.5 * np.exp(uneven * rng.standard_normal(units))
    common = np.cumsum(0.3 * rng.standard_normal(periods))
    own = rng.standard_normal((units, 2)) @ factors.T + noise[:, None] * rng.standard_normal((units, periods))
    return panel_of(rng.standard_normal(units)[:, None] + common + own, treated, before)


def california() -> Panel:
    """Cigarette sales of 39 states 1970 to 2000; California's Proposition 99 is in force from 1989."""
    rows = pl.read_csv(shared_path("data", "quasi", "california_prop99_synthdid.csv"), separator=";")
    wide = rows.pivot(on="State", index="Year", values="PacksPerCapita").sort("Year")
    states = tuple(name for name in wide.columns if name != "Year")
    y = wide.select(states).to_numpy().T
    coverage = np.zeros(y.shape)
    coverage[states.index("California"), wide["Year"].to_numpy() >= 1989] = 1.0
    return Panel(states, y, coverage, np.zeros(y.shape, dtype=np.bool_), np.full(len(states), 1 / len(states)))
