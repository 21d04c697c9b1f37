"""A wandering level and noise by brute force: dense normal distributions on a fine grid, for short series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def errors(periods: int, noise: float, step: float) -> np.ndarray:
    """The covariance (T, T) of a random walk from zero, seen with noise."""
    time = np.arange(1.0, periods + 1)
    return noise**2 * np.eye(periods) + step**2 * np.minimum(time[:, None], time)


@dataclass
class Dense:
    """Everything under one pair of standard deviations, and how likely that pair is."""

    noise: float
    step: float
    log_density: float
    mean: np.ndarray
    covariance: np.ndarray


def fits(
    y: np.ndarray, design: np.ndarray, precision: np.ndarray, *, noise: float, step: float, points: int = 60
) -> list[Dense]:
    """Coefficients (K,) of a design (T, K) given y (T,), on a grid over the logarithms of both standard deviations."""
    found = []
    for s in np.exp(np.linspace(np.log(0.003), np.log(5.0), points)) * noise:
        for q in np.exp(np.linspace(np.log(0.001), np.log(6.0), points)) * step:
            covariance = errors(y.size, s, q)
            whitened = np.linalg.solve(covariance, np.column_stack([design, y]))
            inverse = np.linalg.inv(design.T @ whitened[:, :-1] + np.diag(precision))
            right = design.T @ whitened[:, -1]
            mean = inverse @ right
            log_density = (
                -0.5 * (np.linalg.slogdet(covariance)[1] + y @ whitened[:, -1] - right @ mean)
                + 0.5 * np.linalg.slogdet(inverse)[1]
                - 0.5 * (s / noise) ** 2
                - 0.5 * (q / step) ** 2
                + np.log(s * q)
            )
            found.append(Dense(s, q, log_density, mean, inverse))
    return found


def weights(found: list[Dense]) -> np.ndarray:
    """(G,) posterior probabilities of the grid's points."""
    log_density = np.array([item.log_density for item in found])
    weight = np.exp(log_density - log_density.max())
    return weight / weight.sum()
