"""The default Bayesian readout: a normal likelihood on the log lift (METHODS C1, C5).

`log_lift ~ N(delta, standard_error²)` with a Normal or Student-t4 prior on `delta`. A t4 prior is a scale mixture of
normals, `delta | w ~ N(m, scale² / w)` with `w ~ Gamma(2, 2)`, so the posterior is a mixture of normals over a grid of
`w` and every quantity below is a weighted sum of closed forms: no MCMC, and no grid over `delta` that has to resolve a
narrow likelihood and a wide prior at once. A Normal prior is the mixture with one component.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import scipy.special as sc

from stats.bayes.mixture import Array, Mixture, standard_density
from stats.bayes.prior import Family, Prior

type BoolArray = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
type TextArray = np.ndarray[tuple[int, ...], np.dtype[np.str_]]
type Direction = Literal["increase", "decrease"]

# Trapezoid in ln w is spectrally accurate here; e^-30 reaches estimates ten thousand prior scales away.
_LOG_W: Final = np.linspace(-30.0, 4.0, 97)


@dataclass(frozen=True, slots=True)
class Posterior:
    """What we believe about each log lift, cell by cell; NaN with a `reason` where not `estimable`.

    `mean`, `sd` are of the log lift; `lift`, `hdi_lower`, `hdi_upper` are fractions (the HDI is taken on the log scale
    and converted). `chance_to_win` is the chance of a move in the good direction; the losses are expected log-lift
    forgone by shipping a worse, or by not shipping a better variant. `rope_decision` compares the HDI with the region
    of practical equivalence: `equivalent`, `different` or `undecided`.
    """

    mean: Array
    sd: Array
    lift: Array
    chance_to_win: Array
    expected_loss: Array
    expected_loss_of_not_shipping: Array
    rope_probability: Array
    rope_decision: TextArray
    hdi_lower: Array
    hdi_upper: Array
    hdi_level: float
    estimable: BoolArray
    reason: TextArray
    prior: Prior
    direction: Direction
    mixture: Mixture

    @property
    def prior_source(self) -> str:
        """Where the prior came from, in words for the report."""
        return self.prior.source

    def chance_within(self, margin: Array) -> Array:
        """Chance (...,) that the lift is not worse than `margin` (a fraction, broadcasting): a guardrail is safe.

        Worse is below -margin for an increase and above +margin for a decrease (METHODS A10, C5). NaN where not
        estimable.
        """
        share = np.broadcast_to(np.asarray(margin, np.float64), self.mean.shape)
        with np.errstate(divide="ignore"):
            edge = np.log1p(-np.minimum(share, 1.0)) if self.direction == "increase" else np.log1p(share)
        below = self.mixture.cdf(edge[..., None])[..., 0]
        return np.where(self.estimable, 1.0 - below if self.direction == "increase" else below, np.nan)


def posterior(
    log_lift: Array,
    standard_error: Array,
    prior: Prior,
    *,
    direction: Direction = "increase",
    rope: float = 0.005,
    level: float = 0.95,
) -> Posterior:
    """Posterior of every cell's log lift (METHODS C1) and the decisions it supports (C5).

    `log_lift` and `standard_error` broadcast to (...,). `rope` is the smallest relative change that matters, applied
    as +-ln(1 + rope). Cells with a non-finite estimate or a non-positive error are `effect_not_estimable`.
    Raises `ValueError` for `rope < 0` or a level outside (0, 1).
    """
    if rope < 0 or not 0 < level < 1:
        raise ValueError("rope must not be negative and level must lie between 0 and 1")
    estimate, error = np.broadcast_arrays(np.asarray(log_lift, np.float64), np.asarray(standard_error, np.float64))
    estimable = np.asarray(np.isfinite(estimate) & np.isfinite(error) & (error > 0))
    # Harmless placeholders keep the arithmetic of the other cells vectorised; they are masked below.
    mixture = prior_mixture(prior).given(np.where(estimable, estimate, 0.0), np.where(estimable, error, 1.0))
    weight, mu, sd = mixture.weight, mixture.mean, mixture.sd

    mean, spread = mixture.moments()
    sign = 1.0 if direction == "increase" else -1.0
    z = sign * mu / sd
    gain = (weight * (sd * standard_density(z) + sign * mu * sc.ndtr(z))).sum(-1)
    loss = (weight * (sd * standard_density(z) - sign * mu * sc.ndtr(-z))).sum(-1)
    edge = np.log1p(rope)
    inside = (weight * (sc.ndtr((edge - mu) / sd) - sc.ndtr((-edge - mu) / sd))).sum(-1)
    lower, upper = mixture.hdi(level)
    decision = np.where(
        (lower > -edge) & (upper < edge),
        "equivalent",
        np.where((lower > edge) | (upper < -edge), "different", "undecided"),
    )

    def masked(values: Array) -> Array:
        return np.where(estimable, values, np.nan)

    return Posterior(
        mean=masked(mean),
        sd=masked(spread),
        lift=masked(np.expm1(mean)),
        chance_to_win=masked((weight * sc.ndtr(z)).sum(-1)),
        expected_loss=masked(np.maximum(loss, 0.0)),
        expected_loss_of_not_shipping=masked(np.maximum(gain, 0.0)),
        rope_probability=masked(inside),
        rope_decision=np.where(estimable, decision, "undecided"),
        hdi_lower=masked(np.expm1(lower)),
        hdi_upper=masked(np.expm1(upper)),
        hdi_level=level,
        estimable=estimable,
        reason=np.where(estimable, "", "effect_not_estimable"),
        prior=prior,
        direction=direction,
        mixture=mixture,
    )


def prior_mixture(prior: Prior) -> Mixture:
    """The prior itself in the same form, (K,)."""
    if prior.family in (Family.NORMAL, Family.FLAT):
        return Mixture(np.ones(1), np.array([prior.mean]), np.array([prior.scale]))
    if prior.family is Family.LEARNED:
        weight, mean, sd = np.array(prior.components).T
        return Mixture(weight, mean, sd)
    log_density = 2 * _LOG_W - 2 * np.exp(_LOG_W)  # Gamma(2, 2) in ln w, up to a constant
    weight = np.exp(log_density - log_density.max())
    return Mixture(weight / weight.sum(), np.full(_LOG_W.shape, prior.mean), prior.scale * np.exp(-_LOG_W / 2))
