"""The collapsed posterior of the ledger's scalars, for many draws at once (METHODS F6).

Base, season, influences, launches and true effects are integrated out in closed form. What remains are the nine scores,
a score per launch whose persistence was measured, and the node of every launched effect in the population's mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.ledger import effects as of_effects
from stats.ledger.contract import Array, Indices, LedgerData, LedgerPriors
from stats.ledger.effects import Conditional, Effects
from stats.ledger.scalars import values
from stats.ledger.series_covariance import Flags, Series, Whitened, series, whitened


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Data and priors, prepared. `measured` (M,) are the launches with a persistence of their own."""

    priors: LedgerPriors
    series: Series
    effects: Effects
    measured: Indices
    remaining: Array
    remaining_log_sd: Array
    time_constant: Array

    def persistence(self, scalars: dict[str, Array], own: Array) -> tuple[Array, Array]:
        """Long-run shares and time constants (S, J); `own` (S, M) are the scores of the measured persistences."""
        launches = self.remaining.size
        remaining = np.repeat(scalars["remaining"][:, None], launches, axis=1)
        centre, sd = self.remaining[self.measured], self.remaining_log_sd[self.measured]
        remaining[:, self.measured] = centre * np.exp(sd * own)
        fitted = np.isfinite(self.time_constant)
        weeks = np.where(fitted, np.where(fitted, self.time_constant, 1.0), scalars["weeks"][:, None])
        return remaining, weeks


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """S draws with what was computed for them.

    `score` (S, 9), `own` (S, M) and `node` (S, U) determine the rest; `log_joint` (S,) is the log of prior times
    likelihood of the scores with these nodes, `log_node` (S,) that of the nodes given the scores and the experiments.
    """

    score: Array
    own: Array
    node: Indices
    scalars: dict[str, Array]
    white: Whitened
    given: Conditional
    log_joint: Array
    log_node: Array

    def at(self, chosen: Indices | Flags) -> Draws:
        """These draws only."""
        return Draws(
            self.score[chosen],
            self.own[chosen],
            self.node[chosen],
            {name: value[chosen] for name, value in self.scalars.items()},
            self.white.at(chosen),
            self.given.at(chosen),
            self.log_joint[chosen],
            self.log_node[chosen],
        )

    def put(self, places: Indices, other: Draws, chosen: Indices) -> None:
        """Overwrite the draws at `places` with the other's at `chosen`."""
        for mine, theirs in zip(self._arrays(), other._arrays(), strict=True):
            mine[places] = theirs[chosen]
        self.node[places] = other.node[chosen]

    def _arrays(self) -> list[Array]:
        given, white = self.given, self.white
        fitted = [given.log_density, given.centre, given.own, given.shared, given.factor]
        own = [self.score, self.own, self.log_joint, self.log_node, white.cross, white.log_determinant]
        return [*own, *fitted, *self.scalars.values()]


def model(data: LedgerData, priors: LedgerPriors, *, use_series: bool = True) -> Model:
    """Prepare `data`; with `use_series` false only experiments and holdouts speak."""
    return Model(
        priors=priors,
        series=series(data, priors, use=use_series),
        effects=of_effects.effects(data, priors),
        measured=np.flatnonzero(np.isfinite(data.remaining)).astype(np.intp),
        remaining=data.remaining,
        remaining_log_sd=data.remaining_log_sd,
        time_constant=data.time_constant,
    )


def whiten(model: Model, scalars: dict[str, Array], own: Array) -> Whitened:
    """Cross products at these scalars."""
    scales = (scalars["noise"], scalars["level_step"], scalars["slope_step"])
    return whitened(model.series, scales, *model.persistence(scalars, own))


def approximate(model: Model, score: Array) -> Array:
    """The log posterior (S,) of scores with the mixture of every launched effect matched by one normal."""
    scalars = values(score, model.priors)
    white = whiten(model, scalars, np.zeros((len(score), model.measured.size)))
    everything = np.arange(model.effects.estimate.size)
    centre, variance = of_effects.matched(model.effects, scalars["mean"], scalars["tau"])
    given = of_effects.conditional(model.effects, white, scalars, centre, variance)
    experiments = of_effects.log_marginal(model.effects, scalars["mean"], scalars["tau"], everything)
    return np.asarray(given.log_density + experiments - 0.5 * (score**2).sum(axis=1))


def evaluated(
    model: Model,
    score: Array,
    own: Array,
    rng: np.random.Generator,
    *,
    node: Indices | None = None,
    kept: Flags | None = None,
) -> Draws:
    """Compute everything for scores (S, 9) and `own` (S, M), with nodes drawn given the experiments alone.

    Where `kept` (S,) they are those of `node` (S, U) instead.
    """
    scalars = values(score, model.priors)
    logs = _log_nodes(model, scalars)
    fresh = of_effects.drawn(logs, rng)
    if node is not None and kept is not None:
        fresh = np.where(kept[:, None], node, fresh)
    return _with_nodes(model, score, own, scalars, whiten(model, scalars, own), fresh, logs)


def _log_nodes(model: Model, scalars: dict[str, Array]) -> Array:
    return of_effects.log_nodes(model.effects, scalars["mean"], scalars["tau"], model.effects.launched)


def _with_nodes(
    model: Model,
    score: Array,
    own: Array,
    scalars: dict[str, Array],
    white: Whitened,
    node: Indices,
    logs: Array,
) -> Draws:
    known = model.effects
    chosen = np.take_along_axis(logs, node[..., None], axis=-1)[..., 0].sum(axis=-1)
    variance = scalars["tau"][:, None] ** 2 * known.spread[node]
    centre, spread = of_effects.shrunk(
        known.variance[known.launched], known.estimate[known.launched], scalars["mean"], variance
    )
    given = of_effects.conditional(known, white, scalars, centre, spread)
    rest = of_effects.log_marginal(known, scalars["mean"], scalars["tau"], known.elsewhere)
    log_joint = given.log_density + rest + chosen - 0.5 * (score**2).sum(axis=1)
    log_node = chosen - sc.logsumexp(logs, axis=-1).sum(axis=-1)
    return Draws(score, own, node, scalars, white, given, np.asarray(log_joint), np.asarray(log_node))


def nodes_redrawn(model: Model, draws: Draws, rng: np.random.Generator) -> Draws:
    """A Gibbs step: launches given everything, true effects given launches, nodes given true effects."""
    known, scalars = model.effects, draws.scalars
    if known.spread.size == 1 or known.launched.size == 0:
        return draws
    theta = draws.given.draw(rng)[:, model.series.fixed.shape[1] :]
    spread = np.ones((len(draws.score), known.estimate.size))
    tau_square = scalars["tau"][:, None] ** 2
    spread[:, known.launched] = known.spread[draws.node]
    delta = of_effects.draw_effects(known, scalars, theta, tau_square * spread, rng)[:, known.launched]
    standard = ((delta - scalars["mean"][:, None]) ** 2 / tau_square)[..., None]
    logs = known.log_share - 0.5 * np.log(known.spread) - 0.5 * standard / known.spread
    node = of_effects.drawn(logs, rng)
    return _with_nodes(model, draws.score, draws.own, scalars, draws.white, node, _log_nodes(model, scalars))
