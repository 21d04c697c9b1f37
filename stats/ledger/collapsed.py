"""The ledger's collapsed engine: importance sampling over nine scalars, then moves that leave the posterior alone (F6).

1. Newton finds the mode of the posterior with launched effects matched by normals.
2. A mixture of multivariate t and the prior itself proposes scores; nodes of the population's mixture are drawn by the
   experiments, which is their posterior but for what the series says. Weights are of the exact collapsed posterior,
   Pareto-smoothed; the proposal is refitted once, and all draws count by the balance heuristic (Veach & Guibas 1995).
3. Resampled draws are moved by Gibbs steps of the nodes, by differential evolution (ter Braak 2006 "A Markov chain
   Monte Carlo version of the genetic algorithm differential evolution") and by independent proposals: resample-move,
   Gilks & Berzuini 2001 "Following a moving target". Weights alone leave the scales' tails too short.
4. `conditional` draws everything else exactly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from stats.ledger import conditional
from stats.ledger.contract import Array, Indices, LedgerData, LedgerFit, LedgerPriors
from stats.ledger.importance import HIGHEST_SHAPE, Elliptical, Proposal, effective, mode, resampled, smoothed
from stats.ledger.scalars import NAMES
from stats.ledger.series_covariance import Flags
from stats.ledger.target import Draws, Model, approximate, evaluated, model, nodes_redrawn

FEWEST_WEEKS: Final = 52
FEWEST_WEEKS_AFTER: Final = 26
"""Since the first launch: with fewer only the experiments are used (METHODS F6, rule iv)."""
SERIES_TOO_SHORT: Final = "series_too_short"
UNRELIABLE: Final = "unreliable_sampling"
LEAST_ESS: Final = 300.0
_FALL_BACK_ESS: Final = 150.0  # METHODS L: below, the sampled engine answers
_FALL_BACK_SHAPE: Final = 1.0  # of the weights' tail, which the moves shorten
_ROUNDS: Final = (500, 1000)
_EXTRA: Final = 1500
_MOST_PROPOSALS: Final = 6000
_SWEEPS: Final = 3
_DF: Final = 6.0
_FRESH: Final = 0.4  # of a measured persistence's score with every move


def fit(data: LedgerData, priors: LedgerPriors, *, seed: int, draws: int = 2000) -> LedgerFit:
    """The posterior of every line of the ledger, as `draws` draws that weigh the same.

    With fewer than 52 known weeks, or 26 since the first launch (or T = 0), the series is not used: scalars, true
    effects and launches come from experiments and holdouts alone, the arrays over weeks are empty, and `reason` is
    `series_too_short`. `reason` is `unreliable_sampling` when too few proposals count: use the sampled engine.
    `priors` are used as they are: rescale them first where the series is noisy. Raises `ValueError` for arrays that do
    not fit together or are not finite where they must be.
    """
    use_series = long_enough(data)
    prepared = model(data, priors, use_series=use_series)
    rng = np.random.default_rng(seed)
    chosen, proposal, diagnostics = _sampled(prepared, draws, rng)
    moved = np.zeros(draws, dtype=bool)
    for _ in range(_SWEEPS):
        chosen = nodes_redrawn(prepared, chosen, rng)
        moved |= _sweep(prepared, chosen, proposal, rng)
    chosen = nodes_redrawn(prepared, chosen, rng)
    diagnostics["moved"] = float(moved.mean())
    found = conditional.drawn(prepared, chosen, data, rng)
    reason = "" if use_series else SERIES_TOO_SHORT
    if diagnostics["ess"] < _FALL_BACK_ESS or diagnostics["pareto_k"] > _FALL_BACK_SHAPE:
        reason = UNRELIABLE
    return replace(found, diagnostics=diagnostics, reason=reason)


def long_enough(data: LedgerData) -> bool:
    """Whether the series may speak: 52 known weeks, 26 since the first launch (METHODS F6, rule iv)."""
    known = np.isfinite(data.log_values)
    covered = np.flatnonzero((data.coverage > 0).any(axis=1))
    after = known[covered[0] :].sum() if covered.size else FEWEST_WEEKS_AFTER
    return bool(known.sum() >= FEWEST_WEEKS and after >= FEWEST_WEEKS_AFTER)


def _sampled(prepared: Model, draws: int, rng: np.random.Generator) -> tuple[Draws, Proposal, dict[str, float]]:
    """Resampled draws, the last proposal, and how well it went."""
    dimensions = len(NAMES)
    centre, covariance = mode(lambda score: approximate(prepared, score), np.zeros(dimensions))
    at_mode = Elliptical(centre, np.linalg.cholesky(1.2 * covariance), _DF)
    prior = Elliptical(np.zeros(dimensions), np.eye(dimensions), np.inf)
    proposal = Proposal((at_mode, prior), np.array([0.9, 0.1]))
    batches: list[tuple[Array, Array, Indices, Array]] = []
    used: list[tuple[Proposal, int]] = []
    sizes = list(_ROUNDS)
    while sizes:
        count = sizes.pop(0)
        score = proposal.draw(count, rng)
        own = rng.standard_normal((count, prepared.measured.size))
        tried = evaluated(prepared, score, own, rng)
        batches.append((score, own, tried.node, tried.log_joint - tried.log_node))
        used.append((proposal, count))
        scores, owns, nodes, heights = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        total = sum(count for _, count in used)
        logs = np.stack([each.log_density(scores) + np.log(count / total) for each, count in used])
        weight, shape = smoothed(heights - np.logaddexp.reduce(logs, axis=0))
        size = effective(weight)
        if not sizes and (size < LEAST_ESS or shape > HIGHEST_SHAPE) and total < _MOST_PROPOSALS:
            sizes.append(_EXTRA)
        if sizes:
            proposal = Proposal((_refitted(scores, weight, at_mode), at_mode, prior), np.array([0.6, 0.3, 0.1]))
    # Proposals keep no matrices: with many launches all of them would not fit into memory.
    once, place = np.unique(resampled(weight, draws, rng), return_inverse=True)
    kept = np.ones(once.size, dtype=bool)
    chosen = evaluated(prepared, scores[once], owns[once], rng, node=nodes[once], kept=kept).at(place)
    return chosen, proposal, {"ess": size, "pareto_k": shape, "proposals": float(total)}


def _refitted(score: Array, weight: Array, start: Elliptical) -> Elliptical:
    """A t with the moments of the weighted draws, drawn towards where it started while few of them count."""
    mean = weight @ score
    apart = score - mean
    kept = effective(weight) / (effective(weight) + 2 * mean.size)
    covariance = kept * (apart * weight[:, None]).T @ apart + (1 - kept) * start.root @ start.root.T
    return Elliptical(mean, np.linalg.cholesky(covariance), _DF)


def _sweep(prepared: Model, draws: Draws, proposal: Proposal, rng: np.random.Generator) -> Flags:
    """Every draw proposes once, in place: by the others' differences, or independently. Says which moved."""
    count, dimensions = draws.score.shape
    moved = np.zeros(count, dtype=bool)
    for movers, others in _halves(count, rng):
        size = movers.size
        independent = rng.random(size) < 0.5
        first, second = draws.score[rng.choice(others, (2, size))]
        reach = 2.38 / np.sqrt(2 * dimensions) * rng.uniform(0.3, 1.0, (size, 1))
        step = reach * (first - second) + 1e-4 * rng.standard_normal((size, dimensions))
        score = np.where(independent[:, None], proposal.draw(size, rng), draws.score[movers] + step)
        # Reversible for the standard normal prior of the measured persistences, which therefore cancels (Neal 1999).
        own = np.sqrt(1 - _FRESH**2) * draws.own[movers] + _FRESH * rng.standard_normal((size, draws.own.shape[1]))
        tried = evaluated(prepared, score, own, rng, node=draws.node[movers], kept=~independent)
        gain = tried.log_joint - draws.log_joint[movers]
        back = proposal.log_density(draws.score[movers]) + draws.log_node[movers]
        gain += np.where(independent, back - proposal.log_density(score) - tried.log_node, 0.0)
        accepted = np.flatnonzero(np.log(rng.random(size)) < gain)
        draws.put(movers[accepted], tried, accepted)
        moved[movers[accepted]] = True
    return moved


def _halves(count: int, rng: np.random.Generator) -> list[tuple[Indices, Indices]]:
    order = rng.permutation(count)
    one, two = order[: count // 2], order[count // 2 :]
    return [(one, two), (two, one)]
