"""Many replications of an experiment as cells of one `Moments`, without a table of units where it can be avoided."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from stats.moments import Floats, Moments

BLOCK = 1_000_000
"""Unit values held at once."""


def blocks(replications: int, units: int) -> Iterator[int]:
    """Replications to make at once, so that memory stays small."""
    size = max(1, BLOCK // units)
    for start in range(0, replications, size):
        yield min(size, replications - start)


def segment_moments(columns: Sequence[Floats], bounds: Sequence[int], shift: Sequence[float]) -> Moments:
    """Cells (r, len(bounds)): moments of the units up to each bound and after the one before; columns are (r, n)."""
    k, r = len(columns), len(columns[0])
    starts = [0, *bounds[:-1]]
    centred = [column - s for column, s in zip(columns, shift, strict=True)]
    squares = {(i, j): centred[i] * centred[j] for i in range(k) for j in range(i + 1)}
    sums, cubes, products = (
        np.empty((r, len(bounds), k)),
        np.empty((r, len(bounds), k)),
        np.empty((r, len(bounds), k, k)),
    )
    for s, (a, b) in enumerate(zip(starts, bounds, strict=True)):
        for i in range(k):
            sums[:, s, i] = centred[i][:, a:b].sum(axis=1, dtype=np.float64)
            cubes[:, s, i] = np.einsum("rn,rn->r", squares[i, i][:, a:b], centred[i][:, a:b])
            for j in range(i + 1):
                products[:, s, i, j] = products[:, s, j, i] = squares[i, j][:, a:b].sum(axis=1, dtype=np.float64)
    count = np.broadcast_to(np.diff([0, *bounds]), (r, len(bounds)))
    return Moments.from_shifted_sums(count, np.asarray(shift), sums, products, cubes)


def gathered(
    replications: int, units: int, bounds: Sequence[int], shift: Sequence[float], draw: Callable[[int], list[Floats]]
) -> Moments:
    """Cells (replications, segments); `draw(r)` gives columns of r replications, (r, units) each."""
    parts = [segment_moments(draw(r), bounds, shift) for r in blocks(replications, units)]
    return joined(parts)


def joined(parts: Sequence[Moments]) -> Moments:
    """The same cells of several blocks of replications, one after the other."""
    return Moments(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("count", "mean", "comoment", "third")))


def arms(segments: Moments, treated: int) -> Moments:
    """Cells (r, 2), control first: the first `treated` segments are the treatment."""
    pair = [segments[:, treated:].merge_axis(1), segments[:, :treated].merge_axis(1)]
    return Moments(*(np.stack([getattr(p, f) for p in pair], axis=1) for f in ("count", "mean", "comoment", "third")))


def scaled_treatment(pair: Moments, factors: Sequence[float]) -> Moments:
    """Cells (..., 2): the same units, with the columns of the treatment multiplied: a lift that everybody has."""
    f = np.stack([np.ones(len(factors)), np.asarray(factors, dtype=np.float64)])
    return Moments(pair.count, pair.mean * f, pair.comoment * f[:, :, None] * f[:, None, :], pair.third * f**3)


def normal_moments(
    rng: np.random.Generator, cells: tuple[int, ...], units: int | Sequence[int], mean: Floats, covariance: Floats
) -> Moments:
    """Moments of jointly normal units, drawn as what they are: a normal mean and a Wishart sum of squares (Bartlett).

    `units` > k per cell, broadcast to the cells; `mean` (..., k) likewise. Third moments are zero, not random.
    """
    k = covariance.shape[-1]
    n = np.broadcast_to(np.asarray(units, dtype=np.int64), cells)
    root = np.linalg.cholesky(covariance)
    centre = mean + (rng.standard_normal((*cells, k)) @ root.T) / np.sqrt(n)[..., None]
    lower = np.zeros((*cells, k, k))
    for i in range(k):
        lower[..., i, i] = np.sqrt(rng.chisquare(n - 1 - i))
        for j in range(i):
            lower[..., i, j] = rng.standard_normal(cells)
    factor = root @ lower
    return Moments(n.copy(), centre, factor @ np.swapaxes(factor, -1, -2), np.zeros((*cells, k)))


def cumulative(increments: Moments, axis: int = 1) -> Moments:
    """What each look has seen: running union of the cells of new units along an axis."""
    n, m = increments.count, increments.mean
    s = n[..., None] * m
    p = increments.comoment + s[..., :, None] * m[..., None, :]
    q = increments.third + 3 * m * np.diagonal(increments.comoment, axis1=-2, axis2=-1) + s * m**2
    totals = [np.cumsum(a, axis=axis) for a in (n, s, p, q)]
    return Moments.from_shifted_sums(totals[0], np.zeros(s.shape[-1]), *totals[1:])
