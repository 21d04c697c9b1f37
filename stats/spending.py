"""How much error may have been spent by a fraction of the planned information (METHODS B2; Lan & DeMets 1983)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.moments import Floats

type Spending = Literal["obrien_fleming", "pocock", "power", "hwang_shih_de_cani"]

DEFAULT_PARAMETER = {"power": 3.0, "hwang_shih_de_cani": -4.0}


def spent(spending: Spending, error: float, fraction: ArrayLike, parameter: float | None = None) -> Floats:
    """Cumulative one-sided `error` spent at information `fraction` >= 0; all of it from 1 on.

    `obrien_fleming` 2 (1 - Phi(z_{1 - error / 2} / sqrt t)), `pocock` error ln(1 + (e - 1) t), `power` error
    t^parameter (default 3), `hwang_shih_de_cani` error (1 - e^{-parameter t}) / (1 - e^{-parameter}) (default -4;
    0 is linear).
    Raises `ValueError` for an unknown function, a parameter that does not fit, or an error outside (0, 1).
    """
    if not 0 < error < 1:
        raise ValueError("the error to spend must be between 0 and 1")
    t = np.clip(np.asarray(fraction, dtype=np.float64), 0.0, 1.0)
    if spending in DEFAULT_PARAMETER:
        size = DEFAULT_PARAMETER[spending] if parameter is None else parameter
    elif parameter is not None:
        raise ValueError(f"{spending} spending has no parameter")
    if spending == "obrien_fleming":
        with np.errstate(divide="ignore"):
            found = 2 * sc.ndtr(sc.ndtri(error / 2) / np.sqrt(t))
    elif spending == "pocock":
        found = error * np.log1p((np.e - 1) * t)
    elif spending == "power":
        if size <= 0:
            raise ValueError("the exponent of power spending must be above 0")
        found = error * t**size
    elif spending == "hwang_shih_de_cani":
        found = error * (np.expm1(-size * t) / np.expm1(-size) if abs(size) > 1e-9 else t)
    else:
        raise ValueError(f"unknown spending function {spending!r}")
    return np.asarray(np.where(t >= 1, error, found), dtype=np.float64)
