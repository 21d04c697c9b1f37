"""What all shipped experiments did together: full-Bayes shrinkage towards the population of all (METHODS F1, F2, F4).

Those that shipped were chosen for what they measured, so the sum of their estimates is too large (Lee & Shen 2018,
"Winner's curse: bias estimation for total effects of features in online controlled experiments"). A posterior is not
bothered by the choice as long as everything that the choice was made from is in it: all experiments, shipped or not,
teach the population, and the uncertainty about the population stays in the total. A Student-t population with 4 degrees
of freedom, because a few changes matter much more than most.

Nothing is sampled. Given the population's mean and scale, effects are independent and the moments of each are sums over
the nodes of `stats.bayes.effect_grid`: mean and standard deviation of a total are exact. Quantiles take the sum as
normal *given* mean and scale; for one effect alone they come from the mixture that its posterior is. Where two to four
effects stand far out, the ends of a 95 % interval are off by up to a seventh of the standard deviation. All is in log
effects; `exp(total) - 1` is a lift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from stats.bayes.effect_grid import HyperPriors, Shape
from stats.bayes.mixture import Array, Mixture
from stats.bayes.population import Belief, BoolArray
from stats.programme.cells import Cells, population_cells

TAILS: Final = (0.025, 0.1, 0.9, 0.975)
"""Ends of the 95 % and the 80 % interval."""
LIKELY_POSITIVE: Final = 0.9
"""Below this chance that it is positive, a total has no shares."""
_BINS: Final = 32
_BLOCK: Final = 1_000_000
_SOLVER_STEPS: Final = 8
_SOLVER_GRID: Final = np.concatenate([np.linspace(-6, -3, 7)[:-1], np.linspace(-3, 3, 31), np.linspace(3, 6, 7)[1:]])
_METHOD_OF_HYPER: Final = HyperPriors()


@dataclass(frozen=True, slots=True)
class Totals:
    """Posteriors of sums (N,) of log effects: mean, standard deviation, quantiles (N, 4) at `TAILS`, P(sum > 0)."""

    mean: Array
    sd: Array
    quantiles: Array
    chance_positive: Array


@dataclass(frozen=True, slots=True)
class Programme:
    """K experiments with what is believed of each once all are known.

    `mean`, `tau` describe the population. `effects` (K) are posteriors of single effects; sums of several are `totals`.
    """

    estimate: Array
    error: Array
    mean: Belief
    tau: Belief
    effects: Totals
    _cells: Cells
    _centre: Array
    _variance: Array

    def totals(self, members: ArrayLike) -> Totals:
        """Sums over subsets: `members` (N, K) or (K,) says which effects are in each. An empty sum is exactly zero."""
        inside = np.atleast_2d(np.asarray(members, dtype=np.float64))
        centre, variance = inside @ self._centre, inside @ self._variance
        found = _summed(self._cells.weight, centre, variance)
        alone = inside.sum(axis=1) == 1
        if alone.any():
            which = inside[alone].argmax(axis=1)
            found.quantiles[alone] = self.effects.quantiles[which]
            found.chance_positive[alone] = self.effects.chance_positive[which]
        return found

    def cumulative(self, order: ArrayLike) -> Totals:
        """Totals after each of the experiments at the positions `order` (N,), in that order."""
        at = np.asarray(order, dtype=np.int64)
        return _summed(self._cells.weight, self._centre[at].cumsum(axis=0), self._variance[at].cumsum(axis=0))

    def share_without(self, members: BoolArray) -> Array:
        """For each member (K,) the share of the members' total that is gone without it; NaN for the others.

        Left out of the sum and of what teaches the population: what stood on one large effect falls with it. NaN
        everywhere where the total is not likely (90 %) to be positive: then there is nothing to have shares in.
        """
        share = np.full(self.estimate.shape, np.nan)
        whole = self.totals(members)
        if not members.any() or float(whole.chance_positive[0]) < LIKELY_POSITIVE:
            return share
        total = self._centre[members].sum(axis=0)
        weight = self._cells.without_each()[members]
        rest = (weight * (total - self._centre[members])).sum(axis=1)
        share[members] = 1 - rest / float(whole.mean[0])
        return share


def programme(
    log_lift: ArrayLike,
    standard_error: ArrayLike,
    bias_sd: ArrayLike = 0.0,
    *,
    hyper: HyperPriors = _METHOD_OF_HYPER,
    shape: Shape = "student_t4",
) -> Programme:
    """Shrink one estimate (K,) of each experiment, shipped or not, with its standard error and the sd of its bias.

    Assumes normal estimates `N(effect, standard_error² + bias_sd²)` (METHODS D7) and exchangeable experiments, none
    left out by its outcome. One experiment is enough: the hyper-priors of METHODS C3 then say most. All must be finite
    and errors positive, else `ValueError`.
    """
    estimate = np.asarray(log_lift, dtype=np.float64)
    error = np.hypot(np.asarray(standard_error, dtype=np.float64), np.asarray(bias_sd, dtype=np.float64))
    if estimate.ndim != 1 or not estimate.size or error.shape != estimate.shape:
        raise ValueError("log lifts and standard errors must be two arrays (K,) of at least one experiment")
    if not (np.isfinite(estimate).all() and np.isfinite(error).all() and (error > 0).all()):
        raise ValueError("log lifts and standard errors must be finite, and errors positive")
    cells = population_cells(estimate, error, hyper, shape)
    centre, variance, posterior = _given_cells(cells, estimate, error)
    return Programme(
        estimate=estimate,
        error=error,
        mean=_belief_in_mean(cells.of_mean),
        tau=_belief_in_tau(cells.weight, cells.tau),
        effects=_beliefs(posterior),
        _cells=cells,
        _centre=centre,
        _variance=variance,
    )


def of_independent(mean: Array, variance: Array) -> Totals:
    """Sums (N,) that are taken as normal with known moments; a variance of zero is a sum of nothing."""
    return _beliefs(Mixture(np.ones((mean.size, 1)), mean[:, None], np.sqrt(np.maximum(variance, 1e-300))[:, None]))


def wins_for(share: float, contributions: Array) -> int | None:
    """How many of the largest contributions (N,) make up `share` of their total; None unless that is positive."""
    total = float(contributions.sum())
    if total <= 0:
        return None
    reached = np.sort(contributions)[::-1].cumsum() >= share * total * (1 - 1e-12)
    return int(reached.argmax()) + 1


def _given_cells(cells: Cells, estimate: Array, error: Array) -> tuple[Array, Array, Mixture]:
    """Means and variances (K, C) of effects given mean and scale, and the posterior of each as a mixture (K, 32).

    Points and nodes are put into bins of ln prior variance; a bin's component has the mass and two moments of what is
    in it.
    """
    spread = cells.tau[:, None] ** 2 * cells.nodes.spread  # (C, J)
    log_spread = np.log(np.maximum(spread, 1e-300)).ravel()
    position = (log_spread - log_spread.min()) / max(float(np.ptp(log_spread)), 1e-9) * _BINS
    order = np.argsort(log_spread, kind="stable")
    bins = np.minimum(position[order].astype(np.int64), _BINS - 1)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    number = estimate.size
    centre, variance = np.empty((number, cells.mean.size)), np.empty((number, cells.mean.size))
    parts = np.empty((3, number, starts.size))
    log_node = np.log(cells.nodes.weight)
    rows = max(1, _BLOCK // spread.size)
    for start in range(0, number, rows):
        block = slice(start, start + rows)
        noise = error[block, None, None] ** 2
        away = (estimate[block, None] - cells.mean)[..., None]
        total = noise + spread
        log_term = log_node - 0.5 * np.log(total) - 0.5 * away**2 / total
        term = np.exp(log_term - log_term.max(axis=-1, keepdims=True))
        share = term / term.sum(axis=-1, keepdims=True)
        kept = spread / total
        mean, sampling = away * kept, noise * kept  # of the effect's distance from the population's mean
        first = (share * mean).sum(axis=-1)
        centre[block] = cells.mean + first
        variance[block] = (share * (sampling + mean**2)).sum(axis=-1) - first**2
        weight = share * cells.weight[:, None]
        effect = cells.mean[:, None] + mean
        for power, values in enumerate((weight, weight * effect, weight * (sampling + effect**2))):
            flat = values.reshape(len(values), -1)[:, order]
            parts[power, block] = np.add.reduceat(flat, starts, axis=1)
    mass = np.maximum(parts[0], 1e-300)
    located = parts[1] / mass
    width = np.sqrt(np.maximum(parts[2] / mass - located**2, 1e-300))
    return centre, np.maximum(variance, 0.0), Mixture(parts[0] / parts[0].sum(axis=-1, keepdims=True), located, width)


def _summed(weight: Array, centre: Array, variance: Array) -> Totals:
    """Mixtures over the cells (C,) of normals with moments (N, C)."""
    sd = np.sqrt(np.maximum(variance, 1e-300))
    return _beliefs(Mixture(np.broadcast_to(weight, centre.shape), centre, sd))


def _beliefs(posterior: Mixture) -> Totals:
    """Moments and quantiles of mixtures (N, C), in blocks."""
    mean, sd = posterior.moments()
    sd = np.where(sd > 1e-140, sd, 0.0)
    number = mean.size
    quantiles = np.empty((number, len(TAILS)))
    positive = np.empty(number)
    rows = max(1, _BLOCK // (posterior.weight.shape[-1] * _SOLVER_GRID.size))
    for start in range(0, number, rows):
        block = slice(start, start + rows)
        part = Mixture(posterior.weight[block], posterior.mean[block], posterior.sd[block])
        quantiles[block] = _quantiles(part, mean[block], sd[block])
        positive[block] = 1 - part.cdf(np.zeros((len(part.mean), 1)))[:, 0]
    positive = np.where(sd > 0, positive, np.where(mean > 0, 1.0, 0.0))
    return Totals(mean, sd, np.where(sd[:, None] > 0, quantiles, mean[:, None]), np.clip(positive, 0.0, 1.0))


def _quantiles(mixture: Mixture, mean: Array, sd: Array) -> Array:
    """Quantiles (N, 4): bracketed on a grid, then Newton steps that stay within the bracket."""
    scale = np.maximum(sd, 1e-150)
    at = mean[:, None] + scale[:, None] * _SOLVER_GRID
    below = mixture.cdf(at)
    wanted = np.array(TAILS)
    right = np.clip((below[:, None, :] < wanted[:, None]).sum(axis=-1), 1, _SOLVER_GRID.size - 1)
    low, high = (np.take_along_axis(at, right + shift, axis=1) for shift in (-1, 0))
    found = (low + high) / 2
    for _ in range(_SOLVER_STEPS):
        excess = mixture.cdf(found) - wanted
        density = np.maximum(mixture.density(found), 1e-12 / scale[:, None])
        low, high = np.where(excess < 0, found, low), np.where(excess > 0, found, high)
        step = found - excess / density
        found = np.where((step > low) & (step < high), step, (low + high) / 2)
    return np.asarray(found)


def _belief_in_mean(of_mean: Mixture) -> Belief:
    found = _beliefs(Mixture(of_mean.weight[None], of_mean.mean[None], of_mean.sd[None]))
    return Belief(float(found.mean[0]), float(found.quantiles[0, 0]), float(found.quantiles[0, -1]))


def _belief_in_tau(weight: Array, tau: Array) -> Belief:
    """Mean and central 95 % interval of weighted points, in whose middles half of their mass is below."""
    order = np.argsort(tau, kind="stable")
    below = np.cumsum(weight[order]) - weight[order] / 2
    lower, upper = np.interp((TAILS[0], TAILS[-1]), below, tau[order])
    return Belief(float(tau @ weight), float(lower), float(upper))
