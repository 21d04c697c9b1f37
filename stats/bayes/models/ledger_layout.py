"""Which of the sampled ledger's parameters is what, and what draws of them say (METHODS F6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.models.definition import ImpossibleData
from stats.bayes.models.ledger_density import SCALARS
from stats.bayes.sampling.contract import Array, Data
from stats.ledger.contract import Indices, LedgerData, LedgerPriors
from stats.ledger.series_covariance import series

FEWEST_WEEKS: Final = 8
"""Below that a series says nothing of five variances; what experiments say needs no sampler."""
_UNKNOWN: Final = 1.0
"""Standard deviation of the logarithm in a week without a value, where weeks move by 1.5 %: anything at all."""
_BLIND: Final = -1.0


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Positions of parameters, -1 where there is none; the first `len(SCALARS)` are the scalars.

    For J launches: `own` (J,) the score of a launch's effect, `shared` (J,) that of the experiment it shares with
    another launch, `lasting` (J,) that of its own persistence. For K effects: `tail` (K,) the logarithm of the scale
    that makes their population a Student-t. `begun` (J,) is the first week of each launch; `size` counts parameters.
    """

    own: Indices
    shared: Indices
    lasting: Indices
    tail: Indices
    begun: Indices
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Unfolded:
    """Draws as quantities: `scalars` by name (S,), `precision` (S, K) of the tails, `theta` and `remaining` (S, J)."""

    scalars: dict[str, Array]
    precision: Array
    theta: Array
    remaining: Array


def layout_of(data: LedgerData, priors: LedgerPriors) -> Layout:
    """Parameters one after the other, so that a model of a few sizes holds any ledger."""
    launches, effects = data.source.size, data.estimate.size
    begin = len(SCALARS)
    tail = np.full(effects, -1, dtype=np.intp)
    if np.isfinite(priors.nu):
        tail = np.arange(begin, begin + effects)
        begin += effects
    own = np.arange(begin, begin + launches)
    begin += launches
    lasting = np.full(launches, -1, dtype=np.intp)
    measured = np.flatnonzero(np.isfinite(data.remaining))
    lasting[measured] = np.arange(begin, begin + measured.size)
    begin += measured.size
    sources, uses = np.unique(data.source[data.source >= 0], return_counts=True)
    shared = np.full(launches, -1, dtype=np.intp)
    for source in sources[uses > 1]:
        shared[data.source == source] = begin
        begin += 1
    reached = data.coverage > 0
    begun = np.where(reached.any(axis=0), reached.argmax(axis=0), data.log_values.size - 1)
    return Layout(own, shared, lasting, tail, begun, begin)


def density_data(data: LedgerData, priors: LedgerPriors, layout: Layout) -> Data:
    """What `ledger_density` reads. Raises `ImpossibleData` for series too short to say anything."""
    known = np.isfinite(data.log_values)
    if known.sum() < FEWEST_WEEKS:
        raise ImpossibleData(f"the series has values in {known.sum()} weeks, and {FEWEST_WEEKS} are the least")
    weeks = np.arange(known.size)
    filled = np.interp(weeks, weeks[known], data.log_values[known])
    columns = np.column_stack(
        [
            series(data, priors).fixed,
            _UNKNOWN * np.eye(known.size)[:, ~known],
            filled,
        ]
    )
    changes = np.diff(columns, axis=0)
    changes[1:] -= changes[:-1].copy()
    constant = np.where(np.isfinite(data.time_constant), data.time_constant, 0.0)
    lasts = np.isfinite(data.remaining)
    return {
        "differences": np.ascontiguousarray(changes.T),
        "coverage": np.ascontiguousarray(data.coverage.T),
        "launches": np.column_stack(
            [
                layout.begun,
                layout.own,
                layout.shared,
                layout.lasting,
                np.where(data.source >= 0, data.source, _BLIND),
                np.where(lasts, data.remaining, 1.0),
                np.where(lasts, data.remaining_log_sd, 0.0),
                constant,
            ]
        ).astype(np.float64),
        "effects": np.column_stack([data.estimate, data.error**2 + data.bias_sd**2, layout.tail]).astype(np.float64),
        "held": np.asarray(data.held_out, dtype=np.float64),
        "holdouts": np.column_stack([data.holdout_week, data.holdout_estimate, data.holdout_error**2]).astype(
            np.float64
        ),
        "priors": np.array(
            [
                priors.mean,
                priors.tau,
                np.log(priors.kappa[0]),
                priors.kappa[1],
                priors.scatter,
                np.log(priors.remaining[0]),
                priors.remaining[1],
                np.log(priors.weeks[0]),
                priors.weeks[1],
                priors.noise,
                priors.level_step,
                priors.slope_step,
                priors.slope,
                priors.nu if np.isfinite(priors.nu) else 1.0,
            ]
        ),
    }


def unfolded(z: Array, data: LedgerData, priors: LedgerPriors, layout: Layout) -> Unfolded:
    """Draws (S, n) of the parameters as the quantities they stand for."""
    score = dict(zip(SCALARS, z.T, strict=False))
    half_normal = {name: getattr(priors, name) for name in ("tau", "scatter", "noise", "level_step", "slope_step")}
    log_normal = {name: getattr(priors, name) for name in ("kappa", "remaining", "weeks")}
    scalars = (
        {"mean": priors.mean * score["mean"]}
        | {name: scale * np.sqrt(-2 * sc.log_ndtr(-score[name])) for name, scale in half_normal.items()}
        | {name: median * np.exp(sd * score[name]) for name, (median, sd) in log_normal.items()}
    )
    mean, kappa, tau = (scalars[name][:, None] for name in ("mean", "kappa", "tau"))
    precision = np.where(layout.tail >= 0, np.exp(z[:, layout.tail]), 1.0)
    wide, error = tau**2 / precision, data.error**2 + data.bias_sd**2
    # One column more, which blind launches find at their position -1: what the population expects.
    expected = np.hstack([mean + wide / (wide + error) * (data.estimate - mean), mean])[:, data.source]
    variance = np.hstack([wide * error / (wide + error), tau**2])[:, data.source]
    scatter, own = scalars["scatter"][:, None], z[:, layout.own]
    alone = kappa * expected + np.sqrt(kappa**2 * variance + scatter**2) * own
    together = kappa * (expected + np.sqrt(variance) * z[:, layout.shared]) + scatter * own
    median, sd = np.where(layout.lasting >= 0, (data.remaining, data.remaining_log_sd), 0.0)
    remaining = np.where(layout.lasting >= 0, median * np.exp(sd * z[:, layout.lasting]), scalars["remaining"][:, None])
    return Unfolded(scalars, precision, np.where(layout.shared >= 0, together, alone), remaining)


def persistence(data: LedgerData, unfolding: Unfolded, begun: Indices, week: int) -> Array:
    """Coverage times what is left of each launch's effect in a week: (S, J)."""
    constant = np.where(np.isfinite(data.time_constant), data.time_constant, unfolding.scalars["weeks"][:, None])
    passed = np.exp(-np.maximum(week - begun, 0) / constant)
    return np.asarray(data.coverage[week] * (unfolding.remaining + (1 - unfolding.remaining) * passed))
