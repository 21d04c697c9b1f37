"""Boschloo's unconditional exact test of two proportions, cheap enough for every small-count table (METHODS A2).

Boschloo (1970) takes Fisher's one-sided p-value as the statistic and finds its exact distribution at the least
favourable common probability. Given s successes in both arms together, the tables at least as extreme are a tail of a
hypergeometric distribution whose probability A_s does not depend on that common probability p, so the p-value is
max over p of sum_s Binomial(s; N, p) A_s: one row of A instead of a grid of tables.

In large samples p is searched only within its 1 - 1e-8 Clopper-Pearson interval, and 1e-8 is added (Berger & Boos
1994 "P values maximized over a confidence set for the nuisance parameter"): still exact, and then only totals near the
observed one matter.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.moments import Bools, Floats, Ints

FULL_SEARCH = 400
"""Up to this many units in both arms p is searched over all of (0, 1), as scipy does."""
CONFIDENCE = 1e-8
"""Error of the interval for the common probability in larger samples; also the smallest p-value they can have."""
NEGLIGIBLE = 9.0
"""Standard deviations beyond which a tail has no weight (1e-18)."""
MOST_CELLS = 400_000
"""Tables that would need a larger array have no exact p-value here (about 30 ms and 10 MB)."""
SAME = 1 + 1e-13
"""Fisher p-values this close are equal but for rounding."""


def boschloo_exact(
    successes_t: ArrayLike, units_t: ArrayLike, successes_c: ArrayLike, units_c: ArrayLike
) -> tuple[Floats, Bools]:
    """Two-sided p-values (twice the smaller one-sided, at most 1) and where they exist; all arguments broadcast.

    Elementwise over whole numbers; equal tables are computed once, also across calls. Where the mask is false the table
    is too large to be enumerated and p is nan. No successes at all, or no failures, gives p = 1.
    """
    tables = np.broadcast_arrays(*(np.asarray(a, np.int64) for a in (successes_t, units_t, successes_c, units_c)))
    shape = tables[0].shape
    flat = np.stack([table.ravel() for table in tables], axis=1)
    unique, where = np.unique(flat, axis=0, return_inverse=True)
    values = np.array([_canonical_p(*(int(cell) for cell in row)) for row in unique], dtype=np.float64)
    p = values[where.ravel()].reshape(shape) if len(unique) else np.zeros(shape)
    return p, np.isfinite(p)


def _canonical_p(x_t: int, n_t: int, x_c: int, n_c: int) -> float:
    """The test does not care which arm is which, nor what is called a success: one spelling for all of them."""
    small, large = ((x_t, n_t), (x_c, n_c)) if (n_t, x_t) <= (n_c, x_c) else ((x_c, n_c), (x_t, n_t))
    if 2 * (small[0] + large[0]) > small[1] + large[1]:
        small, large = (small[1] - small[0], small[1]), (large[1] - large[0], large[1])
    return _table_p(*small, *large)


@lru_cache(maxsize=16_384)
def _table_p(x: int, n: int, other_x: int, other_n: int) -> float:
    """p-value of one table whose first arm is the smaller one; nan if it is too large."""
    units, total = n + other_n, x + other_x
    if total == 0:
        return 1.0
    totals, probabilities, extra = _search_space(total, units)
    share = n / units
    edge = NEGLIGIBLE * np.sqrt(totals[[0, -1]] * share) + 20
    first = max(int(totals[0] * share - edge[0]), totals[0] - other_n, 0)
    last = min(int(totals[-1] * share + edge[1]), n, int(totals[-1]))
    if last < x or first > x:
        first, last = min(first, x), max(last, x)
    count = np.arange(first, last + 1)
    if len(totals) * max(len(count), len(probabilities)) > MOST_CELLS:
        return float("nan")
    pmf = _hypergeometric(count, n, other_n, totals)
    row = total - int(totals[0])
    weights = np.stack([_largest_within(tail, tail[row, x - first]) for tail in _tails(pmf)], axis=1)
    return min(1.0, 2 * (_smaller_maximum(weights, totals, units, probabilities) + extra))


def _search_space(total: int, units: int) -> tuple[Ints, Floats, float]:
    """Totals that matter, angles asin(sqrt(p)) to search, and what must be added to the maximum."""
    low, high, extra = 0.0, 1.0, 0.0
    if units > FULL_SEARCH:
        extra = CONFIDENCE
        low = float(sc.betaincinv(total, units - total + 1, CONFIDENCE / 2))
        high = float(sc.betainccinv(total + 1, units - total, CONFIDENCE / 2))
        sd = np.sqrt(np.array([low * (1 - low), high * (1 - high)]) * units)
        first, last = units * low - NEGLIGIBLE * sd[0] - 1, units * high + NEGLIGIBLE * sd[1] + 20
        totals = np.arange(max(int(first), 0), min(int(last), units) + 1)
    else:
        totals = np.arange(units + 1)
    ends = np.arcsin(np.sqrt([low, high]))
    # The curve cannot bend faster than a binomial, whose standard deviation is 1 / (2 sqrt N) on this scale.
    points = int((ends[1] - ends[0]) * 8 * np.sqrt(units)) + 9
    return totals, np.linspace(ends[0], ends[1], points), extra


def _hypergeometric(count: Ints, n: int, other_n: int, totals: Ints) -> Floats:
    """(totals, counts) P(count successes fall into the first arm | total)."""
    rest = totals[:, None] - count
    possible = (rest >= 0) & (rest <= other_n)
    rest = np.clip(rest, 0, other_n)
    ways = _log_choose(n, count) + _log_choose(other_n, np.arange(rest.min(), rest.max() + 1))[rest - rest.min()]
    ways = np.where(possible, ways - _log_choose(n + other_n, totals)[:, None], -np.inf)
    return np.asarray(np.exp(ways), dtype=np.float64)


def _log_choose(n: int, k: Ints) -> Floats:
    return np.asarray(-sc.betaln(n - k + 1, k + 1) - np.log(n + 1), dtype=np.float64)


def _tails(pmf: Floats) -> tuple[Floats, Floats]:
    """P(as few or fewer), P(as many or more), each summed from its own end."""
    return np.cumsum(pmf, axis=1), np.cumsum(pmf[:, ::-1], axis=1)[:, ::-1]


def _largest_within(tail: Floats, observed: float) -> Floats:
    """A_s: the largest tail probability of each total that is no larger than the observed one."""
    return np.asarray(np.where(tail <= observed * SAME, tail, 0.0).max(axis=1), dtype=np.float64)


def _smaller_maximum(weights: Floats, totals: Ints, units: int, angles: Floats) -> float:
    """The smaller of max over the angles of sum_s Binomial(s; units, p) weights_s, for the columns of `weights`.

    A grid, then ever finer grids around its peaks. A curve cannot bend faster than a binomial does, so between grid
    points, a quarter of its standard deviation apart, it rises by less than 2 %.
    """
    choose = _log_choose(units, totals)

    def at(angle: Floats, weight: Floats) -> Floats:
        p = np.sin(angle)[:, None] ** 2
        with np.errstate(under="ignore"):
            pmf = np.exp(choose + sc.xlogy(totals, p) + sc.xlog1py(units - totals, -p))
        return np.asarray(pmf @ weight, dtype=np.float64)

    curves = at(angles, weights)
    tops, step = curves.max(axis=0), float(angles[1] - angles[0])
    found = []
    for side in np.flatnonzero(tops <= 1.02 * tops.min()):
        curve, best = curves[:, side], float(tops[side])
        peak = np.r_[True, curve[1:] >= curve[:-1]] & np.r_[curve[:-1] >= curve[1:], True] & (curve >= 0.98 * best)
        centres, width = angles[peak], step
        for _ in range(4):
            finer = np.clip(centres[:, None] + width * np.linspace(-1, 1, 17), angles[0], angles[-1])
            values = at(finer.ravel(), weights[:, side]).reshape(finer.shape)
            centres, width = finer[np.arange(len(finer)), values.argmax(axis=1)], width / 8
            best = max(best, float(values.max()))
        found.append(best)
    return min(found)
