"""Priors learned from a company's own history: the population of true effects behind past estimates (METHODS C3).

Estimates spread more than effects, by their errors, and a prior fitted to winners expects too much. So everything past
goes in, shipped or not, and a new experiment's prior is the posterior predictive: its width includes that the
population's mean and scale are themselves known only so well (plugging in point estimates covers 59-86 % where this
covers 95 %). Fat tails (Student-t with 4 degrees of freedom) because a few changes matter much more than most
(Azevedo, Deng, Montiel Olea, Rao & Weyl 2020, "A/B testing with fat tails").

All integrals are on grids: no sampling, no seeds. `stats.bayes.models.population` is the same model for NUTS.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from stats.bayes.effect_grid import EffectGrid, HyperPriors, Nodes, Shape, effect_grid, profile
from stats.bayes.mixture import Array, Mixture
from stats.bayes.prior import Family, Prior

type BoolArray = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

FEWEST_EXPERIMENTS: Final = 8
"""Fewer past experiments leave the default prior in place (METHODS C3)."""
COMPONENTS: Final = 64
"""A predictive has at most so many components; its cdf is within 1e-4 of the grid's."""
DIFFERENT_FROM: Final = 0.5
"""Strata are different when their means spread by more than this share of the scale within them …"""
DIFFERENT_CHANCE: Final = 0.9
"""… with more than this chance."""
_CUT_OFF: Final = 1e-6
_TAILS: Final = (0.025, 0.975)
_METHOD_OF_HYPER: Final = HyperPriors()


class PopulationReason(StrEnum):
    """Why there is no learned prior."""

    TOO_FEW_EXPERIMENTS = "too_few_experiments"


@dataclass(frozen=True, slots=True)
class Belief:
    """A posterior mean and the central 95 % interval."""

    mean: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Population:
    """What past experiments say about the effects of the next one, on the log lift.

    `mean` and `tau` are the centre and the scale of the population; `predictive` is the next experiment's prior, cells
    (). For each of the K experiments given: `without` (K, C) is the prior learned from the others, `shrunk_mean` and
    `shrunk_sd` (K,) the posterior of its effect. NaN where an experiment had no usable estimate, and everything is None
    with a `reason` when fewer than 8 had.
    """

    experiments: int
    usable: BoolArray
    mean: Belief | None
    tau: Belief | None
    predictive: Mixture | None
    without: Mixture | None
    shrunk_mean: Array
    shrunk_sd: Array
    reason: str

    def prior(self, metric: str, *, kind: str = "experiments") -> Prior:
        """The prior of the next experiment; `metric` is how its source is called. Raises `ValueError` without one."""
        return learned(self.predictive, f"learned from {self.experiments} {kind} of {metric}")

    def prior_without(self, position: int, metric: str, *, kind: str = "experiments") -> Prior:
        """The prior of the experiment at `position`, learned from all others (METHODS C3: leave one out)."""
        if self.without is None or not self.usable[position]:
            raise ValueError(f"nothing was learned from the experiment at {position}")
        w = self.without
        mixture = Mixture(w.weight[position], w.mean[position], w.sd[position])
        return learned(mixture, f"learned from {self.experiments - 1} other {kind} of {metric}")


@dataclass(frozen=True, slots=True)
class Strata:
    """Whether experiments of different kinds are exchangeable. `own` holds the strata large enough for a population.

    `chance_different` is P(tau_between > 0.5 tau), None with fewer than two such strata; `stratified` says that it is
    above 0.9: then a stratum's experiments take the prior of their own (METHODS C3).
    """

    pooled: Population
    own: dict[str, Population]
    chance_different: float | None

    @property
    def stratified(self) -> bool:
        """Whether a new experiment takes the prior of its stratum."""
        return self.chance_different is not None and self.chance_different > DIFFERENT_CHANCE

    def population_of(self, stratum: str | None) -> Population:
        """The population that a new experiment of this stratum is drawn from."""
        own = self.own.get(stratum) if stratum is not None and self.stratified else None
        return self.pooled if own is None else own


def population(
    log_lift: ArrayLike,
    standard_error: ArrayLike,
    *,
    hyper: HyperPriors = _METHOD_OF_HYPER,
    shape: Shape = "student_t4",
) -> Population:
    """The population behind one estimate (K,) of each past experiment, shipped or not, and its `standard_error`.

    Assumes normal estimates with known errors, and experiments that are exchangeable: no choice among them by outcome.
    Elements that are not finite or have no positive error are left out. `shape` normal is for comparison: it covers
    less where a few effects are large.
    """
    estimate, error = np.asarray(log_lift, dtype=np.float64), np.asarray(standard_error, dtype=np.float64)
    if estimate.shape != error.shape or estimate.ndim != 1:
        raise ValueError("log lifts and standard errors must be two arrays (K,)")
    usable = np.isfinite(estimate) & np.isfinite(error) & (error > 0)
    found = int(usable.sum())
    blank = np.full(estimate.shape, np.nan)
    if found < FEWEST_EXPERIMENTS:
        reason = PopulationReason.TOO_FEW_EXPERIMENTS
        return Population(found, usable, None, None, None, None, blank, blank, reason)
    x, s = estimate[usable], error[usable]
    grid = effect_grid(x, s, hyper, shape)
    weights = grid.posterior()
    others = _without(grid, x, s, hyper, shape)
    mean, sd = others.given(x, s).moments()
    return Population(
        experiments=found,
        usable=usable,
        mean=_belief_in_mean(grid.mean_given_tau(weights)),
        tau=_belief_in_tau(grid, weights.sum(axis=0)),
        predictive=Mixture(*(part[0] for part in _parts(_compressed(_predictive(grid, weights[None]))))),
        without=Mixture(*(_spread_out(part, usable) for part in _parts(others))),
        shrunk_mean=_spread_out(mean, usable),
        shrunk_sd=_spread_out(sd, usable),
        reason="",
    )


def stratified(
    log_lift: ArrayLike,
    standard_error: ArrayLike,
    strata: Sequence[str | None],
    *,
    hyper: HyperPriors = _METHOD_OF_HYPER,
    shape: Shape = "student_t4",
) -> Strata:
    """The population of all past experiments, and of each stratum with 8 of them, if strata differ (METHODS C3).

    Stratum means are `m_s ~ N(m, tau_between²)`, effects `t4(m_s, tau)` with one tau; `tau_between` has the
    hyper-prior of tau. The likelihood of a stratum's mean, given tau, is taken as normal with the moments it has:
    exact enough with 8 experiments. Smaller strata, and experiments without one, count in the pooled population only.
    """
    estimate, error = np.asarray(log_lift, dtype=np.float64), np.asarray(standard_error, dtype=np.float64)
    pooled = population(estimate, error, hyper=hyper, shape=shape)
    label = np.array(["" if name is None else name for name in strata], dtype=np.str_)
    if label.shape != estimate.shape:
        raise ValueError("every experiment needs its stratum, or None")
    members = {str(name): pooled.usable & (label == name) for name in np.unique(label) if name}
    large = {name: where for name, where in members.items() if int(where.sum()) >= FEWEST_EXPERIMENTS}
    if len(large) < 2:
        return Strata(pooled, {}, None)
    chance = _chance_different(estimate, error, list(large.values()), hyper, shape)
    own = {name: population(estimate[at], error[at], hyper=hyper, shape=shape) for name, at in large.items()}
    return Strata(pooled, own, chance)


def learned(mixture: Mixture | None, source: str) -> Prior:
    """A mixture of normals (C,) as a prior. Raises `ValueError` when there is none."""
    if mixture is None:
        raise ValueError("too few experiments: there is no learned prior")
    kept = mixture.weight > 0
    weight = mixture.weight[kept] / mixture.weight[kept].sum()
    components = tuple(zip(weight.tolist(), mixture.mean[kept].tolist(), mixture.sd[kept].tolist(), strict=True))
    mean, sd = mixture.moments()
    return Prior(Family.LEARNED, float(mean), float(sd), source, components)


def _without(grid: EffectGrid, x: Array, s: Array, hyper: HyperPriors, shape: Shape) -> Mixture:
    """The predictive (K, C) of every experiment from all others: its own likelihood divided out of the grid.

    Where that leaves the region that the grid covers (an outlier that everything hung on), from a grid of its own.
    """
    weights = grid.posteriors_without()
    found = _compressed(_predictive(grid, weights))
    for k in np.flatnonzero(grid.cut_off(weights) > _CUT_OFF):
        rest = np.arange(x.size) != k
        again = effect_grid(x[rest], s[rest], hyper, shape)
        alone = _compressed(_predictive(again, again.posterior()[None]))
        for whole, part in zip(_parts(found), _parts(alone), strict=True):
            whole[k] = part[0]
    return found


def _predictive(grid: EffectGrid, weights: Array) -> Mixture:
    """The predictive under posterior weights (N, M, T), a mixture (N, T * J): the mean integrated out for each tau."""
    nodes, of_mean = grid.nodes, grid.mean_given_tau(weights)
    variance = of_mean.sd[..., None] ** 2 + grid.tau[:, None] ** 2 * nodes.spread
    flat = (len(weights), -1)
    return Mixture(
        weight=(of_mean.weight[..., None] * nodes.weight).reshape(flat),
        mean=np.broadcast_to(of_mean.mean[..., None], variance.shape).reshape(flat),
        sd=np.sqrt(variance).reshape(flat),
    )


def _compressed(mixture: Mixture) -> Mixture:
    """At most 64 components (N, 64) in place of (N, C): two for each of 32 bins of ln variance.

    The two of a bin are its Gauss quadrature: they have the mass and the first three moments of ln variance, so that
    the error is of fourth order in the width of a bin. Unused components have no weight.
    """
    log_variance = 2 * np.log(mixture.sd)
    present = mixture.weight > 1e-12
    low = np.where(present, log_variance, np.inf).min(axis=-1, keepdims=True)
    high = np.where(present, log_variance, -np.inf).max(axis=-1, keepdims=True)
    bins = COMPONENTS // 2
    position = (log_variance - low) / np.maximum(high - low, 1e-9) * bins
    cell = np.clip(position, 0, bins - 1e-9).astype(np.int64) + bins * np.arange(len(mixture.weight))[:, None]
    weight = np.where(present, mixture.weight, 0.0)

    def total(values: Array) -> Array:
        summed = np.bincount(cell.ravel(), (weight * values).ravel(), bins * len(weight))
        return np.asarray(summed, np.float64).reshape(len(weight), bins)

    mass = total(np.ones_like(weight))
    safe = np.where(mass > 0, mass, 1.0)
    centre, mean = total(log_variance) / safe, total(mixture.mean) / safe
    deviation = log_variance - centre.ravel()[cell]
    spread = total(deviation**2) / safe
    several = spread > 1e-12
    root = np.sqrt(np.where(several, spread, 1.0))
    skewness = np.where(several, total(deviation**3) / safe / root**3, 0.0)
    reach = np.sqrt(skewness**2 + 4)
    above = (1 - skewness / reach) / 2
    upper, lower = centre + root * (skewness + reach) / 2, centre + root * (skewness - reach) / 2
    between = total((mixture.mean - mean.ravel()[cell]) ** 2) / safe
    logs = np.where(several[..., None], np.stack([lower, upper], -1), centre[..., None])
    shares = np.where(several[..., None], np.stack([1 - above, above], -1), np.array([1.0, 0.0]))
    weights = mass[..., None] * shares
    # What a few empty or far bins lack in mass is less than 1e-9.
    weights = weights / weights.sum(axis=(-2, -1), keepdims=True)
    sd = np.where(weights > 0, np.sqrt(np.exp(np.where(weights > 0, logs, 0.0)) + between[..., None]), 1.0)
    flat = (len(weight), -1)
    return Mixture(weights.reshape(flat), np.repeat(mean, 2, axis=-1), sd.reshape(flat))


def _parts(mixture: Mixture) -> tuple[Array, Array, Array]:
    return mixture.weight, mixture.mean, mixture.sd


def _spread_out(values: Array, usable: BoolArray) -> Array:
    """Rows of the usable experiments among NaN for the others."""
    found = np.full((usable.size, *values.shape[1:]), np.nan)
    found[usable] = values
    return found


def _belief_in_mean(mean: Mixture) -> Belief:
    centre, sd = (float(value) for value in mean.moments())
    at = centre + sd * np.linspace(-8.0, 8.0, 801)
    below = mean.cdf(at)
    rising = np.flatnonzero(np.diff(below, prepend=-1.0) > 0)
    lower, upper = np.interp(_TAILS, below[rising], at[rising])
    return Belief(centre, float(lower), float(upper))


def _belief_in_tau(grid: EffectGrid, by_tau: Array) -> Belief:
    """From the weights (T,) of tau; between them the logarithm of the density in sqrt(tau) is linear."""
    root = np.sqrt(grid.tau)
    fine = np.concatenate([np.linspace(a, b, 40, endpoint=False) for a, b in itertools.pairwise(root)])
    log_density = np.log(np.maximum(by_tau / grid.root_width, 1e-300))
    height = np.exp(np.interp(fine, root, log_density) - log_density.max())
    below = np.append(0.0, np.cumsum(np.diff(fine) * (height[1:] + height[:-1]) / 2))
    lower, upper = np.interp(_TAILS, below / below[-1], fine) ** 2
    return Belief(float(by_tau @ grid.tau), float(lower), float(upper))


def _chance_different(
    estimate: Array, error: Array, members: Sequence[BoolArray], hyper: HyperPriors, shape: Shape
) -> float:
    """P(tau_between > 0.5 tau) on a grid of both, the overall mean integrated out in closed form."""
    everybody = np.any(members, axis=0)
    widest = float(np.abs(estimate[everybody] - np.median(estimate[everybody])).max() + error[everybody].max())
    top = np.sqrt(10 * widest)
    root = np.linspace(top / 800, top, 400)  # of tau and of tau_between
    tau = root**2
    profiles = [profile(estimate[at], error[at] ** 2, tau, None, Nodes.of(shape)) for at in members]
    mode = np.stack([each[0] for each in profiles])[..., None]  # (S, T, 1)
    weight = 1 / (np.stack([each[1] for each in profiles])[..., None] ** 2 + tau**2)  # (S, T, B)
    total = weight.sum(axis=0)
    centre = (weight * mode).sum(axis=0) / total
    scatter = (weight * (mode - centre) ** 2).sum(axis=0)
    log_density = (
        np.sum([each[2] for each in profiles], axis=0)[:, None]
        + 0.5 * (np.log(weight).sum(axis=0) - np.log(total) - scatter)
        - 0.5 * (np.log(1 / total + hyper.mean_scale**2) + centre**2 / (1 / total + hyper.mean_scale**2))
        + hyper.log_density_of_tau(tau[:, None])
        + hyper.log_density_of_tau(tau)
        + np.log(root[:, None] * root)  # d tau = 2 sqrt(tau) d sqrt(tau), both ways
    )
    density = np.exp(log_density - log_density.max())
    below = np.concatenate([np.zeros((tau.size, 1)), np.cumsum((density[:, 1:] + density[:, :-1]) / 2, axis=1)], axis=1)
    edge = np.sqrt(DIFFERENT_FROM) * root
    similar = sum(float(np.interp(edge[t], root, below[t])) for t in range(tau.size))
    return float(1 - similar / below[:, -1].sum())
