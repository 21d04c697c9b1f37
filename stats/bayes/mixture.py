"""Mixtures of normals: the shape every closed-form posterior here takes (METHODS C1, C4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_GRID_POINTS: Final = 121
_GRID_REACH: Final = 8.0
_BISECTIONS: Final = 50
_BLOCK_OF_TERMS: Final = 4_000_000


def standard_density(z: Array) -> Array:
    """The standard normal density."""
    return np.asarray(np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture of normals per cell: `weight` (summing to one), `mean` and `sd` are (..., K)."""

    weight: Array
    mean: Array
    sd: Array

    def cdf(self, at: Array) -> Array:
        """P(x <= at) for `at` (..., P) against cells (...,): shape (..., P)."""
        z = (at[..., None] - self.mean[..., None, :]) / self.sd[..., None, :]
        return np.asarray(np.einsum("...pk,...k->...p", sc.ndtr(z), self.weight))

    def density(self, at: Array) -> Array:
        """Density at `at` (..., P)."""
        z = (at[..., None] - self.mean[..., None, :]) / self.sd[..., None, :]
        return np.asarray(np.einsum("...pk,...k->...p", standard_density(z) / self.sd[..., None, :], self.weight))

    def quantile(self, level: Array) -> Array:
        """Where the cdf is `level` (P,), between 0 and 1, for every cell: (..., P), to the last digits by bisection."""
        z = sc.ndtri(level)
        ends = self.mean[..., None, :] + self.sd[..., None, :] * z[:, None]
        # The mixture's quantile lies between the lowest and the highest of its components'.
        low, high = ends.min(axis=-1), ends.max(axis=-1)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = self.cdf(middle) < level
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation (...,)."""
        mean = np.asarray((self.weight * self.mean).sum(-1))
        return mean, np.sqrt((self.weight * (self.sd**2 + (self.mean - mean[..., None]) ** 2)).sum(-1))

    def given(self, estimate: Array, error: Array) -> Mixture:
        """The posterior of x given `estimate ~ N(x, error²)`, both broadcasting against the cells (...,).

        Every component is updated by its precision, and re-weighted by its marginal likelihood.
        """
        estimate, error = estimate[..., None], error[..., None]
        total = error**2 + self.sd**2
        shrink = self.sd**2 / total
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weight) - 0.5 * np.log(total) - 0.5 * (estimate - self.mean) ** 2 / total
        weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
        return Mixture(
            weight=weight / weight.sum(-1, keepdims=True),
            mean=self.mean + shrink * (estimate - self.mean),
            sd=np.sqrt(shrink) * error,
        )

    def hdi(self, level: float) -> tuple[Array, Array]:
        """Shortest interval holding `level`: exact for one component, else from a grid of +-8 standard deviations."""
        mean, sd = self.moments()
        if self.weight.shape[-1] == 1:
            reach = sc.ndtri(0.5 + level / 2) * sd
            return mean - reach, mean + reach
        flat = Mixture(*(part.reshape(-1, part.shape[-1]) for part in (self.weight, self.mean, self.sd)))
        centre, scale = mean.reshape(-1), sd.reshape(-1)
        steps = np.linspace(-_GRID_REACH, _GRID_REACH, _GRID_POINTS)
        bounds = np.empty((2, centre.size))
        rows = max(1, _BLOCK_OF_TERMS // (_GRID_POINTS * self.weight.shape[-1]))
        for start in range(0, centre.size, rows):
            part = slice(start, start + rows)
            block = Mixture(flat.weight[part], flat.mean[part], flat.sd[part])
            cdf = block.cdf(centre[part, None] + scale[part, None] * steps)
            for row, below in enumerate(cdf, start=start):
                low, high = _shortest(steps, below, level)
                bounds[:, row] = centre[row] + scale[row] * np.array([low, high])
        return bounds[0].reshape(mean.shape), bounds[1].reshape(mean.shape)


def _shortest(steps: Array, below: Array, level: float) -> tuple[float, float]:
    tails = np.linspace(0.0, 1.0 - level, 201)[1:-1]
    rising = np.flatnonzero(np.diff(below, prepend=-1.0) > 0)  # interpolation needs a strictly increasing axis
    # Interpolating on the probit scale is exact for a normal, so the error is of the order of the non-normality.
    probit, position = sc.ndtri(np.clip(below[rising], 1e-300, 1 - 1e-16)), steps[rising]
    low = np.interp(sc.ndtri(tails), probit, position)
    high = np.interp(sc.ndtri(tails + level), probit, position)
    best = int(np.argmin(high - low))
    return float(low[best]), float(high[best])
