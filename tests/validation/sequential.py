"""B: how often does some look reject a true null? Means, ratios, adjusted means and clusters, by every kind of bound.

Bounds are those of evenly spread information; "own information" takes the fractions from each replication's standard
errors, as analyses do. Monitoring starts when `always_valid.ready` says so, the last look counts in any case.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.special as sc

from experiments.evidence.cluster_effects import with_cluster_precision
from experiments.evidence.shapes import BlockShapes
from stats import always_valid
from stats.difference import Differences, difference
from stats.estimate import estimate
from stats.group_sequential import BEYOND, SpendingDesign, boundaries
from stats.metric_shape import MetricShape
from stats.moments import Bools, Floats, Moments
from stats.skewness import difference_skewness
from tests.validation.cells import Cell, Rule, scaled, share
from tests.validation.sampling import cumulative, normal_moments

SEED = 20266
LOOKS = (1, 7, 28, 100)
UNITS = {1: 1_000, 7: 300, 28: 150, 100: 50}
CLUSTERS = {1: 200, 7: 40, 28: 12, 100: 4}
REPLICATIONS = {1: 20_000, 7: 20_000, 28: 10_000, 100: 4_000}
BLOCK = 40_000
SLACK = 0.003
ALPHA = 0.05
TABLE = "B sequential type-I"

type Draw = Callable[[np.random.Generator, int, int], tuple[Differences, Moments, Floats]]


def type_one_error(part: float = 1.0) -> list[Cell]:
    cells = []
    for kind, draw in KINDS.items():
        for looks in LOOKS:
            rng = np.random.default_rng([SEED, list(KINDS).index(kind), looks])
            reps = scaled(REPLICATIONS[looks], part, 300)
            hits: dict[str, list[Bools]] = {}
            size = max(1, BLOCK // looks)
            for start in range(0, reps, size):
                found = draw(rng, min(size, reps - start), looks)
                for name, hit in _rejected(*found).items():
                    hits.setdefault(name, []).append(hit)
            case = {"metric": kind, "looks": str(looks)}
            for name, parts in hits.items():
                cells.append(Cell(TABLE, case, name, share(np.concatenate(parts)), ALPHA, reps, "at_most", slack=SLACK))
    return cells + own_information(part)


def _rejected(d: Differences, moments: Moments, skewness: Floats) -> dict[str, Bools]:
    """(r,) whether some look rejected, by method; differences are (r, looks, 1, 1)."""
    looks = d.value.shape[1]
    begun = always_valid.ready(moments.count, skewness)
    at_end = begun | (np.arange(looks) == looks - 1)
    z = np.abs(_score(d)[:, :, 0, 0])
    rejected: dict[str, Bools] = {}
    for spending in ("obrien_fleming", "pocock"):
        design = SpendingDesign(ALPHA, spending)
        upper = boundaries(design, np.arange(1, looks + 1) / looks).upper
        rejected[spending] = ((z >= upper) & (upper < BEYOND) & at_end).any(axis=1)
    units = moments.count.sum(axis=-1).astype(np.float64)
    path = always_valid.two_sided(
        d.value[:, :, 0, 0], d.standard_error[:, :, 0, 0] ** 2, units, float(units[:, -1].mean()), ALPHA
    )
    rejected["mixture"] = ((path.p_value <= ALPHA) & begun).any(axis=1)
    return rejected


def _score(d: Differences) -> Floats:
    """Statistics as normal scores of the same tail probability."""
    t = d.value / d.standard_error
    return np.asarray(np.sign(t) * np.minimum(-sc.ndtri(sc.stdtr(d.df, -np.abs(t))), BEYOND - 1))


def _units(shape: MetricShape, mean: Floats, covariance: Floats) -> Draw:
    def draw(rng: np.random.Generator, r: int, looks: int) -> tuple[Differences, Moments, Floats]:
        seen = cumulative(normal_moments(rng, (r, looks, 2), UNITS[looks], mean, covariance))
        return difference(estimate(seen, [shape])), seen, np.full((r, looks), np.nan)

    return draw


def _clusters(rng: np.random.Generator, r: int, looks: int) -> tuple[Differences, Moments, Floats]:
    each = CLUSTERS[looks]
    size = np.ceil(20 * rng.lognormal(0, 1, (r * looks * 2, each)))
    total = size * (2 + np.sqrt(0.1) * rng.standard_normal(size.shape))
    total += np.sqrt(0.9 * size) * rng.standard_normal(size.shape)
    rows = np.stack([total, size], axis=-1).reshape(-1, 2)
    fresh = Moments.from_rows(rows, np.repeat(np.arange(r * looks * 2), each), (r, looks, 2))
    seen = cumulative(fresh)
    shape = MetricShape("y", "ratio", 0, 1)
    estimates = with_cluster_precision(estimate(seen, [shape]), BlockShapes((), (shape,), {}, cluster_size=1), seen)
    return difference(estimates), seen, difference_skewness(seen, [shape])[..., 0, 0]


KINDS: dict[str, Draw] = {
    "mean": _units(MetricShape("y", "mean", 0), np.array([1.0]), np.eye(1)),
    "ratio": _units(MetricShape("y", "ratio", 0, 1), np.array([10.0, 5.0]), np.array([[5.0, 1.5], [1.5, 1.0]])),
    "CUPED": _units(
        MetricShape("y", "mean", 0, covariates=(1,)), np.array([1.0, 1.0]), np.array([[1.0, 0.7], [0.7, 1.0]])
    ),
    "clusters": _clusters,
}


def own_information(part: float = 1.0) -> list[Cell]:
    """Seven looks at a mean, with the information of each replication's own standard errors (1 / se^2)."""
    rng = np.random.default_rng([SEED, 9])
    reps, looks = scaled(1_500, part, 100), 7
    d, _, _ = KINDS["mean"](rng, reps, looks)
    z = np.abs(_score(d)[:, :, 0, 0])
    most = 1 / (2 / (looks * UNITS[looks]))
    fractions = 1 / d.standard_error[:, :, 0, 0] ** 2 / most
    cells = []
    for spending in ("obrien_fleming", "pocock"):
        design = SpendingDesign(ALPHA, spending)
        upper = np.stack([boundaries(design, t, final=True).upper for t in fractions.tolist()])
        crossed = ((z >= upper) & (upper < BEYOND)).any(axis=1)
        case = {"metric": "mean, own information", "looks": str(looks)}
        cells.append(Cell(TABLE, case, spending, share(crossed), ALPHA, reps, "at_most", slack=SLACK))
    return cells


def open_ended(part: float = 1.0) -> list[Cell]:
    """B4: everybody is enrolled in 3 of 28 days, and a unit's mean per active day goes on changing.

    A clock that counts users has told t = 1 by the third day and tests at the last bound every day from then on. The
    clock 1 / se^2 keeps the error; so do always-valid intervals, as each day's estimate replaces the one before.
    """
    reps, days, each = scaled(20_000, part, 500), 28, 1_000
    rng = np.random.default_rng([SEED, 10])
    cells = []
    for persistent in (0.05, 0.3):
        total = np.zeros((reps, days))
        variance = np.zeros(days)
        for start in range(3):
            active = np.arange(1, days - start + 1)
            own = np.sqrt(2 * persistent / each) * rng.standard_normal((reps, 1))
            daily = np.sqrt(2 * (1 - persistent) / each) * rng.standard_normal((reps, days - start))
            total[:, start:] += own + np.cumsum(daily, axis=1) / active
            variance[start:] += 2 * persistent / each + 2 * (1 - persistent) / each / active
        cohorts = np.minimum(np.arange(1, days + 1), 3)
        value, error = total / cohorts, np.sqrt(variance) / cohorts
        z = np.abs(value / error)
        design = SpendingDesign(ALPHA)
        case = {"metric": f"open-ended, {persistent:.0%} persistent", "looks": str(days)}
        early = boundaries(design, cohorts[:3] / 3).upper
        by_users = np.concatenate([early, np.full(days - 3, early[-1])])
        by_information = boundaries(design, (error[-1] / error) ** 2).upper
        path = always_valid.two_sided(value, error**2, cohorts * 2.0 * each, 6.0 * each, ALPHA)
        outcomes: tuple[tuple[str, Bools, Rule], ...] = (
            ("obrien_fleming, clock counts users (refused)", z >= by_users, "report"),
            ("obrien_fleming, clock 1 / se^2", (z >= by_information) & (by_information < BEYOND), "at_most"),
            ("mixture", path.p_value <= ALPHA, "at_most"),
        )
        for name, hit, rule in outcomes:
            cells.append(Cell(TABLE, case, name, share(hit.any(axis=1)), ALPHA, reps, rule, slack=SLACK))
    return cells
