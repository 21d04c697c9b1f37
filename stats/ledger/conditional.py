"""Everything in the ledger given its scalars: exact joint draws of effects, launches and components (METHODS F6).

Given scalars and scales the model is linear and normal. Launches and fixed coefficients come from their own posterior
with base and noise integrated out, true effects given the launches, the base given what is left of the series; noise is
the rest. So components add up to the series in every draw, not only on average.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from stats.ledger import effects as of_effects
from stats.ledger.contract import Array, LedgerData, LedgerFit, LedgerPriors
from stats.ledger.effects import Conditional
from stats.ledger.series_covariance import path
from stats.ledger.target import Draws, Model, model, whiten
from stats.ledger.wandering import wandered

_BLOCK: Final = 2_000_000
type Engine = Literal["collapsed", "sampled"]


def complete(
    data: LedgerData,
    priors: LedgerPriors,
    scalars: dict[str, Array],
    *,
    seed: int,
    scale: Array | None = None,
) -> LedgerFit:
    """Draws of all else given `scalars` (S,) by name, the nine of `LedgerFit`; each of S draws gets one completion.

    `scale` (S, K) are the `w` of `delta_k ~ N(mean, tau² / w)`: draws from their posterior for a population of t, or
    None for a normal population. `remaining:<j>` (S,) in `scalars` is the persistence of launch j where that was
    measured; without it, it is drawn from its measurement. `engine` is "sampled": `collapsed` does not come this way.
    """
    rng = np.random.default_rng(seed)
    prepared = model(data, priors)
    known = prepared.effects
    count = scalars["mean"].size
    own = rng.standard_normal((count, prepared.measured.size))
    for place, j in enumerate(prepared.measured):
        if persistence_name(j) in scalars and data.remaining_log_sd[j] > 0:
            own[:, place] = np.log(scalars[persistence_name(j)] / data.remaining[j]) / data.remaining_log_sd[j]
    spread = np.ones((count, known.estimate.size)) if scale is None else 1 / scale
    variance = scalars["tau"][:, None] ** 2 * spread
    which = known.launched
    centre, left = of_effects.shrunk(known.variance[which], known.estimate[which], scalars["mean"], variance[:, which])
    white = whiten(prepared, scalars, own)
    given = of_effects.conditional(known, white, scalars, centre, left)
    return _completed(prepared, data, scalars, own, given, variance, rng, engine="sampled")


def drawn(prepared: Model, draws: Draws, data: LedgerData, rng: np.random.Generator) -> LedgerFit:
    """Completions of the collapsed engine's draws."""
    known, scalars = prepared.effects, draws.scalars
    spread = np.empty((len(draws.score), known.estimate.size))
    spread[:, known.launched] = known.spread[draws.node]
    # In blocks: thousands of experiments times draws times nodes would not fit into memory.
    rows = max(1, _BLOCK // max(known.elsewhere.size * known.spread.size, 1))
    for start in range(0, len(draws.score), rows):
        part = slice(start, start + rows)
        logs = of_effects.log_nodes(known, scalars["mean"][part], scalars["tau"][part], known.elsewhere)
        spread[part, known.elsewhere] = known.spread[of_effects.drawn(logs, rng)]
    variance = scalars["tau"][:, None] ** 2 * spread
    return _completed(prepared, data, scalars, draws.own, draws.given, variance, rng, engine="collapsed")


def persistence_name(launch: int) -> str:
    """What the measured persistence of a launch is called among the scalars."""
    return f"remaining:{launch}"


def _completed(
    prepared: Model,
    data: LedgerData,
    scalars: dict[str, Array],
    own: Array,
    given: Conditional,
    effect_variance: Array,
    rng: np.random.Generator,
    *,
    engine: Engine,
) -> LedgerFit:
    series = prepared.series
    fixed = series.fixed.shape[1]
    coefficients = given.draw(rng)
    theta = coefficients[:, fixed:]
    delta = of_effects.draw_effects(prepared.effects, scalars, theta, effect_variance, rng)
    named = dict(scalars)
    for place, j in enumerate(prepared.measured):
        named[persistence_name(j)] = data.remaining[j] * np.exp(data.remaining_log_sd[j] * own[:, place])
    told = slice(None) if series.known.any() else slice(0)  # no week is known: nothing to say about any
    known, shapes = series.known[told], series.fixed[told]
    paths = path(series, *prepared.persistence(scalars, own))[:, told]
    season = coefficients[:, : series.harmonics] @ shapes[:, : series.harmonics].T
    outside = coefficients[:, None, series.harmonics : fixed] * shapes[:, series.harmonics :]
    rest = series.value[told] - season - outside.sum(axis=2) - np.einsum("stj,sj->st", paths, theta)
    scales = (scalars["noise"], scalars["level_step"], scalars["slope_step"])
    level, slope = wandered(rest, known, scales, series.slope_sd, rng)
    noise = np.where(known, rest - level, scalars["noise"][:, None] * rng.standard_normal(level.shape))
    return LedgerFit(
        scalars=named,
        delta=delta,
        theta=theta,
        path=paths,
        level=level + series.origin,
        slope=slope,
        season=season,
        outside=outside,
        noise=noise,
        engine=engine,
        diagnostics={},
        data=data,
        priors=prepared.priors,
    )
