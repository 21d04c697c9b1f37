"""What an effect is worth over a horizon, in units of the North Star (METHODS E7).

An annualised number multiplies five uncertain things: the effect and how much of it lasts, the share of the company
that it reaches, how much of what experiments measure is realised, the company's own course, and how long a change
survives the ones after it. They are drawn jointly, and the result says which of them its uncertainty comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from stats import stock_flow
from stats.moments import Floats
from stats.persistence import PersistenceFit

type Grade = Literal["A", "B", "C", "D", "U"]
type Source = Literal["effect", "persistence", "reach", "realisation", "baseline", "survival", "interplay"]

FEWEST_DAYS: Final = 14
NO_HEADLINE: Final = ("D", "U")
KAPPA: Final = (0.9, 0.35)
"""Realisation rate before a company has measured its own: median and log sd (METHODS F6)."""
SURVIVAL: Final = (104.0, 0.7)
"""Half-life of a change in weeks, median and log sd, unless long holdouts have measured it."""
DAYS_PER_WEEK: Final = 7.0
_STREAM: Final = 7  # the draws here are not those of the effect, even where both have the same seed
_QUANTILES: Final = (0.1, 0.5, 0.9)


class ProjectionReason(StrEnum):
    """Why there is no projection, or none to be quoted as a number."""

    EFFECT_NOT_ESTIMABLE = "effect_not_estimable"
    EVIDENCE_TOO_WEAK = "evidence_too_weak"
    MEASURED_LESS_THAN_TWO_WEEKS = "measured_less_than_two_weeks"


@dataclass(frozen=True, slots=True, eq=False)
class EffectPaths:
    """Draws of the log effect by week after launch: `path` (S, H), and of its `level` while measured (S,).

    `long_run_only` says that a transient effect was left out. With a `reason` there is nothing to project.
    """

    path: Floats
    level: Floats
    long_run_only: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The gain over the horizon, in the baseline's units: median, 80 % interval, chance that it is positive.

    `shares` has the share of the variance of each source: the variance of the gain's expectation given that source,
    over the whole variance; what sources only do together is "interplay", and all add up to one. `headline` is false
    where no single number may be quoted: the range then comes with the `reason`. `long_run_only`: a transient effect
    was left out. All nan, with a `reason`, when not `estimable`.
    """

    median: float
    lower_80: float
    upper_80: float
    mean: float
    chance_positive: float
    shares: dict[Source, float]
    headline: bool
    long_run_only: bool
    estimable: bool
    reason: str = ""


def constant_effect(log_lift: float, standard_error: float, *, weeks: int, seed: int, draws: int = 4000) -> EffectPaths:
    """An effect that stays as it was measured: each draw is N(log_lift, standard_error²), the same in all weeks."""
    if not (np.isfinite([log_lift, standard_error]).all() and standard_error >= 0):
        return _no_effect(weeks, ProjectionReason.EFFECT_NOT_ESTIMABLE)
    level = log_lift + standard_error * _antithetic(np.random.default_rng(seed), draws)
    return EffectPaths(np.repeat(level[:, None], weeks, axis=1), level)


def fading_effect(fit: PersistenceFit, *, weeks: int, seed: int, draws: int = 4000) -> EffectPaths:
    """The course of METHODS E6, week by week (in the middle of each) after everybody got the change.

    An effect of which more likely than not less than half will be left is projected from its long run alone.
    """
    if fit.reason:
        return _no_effect(weeks, fit.reason)
    start, long_run, constant = fit.draws(draws, seed)

    def at(days: Floats) -> Floats:
        left: Floats = np.exp(-days / constant[:, None])
        return long_run[:, None] + (start - long_run)[:, None] * left

    level = at(fit.ages).mean(axis=1)
    if fit.transient:
        return EffectPaths(np.repeat(long_run[:, None], weeks, axis=1), level, long_run_only=True)
    return EffectPaths(at(np.asarray(DAYS_PER_WEEK * (np.arange(weeks) + 0.5))), level)


def stock_effect(
    retention: float,
    inflow: float,
    changes: ArrayLike,
    covariance: ArrayLike,
    *,
    start: float | None,
    weeks: int,
    seed: int,
    draws: int = 4000,
) -> EffectPaths:
    """Effects on weekly retention and inflow of a North Star that is a stock: they compound (METHODS E5)."""
    change = stock_flow.draws_of(changes, covariance, seed=seed, draws=draws)
    below = stock_flow.keeps_below_one(retention, change[:, 0])
    if np.mean(~below) > stock_flow.RISK_OF_ONE:
        return _no_effect(weeks, stock_flow.RETENTION_REACHES_ONE)
    change = change[below]
    path = np.log(stock_flow.path(retention, inflow, change[:, 0], change[:, 1], start, weeks))
    return EffectPaths(path, np.log1p(stock_flow.steady_state_lift(retention, change[:, 0], change[:, 1])))


def project(
    effect: EffectPaths,
    *,
    baseline: ArrayLike,
    baseline_log_sd: ArrayLike = 0.0,
    coverage: ArrayLike = 1.0,
    share: float = 1.0,
    share_error: float = 0.0,
    kappa: tuple[float, float] = KAPPA,
    survival: tuple[float, float] = SURVIVAL,
    grade: Grade = "A",
    days: float = FEWEST_DAYS,
    seed: int,
) -> Projection:
    """`sum over weeks t of B_t (e^(kappa c_t delta_t s_t) - 1)`, by joint draws (METHODS E7).

    `effect` has S draws of the log effect on those who have the change, H weeks each. `baseline` (H,) is the mean of
    what the North Star would be without it, `baseline_log_sd` () or (H,) the log sd of each week, one error for the
    whole course; `coverage` () or (H,) is who has it. `share` is those people's share of the metric at full coverage
    with its standard error (METHODS E5; the draws stay within 0 and 1). `kappa` and `survival` are (median, log sd) of
    log-normals: the realisation rate, and the half-life in weeks of `s_t = 2^(-t / half-life)`. No headline from
    evidence of grade D or U, or from less than 14 `days` of measurement.

    The share of a source is the variance of the gain when this source alone varies and the others have their means:
    the gain is all but linear in each of them, so that this is the variance of its conditional expectation. Where the
    effect comes from a course, "effect" is its level while measured and "persistence" what that level leaves open.
    Raises `ValueError` for shapes that do not match and scales that are negative or not finite.
    """
    course = np.asarray(baseline, dtype=np.float64)
    weeks = course.size
    if effect.reason:
        return _nothing(effect.reason)
    if course.ndim != 1 or not weeks or effect.path.shape != (effect.level.size, weeks):
        raise ValueError("the baseline is (H,), the effect's draws are (S, H)")
    wobble, cover = (np.broadcast_to(np.asarray(a, dtype=np.float64), weeks) for a in (baseline_log_sd, coverage))
    if not (np.isfinite([*course, *wobble, *cover, share, share_error, *kappa, *survival]).all()):
        raise ValueError("baseline, coverage, share, realisation and survival must be finite")
    if min(wobble.min(), share, share_error, kappa[1], survival[1]) < 0 or min(kappa[0], survival[0]) <= 0:
        raise ValueError("spreads and shares are not negative; medians of realisation and survival are positive")

    n = effect.level.size
    rng = np.random.default_rng([_STREAM, seed])
    half_life = survival[0] * np.exp(survival[1] * rng.standard_normal(n))
    others: dict[Source, Floats] = {
        "reach": np.clip(share + share_error * rng.standard_normal((n, 1)), 0.0, 1.0),
        "realisation": kappa[0] * np.exp(kappa[1] * rng.standard_normal((n, 1))),
        "baseline": course * np.exp(wobble * rng.standard_normal((n, 1)) - wobble**2 / 2),
        "survival": np.exp2(-(np.arange(weeks) + 0.5) / half_life[:, None]),
    }

    def gain(path: Floats, given: Mapping[Source, Floats]) -> Floats:
        topline = np.log1p(given["reach"] * np.expm1(path))
        weekly = given["baseline"] * np.expm1(given["realisation"] * cover * topline * given["survival"])
        return np.asarray(weekly.sum(axis=1))

    drawn = gain(effect.path, others)
    shares = _shares(effect, gain, others, float(drawn.var()))
    lower, median, upper = map(float, np.quantile(drawn, _QUANTILES))
    reason = ""
    if grade in NO_HEADLINE:
        reason = str(ProjectionReason.EVIDENCE_TOO_WEAK)
    elif days < FEWEST_DAYS:
        reason = str(ProjectionReason.MEASURED_LESS_THAN_TWO_WEEKS)
    return Projection(
        median=median,
        lower_80=lower,
        upper_80=upper,
        mean=float(drawn.mean()),
        chance_positive=float(np.mean(drawn > 0) + 0.5 * np.mean(drawn == 0)),
        shares=shares,
        headline=not reason,
        long_run_only=effect.long_run_only,
        estimable=True,
        reason=reason,
    )


def _shares(
    effect: EffectPaths,
    gain: Callable[[Floats, Mapping[Source, Floats]], Floats],
    others: Mapping[Source, Floats],
    whole: float,
) -> dict[Source, float]:
    """Each source varies alone, the others stay at their means; see `project`."""
    by_level, residual = _split(effect)
    centre = effect.path.mean(axis=0, keepdims=True)
    means: dict[Source, Floats] = {name: drawn.mean(axis=0, keepdims=True) for name, drawn in others.items()}
    alone: dict[Source, Floats] = {"effect": gain(by_level, means), "persistence": gain(centre + residual, means)}
    for name, drawn in others.items():
        alone[name] = gain(centre, {**means, name: drawn})
    variance: dict[Source, float] = {name: float(gains.var()) for name, gains in alone.items()}
    known = sum(variance.values())
    total = max(whole, known)
    if total <= 0:
        return dict.fromkeys((*variance, "interplay"), 0.0)
    return {name: part / total for name, part in variance.items()} | {"interplay": (total - known) / total}


def _split(effect: EffectPaths) -> tuple[Floats, Floats]:
    """The paths' expectation given the level (linear: they are nearly jointly normal), and the rest; both (S, H)."""
    around, level = effect.path - effect.path.mean(axis=0), effect.level - effect.level.mean()
    square = float(level @ level)
    if square <= 0:
        return np.broadcast_to(effect.path.mean(axis=0), effect.path.shape), around
    explained = level[:, None] * (level @ around) / square
    return effect.path.mean(axis=0) + explained, around - explained


def _antithetic(rng: np.random.Generator, draws: int) -> Floats:
    if draws < 2 or draws % 2:
        raise ValueError("draws come in antithetic pairs; ask for an even number")
    half = rng.standard_normal(draws // 2)
    return np.concatenate([half, -half])


def _no_effect(weeks: int, reason: str) -> EffectPaths:
    return EffectPaths(np.zeros((0, weeks)), np.zeros(0), reason=str(reason))


def _nothing(reason: str) -> Projection:
    nan = np.nan
    return Projection(
        nan, nan, nan, nan, nan, {}, headline=False, long_run_only=False, estimable=False, reason=str(reason)
    )
