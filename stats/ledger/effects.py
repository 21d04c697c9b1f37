"""True effects behind the measured ones, and what launches made of them (METHODS F6, C3).

`estimate_k ~ N(delta_k, error_k² + bias_sd_k²)` and `delta_k ~ t_nu(mean, tau)`, written as a mixture of normals
`N(mean, tau² / w)` over fixed nodes of `w ~ Gamma(nu / 2, nu / 2)`: a trapezoid in ln w, whose error is of the order of
1e-6 of the density. Which node an experiment has is one more unknown of the sampler, so that everything else stays
normal. A launch is `theta_j ~ N(kappa delta_k, scatter²)`; a blind one `N(kappa mean, kappa² tau² + scatter²)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stats.ledger.contract import Array, Indices, LedgerData, LedgerPriors
from stats.ledger.series_covariance import Flags, Whitened


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """What does not change from draw to draw. `K` effects, `J` launches, `N` nodes.

    `variance` (K,) is that of an estimate about its true effect. `launched` (U,) are the effects that launches come
    from. `blind` (J,) says which launches have none. `together` (J, J) is 1 for launches of the same effect, None where
    every launch has its own. `log_share` (N,) and `spread` (N,) are the nodes: variances are `tau² spread`.
    """

    estimate: Array
    variance: Array
    source: Indices
    launched: Indices
    elsewhere: Indices
    together: Array | None
    log_share: Array
    spread: Array

    @property
    def blind(self) -> Flags:
        """Launches (J,) that nothing measured."""
        return self.source < 0


def effects(data: LedgerData, priors: LedgerPriors) -> Effects:
    """Prepare `data`."""
    launched = np.unique(data.source[data.source >= 0]).astype(np.intp)
    same = (data.source[:, None] == data.source) & (data.source >= 0) | np.eye(data.source.size, dtype=bool)
    share, spread = nodes(priors.nu)
    return Effects(
        estimate=data.estimate,
        variance=data.error**2 + data.bias_sd**2,
        source=data.source,
        launched=launched,
        elsewhere=np.setdiff1d(np.arange(data.estimate.size), launched).astype(np.intp),
        together=same.astype(float) if same.sum() > data.source.size else None,
        log_share=np.log(share),
        spread=spread,
    )


def nodes(nu: float) -> tuple[Array, Array]:
    """Shares and spreads (N,) of the normals that make up a t with `nu` degrees of freedom; one for an infinite nu."""
    if np.isinf(nu):
        return np.ones(1), np.ones(1)
    step = 1.2 * np.sqrt(2 / nu)
    log_w = np.arange(-52 / nu, 3.2, step)
    share = np.exp(0.5 * nu * (log_w - np.exp(log_w)))
    return share / share.sum(), np.exp(-log_w)


def log_nodes(model: Effects, mean: Array, tau: Array, which: Indices) -> Array:
    """Log of node share times density of the estimate (S, k, N), for the effects `which` (k,)."""
    total = model.variance[which, None] + (tau[:, None, None] ** 2) * model.spread
    distance = (model.estimate[which] - mean[:, None]) ** 2
    return np.asarray(model.log_share - 0.5 * np.log(2 * np.pi * total) - 0.5 * distance[..., None] / total)


def log_marginal(model: Effects, mean: Array, tau: Array, which: Indices) -> Array:
    """ln p(estimates | mean, tau) (S,) with nodes and true effects integrated out."""
    variance, square = model.variance[which], (model.estimate[which] - mean[:, None]) ** 2
    widest = variance + tau[:, None] ** 2 * model.spread[0]
    likelihood = np.zeros_like(square)
    for share, spread in zip(np.exp(model.log_share), model.spread, strict=True):
        total = variance + tau[:, None] ** 2 * spread
        # Measured from the widest no exponent is positive, and not all of them underflow.
        likelihood += share / np.sqrt(total) * np.exp(-0.5 * square * (1 / total - 1 / widest))
    logs = np.log(likelihood) - 0.5 * square / widest
    return np.asarray(logs.sum(axis=-1) - 0.5 * which.size * np.log(2 * np.pi))


def drawn(log_weight: Array, rng: np.random.Generator) -> Indices:
    """One node per row of unnormalised log weights (..., N)."""
    below = np.cumsum(np.exp(log_weight - log_weight.max(axis=-1, keepdims=True)), axis=-1)
    at = rng.random(below.shape[:-1]) * below[..., -1]
    return np.asarray((below < at[..., None]).sum(axis=-1), dtype=np.intp)


def shrunk(variance: Array, estimate: Array, mean: Array, scale_variance: Array) -> tuple[Array, Array]:
    """Mean and variance (S, k) of true effects given their estimates (k,), with priors N(mean (S,), scale (S, k))."""
    precision = 1 / scale_variance + 1 / variance
    return (mean[:, None] / scale_variance + estimate / variance) / precision, 1 / precision


def matched(model: Effects, mean: Array, tau: Array) -> tuple[Array, Array]:
    """Mean and variance (S, U) of launched effects given their estimates, nodes integrated out."""
    which = model.launched
    log_weight = log_nodes(model, mean, tau, which)
    weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
    weight /= weight.sum(axis=-1, keepdims=True)
    prior = (tau[:, None, None] ** 2) * model.spread
    keep = prior / (prior + model.variance[which, None])
    centres = mean[:, None, None] + keep * (model.estimate[which, None] - mean[:, None, None])
    centre = (weight * centres).sum(axis=-1)
    spread = (weight * (keep * model.variance[which, None] + (centres - centre[..., None]) ** 2)).sum(axis=-1)
    return centre, spread


@dataclass(frozen=True, slots=True, eq=False)
class Conditional:
    """Everything linear given the scalars: the posterior of fixed coefficients and launches, for S draws.

    `log_density` (S,) is that of the series and the holdouts. Coefficients are `centre + root xi` with independent
    standard normal xi a priori; `factor` is the bordered Cholesky factor of their posterior precision.
    """

    log_density: Array
    centre: Array
    own: Array
    shared: Array
    factor: Array
    together: Array | None

    def draw(self, rng: np.random.Generator) -> Array:
        """Exact draws of the coefficients (S, F + J)."""
        lower = self.factor[:, :-1, :-1]
        known = self.factor[:, -1, :-1] + rng.standard_normal(self.centre.shape)
        xi = np.linalg.solve(np.swapaxes(lower, 1, 2), known[..., None])[..., 0]
        moved = self.own * xi
        fixed = self.centre.shape[1] - self.shared.shape[1]
        launches = self.shared * xi[:, fixed:]
        moved[:, fixed:] += launches if self.together is None else launches @ self.together
        return np.asarray(self.centre + moved)

    def at(self, chosen: Indices | Flags) -> Conditional:
        """These draws only."""
        return Conditional(
            self.log_density[chosen],
            self.centre[chosen],
            self.own[chosen],
            self.shared[chosen],
            self.factor[chosen],
            self.together,
        )


def conditional(
    model: Effects, white: Whitened, scalars: dict[str, Array], centre: Array, variance: Array
) -> Conditional:
    """Given posteriors `centre`, `variance` (S, U) of launched effects by their experiments alone."""
    draws, launches = len(white.cross), model.source.size
    fixed = white.cross.shape[1] - 1 - launches
    kappa, scatter, tau = (scalars[name][:, None] for name in ("kappa", "scatter", "tau"))
    effect = np.broadcast_to(scalars["mean"][:, None], (draws, launches)).copy()
    spread = np.broadcast_to(tau**2, (draws, launches)).copy()
    place = np.searchsorted(model.launched, model.source[~model.blind])
    effect[:, ~model.blind], spread[:, ~model.blind] = centre[:, place], variance[:, place]
    together = model.together
    size = np.ones(launches) if together is None else together.sum(axis=0)
    # The symmetric root of scatter² I + c 11' is scatter I + 11' (sqrt(scatter² + c size) - scatter) / size.
    shared = (np.sqrt(scatter**2 + size * kappa**2 * spread) - scatter) / size
    own = np.hstack([np.ones((draws, fixed)), np.broadcast_to(scatter, (draws, launches))])
    mean = np.hstack([np.zeros((draws, fixed)), kappa * effect])
    if together is None:
        own[:, fixed:] += shared
        shared = np.zeros_like(shared)
    cross, load, total = white.cross[:, :-1, :-1], white.cross[:, :-1, -1], white.cross[:, -1, -1]
    of_mean = (cross @ mean[..., None])[..., 0]
    misfit = total - 2 * (mean * load).sum(1) + (mean * of_mean).sum(1)
    bordered = np.zeros_like(white.cross)
    inner = cross * own[:, None]
    residual = load - of_mean
    pulled = own * residual
    if together is None:
        bordered[:, :-1, :-1] = own[..., None] * inner
    else:
        inner[:, :, fixed:] += (cross[:, :, fixed:] @ together) * shared[:, None]
        bordered[:, :-1, :-1] = own[..., None] * inner
        bordered[:, fixed:-1, :-1] += shared[..., None] * (together @ inner[:, fixed:])
        pulled[:, fixed:] += shared * (residual[:, fixed:] @ together)
    diagonal = np.arange(mean.shape[1])
    bordered[:, diagonal, diagonal] += 1
    bordered[:, -1, :-1] = bordered[:, :-1, -1] = pulled
    bordered[:, -1, -1] = misfit + 1  # above zero without a series too
    factor = np.linalg.cholesky(bordered)
    volume = np.log(factor[:, diagonal, diagonal]).sum(1)
    square = factor[:, -1, -1] ** 2 - 1
    log_density = -0.5 * (white.count * np.log(2 * np.pi) + white.log_determinant + square) - volume
    return Conditional(np.asarray(log_density), mean, own, shared, factor, together)


def draw_effects(
    model: Effects,
    scalars: dict[str, Array],
    theta: Array,
    spread: Array,
    rng: np.random.Generator,
) -> Array:
    """Exact draws of all true effects (S, K) given launches (S, J), with `spread` (S, K) = tau² times the nodes'."""
    precision = 1 / spread + 1 / model.variance
    pull = scalars["mean"][:, None] / spread + model.estimate / model.variance
    kappa, scatter = scalars["kappa"][:, None], scalars["scatter"][:, None]
    for j in np.flatnonzero(~model.blind):
        k = model.source[j]
        precision[:, k] += (kappa / scatter)[:, 0] ** 2
        pull[:, k] += (kappa / scatter**2)[:, 0] * theta[:, j]
    return np.asarray(pull / precision + rng.standard_normal(spread.shape) / np.sqrt(precision))
