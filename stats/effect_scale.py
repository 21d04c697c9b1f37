"""How large effects usually are: the spread of true effects behind past estimates (METHODS A14, C3).

Estimates spread more than effects, by their standard errors. The spread tau of the effects around zero is where
Q(tau) = sum effect^2 / (se^2 + tau^2) equals its expectation K (Paule & Mandel 1982), its interval where Q equals
chi-squared quantiles (Q-profile: Viechtbauer 2007). Around zero rather than their mean: most changes do little, and
what is compared with tau is the size of an effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import scipy.optimize as so
import scipy.special as sc
from numpy.typing import ArrayLike

FEWEST_EFFECTS = 8
"""Fewer past experiments say too little about tau (METHODS C3)."""


class ScaleReason(StrEnum):
    """Why there is no scale of effects."""

    TOO_FEW_EXPERIMENTS = "too_few_experiments"


@dataclass(frozen=True, slots=True)
class EffectScale:
    """`tau` with its interval at `level`, from so many `experiments`; None with a `reason` where they are too few."""

    experiments: int
    tau: float | None
    lower: float | None
    upper: float | None
    level: float
    reason: str


def effect_scale(log_lift: ArrayLike, standard_error: ArrayLike, level: float = 0.9) -> EffectScale:
    """The scale of true log lifts from one estimate (K,) of each past experiment, shipped or not.

    Estimates of winners alone would exaggerate it. Elements that are nan or without a standard error are left out.
    """
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    effect, error = np.asarray(log_lift, dtype=np.float64), np.asarray(standard_error, dtype=np.float64)
    usable = np.isfinite(effect) & np.isfinite(error) & (error > 0)
    square, variance = effect[usable] ** 2, error[usable] ** 2
    k = int(usable.sum())
    if k < FEWEST_EFFECTS:
        return EffectScale(k, None, None, None, level, ScaleReason.TOO_FEW_EXPERIMENTS)

    def where(target: float) -> float:
        """The tau at which Q falls to the target; 0 if it is below already."""

        def excess(tau: float) -> float:
            return float((square / (variance + tau**2)).sum()) - target

        if excess(0.0) <= 0:
            return 0.0
        return float(so.brentq(excess, 0.0, float(np.sqrt(square.sum() / target)), xtol=1e-12))

    return EffectScale(
        experiments=k,
        tau=where(float(k)),
        lower=where(float(sc.chdtri(k, (1 - level) / 2))),
        upper=where(float(sc.chdtri(k, (1 + level) / 2))),
        level=level,
        reason="",
    )
