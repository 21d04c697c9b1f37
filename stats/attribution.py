"""What the inputs of a North Star account for in a change that was observed, without an experiment (METHODS E3, E4).

Descriptive, not causal. Contributions are in units of the North Star and add up to its change, exactly: by logarithmic
means where the tree is a product (LMDI-I), by Shapley values otherwise. Neither depends on an order of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import factorial
from typing import Final, Literal

import numpy as np
import scipy.special as sc

from stats.formula import Formula
from stats.tree import elasticities

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type Method = Literal["lmdi", "shapley", "none"]

_SMALL_CHANGE: Final = 1e-8
"""Of ln(a / b): closer values take the series of the logarithmic mean, whose own error is of fourth order."""
_STAND_IN_FOR_ZERO: Final = 1e-100
_EXACT_UP_TO: Final = 10
_ORDERS: Final = 1000
"""Pairs of an order and its reverse, for trees of more inputs than can be enumerated."""
_SAME_EXPONENT: Final = 1e-9
FEWEST_WEEKS: Final = 4
"""Weeks below which their scatter says too little about an interval."""
_FEWEST_TRANSFORMS: Final = 3


class AttributionReason(StrEnum):
    """Why a change is not attributed."""

    VALUE_MISSING = "value_missing"
    TREE_UNDEFINED = "tree_undefined"
    TREE_DIFFERS = "tree_differs_from_north_star"


@dataclass(frozen=True, slots=True, eq=False)
class Attributed:
    """Contributions `parts` (..., I) of the inputs to the `change` (...,): they add up. nan where `reason` says why."""

    method: Method
    parts: Array
    change: Array
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class RateAndMix:
    """The change of a ratio over segments: `rate` within them, `mix` because they weigh differently; `total` is both.

    `rate_by_segment`, `mix_by_segment` (..., S) add up to them. `reversed` marks a total that moved against the rates
    of the segments (Simpson).
    """

    rate: Array
    mix: Array
    total: Array
    rate_by_segment: Array
    mix_by_segment: Array
    reversed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def logarithmic_mean(a: Array, b: Array) -> Array:
    """`L(a, b) = (a - b) / ln(a / b)`, `L(a, a) = a`, of positive numbers; 0 where one of them is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    positive = (a > 0) & (b > 0)
    top, bottom = np.where(positive, a, 1.0), np.where(positive, b, 1.0)
    ratio = np.log(top / bottom)
    near = np.abs(ratio) < _SMALL_CHANGE
    middle, gap = (top + bottom) / 2, top - bottom
    found = np.where(near, middle - gap**2 / (12 * middle), gap / np.where(near, 1.0, ratio))
    return np.asarray(np.where(positive, found, 0.0))


def lmdi(before: Array, after: Array, exponents: Array | None = None) -> Array:
    """Contributions (..., I) to the change of `N = sum_s prod_i x_si ** e_i` between `before` and `after` (..., S, I).

    LMDI-I (Ang 2015, "LMDI decomposition approach: a guide for implementation"): exact and without a residual. A zero
    stands for a number 1e-100 of the largest of its input (Ang & Liu 2007). Raises `ValueError` for negative values.
    """
    x0, x1 = np.broadcast_arrays(np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64))
    if (x0 < 0).any() or (x1 < 0).any():
        raise ValueError("logarithmic means are of values that are not negative: use Shapley values")
    power = np.ones(x0.shape[-1]) if exponents is None else np.asarray(exponents, dtype=np.float64)
    largest = np.maximum(x0, x1).max(axis=-2, keepdims=True)
    least = np.where(largest > 0, largest, 1.0) * _STAND_IN_FOR_ZERO
    log0, log1 = (power * np.log(np.where(x > 0, x, least)) for x in (x0, x1))
    weight = logarithmic_mean(np.exp(log1.sum(-1)), np.exp(log0.sum(-1)))
    return np.asarray((weight[..., None] * (log1 - log0)).sum(axis=-2))


def shapley(value: Callable[[Array], Array], before: Array, after: Array, *, seed: int) -> Array:
    """Contributions (..., I) to `value(after) - value(before)`, where `value` maps (..., I) to (...,).

    The average over all orders of changing one input at a time (Shorrocks 2013, "Decomposition procedures for
    distributional analysis"): exact for up to 10 inputs, else over 2,000 antithetic orders from `seed`, which add up
    exactly too.
    """
    x0, x1 = np.broadcast_arrays(np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64))
    inputs = x0.shape[-1]
    return _all_orders(value, x0, x1) if inputs <= _EXACT_UP_TO else _some_orders(value, x0, x1, seed)


def attribute(formula: Formula, before: Array, after: Array, *, seed: int) -> Attributed:
    """What the inputs (..., I), ordered as `formula.names`, account for in the change of the formula's value (E3).

    A product of powers of positive inputs is taken apart by LMDI, anything else by Shapley values.
    """
    x0, x1 = np.broadcast_arrays(np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64))

    def value(columns: Array) -> Array:
        return formula.evaluate(dict(zip(formula.names, np.moveaxis(columns, -1, 0), strict=True)))

    with np.errstate(invalid="ignore"):
        change = np.asarray(value(x1) - value(x0))
    if not (np.isfinite(x0).all() and np.isfinite(x1).all()):
        return _nothing(x0.shape, AttributionReason.VALUE_MISSING)
    power = _exponents(formula, x0, x1)
    if power is None:
        with np.errstate(invalid="ignore"):  # an undefined tree is found out below
            parts = shapley(value, x0, x1, seed=seed)
        method: Method = "shapley"
    else:
        # The formula may have a constant factor, which scales every contribution.
        factor = value(x1) / np.exp((power * np.log(x1)).sum(-1))
        parts = factor[..., None] * lmdi(x0[..., None, :], x1[..., None, :], power)
        method = "lmdi"
    if not np.isfinite(parts).all():
        return _nothing(x0.shape, AttributionReason.TREE_UNDEFINED)
    return Attributed(method, parts, change, "")


def rate_and_mix(weight_before: Array, rate_before: Array, weight_after: Array, rate_after: Array) -> RateAndMix:
    """Within and between segments (..., S): `R = sum w r`, the weights of a period adding up to 1 (METHODS E3).

    Rate effects weigh by the mean share of both periods, mix effects by the mean rate beyond the overall one, so that a
    segment that grows helps only if it is better than the rest.
    """
    w0, r0, w1, r1 = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (weight_before, rate_before, weight_after, rate_after))
    )
    mean_weight, mean_rate = (w0 + w1) / 2, (r0 + r1) / 2
    overall = (mean_weight * mean_rate).sum(-1, keepdims=True)
    rate_part, mix_part = mean_weight * (r1 - r0), (mean_rate - overall) * (w1 - w0)
    rate, mix = rate_part.sum(-1), mix_part.sum(-1)
    total = rate + mix
    return RateAndMix(rate, mix, total, rate_part, mix_part, np.sign(total) * np.sign(rate) < 0)


def error_over_weeks(parts: Array) -> tuple[Array, float]:
    """Standard errors (I,) of sums over weeks of contributions (W, I), and the degrees of freedom of their t quantile.

    By how much weeks differ, neighbours being alike: the mean square of the first cosine transforms, which a stationary
    series leaves nearly independent (Lazarus, Lewis, Stock & Watson 2018, "HAR inference"). Few transforms make wide
    but honest intervals. Raises `ValueError` for fewer than 4 weeks.
    """
    weeks = len(parts)
    if weeks < FEWEST_WEEKS:
        raise ValueError(f"the scatter of {weeks} weeks says too little; {FEWEST_WEEKS} are needed")
    transforms = max(_FEWEST_TRANSFORMS, round(0.4 * weeks ** (2 / 3)))
    place = (np.arange(weeks) + 0.5) / weeks
    cosines = np.sqrt(2) * np.cos(np.pi * np.outer(np.arange(1, transforms + 1), place))
    return np.sqrt(((cosines @ parts) ** 2).mean(axis=0)), float(transforms)


def _exponents(formula: Formula, before: Array, after: Array) -> Array | None:
    """The powers (I,) of a formula that is a product of powers of positive inputs, or None."""
    points = np.stack([before, after, np.sqrt(np.abs(before * after))]).reshape(-1, before.shape[-1])
    if (points <= 0).any():
        return None
    slopes = elasticities(formula, points)
    if not np.isfinite(slopes).all() or np.ptp(slopes, axis=0).max() > _SAME_EXPONENT:
        return None
    return np.asarray(slopes[0])


def _all_orders(value: Callable[[Array], Array], before: Array, after: Array) -> Array:
    inputs = before.shape[-1]
    sets = np.arange(2**inputs)
    chosen = ((sets[:, None] >> np.arange(inputs)) & 1).astype(np.bool_)
    worth = value(np.where(chosen.reshape(-1, *([1] * (before.ndim - 1)), inputs), after, before))
    size = chosen.sum(axis=1)
    weight = np.array([factorial(int(n)) * factorial(inputs - 1 - int(n)) for n in size[size < inputs]])
    share = np.zeros(len(sets))
    share[size < inputs] = weight / factorial(inputs)
    parts = [
        np.tensordot(share[~chosen[:, i]], worth[sets[~chosen[:, i]] | 1 << i] - worth[~chosen[:, i]], axes=1)
        for i in range(inputs)
    ]
    return np.asarray(np.stack(parts, axis=-1))


def _some_orders(value: Callable[[Array], Array], before: Array, after: Array, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    total = np.zeros(before.shape)
    for _ in range(_ORDERS):
        order = rng.permutation(before.shape[-1])
        for way in (order, order[::-1]):
            now = before.copy()
            last = value(now)
            for i in way:
                now[..., i] = after[..., i]
                reached = value(now)
                total[..., i] += reached - last
                last = reached
    return total / (2 * _ORDERS)


def _nothing(shape: tuple[int, ...], reason: AttributionReason) -> Attributed:
    return Attributed("none", np.full(shape, np.nan), np.full(shape[:-1], np.nan), reason)


def t_quantile(level: float, df: float) -> float:
    """The two-sided quantile of Student's t: how many standard errors an interval of this level reaches."""
    return float(sc.stdtrit(df, 0.5 + level / 2))
