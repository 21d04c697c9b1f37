"""Would as many experiments as usual be enough, and if not, what would? (METHODS F8)

In each posterior draw of the ledger experiments come one after the other: a true effect from the population as that
draw has it, an estimate as precise as estimates were, a launch where the estimate clears a bar. The bar is the one that
lets through as large a share as shipped so far, so that both how often changes ship and how much they then are worth
follow from what is known. What a launch does to the North Star is kappa times its effect, by the target's week as much
of it as lasts. All questions are asked of the same draws: how many experiments, and what if one thing were better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import scipy.special as sc

from stats.ledger.contract import Array, LedgerFit
from stats.ledger.forecast import Forecast
from stats.ledger.series_covariance import Flags

type LeverName = Literal["velocity", "win_rate", "effect_size", "sensitivity"]

WANTED: Final = 0.8
NO_HISTORY: Final = "no_history"
NO_EFFECTS: Final = "no_effects"
_WEEKS_PER_QUARTER: Final = 13.0
_FEWEST_CANDIDATES: Final = 200
_MOST_CANDIDATES: Final = 1000
_BETTER: Final = 1.25
_MOST_BETTER: Final = 10.0
_HALVINGS: Final = 12
_HELPS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Lever:
    """`needed` is what would give a chance of 0.8 to hit the target, all else as it is; None where it cannot, alone.

    `chance_if_better` is the chance to hit with this one better by a quarter. `velocity` is in experiments per quarter,
    `win_rate` a share, `effect_size` what a launch is worth at the target's week (log), `sensitivity` the median
    standard error of an experiment (log), where less is better.
    """

    name: LeverName
    now: float
    needed: float | None
    chance_if_better: float


@dataclass(frozen=True, slots=True)
class ProgrammeAhead:
    """The programme until the target's week. `chance` includes it, `chance_without` does not.

    `total` is what it adds by then (log): lower end of the 80 % interval, median, upper end. `experiments_needed` give
    a chance of 0.8, None beyond four times as many as usual (but at least 200). `binding` is the lever that, better by
    a quarter, helps most; the first of those that help alike, and None where none helps by a hundredth. With a `reason`
    there are no levers, and numbers are those without a programme.
    """

    chance_without: float
    chance: float
    total: tuple[float, float, float]
    experiments_per_quarter: float
    ships_per_quarter: float
    experiments_needed: int | None
    levers: tuple[Lever, ...]
    binding: LeverName | None
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Experiments to come, (S, M): true effects, errors of estimates in units of `error`, what launches make of them.

    `bar` (S,) is in standard errors. `kappa`, `scatter` (S,) are the draw's; `own` are standard normal and `lasts` is
    what is left of an effect at the target's week.
    """

    effect: Array
    miss: Array
    error: Array
    bar: Array
    kappa: Array
    scatter: Array
    own: Array
    lasts: Array

    def shipped(self) -> Flags:
        """Which clear the bar."""
        return np.asarray(self.effect / self.error + self.miss > self.bar[:, None])

    def worth(self) -> Array:
        """What each adds at the target's week if it ships."""
        return np.asarray((self.kappa[:, None] * self.effect + self.scatter[:, None] * self.own) * self.lasts)

    def told_more(self, factor: float) -> Array:
        """What each adds where errors are so many times smaller and the bar, in standard errors, is the same."""
        precise = replace(self, error=self.error / factor)
        return np.where(precise.shipped(), self.worth(), 0.0)


def programme_ahead(
    fit: LedgerFit,
    ahead: Forecast,
    *,
    target: float,
    week: int,
    experiments: Array,
    shipped: Array,
    seed: int,
    increase: bool = True,
) -> ProgrammeAhead:
    """Chances to reach `target` > 0 in the week at position `week` of the forecast `ahead`, which is of `fit`.

    `experiments` and `shipped` (Q,) are how many ended, and how many of these shipped, in each of the last Q quarters.
    Numbers per quarter are negative binomial with mean and size unknown, the share that ships binomial with Jeffreys'
    prior. With `increase` false the target is to be at most reached, and effects help that are negative.

    Assumes experiments spread evenly until then, each launched in full when it ends. `reason` is `no_history` without a
    past experiment in any quarter, `no_effects` where none was measured, or that of the forecast.
    """
    sign = 1.0 if increase else -1.0
    if ahead.reason:
        return _nothing(np.nan, ahead.reason)
    gap = sign * (np.log(target) - ahead.log_values[:, week])
    without = float((gap <= 0).mean())
    if fit.data is None or not fit.data.estimate.size:
        return _nothing(without, NO_EFFECTS)
    if not experiments.sum():
        return _nothing(without, NO_HISTORY)
    rng = np.random.default_rng(seed)
    draws, quarters = gap.size, (week + 1) / _WEEKS_PER_QUARTER
    rate = rng.beta(0.5 + shipped.sum(), 0.5 + max(0.0, float((experiments - shipped).sum())), draws)
    mean, size = _counts(experiments, draws, rng)
    number: Array = rng.poisson(rng.gamma(size * quarters, mean / size)).astype(np.float64)
    most = int(np.clip(4 * number.mean(), _FEWEST_CANDIDATES, _MOST_CANDIDATES))
    coming = _candidates(fit, rate, week, most, sign, rng)
    adds = np.where(coming.shipped(), coming.worth(), 0.0)
    total = _after(adds, number)

    def hits(total: Array) -> float:
        return float((total >= gap).mean())

    helped: dict[LeverName, Callable[[float], float]] = {
        "velocity": lambda factor: hits(_after(adds, np.asarray(factor * number))),
        "win_rate": lambda factor: hits(
            _after(adds, np.asarray(factor * number))
        ),  # as many more ships, each worth as much
        "effect_size": lambda factor: hits(factor * total),
        "sensitivity": lambda factor: hits(_after(coming.told_more(factor), number)),
    }
    worth = coming.worth()[coming.shipped()]
    now: dict[LeverName, float] = {
        "velocity": float(experiments.mean()),
        "win_rate": float(rate.mean()),
        "effect_size": float(worth.mean()) if worth.size else 0.0,
        "sensitivity": float(np.median(fit.data.error)),
    }
    levers = []
    for name, chance in helped.items():
        least = _least(chance)
        needed = None if least is None else now[name] * least if name != "sensitivity" else now[name] / least
        if name == "win_rate" and needed is not None and needed > 1:
            needed = None
        levers.append(Lever(name, now[name], needed, chance(_BETTER)))
    most_helped = max(levers, key=lambda lever: lever.chance_if_better)
    usual = hits(total)
    return ProgrammeAhead(
        chance_without=without,
        chance=usual,
        total=_interval(total),
        experiments_per_quarter=now["velocity"],
        ships_per_quarter=now["velocity"] * now["win_rate"],
        experiments_needed=_experiments_needed(adds, gap),
        levers=tuple(levers),
        binding=most_helped.name if most_helped.chance_if_better >= usual + _HELPS else None,
    )


def _counts(observed: Array, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draws of mean and size of the negative binomial behind `observed` (Q,), from a grid of both.

    The logarithm of the mean is flat, that of the size normal about ln 5 with standard deviation 1: a company's
    quarters differ more than chance alone would have it, but not without limit.
    """
    centre = np.log(observed.mean())
    log_mean, log_size = np.meshgrid(centre + np.linspace(-2.0, 2.0, 81), np.log(5) + np.linspace(-3.0, 3.0, 31))
    mean, size = np.exp(log_mean.ravel()), np.exp(log_size.ravel())
    count = observed[:, None]
    likelihood = sc.gammaln(count + size) - sc.gammaln(size) + count * np.log(mean / (mean + size))
    likelihood = (likelihood + size * np.log(size / (mean + size))).sum(axis=0)
    log_weight = likelihood - 0.5 * (log_size.ravel() - np.log(5)) ** 2
    weight = np.exp(log_weight - log_weight.max())
    chosen = rng.choice(mean.size, draws, p=weight / weight.sum())
    return mean[chosen], size[chosen]


def _candidates(
    fit: LedgerFit, rate: Array, week: int, number: int, sign: float, rng: np.random.Generator
) -> _Candidates:
    if fit.data is None:
        raise ValueError("a fit without its data does not know how precise experiments are")
    shape, scalars = (rate.size, number), fit.scalars
    nu = fit.priors.nu
    tails = rng.standard_t(nu, shape) if np.isfinite(nu) else rng.standard_normal(shape)
    effect = sign * (scalars["mean"][:, None] + scalars["tau"][:, None] * tails)
    error = rng.choice(np.hypot(fit.data.error, fit.data.bias_sd), shape)
    miss = rng.standard_normal(shape)
    # The bar is between the last that ships and the first that does not.
    ordered = np.sort(effect / error + miss, axis=1)
    place = np.clip(((1 - rate) * number).astype(np.intp), 0, number - 1)
    age = (week + 1) * rng.random(shape)
    remaining = scalars["remaining"][:, None]
    return _Candidates(
        effect=effect,
        miss=miss,
        error=error,
        bar=ordered[np.arange(rate.size), place],
        kappa=scalars["kappa"],
        scatter=scalars["scatter"],
        own=rng.standard_normal(shape),
        lasts=remaining + (1 - remaining) * np.exp(-age / scalars["weeks"][:, None]),
    )


def _after(adds: Array, number: Array) -> Array:
    """What the first `number` (S,) of M experiments add together (S,); more than M go on as the M did."""
    most = adds.shape[1]
    whole = np.hstack([np.zeros((adds.shape[0], 1)), adds.cumsum(axis=1)])
    counted = np.minimum(np.rint(number).astype(np.intp), most)
    return np.asarray(whole[np.arange(adds.shape[0]), counted] * np.maximum(number / most, 1.0))


def _experiments_needed(adds: Array, gap: Array) -> int | None:
    chances = np.concatenate([[(gap <= 0).mean()], (adds.cumsum(axis=1) >= gap[:, None]).mean(axis=0)])
    enough = np.flatnonzero(chances >= WANTED)
    return int(enough[0]) if enough.size else None


def _least(chance: Callable[[float], float]) -> float | None:
    """The smallest factor, from 1 to 10, that gives a chance of 0.8."""
    if chance(1.0) >= WANTED:
        return 1.0
    if chance(_MOST_BETTER) < WANTED:
        return None
    low, high = 0.0, float(np.log(_MOST_BETTER))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if chance(float(np.exp(middle))) >= WANTED else (middle, high)
    return float(np.exp(high))


def _interval(total: Array) -> tuple[float, float, float]:
    lower, median, upper = np.quantile(total, (0.1, 0.5, 0.9))
    return float(lower), float(median), float(upper)


def _nothing(without: float, reason: str) -> ProgrammeAhead:
    return ProgrammeAhead(without, without, (0.0, 0.0, 0.0), 0.0, 0.0, None, (), None, reason)
