"""The ledger's lines: what each component added between two spans of weeks, or up to each week (METHODS F6).

On the log scale components add up to the change by construction. In units of the North Star, a pair of weeks with
values N and N' splits as `N - N' = L(N, N') ln(N / N') = sum_c L(N, N') change_c`, where L is the logarithmic mean (Ang
2015 "LMDI decomposition approach: a guide for implementation"): nothing is left over, and no order is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.ledger.contract import Array, Component, Indices, LedgerFit

NO_KNOWN_WEEKS: Final = "no_known_weeks"
NOT_IN_SERIES: Final = "series_not_used"
_EIGHTY: Final = (0.1, 0.9)


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """The change from the weeks `before` to the weeks `after` (n,), pair by pair, and its parts in every draw.

    `log` and `units` (S,) by component add up to `observed_log`, the mean over pairs of the change in ln N, and
    `observed_units`, the sum over pairs of the change in N. `launches_log`, `launches_units` (S, J) and `outside_log`,
    `outside_units` (S, P) add up to their components. Pairs with an unknown week are left out; without any other, or
    where the series was not used, there is a `reason` and all parts are empty.
    """

    after: Indices
    before: Indices
    observed_log: float
    observed_units: float
    log: dict[Component, Array]
    units: dict[Component, Array]
    launches_log: Array
    launches_units: Array
    outside_log: Array
    outside_units: Array
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Mean and 80 % interval (T,) over the draws."""

    mean: Array
    lower: Array
    upper: Array


@dataclass(frozen=True, slots=True, eq=False)
class WeeklyLines:
    """Every week in units (T,): `observed` is nan where unknown, and there the parts add up to the model's own draws.

    `without_launches` is `N exp(-launches)`, what the week would have been; `launches` is the difference. What remains
    is the `base` alone and what `season`, `outside` and `noise` made of that by the logarithmic mean. The means of
    launches, base, season, outside and noise add up to the week.
    """

    observed: Array
    without_launches: Band
    launches: Band
    base: Band
    season: Band
    outside: Band
    noise: Band


def contrast(fit: LedgerFit, after: Indices, before: Indices) -> Contrast:
    """What added how much from each week of `before` to the one at the same place in `after`, (n,) positions each.

    Raises `ValueError` for positions of different number, or outside the series.
    """
    observed = _observed(fit)
    if after.shape != before.shape or after.ndim != 1:
        raise ValueError("weeks are compared in pairs: two arrays (n,)")
    if len(fit.level) and fit.level.shape[1] == 0:
        return _empty(after, before, NOT_IN_SERIES)
    if after.size and not (min(after.min(), before.min()) >= 0 and max(after.max(), before.max()) < observed.size):
        raise ValueError("compared weeks must be positions in the series")
    usable = np.isfinite(observed[after]) & np.isfinite(observed[before])
    after, before = after[usable], before[usable]
    if not after.size:
        return _empty(after, before, NO_KNOWN_WEEKS)
    worth = logarithmic_mean(np.exp(observed[after]), np.exp(observed[before]))  # (n,)
    weights = np.zeros((2, observed.size))  # of weeks, in log and in units
    for row, weight in enumerate((np.full(after.size, 1 / after.size), worth)):
        np.add.at(weights[row], after, weight)
        np.add.at(weights[row], before, -weight)
    launches = np.einsum("wt,stj->wsj", weights, fit.path, optimize=True) * fit.theta
    outside = np.einsum("wt,stp->wsp", weights, fit.outside, optimize=True)
    season, base, noise = (part @ weights.T for part in (fit.season, fit.level, fit.noise))
    parts: list[dict[Component, Array]] = [
        {
            "launches": launches[row].sum(axis=1),
            "season": season[:, row],
            "outside": outside[row].sum(axis=1),
            "base": base[:, row],
            "noise": noise[:, row],
        }
        for row in range(2)
    ]
    return Contrast(
        after=after,
        before=before,
        observed_log=float((observed[after] - observed[before]).mean()),
        observed_units=float((np.exp(observed[after]) - np.exp(observed[before])).sum()),
        log=parts[0],
        units=parts[1],
        launches_log=launches[0],
        launches_units=launches[1],
        outside_log=outside[0],
        outside_units=outside[1],
    )


def weekly(fit: LedgerFit) -> WeeklyLines:
    """The decomposition of every week, with 80 % bands."""
    observed = _observed(fit)[: fit.level.shape[1]]
    launches = np.einsum("stj,sj->st", fit.path, fit.theta, optimize=True)
    outside = fit.outside.sum(axis=2)
    shapes = fit.season + outside + fit.noise
    value = np.exp(np.where(np.isfinite(observed), observed, fit.level + shapes + launches))
    without, base = value * np.exp(-launches), np.exp(fit.level)
    worth = logarithmic_mean(without, base)
    return WeeklyLines(
        observed=np.exp(observed),
        without_launches=_band(without),
        launches=_band(value - without),
        base=_band(base),
        season=_band(worth * fit.season),
        outside=_band(worth * outside),
        noise=_band(worth * fit.noise),
    )


def logarithmic_mean(a: Array, b: Array) -> Array:
    """`(a - b) / ln(a / b)` of positive numbers, a where they are equal; by its series where they nearly are."""
    apart = np.log(a / b)
    near = np.abs(apart) < 1e-4
    exact = (a - b) / np.where(near, 1.0, apart)
    return np.where(near, np.sqrt(a) * np.sqrt(b) * (1 + apart**2 / 24), exact)


def _observed(fit: LedgerFit) -> Array:
    if fit.data is None:
        raise ValueError("the ledger's lines need the data that were fitted")
    return fit.data.log_values


def _band(draws: Array) -> Band:
    lower, upper = np.quantile(draws, _EIGHTY, axis=0)
    return Band(draws.mean(axis=0), lower, upper)


def _empty(after: Indices, before: Indices, reason: str) -> Contrast:
    nothing = np.empty((0, 0))
    return Contrast(after, before, 0.0, 0.0, {}, {}, nothing, nothing, nothing, nothing, reason)
