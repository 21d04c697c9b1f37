"""A population's mean and scale as weighted points, for sums over all its experiments (METHODS C3, F1).

Up to 250 experiments the points are those of `stats.bayes.effect_grid`. With more, mean and scale are known so well
that its many points are not needed, and they are what takes the time. There the posterior in (mean, ln tau) is close to
normal: an evenly spread sample of the experiments says where it lies, Newton steps on all of them find its top, and a
lattice over five standard deviations around it carries the exact posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.bayes.effect_grid import EffectGrid, HyperPriors, Nodes, Shape, effect_grid, log_likelihood
from stats.bayes.mixture import Array, Mixture

SAMPLE: Final = 250
"""More experiments than these are located by an evenly spread sample of so many."""
_NEGLIGIBLE: Final = 1e-8
_LATTICE: Final = np.linspace(-5.0, 5.0, 11)  # standard deviations: the trapezoid is spectrally accurate
_NEWTON_STEPS: Final = 6
_LARGEST_EDGE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Cells:
    """Points (C,) of a population's `mean` and `tau` with posterior `weight`, and ln likelihoods (K, C) at them.

    `of_mean` is the marginal posterior of the mean.
    """

    mean: Array
    tau: Array
    weight: Array
    log_likelihood: Array
    nodes: Nodes
    of_mean: Mixture

    def without_each(self) -> Array:
        """Posterior weights (K, C) of the points, each leaving one experiment out."""
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weight) - self.log_likelihood
        weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
        return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


def population_cells(estimate: Array, error: Array, hyper: HyperPriors, shape: Shape) -> Cells:
    """The points for `estimate` and `error`, both (K,), finite, errors positive, K at least 1."""
    if estimate.size > SAMPLE:
        found = _around_the_top(estimate, error, hyper, shape)
        if found is not None:
            return found
    return _of_grid(effect_grid(estimate, error, hyper, shape))


def _of_grid(grid: EffectGrid) -> Cells:
    weight = grid.posterior()
    kept = weight > _NEGLIGIBLE * weight.max()
    tau = np.broadcast_to(grid.tau, weight.shape)
    return Cells(
        mean=grid.mean[kept],
        tau=tau[kept],
        weight=weight[kept] / weight[kept].sum(),
        log_likelihood=grid.log_likelihood[:, kept],
        nodes=grid.nodes,
        of_mean=grid.mean_given_tau(weight),
    )


def _around_the_top(estimate: Array, error: Array, hyper: HyperPriors, shape: Shape) -> Cells | None:
    """None where the posterior is not like a normal one in (mean, ln tau): a scale that may be nothing at all."""
    order = np.lexsort((estimate, error))
    sample = order[np.linspace(0, estimate.size - 1, SAMPLE).round().astype(np.int64)]
    first = _of_grid(effect_grid(estimate[sample], error[sample], hyper, shape))
    place = np.stack([first.mean, np.log(first.tau)])
    top = place @ first.weight
    spread = np.sqrt(((place - top[:, None]) ** 2) @ first.weight) * np.sqrt(SAMPLE / estimate.size)
    nodes = Nodes.of(shape)

    def height(points: Array) -> tuple[Array, Array]:
        """Log posterior (N,) at (2, N) points, and the experiments' parts of it (K, N)."""
        mean, log_tau = points
        tau = np.exp(log_tau)
        parts = log_likelihood(estimate, error**2, mean[None], tau, nodes)[:, 0]
        prior = hyper.log_density_of_tau(tau) + log_tau - 0.5 * (mean / hyper.mean_scale) ** 2
        return parts.sum(axis=0) + prior, parts

    step = np.array([(i, j) for i in (-1.0, 0.0, 1.0) for j in (-1.0, 0.0, 1.0)]).T
    i, j = step
    design = np.stack([np.ones(9), i, j, 0.5 * i * i, i * j, 0.5 * j * j], axis=-1)
    root = np.diag(spread)
    for _ in range(_NEWTON_STEPS):
        c = np.linalg.lstsq(design, height(top[:, None] + root @ step)[0], rcond=None)[0]
        curvature = -np.array([[c[3], c[4]], [c[4], c[5]]])
        if np.linalg.eigvalsh(curvature)[0] <= 0:
            return None
        move = np.linalg.solve(curvature, c[1:3])
        top = top + root @ (move * min(1.0, 3.0 / float(np.abs(move).max() + 1e-300)))
        root = root @ np.linalg.cholesky(np.linalg.inv(curvature))
        if float(np.abs(move).max()) < 0.1:
            break
    lattice = np.stack([axis.ravel() for axis in np.meshgrid(_LATTICE, _LATTICE)])
    lattice = lattice[:, np.hypot(*lattice) < _LATTICE[-1] + 1e-9]
    points = top[:, None] + root @ lattice
    log_posterior, parts = height(points)
    weight = np.exp(log_posterior - log_posterior.max())
    weight /= weight.sum()
    if float(weight[np.hypot(*lattice) > _LATTICE[-2]].sum()) > _LARGEST_EDGE:
        return None
    centre = float(points[0] @ weight)
    sd = float(np.sqrt((points[0] - centre) ** 2 @ weight))
    of_mean = Mixture(np.ones(1), np.array([centre]), np.array([sd]))
    return Cells(points[0], np.exp(points[1]), weight, parts, nodes, of_mean)
