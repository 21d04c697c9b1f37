"""Where the posterior of Student-t arms lies, roughly: maximum likelihood by expectation maximisation (METHODS C2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.models.student_density import NU_MEAN
from stats.bayes.sampling.contract import Array

_LOWEST: Final = np.log(0.2)
_HIGHEST: Final = np.log(3000.0)
_POINTS: Final = 7
_ROUNDS: Final = 12
_ZOOMS: Final = 6


@dataclass(frozen=True, slots=True)
class StudentStart:
    """`log_tail` is log(nu - 1) at the mode with its standard deviation; `location` and `log_scale` (A,) there.

    `log_scale_slope` (A,) is how the best log scale follows log(nu - 1).
    """

    log_tail: float
    log_tail_sd: float
    location: Array
    log_scale: Array
    log_scale_slope: Array

    @property
    def nu(self) -> float:
        """Degrees of freedom at the mode."""
        return 1.0 + float(np.exp(self.log_tail))


def student_start(middle: Array, counts: Array) -> StudentStart:
    """From counts (A, B) in bins around `middle` (B,): a grid over nu, zoomed in on its best point.

    For each nu the arms' locations and scales by expectation maximisation (Liu & Rubin 1995), each zoom starting where
    the one before ended.
    """
    units = counts.sum(axis=1)
    below = np.cumsum(counts, axis=1) / units[:, None]
    quartiles = np.stack([middle[np.argmax(below >= q, axis=1)] for q in (0.25, 0.5, 0.75)])
    spread = np.sqrt((counts * (middle - quartiles[1][:, None]) ** 2).sum(axis=1) / units)
    # Half the middle half, or where that is nothing the standard deviation of the middle of the road.
    scale = np.maximum((quartiles[2] - quartiles[0]) / 2, 1e-3 * spread)
    location = np.repeat(quartiles[1][None], _POINTS, axis=0)
    log_scale = np.repeat(np.log(scale)[None], _POINTS, axis=0)
    low, high = _LOWEST, _HIGHEST
    for _ in range(_ZOOMS):
        log_tail = np.linspace(low, high, _POINTS)
        location, log_scale, height = _climbed(middle, counts, log_tail, location, log_scale)
        best = int(np.clip(np.argmax(height), 1, _POINTS - 2))
        step = log_tail[1] - log_tail[0]
        around = slice(best - 1, best + 2)
        curvature = -float(np.diff(height[around], 2)[0]) / step**2
        slope = (log_scale[best + 1] - log_scale[best - 1]) / (2 * step)
        shift = float(height[best + 1] - height[best - 1]) / (2 * step) / max(curvature, 1e-9)
        shift = float(np.clip(shift, -step, step))
        if curvature * step**2 < 0.5:  # the grid is finer than the posterior is wide
            break
        low, high = log_tail[best] - step, log_tail[best] + step
        location = np.repeat(location[best][None], _POINTS, axis=0)
        log_scale = log_scale[best] + slope * (np.linspace(low, high, _POINTS)[:, None] - log_tail[best])
    return StudentStart(
        log_tail=float(log_tail[best]) + shift,
        log_tail_sd=min(1.0, max(curvature, 1e-9) ** -0.5),
        location=location[best],
        log_scale=log_scale[best] + slope * shift,
        log_scale_slope=slope,
    )


def _climbed(
    middle: Array, counts: Array, log_tail: Array, location: Array, log_scale: Array
) -> tuple[Array, Array, Array]:
    """Locations and log scales (G, A) after some rounds, and the height (G,) of prior times profile likelihood."""
    nu = (1 + np.exp(log_tail))[:, None, None]
    units = counts.sum(axis=1)
    for _ in range(_ROUNDS):
        squared = ((middle - location[..., None]) / np.exp(log_scale)[..., None]) ** 2
        weight = counts * (nu + 1) / (nu + squared)
        location = (weight * middle).sum(-1) / weight.sum(-1)
        squares = (weight * (middle - location[..., None]) ** 2).sum(-1)
        log_scale = 0.5 * np.log(np.maximum(squares / weight.sum(-1), 1e-300))  # the faster of the two EM steps
    logs = (counts * np.log1p(((middle - location[..., None]) / np.exp(log_scale)[..., None]) ** 2 / nu)).sum(-1)
    nu = nu[:, :, 0]
    constant = sc.gammaln((nu + 1) / 2) - sc.gammaln(nu / 2) - 0.5 * np.log(nu)
    height = (units * (constant - log_scale) - (nu + 1) / 2 * logs).sum(-1)
    return location, log_scale, height + log_tail - np.exp(log_tail) / NU_MEAN
