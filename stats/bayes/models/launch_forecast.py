"""What a series would have done without its launch, given draws of its parameters (METHODS D4).

Given the standard deviations of noise, level and coefficients everything else is normal, and computed instead of drawn:
the posterior of an effect is a mixture of one normal per draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.bayes.models.launch_history import History
from stats.bayes.sampling.contract import Array
from stats.launch.state_space import filtered

_RATIO_STEP: Final = 0.02
"""Ratios of step to noise are rounded to steps of this in their logarithm, a tenth of what data ever say of them."""
_MOST_RATIOS: Final = 250
_BLOCK: Final = 1_000_000
"""Numbers of a matrix per draw at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Parameters:
    """D draws in the outcome's unit: sds of noise and level steps (D,), variances of R donors' coefficients (D, R)."""

    noise: Array
    step: Array
    donors: Array

    def __len__(self) -> int:
        return self.noise.size


@dataclass(frozen=True, slots=True, eq=False)
class AverageEffect:
    """Given each of D draws, in the outcome's unit: `mean`, `sd` (D,) of the effect at full coverage, and the mean of

    the donors' coefficients, `donors` (D, R).
    """

    mean: Array
    sd: Array
    donors: Array


@dataclass(frozen=True, slots=True, eq=False)
class Counterfactual:
    """Over all draws, in the outcome's unit: the effects `by_period` (P,) in treated periods and their `covariance`.

    `ahead` (T - begin,) is the mean forecast from the launch on, nan where a donor or a regressor has no value;
    `behind` (n,) the mean forecast a period ahead for usable periods before it. `surprise` (D, n) is how far these
    were from their forecasts, standardised, with coefficients drawn: standard normal and independent where the model is
    right. `donors` (D, R) are draws of the donors' coefficients.
    """

    by_period: Array
    covariance: Array
    ahead: Array
    behind: Array
    surprise: Array
    donors: Array


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What is known before the launch given d draws of `noise` and `step` (d,).

    `level` (d, K + 1) is the level of every column at the last period before, the outcome's last, and `variance` (d,)
    of its error. Coefficients have `precision` (d, K, K) and mean `precision`⁻¹ `moment` (d, K).
    """

    noise: Array
    step: Array
    level: Array
    variance: Array
    precision: Array
    moment: Array


def average_effect(history: History, parameters: Parameters, coverage: Array) -> AverageEffect:
    """Forecast the periods from the launch on from those before it, and subtract; `coverage` (T,) weighs periods."""
    ready = history.design
    treated, elapsed = ready.treated, ready.treated - ready.begin + 1.0
    share = coverage[treated] / (coverage[treated] @ coverage[treated])
    explained, outcome = share @ history.explained[treated], share @ ready.outcome[treated]
    walked = share @ np.minimum.outer(elapsed, elapsed) @ share
    blocks = []
    for known in _by_block(history, parameters):
        apart = explained - share.sum() * known.level[:, :-1]
        solved = np.linalg.solve(known.precision, np.stack([known.moment, apart], axis=-1))
        mean = outcome - share.sum() * known.level[:, -1] - (apart * solved[..., 0]).sum(axis=1)
        variance = (
            (apart * solved[..., 1]).sum(axis=1)
            + share.sum() ** 2 * known.variance
            + walked * known.step**2
            + (share @ share) * known.noise**2
        )
        blocks.append((mean, np.sqrt(variance), solved[:, 1 + history.fixed :, 0]))
    return AverageEffect(*(np.concatenate(part) for part in zip(*blocks, strict=True)))


def counterfactual(history: History, parameters: Parameters, rng: np.random.Generator) -> Counterfactual:
    """Period by period, before the launch and after."""
    ready = history.design
    treated, elapsed = ready.treated - ready.begin, ready.treated - ready.begin + 1.0
    walked = np.minimum.outer(elapsed, elapsed)
    blocks, covariance = [], np.zeros((treated.size, treated.size))
    for known in _by_block(history, parameters):
        root = np.linalg.inv(np.linalg.cholesky(known.precision))
        mean = np.einsum("dkj,dk->dj", root, np.einsum("dkj,dj->dk", root, known.moment))
        drawn = mean + np.einsum("dkj,dk->dj", root, rng.standard_normal(mean.shape))
        rows = history.explained[ready.begin :] - known.level[:, None, :-1]
        ahead = known.level[:, -1:] + np.einsum("dtk,dk->dt", rows, mean)
        unknown = np.moveaxis(rows[:, treated] @ np.swapaxes(root, 1, 2), 1, 0).reshape(treated.size, -1)
        covariance += (
            unknown @ unknown.T
            + known.variance.sum()
            + (known.step @ known.step) * walked
            + (known.noise @ known.noise) * np.eye(treated.size)
        )
        blocks.append((ahead, *_surprises(history, known, drawn), drawn[:, 1 + history.fixed :]))
    ahead, standard, gap, donors = (np.concatenate(part) for part in zip(*blocks, strict=True))
    effects = ready.outcome[ready.treated] - ahead[:, treated]
    around = effects - effects.mean(axis=0)
    return Counterfactual(
        by_period=effects.mean(axis=0),
        covariance=(covariance + around.T @ around) / len(parameters),
        ahead=ahead.mean(axis=0),
        behind=ready.outcome[history.before] - gap.mean(axis=0),
        surprise=standard,
        donors=donors,
    )


def _surprises(history: History, known: _Known, coefficients: Array) -> tuple[Array, Array]:
    """Outcomes less their forecasts a period ahead (d, n): standardised, and in the outcome's unit."""
    before = history.before
    left = history.design.outcome[before] - coefficients @ history.explained[before].T
    level, variance = np.zeros(len(left)), np.zeros(len(left))
    standard, gap = np.empty_like(left), np.empty_like(left)
    for n, waited in enumerate(np.diff(before, prepend=-1)):
        variance = variance + waited * known.step**2
        total = variance + known.noise**2
        gap[:, n] = left[:, n] - level
        standard[:, n] = gap[:, n] / np.sqrt(total)
        level = level + variance / total * gap[:, n]
        variance = variance / total * known.noise**2
    return standard, gap


def _by_block(history: History, parameters: Parameters) -> Iterator[_Known]:
    columns = np.column_stack([history.explained, history.design.outcome])
    log_ratio = np.log(parameters.step / parameters.noise)
    step = max(_RATIO_STEP, float(np.ptp(log_ratio)) / _MOST_RATIOS)
    rounded, place = np.unique(np.round(log_ratio / step), return_inverse=True)
    end = filtered(columns, history.design.usable, np.exp(step * rounded), [history.design.begin])
    fixed, width = 1 + history.fixed, columns.shape[1] - 1
    diagonal = np.arange(width)
    size = max(1, _BLOCK // columns.shape[1] ** 2)
    for begin in range(0, len(parameters), size):
        part, at = slice(begin, begin + size), place[begin : begin + size]
        noise = parameters.noise[part]
        cross = end.cross[0][at] / (noise**2)[:, None, None]
        precision = cross[:, :-1, :-1]
        precision[:, diagonal[1:fixed], diagonal[1:fixed]] += 1.0
        precision[:, diagonal[fixed:], diagonal[fixed:]] += 1 / parameters.donors[part]
        yield _Known(
            noise=noise,
            step=parameters.step[part],
            level=end.level[0][at],
            variance=noise**2 * end.variance[0][at],
            precision=precision,
            moment=cross[:, :-1, -1],
        )
