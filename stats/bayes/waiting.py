"""What more data may show, and whether that is worth the days it takes (METHODS H4).

Beliefs are mixtures of normals on a log lift that is oriented so that positive is good. A further sample that estimates
the lift with standard error `s` will move the posterior mean; its expected benefit over deciding now is the value of
the information (Raiffa & Schlaifer 1961). Against it stand the days in which a good variant is not yet everybody's and
a bad one is somebody's (Feit & Berman 2019 "Test & Roll").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.mixture import Array, Mixture, standard_density

type Growth = Callable[[Array], Array]
"""From days of waiting to new information, as a multiple of what there is so far."""

_NEGLIGIBLE_WEIGHT: Final = 1e-12
_REACH: Final = 12.0
_HALVINGS: Final = 26
_DAILY: Final = 14
_STEPS: Final = 48


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waiting is worth, cell by cell, in days of the metric at its present level: 1 is what one day brings.

    `net_gain` (..., D) belongs to the `days` (D,), which begin with 0 (worth 0). `best_days` and `best_gain` (...,) are
    those of the best whole number of days: 0 where deciding now is best.
    """

    days: Array
    net_gain: Array
    best_days: Array
    best_gain: Array


def oriented(believed: Mixture, direction: str) -> Mixture:
    """The same beliefs with positive meaning good."""
    if direction == "increase":
        return believed
    return Mixture(believed.weight, -believed.mean, believed.sd)


def predictive_power(z: Array, fraction: Array, critical: Array) -> Array:
    """Probability that the planned end shows a win, with a flat prior: Phi((z - c sqrt t) / sqrt(1 - t)).

    `z` is positive in the good direction, with a part `fraction` of the planned information. All broadcast. NaN where
    nothing is left to come (fraction of 1 or more) or nothing has come yet.
    """
    score, part, bound = (np.asarray(value, np.float64) for value in (z, fraction, critical))
    open_ = np.asarray((part > 0) & (part < 1))
    t = np.where(open_, part, 0.5)
    return np.where(open_, sc.ndtr((score - bound * np.sqrt(t)) / np.sqrt(1 - t)), np.nan)


def predictive_power_with_prior(
    estimate: Array, standard_error: Array, believed: Mixture, fraction: Array, critical: Array
) -> Array:
    """The same averaged over what is believed: the final estimate is N(t d + (1-t) mu, (1-t)^2 sigma^2 + (1-t) se_N^2).

    `estimate` d and its `standard_error` so far (...,), `believed` (..., K), all oriented. NaN as in
    `predictive_power`, and for cells that are not estimable.
    """
    d, se, part, bound = np.broadcast_arrays(
        *(np.asarray(value, np.float64) for value in (estimate, standard_error, fraction, critical))
    )
    known = np.asarray((part > 0) & (part < 1) & np.isfinite(d) & (se > 0))
    t = np.where(known, part, 0.5)[..., None]
    final = np.sqrt(t) * np.where(known, se, 1.0)[..., None]
    mean = t * np.where(known, d, 0.0)[..., None] + (1 - t) * believed.mean
    spread = np.sqrt((1 - t) ** 2 * believed.sd**2 + (1 - t) * final**2)
    chance = (believed.weight * sc.ndtr((mean - bound[..., None] * final) / spread)).sum(-1)
    return np.where(known, chance, np.nan)


def value_of_information(believed: Mixture, error: Array) -> Array:
    """EVSI: what a further sample with standard error `error` adds to the best expected log lift, per unit of time.

    `believed` (..., K) oriented, `error` (..., D); the result is (..., D). For one component it is
    mu Phi(mu / s~) + s~ phi(mu / s~) - max(mu, 0) with s~ = sigma^2 / sqrt(sigma^2 + error^2).
    """
    now = np.maximum(believed.moments()[0], 0.0)
    return np.asarray(np.maximum(expected_best(believed, error) - now[..., None], 0.0))


def expected_best(believed: Mixture, error: Array) -> Array:
    """E[max(E[lift | new data], 0)] (..., D): what is expected of deciding after a sample with `error` (..., D).

    The posterior mean rises with the new estimate, so everything above the one estimate at which it is zero is shipped,
    and the integral above it is closed-form in every component. That estimate maximises the integral, so an error in it
    does not matter to first order.
    """
    heavy = believed.weight.reshape(-1, believed.weight.shape[-1]).max(axis=0) > _NEGLIGIBLE_WEIGHT
    weight, mu, sd = (part[..., None, heavy] for part in (believed.weight, believed.mean, believed.sd))
    decided = np.maximum((weight * mu).sum(-1), 0.0)
    told = np.isfinite(error) & (error > 0)
    s = np.where(told, error, 1.0)[..., None]
    total = np.sqrt(sd**2 + s**2)
    shrunk = sd**2 / total
    alone = weight.shape[-1] == 1
    edge = -mu / shrunk if alone else (_indifference(weight, mu, total, shrunk)[..., None] - mu) / total
    value = (weight * (mu * sc.ndtr(-edge) + shrunk * standard_density(edge))).sum(-1)
    # A sample without error tells everything, one with infinite error nothing.
    perfect = (weight * (mu * sc.ndtr(mu / sd) + sd * standard_density(mu / sd))).sum(-1)
    return np.asarray(np.maximum(np.where(told, value, np.where(error == 0, perfect, decided)), decided))


def _indifference(weight: Array, mu: Array, total: Array, shrunk: Array) -> Array:
    """The new estimate after which shipping and not shipping are equally good, by bisection; (..., D)."""
    centre = (weight * mu).sum(-1)
    spread = np.sqrt((weight * (total**2 + (mu - centre[..., None]) ** 2)).sum(-1))
    own = mu - mu * total / shrunk  # where each component alone is indifferent
    low = np.clip(own.min(-1), centre - _REACH * spread, centre + _REACH * spread)
    high = np.clip(own.max(-1), centre - _REACH * spread, centre + _REACH * spread)
    with np.errstate(divide="ignore"):
        log_weight = np.log(weight) - np.log(total)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        z = (middle[..., None] - mu) / total
        log_density = log_weight - 0.5 * z * z
        density = np.exp(log_density - log_density.max(-1, keepdims=True))
        above = (density * (mu + shrunk * z)).sum(-1) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.asarray((low + high) / 2)


def net_gain(
    believed: Mixture, standard_error: Array, growth: Growth, days: Array, *, horizon: float, share: float, cost: float
) -> Array:
    """ENGS (..., D) of `days` (D,) more of testing, in days of the metric.

    (H - dt) E[best] + dt a mu - H max(mu, 0) - cost dt: the value of the better decision over the days that remain of
    the `horizon`, plus what the `share` of units in treatment gains or loses meanwhile, less what deciding now brings.
    `standard_error` (...,) is that of the estimate so far; `cost` is of one more day, in days of the metric.
    """
    with np.errstate(divide="ignore"):
        error = np.asarray(standard_error)[..., None] / np.sqrt(growth(days))
    mean = believed.moments()[0][..., None]
    later = (horizon - days) * expected_best(believed, error) + days * share * mean
    return np.asarray(later - horizon * np.maximum(mean, 0.0) - cost * days)


def waiting(
    believed: Mixture, standard_error: Array, growth: Growth, *, horizon: float, share: float, cost: float = 0.0
) -> Waiting:
    """The curve of the net gain over days up to the `horizon`, and its best whole day (METHODS H4).

    `believed` (..., K) oriented, `standard_error` (...,) positive. Raises `ValueError` for a horizon that is not
    positive or a share outside [0, 1].
    """
    if horizon <= 0 or not 0 <= share <= 1:
        raise ValueError("the horizon must be positive and the share between 0 and 1")
    days = days_to_show(horizon)

    def gain_of(at: Array) -> Array:
        return net_gain(believed, standard_error, growth, at, horizon=horizon, share=share, cost=cost)

    gain = gain_of(days)
    best = gain.argmax(-1)
    best_days, best_gain = days[best], np.take_along_axis(gain, best[..., None], -1)[..., 0]
    # Between the days shown the curve is smooth: whole days beside the best one settle it.
    for spot in np.unique(best):
        around = np.arange(np.ceil(days[max(spot - 1, 0)]), days[min(spot + 1, len(days) - 1)] + 1)
        fine = gain_of(around)
        mine = best == spot
        at = fine.argmax(-1)
        top = np.take_along_axis(fine, at[..., None], -1)[..., 0]
        better = mine & (top > best_gain)
        best_days, best_gain = np.where(better, around[at], best_days), np.where(better, top, best_gain)
    settled = np.asarray(best_gain > 0)
    return Waiting(days, gain, np.where(settled, best_days, 0.0), np.where(settled, best_gain, 0.0))


def days_to_show(horizon: float) -> Array:
    """0, every day of the first two weeks, then ever wider whole steps up to the horizon."""
    if horizon <= _DAILY:
        return np.unique(np.append(np.arange(0.0, horizon), horizon))
    later = np.unique(np.rint(np.geomspace(_DAILY, horizon, _STEPS - _DAILY)))
    return np.unique(np.concatenate([np.arange(0.0, _DAILY), np.minimum(later, np.floor(horizon))]))
