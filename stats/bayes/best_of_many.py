"""Which of several arms is the best, control included, and what choosing each of them would lose (METHODS C5).

Arms share their control: a control that was lucky makes every treatment look bad at once. With a flat prior on the
control's log mean and independent priors on the lifts, lifts are independent given the control, so everything is an
integral over the control's log mean of one-dimensional integrals over the largest lift. Both are done by quadrature: no
draws, no seed, and errors below 1e-4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.mixture import Array, standard_density
from stats.bayes.normal import BoolArray, Direction, TextArray, prior_mixture
from stats.bayes.prior import Prior

_REACH: Final = 8.0
_ZOOMS: Final = 4
_COARSE: Final = 129
_FEWEST_NODES: Final = 33
_MOST_NODES: Final = 513
_NEGLIGIBLE_WEIGHT: Final = 1e-10
_NOTABLE_WEIGHT: Final = 0.005
_PANELS: Final = np.array([-8.0, -5.0, -3.0, -1.5, 0.0, 1.5, 3.0, 5.0, 8.0])
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(6)


@dataclass(frozen=True, slots=True)
class BestOfMany:
    """Arrays are (..., A) over arms, control first; NaN with a `reason` where an arm is not `estimable`.

    `chance_to_be_best` sums to one over the arms that can be compared. `expected_loss` is the expected log lift forgone
    by choosing that arm rather than the one that is truly best.
    """

    chance_to_be_best: Array
    expected_loss: Array
    estimable: BoolArray
    reason: TextArray


def best_of_many(
    log_mean: Array, standard_error: Array, prior: Prior, *, direction: Direction = "increase"
) -> BestOfMany:
    """Chance to be best and expected loss of every arm, from independent estimates of the arms' log means.

    `log_mean` and its `standard_error` are (..., A) with A >= 2, control first; only differences of log means matter,
    so lifts over control beside a control of 0 +- its own error will do. `prior` is on each treatment's log lift. Arms
    without a finite estimate or a positive error are left out; without a control nothing is comparable.
    Raises `ValueError` for fewer than two arms.
    """
    value, error = np.broadcast_arrays(np.asarray(log_mean, np.float64), np.asarray(standard_error, np.float64))
    arms = value.shape[-1]
    if arms < 2:
        raise ValueError("the best of many needs a control and at least one treatment")
    known = np.asarray(np.isfinite(value) & np.isfinite(error) & (error > 0))
    known = np.asarray(known & known[..., :1] & (known[..., 1:].any(-1, keepdims=True)))
    sign = 1.0 if direction == "increase" else -1.0
    flat = (part.reshape(-1, arms) for part in (sign * np.where(known, value, 0.0), np.where(known, error, 1.0), known))
    chance, loss = np.full((known.size // arms, arms), np.nan), np.full((known.size // arms, arms), np.nan)
    start = prior_mixture(prior)
    mixture = start.weight, sign * start.mean, start.sd
    for row, (m, s, there) in enumerate(zip(*flat, strict=True)):
        if there.any():
            pick = there.nonzero()[0]
            chance[row, pick], loss[row, pick] = _one(m[pick], s[pick], *mixture)
    return BestOfMany(
        chance_to_be_best=chance.reshape(known.shape),
        expected_loss=loss.reshape(known.shape),
        estimable=known,
        reason=np.where(known, "", "effect_not_estimable"),
    )


def _one(m: Array, s: Array, weight: Array, mean: Array, sd: Array) -> tuple[Array, Array]:
    """One comparison: `m`, `s` (A,) of the arms, the prior's components (K,)."""
    gap, error = m[1:] - m[0], s[1:, None]
    total, shrink = np.sqrt(error**2 + sd**2), sd**2 / (error**2 + sd**2)  # (V, K)
    after = np.sqrt(shrink) * error

    def given(shift: Array) -> tuple[Array, Array, Array]:
        """With the control off its estimate by `shift` (P,): log likelihood (P,); weights, means of lifts (P, V, K)."""
        z = (gap[:, None] - shift[:, None, None] - mean) / total
        with np.errstate(divide="ignore"):
            log_weight = np.log(weight) - np.log(total) - 0.5 * z * z
        top = log_weight.max(-1, keepdims=True)
        mass = np.exp(log_weight - top)
        whole = mass.sum(-1, keepdims=True)
        log_likelihood = (top + np.log(whole))[..., 0].sum(-1) - 0.5 * (shift / s[0]) ** 2
        return log_likelihood, mass / whole, mean + shrink * z * total

    centre, reach = _where(lambda shift: given(shift)[0], float(s[0]))
    sharpest = float(s[1:].min()) / (reach / _REACH)
    count = int(np.clip(np.ceil(_FEWEST_NODES / min(sharpest, 1.0)), _FEWEST_NODES, _MOST_NODES))
    nodes = centre + reach * np.linspace(-1.0, 1.0, count)
    log_likelihood, weights, means = given(nodes)
    at = np.exp(log_likelihood - log_likelihood.max())
    at /= at.sum()
    heavy = weights.max(axis=(0, 1)) > _NEGLIGIBLE_WEIGHT
    best, above, lift = _given_control(weights[..., heavy], means[..., heavy], after[:, heavy])
    chance, expected = at @ best, float(at @ above)
    loss = np.maximum(expected - np.concatenate([[0.0], at @ lift]), 0.0)
    return chance / chance.sum(), loss


def _where(log_density: Callable[[Array], Array], scale: float) -> tuple[float, float]:
    """Centre and half-width of the interval that holds a density, found by zooming in."""
    centre, reach = 0.0, _REACH * scale
    for _ in range(_ZOOMS):
        nodes = centre + reach * np.linspace(-1.0, 1.0, _COARSE)
        found = log_density(nodes)
        mass = np.exp(found - found.max())
        mass /= mass.sum()
        centre = float(mass @ nodes)
        spread = float(np.sqrt(mass @ (nodes - centre) ** 2))
        reach = min(reach, _REACH * max(spread, 2 * reach / _COARSE))
    return centre, reach


def _given_control(weight: Array, mean: Array, sd: Array) -> tuple[Array, Array, Array]:
    """At each of P control levels: chance of every arm to be best (P, 1 + V), E[max(0, lifts)] (P,), E[lift] (P, V).

    `weight` and `mean` are (P, V, K), `sd` (V, K). Integrals over the largest lift go panel by panel between the arms'
    quantiles, so that arms of very different precision are all resolved.
    """
    lift = (weight * mean).sum(-1)
    spread = np.sqrt((weight * (sd**2 + (mean - lift[..., None]) ** 2)).sum(-1))
    around = [lift[..., None] + spread[..., None] * _PANELS]
    if weight.shape[-1] > 1:  # a narrow component within a wide mixture needs panels of its own
        narrow = np.where(weight > _NOTABLE_WEIGHT, sd, np.inf).argmin(-1)[..., None]
        own = np.take_along_axis(np.broadcast_to(sd, weight.shape), narrow, -1)
        around.append(np.take_along_axis(mean, narrow, -1) + own * _PANELS)
    spots = np.concatenate(around, axis=-1).reshape(len(lift), -1)
    edges = np.sort(np.concatenate([np.zeros((len(lift), 1)), np.maximum(spots, 0.0)], axis=-1), axis=-1)
    width = np.diff(edges, axis=-1)[..., None] / 2
    x = ((edges[:, 1:, None] + edges[:, :-1, None]) / 2 + width * _POINTS).reshape(len(lift), -1)
    step = (width * _WEIGHTS).reshape(len(lift), -1)
    below, density = np.ones((*lift.shape, x.shape[-1])), np.zeros((*lift.shape, x.shape[-1]))
    for v in range(lift.shape[-1]):
        z = (x[..., None] - mean[:, v, None, :]) / sd[v]
        below[:, v] = np.einsum("pxk,pk->px", sc.ndtr(z), weight[:, v])
        density[:, v] = np.einsum("pxk,pk->px", standard_density(z) / sd[v], weight[:, v])
    all_below = below.prod(axis=1)
    others = np.stack([np.delete(below, v, axis=1).prod(axis=1) for v in range(lift.shape[-1])], axis=1)
    wins = np.einsum("pvx,px->pv", density * others, step)
    control = (weight * sc.ndtr(-mean / sd)).sum(-1).prod(axis=-1)
    return np.concatenate([control[:, None], wins], axis=-1), ((1.0 - all_below) * step).sum(-1), lift
