"""How much of an effect lasts: novelty that wears off, habits that grow (METHODS E6).

The effect at `a` days since exposure is `long_run + (start - long_run) e^(-a / time_constant)`. For a given time
constant that is linear in start and long run, so that a grid of time constants makes the posterior an exact mixture of
normals. Taking the average of the measured days for the long run is what overstates effects that fade.

Effects must be those of all exposed people, whether they came back or not: who returns is chosen by the effect.
Sources: Hohnhold, O'Brien & Tang 2015 "Focusing on the long-term"; Sadeghi et al. 2022 "Novelty and primacy: a
long-term estimator for online experiments".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from stats.bayes.mixture import Mixture
from stats.covariate import CONDITION
from stats.moments import Floats

SHORTEST: Final = 1.5
LONGEST: Final = 14.0
"""Days: 80 % of the prior of the time constant lie between the two; half of what was observed counts if it is longer.

The prior is log-normal. One that ends there (METHODS E6) overstates the long run of effects whose time constant is near
the upper end: at 14 days of 28 its 95 % interval covers 87 %, this one's 95 %.
"""
FEWEST_AGES: Final = 4
SHORTEST_SPAN: Final = 6.0
"""Days between the first and the last age: less than a week cannot tell a course from a weekday."""
INFORMATION: Final = 0.1
"""Nats that the data must say about the time constant; a normal says as much when its spread shrinks by 30 %."""
FROM_ZERO: Final = 3.0
"""Posterior standard deviations between a ratio's denominator and zero; nearer, the ratio says nothing."""
_SCORES: Final = np.linspace(-2.5, 2.5, 61)  # of the prior, in its own standard deviations
_PRIOR: Final = np.exp(-0.5 * _SCORES**2) / np.exp(-0.5 * _SCORES**2).sum()
_INSIDE: Final = 1.2815515655446004  # 80 % of a normal lie within so many standard deviations
_TAILS: Final = np.array([0.1, 0.5, 0.9])
_CUT: Final = np.array([0.005, 0.995])
_FARTHEST: Final = 1e3  # of the ratio
_LEAST: Final = 1e-3
_BISECTIONS: Final = 40
_STEPS: Final = 401


class PersistenceReason(StrEnum):
    """Why nothing is said about persistence."""

    TOO_FEW_DAYS = "too_few_days"
    ZERO_VARIANCE = "zero_variance"


@dataclass(frozen=True, slots=True)
class Range:
    """Posterior mean, standard deviation, and the 10 %, 50 % and 90 % quantiles."""

    mean: float
    sd: float
    lower: float
    median: float
    upper: float


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The effect by age, arrays (P,): posterior mean and 80 % band, on the scale of the effects."""

    mean: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PersistenceFit:
    """The posterior: `weight` (G,) of time constants (G,) in days; start and long run (G, 2), (G, 2, 2) given each.

    `start` and `long_run` are on the scale of the effects (log lifts). `remaining` is long_run / start, and not there
    unless the start is 3 posterior standard deviations from zero; `remaining_median` and `remaining_log_sd` are of the
    log-normal with the mean and sd of that ratio where it is not negative (a loss after a gain counts as nothing left).
    `lasting_median` and `lasting_log_sd` are the same of long_run / the mean over the observed days: how much will last
    of what the experiment as a whole has measured, when a novelty had already begun to wear off.

    `half_life` is in days, `chance_below_half` the chance that less than half of the start is left, in the direction of
    start + long run. `identified` is whether the data say something about the time constant: its posterior has an
    `information` (relative entropy to the prior) of 0.1 nats or more. An effect that does not change identifies none,
    and is known no worse for it. With a `reason` everything is None or empty.
    """

    time_constant: Floats
    weight: Floats
    mean: Floats
    covariance: Floats
    ages: Floats
    start: Range | None = None
    long_run: Range | None = None
    remaining: Range | None = None
    remaining_median: float | None = None
    remaining_log_sd: float | None = None
    lasting_median: float | None = None
    lasting_log_sd: float | None = None
    half_life: Range | None = None
    chance_below_half: float | None = None
    information: float = 0.0
    identified: bool = False
    reason: str = ""

    @property
    def transient(self) -> bool:
        """The long run is more likely than not below half of the start: projections then use it alone."""
        return self.chance_below_half is not None and self.chance_below_half > 0.5

    def curve(self, ages: ArrayLike) -> Curve:
        """The effect at `ages` (P,) days since exposure, in and beyond what was observed."""
        self._need()
        mixture = self._at(_shares(np.asarray(ages, dtype=np.float64), self.time_constant))
        lower, upper = np.moveaxis(mixture.quantile(_TAILS[[0, 2]]), -1, 0)
        return Curve(mixture.moments()[0], lower, upper)

    def draws(self, n: int, seed: int) -> tuple[Floats, Floats, Floats]:
        """Joint posterior draws of start, long run and time constant (days), each (n,)."""
        self._need()
        rng = np.random.default_rng(seed)
        at = rng.choice(self.weight.size, size=n, p=self.weight)
        noise = rng.standard_normal((n, 2))
        root = np.linalg.cholesky(self.covariance)
        start = self.mean[at, 0] + root[at, 0, 0] * noise[:, 0]
        long_run = self.mean[at, 1] + root[at, 1, 0] * noise[:, 0] + root[at, 1, 1] * noise[:, 1]
        return start, long_run, self.time_constant[at]

    def _at(self, contrast: Floats) -> Mixture:
        """Of `contrast` (P, G, 2) times (start, long run): cells (P,)."""
        mean = np.einsum("pgi,gi->pg", contrast, self.mean)
        variance = np.einsum("pgi,gij,pgj->pg", contrast, self.covariance, contrast)
        return Mixture(np.broadcast_to(self.weight, mean.shape), mean, np.sqrt(variance))

    def _need(self) -> None:
        if self.reason:
            raise ValueError(f"there is no fit: {self.reason}")


def persistence(
    effects: ArrayLike, covariance: ArrayLike, ages: ArrayLike, *, effect_sd: float = 0.05
) -> PersistenceFit:
    """Start, long run and time constant from effects by days since exposure (METHODS E6).

    Shapes: `effects` (A,) log lifts, `covariance` (A, A) of their errors (days of the same people are correlated),
    `ages` (A,) days since exposure. Priors: start and long run N(0, effect_sd²), independent; time constant log-normal
    with 80 % from 1.5 to 14 days, or to half of the observed days where that is longer. Not estimable with fewer than 4
    ages, or less than a week of them. Raises `ValueError` for shapes that do not match and numbers that are not finite.
    """
    y, v, a = (np.asarray(x, dtype=np.float64) for x in (effects, covariance, ages))
    if y.ndim != 1 or a.shape != y.shape or v.shape != (y.size, y.size):
        raise ValueError("effects and ages are (A,), the covariance is (A, A)")
    if not (np.isfinite(y).all() and np.isfinite(v).all() and np.isfinite(a).all() and effect_sd > 0):
        raise ValueError("effects, covariance and ages must be finite, effect_sd positive")
    if y.size < FEWEST_AGES or np.ptp(a) < SHORTEST_SPAN:
        return _nothing(a, PersistenceReason.TOO_FEW_DAYS)
    scale = np.sqrt(np.maximum(np.diagonal(v), 0.0))
    if not scale.all():
        return _nothing(a, PersistenceReason.ZERO_VARIANCE)

    constants = _time_constants(float(a.max()) + 1)
    roots, vectors = np.linalg.eigh(v / scale[:, None] / scale)
    kept = roots > CONDITION * roots[-1]
    whiten = (vectors[:, kept] / np.sqrt(roots[kept])).T / scale
    seen, design = whiten @ y, np.einsum("ka,agi->gki", whiten, _shares(a, constants))
    precision = np.swapaxes(design, 1, 2) @ design + np.eye(2) / effect_sd**2
    spread = np.linalg.inv(precision)
    mean = np.einsum("gij,gkj,k->gi", spread, design, seen)
    log_weight = (
        np.log(_PRIOR) + 0.5 * np.linalg.slogdet(spread)[1] + 0.5 * np.einsum("gi,gij,gj->g", mean, precision, mean)
    )
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    information = float((weight * np.log(np.maximum(weight, 1e-300) / _PRIOR)).sum())

    return _summarised(PersistenceFit(constants, weight, mean, spread, a, information=information))


def _time_constants(observed: float) -> Floats:
    """The grid for so many observed days: steps of equal length in the log."""
    low, high = np.log(SHORTEST), np.log(max(LONGEST, observed / 2))
    return np.asarray(np.exp((low + high) / 2 + (high - low) / 2 / _INSIDE * _SCORES))


def _summarised(fit: PersistenceFit) -> PersistenceFit:
    ends = fit._at(np.broadcast_to(np.eye(2)[:, None, :], (2, fit.weight.size, 2)))
    (start_mean, long_mean), (start_sd, long_sd) = ends.moments()
    quantiles = ends.quantile(_TAILS)
    start = Range(float(start_mean), float(start_sd), *map(float, quantiles[0]))
    long_run = Range(float(long_mean), float(long_sd), *map(float, quantiles[1]))
    direction = 1.0 if start.mean + long_run.mean >= 0 else -1.0
    lost = fit._at(np.broadcast_to(direction * np.array([-0.5, 1.0]), (1, fit.weight.size, 2)))
    begin, observed = np.array([1.0, 0.0]), _shares(fit.ages, fit.time_constant).mean(axis=0)
    to_start, to_observed = _ratio(fit, np.broadcast_to(begin, observed.shape)), _ratio(fit, observed)
    return replace(
        fit,
        start=start,
        long_run=long_run,
        remaining=to_start.range if to_start else None,
        remaining_median=to_start.log_normal[0] if to_start else None,
        remaining_log_sd=to_start.log_normal[1] if to_start else None,
        lasting_median=to_observed.log_normal[0] if to_observed else None,
        lasting_log_sd=to_observed.log_normal[1] if to_observed else None,
        half_life=_half_life(fit.time_constant, fit.weight),
        chance_below_half=float(lost.cdf(np.zeros((1, 1)))[0, 0]),
        identified=fit.information >= INFORMATION,
    )


@dataclass(frozen=True, slots=True)
class _Ratio:
    """`log_normal`: median and log sd."""

    range: Range
    log_normal: tuple[float, float]


def _ratio(fit: PersistenceFit, whole: Floats) -> _Ratio | None:
    """Long run over `whole` (G, 2) times (start, long run); None unless that is clearly of one sign.

    The ratio is below x where `sign (long_run - x whole)` is below zero. Its last half percents count where they begin:
    there the denominator is next to zero, and moments would be about nothing else.
    """
    (mean,), (sd,) = fit._at(whole[None]).moments()
    if abs(mean) < FROM_ZERO * sd:
        return None
    part = np.array([0.0, 1.0])

    def below(x: Floats) -> Floats:
        return fit._at(np.sign(mean) * (part - x[:, None, None] * whole)).cdf(np.zeros((x.size, 1)))[:, 0]

    low, high = np.full(2, -_FARTHEST), np.full(2, _FARTHEST)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        left = below(middle) < _CUT
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    x = np.linspace(low[0], high[1], _STEPS)
    cdf = np.clip(below(x), *_CUT)
    shown = Range(*_moments(x, cdf), *map(float, np.interp(_TAILS, cdf, x)))
    kept, spread = _moments(np.maximum(x, 0.0), cdf)
    kept = max(kept, _LEAST)
    square = float(np.log1p((spread / kept) ** 2))
    return _Ratio(shown, (kept * float(np.exp(-square / 2)), float(np.sqrt(square))))


def _moments(x: Floats, cdf: Floats) -> tuple[float, float]:
    """Mean and sd of what has `cdf` on the rising `x`, and ends there."""
    past = x - x[0]
    first = float(np.trapezoid(1 - cdf, past))
    second = float(np.trapezoid(2 * past * (1 - cdf), past))
    return float(x[0]) + first, float(np.sqrt(max(second - first**2, 0.0)))


def _half_life(constants: Floats, weight: Floats) -> Range:
    """The grid's weights are those of equal steps in the log of the time constant."""
    log_value = np.log(constants * np.log(2))
    step = log_value[1] - log_value[0]
    edges = np.append(log_value - step / 2, log_value[-1] + step / 2)
    lower, median, upper = np.exp(np.interp(_TAILS, np.append(0.0, np.cumsum(weight)), edges))
    mean = float(weight @ np.exp(log_value))
    sd = float(np.sqrt(weight @ (np.exp(log_value) - mean) ** 2))
    return Range(mean, sd, float(lower), float(median), float(upper))


def _shares(ages: Floats, constants: Floats) -> Floats:
    """(A, G, 2): how much of the start and of the long run is in the effect at an age."""
    left = np.exp(-ages[:, None] / constants)
    return np.stack([left, 1 - left], axis=-1)


def _nothing(ages: Floats, reason: str) -> PersistenceFit:
    empty = np.zeros(0)
    return PersistenceFit(empty, empty, np.zeros((0, 2)), np.zeros((0, 2, 2)), ages, reason=str(reason))
