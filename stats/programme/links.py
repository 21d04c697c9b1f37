"""What a move in an input has been worth in the North Star, across experiments (METHODS E9).

Metrics are in columns, the North Star first: `estimate` (K, M) are log lifts of K experiments, `covariance` (K, M, M)
that of their errors. Errors of one experiment are correlated, because the same people are in all metrics; everything
here but the naive slope takes that out. What an experiment does to the North Star past an input is taken to be
unrelated to what it does to the input: otherwise slopes are off by what comes with it. Leaving out one group of
experiments at a time is a check of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from stats.programme.effect_pairs import Array, Covariances, pair, scales

FEWEST_EXPERIMENTS: Final = 8
"""Fewer experiments say nothing about how true effects vary together that the prior does not say."""
CORRELATED: Final = 0.3
CERTAIN: Final = 0.9
"""An input is no proxy unless its correlation is beyond 0.3 with this chance."""
_LEVELS: Final = (0.025, 0.1, 0.5, 0.9, 0.975)
_RIDGE: Final = 1e-6
"""Of a variance: metrics that are one another's copies have an error ellipsoid without volume."""


class LinkReason(StrEnum):
    """Why there is no link, or none to rely on."""

    TOO_FEW_EXPERIMENTS = "too_few_experiments"
    CORRELATION_UNCERTAIN = "correlation_uncertain"
    NOT_SAMPLED = "not_sampled"


@dataclass(frozen=True, slots=True)
class Spread:
    """A posterior: its median, 80 % and 95 % interval (equal tails)."""

    median: float
    lower_80: float
    upper_80: float
    lower_95: float
    upper_95: float


@dataclass(frozen=True, slots=True)
class Link:
    """What one input has been worth, alone: its slope takes in what moves with it.

    `slope` and `correlation` are of true effects; `chance` is that their correlation is beyond 0.3, in the direction of
    the slope. `moment_slope` is the total-covariance estimate with its jackknife error: unbiased where experiments are
    many, None where noise explains all that the input's estimates differ by. None and a `reason` where there are fewer
    than 8 experiments.
    """

    naive_slope: float | None
    moment_slope: float | None
    moment_standard_error: float | None
    slope: Spread | None
    correlation: Spread | None
    chance: float | None
    reason: str

    @property
    def usable(self) -> bool:
        """Whether the input may stand for the North Star."""
        return self.reason == ""


@dataclass(frozen=True, slots=True, eq=False)
class Proxy:
    """The weighted sum of measured input effects that best predicts the true effect on the North Star.

    `weight` (M - 1,) are posterior means of `(Lambda_ss + Omega_ss)^-1 Lambda_sy`; `correlation` is that of the sum, as
    it would be measured, with the true effect.
    """

    weight: Array
    correlation: float


def link(estimate: Array, covariance: Array) -> Link:
    """The link of one input: `estimate` (K, 2), the North Star first, `covariance` (K, 2, 2)."""
    naive = naive_slope(estimate)
    if len(estimate) < FEWEST_EXPERIMENTS:
        return Link(naive, None, None, None, None, None, LinkReason.TOO_FEW_EXPERIMENTS)
    moment, error = moment_slope(estimate, covariance)
    believed = pair(estimate, covariance, scales(estimate, covariance))
    correlations = _correlations(believed.matrix)[:, 0]
    beyond = max(float(believed.weight @ (sign * correlations > CORRELATED)) for sign in (1, -1))
    return Link(
        naive_slope=naive,
        moment_slope=moment,
        moment_standard_error=error,
        slope=slopes(believed)[0],
        correlation=_spread(correlations, believed.weight),
        chance=beyond,
        reason="" if beyond >= CERTAIN else LinkReason.CORRELATION_UNCERTAIN,
    )


def without_each(estimate: Array, covariance: Array, groups: Sequence[str | None]) -> dict[str, float]:
    """Median slope of one input when one group (a team, a surface) is left out, for those that leave 8 experiments.

    A slope that hangs on one group is no law. Experiments without a group stay in.
    """
    names = np.array([group or "" for group in groups], dtype=np.str_)
    found = {}
    for name in sorted({group for group in groups if group}):
        kept = names != name
        if kept.sum() >= FEWEST_EXPERIMENTS:
            rest, errors = estimate[kept], covariance[kept]
            found[name] = slopes(pair(rest, errors, scales(rest, errors)))[0].median
    return found


def slopes(believed: Covariances) -> list[Spread]:
    """`Lambda_ss^-1 Lambda_sy` by input: of several, what each is worth while the others stay where they are."""
    inputs, with_north_star = believed.matrix[:, 1:, 1:], believed.matrix[:, 1:, :1]
    found = np.linalg.solve(inputs, with_north_star)[..., 0]
    return [_spread(found[:, m], believed.weight) for m in range(found.shape[1])]


def proxy(believed: Covariances, error: Array) -> Proxy:
    """The proxy for an experiment whose input effects have errors of covariance `error` (M - 1, M - 1).

    Noisy inputs weigh less than their slopes: these are the weights of a prediction, not of a cause (Tripuraneni,
    Richardson, D'Amour, Soriano & Yadlowsky 2023, "Choosing a proxy metric from past experiments").
    """
    seen = believed.matrix[:, 1:, 1:] + error
    toward = believed.matrix[:, 1:, 0]
    weight = believed.weight @ np.linalg.solve(seen, toward[..., None])[..., 0]
    variance = np.einsum("i,sij,j->s", weight, seen, weight) * believed.matrix[:, 0, 0]
    return Proxy(weight, float(believed.weight @ (toward @ weight / np.sqrt(variance))))


def typical_error(covariance: Array) -> Array:
    """(M, M) the error covariance of the experiment in the middle, by the volume of its error ellipsoid."""
    scale = np.median(np.einsum("kmm->km", covariance), axis=0) ** -0.5
    volume = np.linalg.slogdet(covariance * np.outer(scale, scale) + _RIDGE * np.eye(len(scale)))[1]
    return np.asarray(covariance[np.argsort(volume, kind="stable")[len(volume) // 2]])


def naive_slope(estimate: Array) -> float | None:
    """The slope of the raw scatter (K, 2), which mixes in how people differ; None where the input never moved."""
    if len(estimate) < 2:
        return None
    spread = _covariance(estimate[None])[0]
    return None if spread[1, 1] == 0 else float(spread[0, 1] / spread[1, 1])


def total_covariance(estimate: Array, covariance: Array) -> Array:
    """(M, M) covariance of true effects by moments: that of estimates less that of errors, negative parts set to 0."""
    return np.asarray(_clipped(_covariance(estimate[None]) - covariance.mean(axis=0))[0])


def moment_slope(estimate: Array, covariance: Array) -> tuple[float | None, float | None]:
    """Slope of one input by total covariance and its delete-one jackknife standard error, (K, 2) and (K, 2, 2).

    None where errors explain all that the input's estimates differ by: of all experiments the slope, of all but any one
    the error. Clipping would leave such an input a variance that is none of its own.
    """
    count = len(estimate)
    sets = np.array([np.delete(np.arange(count), k) for k in range(count)])
    left = _covariance(estimate[None])[0] - covariance.mean(axis=0)
    if not left[1, 1] > 0:
        return None, None
    whole = _clipped(left)
    slope = float(whole[0, 1] / whole[1, 1])
    rest = _covariance(estimate[sets]) - covariance[sets].mean(axis=1)
    if not (rest[:, 1, 1] > 0).all():
        return slope, None
    without = _clipped(rest)
    found = without[:, 0, 1] / without[:, 1, 1]
    return slope, float(np.sqrt((count - 1) * found.var()))


def _covariance(estimates: Array) -> Array:
    """Unbiased sample covariance (..., M, M) of (..., K, M)."""
    centred = estimates - estimates.mean(axis=-2, keepdims=True)
    return np.asarray(np.swapaxes(centred, -1, -2) @ centred / (estimates.shape[-2] - 1))


def _clipped(matrix: Array) -> Array:
    """The nearest covariance matrices. Metrics are brought to one scale first: a clip must not depend on units."""
    scale = np.sqrt(np.maximum(np.abs(np.einsum("...mm->...m", matrix)), 1e-300))
    unit = scale[..., :, None] * scale[..., None, :]
    values, vectors = np.linalg.eigh(matrix / unit)
    return np.asarray((vectors * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(vectors, -1, -2) * unit)


def _correlations(matrix: Array) -> Array:
    """(S, M - 1) of the North Star's true effects with each input's."""
    variance = np.einsum("smm->sm", matrix)
    return np.asarray(matrix[:, 0, 1:] / np.sqrt(variance[:, :1] * variance[:, 1:]))


def _spread(values: Array, weight: Array) -> Spread:
    order = np.argsort(values)
    below = np.cumsum(weight[order]) - weight[order] / 2
    lower_95, lower_80, median, upper_80, upper_95 = (float(q) for q in np.interp(_LEVELS, below, values[order]))
    return Spread(median, lower_80, upper_80, lower_95, upper_95)
