"""Realised against claimed: a holdout's lift over what its launches had claimed (METHODS F3).

`kappa = realised / claimed`, both of them uncertain and independent: the holdout's units took part in no launch. Its
interval is Fieller's 1954 ("Some problems in interval estimation"), which is not bounded where the claim may as well be
nothing: then every rate fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

WITHIN: Final = 0.3
"""A rate that is known to within so much tells half of a claim from all of it."""


@dataclass(frozen=True, slots=True)
class RealisedRate:
    """`kappa` and its interval; NaN ends where `unbounded`. `kappa` is NaN for a claim of exactly nothing."""

    kappa: float
    lower: float
    upper: float
    unbounded: bool


def realised_rate(
    realised: float, realised_error: float, claimed: float, claimed_sd: float, *, level: float = 0.95
) -> RealisedRate:
    """The rate of two log lifts with independent normal errors, and its Fieller interval at `level`.

    Raises `ValueError` for numbers that are not finite or errors that are not positive (the claim's may be zero).
    """
    given = (realised, realised_error, claimed, claimed_sd)
    if not np.isfinite(given).all() or realised_error <= 0 or claimed_sd < 0:
        raise ValueError("log lifts must be finite, the holdout's error positive")
    z = _z(level)
    kappa = realised / claimed if claimed != 0 else float("nan")
    a = claimed**2 - (z * claimed_sd) ** 2
    if a <= 0:
        return RealisedRate(kappa, float("nan"), float("nan"), unbounded=True)
    b = realised * claimed
    c = realised**2 - (z * realised_error) ** 2
    # With a > 0 the discriminant is positive: the rate that fits best is realised / claimed.
    width = float(np.sqrt(b**2 - a * c))
    return RealisedRate(kappa, (b - width) / a, (b + width) / a, unbounded=False)


def needed_error(claimed: float, *, within: float = WITHIN, level: float = 0.95) -> float:
    """The standard error of a holdout's log lift at which `kappa` is known to `within`, its claim taken as known.

    0.009 for a claim of 6 %. NaN without a claim.
    """
    return abs(claimed) * within / _z(level) if claimed != 0 else float("nan")


def times_more_units(standard_error: float, needed: float) -> float:
    """How many times as many units a holdout needs for an error of `needed`, at the same share held."""
    return max(1.0, (standard_error / needed) ** 2)


def _z(level: float) -> float:
    return float(sc.ndtri(0.5 + level / 2))
