"""Randomisation tests over clusters: how often would another draw of the same experiment show as much (METHODS A5)?

Under the hypothesis that the treatment does nothing to any cluster, totals stay what they are whichever arm a cluster
is in, so the p-value is exact with any statistic and any number of clusters (Fisher 1935). The statistic is the
difference over its cluster-robust standard error: then the test is also good, in larger samples, against arms that
differ in spread only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb

import numpy as np

from stats.estimate import MetricShape
from stats.moments import Floats, safe_divide

DRAWS = 10_000
"""Re-draws; where no more assignments exist than this, all of them are taken."""
CELLS = 4_000_000
"""Numbers held at once."""
SAME = 1e-9
"""Statistics this close (relatively) are ties, which count against the treatment."""


def assignments(treated: int, control: int, draws: int, seed: np.random.SeedSequence) -> Floats:
    """(B, treated + control) of 0 and 1: which clusters the treatment gets, all assignments if they are few.

    Complete randomisation with the given numbers. The first row is the one in which the first clusters are treated,
    the observed one; drawn rows follow it.
    """
    clusters = treated + control
    if comb(clusters, treated) <= draws:
        chosen = np.array(list(combinations(range(clusters), treated)), dtype=np.int64)
    else:
        rng = np.random.default_rng(seed)
        order = np.argsort(rng.random((draws, clusters)), axis=1)[:, :treated]
        chosen = np.concatenate([np.arange(treated)[None, :], order])
    drawn = np.zeros((len(chosen), clusters))
    drawn[np.arange(len(chosen))[:, None], chosen] = 1.0
    return drawn


def rerandomised_p(values: Floats, shapes: Sequence[MetricShape], treated: int, drawn: Floats) -> Floats:
    """(M,) two-sided p-values: the share of `drawn` assignments at least as extreme as the first, observed one.

    `values` (G, k) totals of the clusters of both arms, treated ones first; ratio and formula `shapes` only. An
    assignment that leaves a metric undefined counts as extreme.
    """
    used, columns_of = _columns(values, shapes)
    centre = used.mean(axis=0)
    scale = np.where(used.std(axis=0) > 0, used.std(axis=0), 1.0)
    standard = (used - centre) / scale  # sums of squares then lose nothing; metrics see the raw means
    # Pairs of columns that some metric needs, each once.
    pairs = sorted({(a, b) for mine in columns_of for a, b in _pairs(mine)})
    where = {pair: i for i, pair in enumerate(pairs)}
    products = np.stack([standard[:, i] * standard[:, j] for i, j in pairs])
    extreme, observed = np.zeros(len(shapes)), np.zeros(len(shapes))
    block = max(1, CELLS // (len(pairs) + used.shape[1]))
    for start in range(0, len(drawn), block):
        rows = drawn[start : start + block].T
        arms = [
            (standard.T @ membership / size, products @ membership / size, size)
            for membership, size in ((rows, treated), (1 - rows, len(values) - treated))
        ]
        for m, (shape, mine) in enumerate(zip(shapes, columns_of, strict=True)):
            value, variance = zip(
                *(
                    _estimate(
                        shape,
                        centre[mine, None] + mean[mine] * scale[mine, None],
                        scale[mine],
                        {(i, j): square[where[pair]] for (i, j), pair in zip(_places(mine), _pairs(mine), strict=True)},
                        mean[mine],
                        size,
                    )
                    for mean, square, size in arms
                ),
                strict=True,
            )
            gap, error = np.abs(value[0] - value[1]), np.sqrt(variance[0] + variance[1])
            statistic = np.where(error > 0, safe_divide(gap, error), np.where(gap > 0, np.inf, 0.0))
            statistic = np.where(np.isfinite(gap), statistic, np.inf)
            if start == 0:
                observed[m] = statistic[0]
            extreme[m] += (statistic >= observed[m] * (1 - SAME)).sum()
    return np.asarray(extreme / len(drawn), dtype=np.float64)


def _columns(values: Floats, shapes: Sequence[MetricShape]) -> tuple[Floats, list[list[int]]]:
    """Columns (G, k) that the metrics need, each once, and where each metric has its own.

    A ratio gets its numerator less the overall ratio times the denominator: the difference of the arms stays, and a
    large common value cannot drown it.
    """
    place: dict[tuple[int, int | None], int] = {}
    found: list[Floats] = []

    def at(column: int, denominator: int | None = None) -> int:
        if (column, denominator) not in place:
            place[column, denominator] = len(found)
            one = values[:, column]
            if denominator is not None:
                one = one - safe_divide(one.sum(), values[:, denominator].sum()) * values[:, denominator]
            found.append(one)
        return place[column, denominator]

    columns_of = [
        [at(column) for column in shape.inputs]
        if shape.denominator is None
        else [at(shape.value, shape.denominator), at(shape.denominator)]
        for shape in shapes
    ]
    return np.stack(found, axis=1), columns_of


def _places(columns: Sequence[int]) -> list[tuple[int, int]]:
    """Positions (i, j), i <= j, of all pairs of a metric's columns."""
    return [(i, j) for i in range(len(columns)) for j in range(i, len(columns))]


def _pairs(columns: Sequence[int]) -> list[tuple[int, int]]:
    """Those pairs, each with the smaller column first."""
    return [(min(columns[i], columns[j]), max(columns[i], columns[j])) for i, j in _places(columns)]


def _estimate(
    shape: MetricShape,
    raw: Floats,
    scale: Floats,
    square: Mapping[tuple[int, int], Floats],
    mean: Floats,
    size: int,
) -> tuple[Floats, Floats]:
    """(value, variance) (B,) of one arm in every assignment.

    `raw` (c, B) column means; `mean` (c, B) and `square` those of standardised columns and of their products.
    """
    with np.errstate(all="ignore"):
        if shape.evaluate is not None:
            value, rows = shape.evaluate(raw.T)
            gradient = np.moveaxis(rows, -1, 0)
        else:
            value = raw[0] / raw[1]
            gradient = np.stack([1 / raw[1], -value / raw[1]])
    gradient = np.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0) * scale[:, None]
    variance, largest = np.zeros(raw.shape[1]), np.zeros(raw.shape[1])
    for (i, j), product in square.items():
        twice = 1.0 if i == j else 2.0
        variance += twice * gradient[i] * gradient[j] * (product - mean[i] * mean[j])
        if i == j:
            largest += gradient[i] ** 2 * product
    return value, np.where(variance > 1e-12 * largest, variance, 0.0) / max(size - 1, 1)
