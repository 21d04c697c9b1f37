"""Evidence that may be combined and stopped at will (Vovk & Wang 2021; Ramdas, Grunwald, Vovk & Shafer 2023; B5).

An e-value has mean at most 1 when its hypothesis is true, so it exceeds 1 / alpha with probability at most alpha. All
functions take and give natural logarithms: evidence multiplies, and soon leaves the range of floats. nan marks a test
that was not made and does not count. `stats.always_valid.log_e_value` gives such values, `stats.multiplicity.e_bh`
selects among many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from stats.moments import Floats


def average(log_e: ArrayLike, weights: ArrayLike | None = None, axis: int = -1) -> Floats:
    """Log of the (weighted) mean of e-values along `axis`: an e-value under every dependence; nan if all are.

    `weights` >= 0 broadcast and need not sum to 1; they must be chosen without looking at the data.
    """
    values = np.asarray(log_e, dtype=np.float64)
    share = np.broadcast_to(np.asarray(1.0 if weights is None else weights, dtype=np.float64), values.shape)
    if (share < 0).any():
        raise ValueError("weights cannot be negative")
    share = np.where(np.isnan(values), 0.0, share)
    total = share.sum(axis=axis)
    # An e-value without weight says nothing, however large it is.
    top = np.max(np.where(share > 0, values, -np.inf), axis=axis, keepdims=True, initial=-np.inf)
    anchor = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        mean = np.log((np.exp(np.where(share > 0, values, -np.inf) - anchor) * share).sum(axis=axis))
        mean = mean + np.squeeze(anchor, axis=axis) - np.log(np.where(total > 0, total, 1.0))
    return np.where(total > 0, mean, np.nan)


def product(log_e: ArrayLike, axis: int = -1) -> Floats:
    """Log of the product along `axis`: an e-value if they are independent, or each valid given the ones before."""
    values = np.asarray(log_e, dtype=np.float64)
    known = ~np.isnan(values)
    return np.where(known.any(axis=axis), np.where(known, values, 0.0).sum(axis=axis), np.nan)


def calibrated(log_p: ArrayLike, kappa: float | None = None) -> Floats:
    """Log e-value from the natural log of a p-value that was computed once, not watched.

    With `kappa` in (0, 1): kappa p^(kappa - 1). Without: its average over kappa, (1 - p + p ln p) / (p ln^2 p), which
    needs no choice. A p-value of 0 gives infinite evidence: pass logarithms that did not underflow.
    """
    log = np.asarray(log_p, dtype=np.float64)
    if (log > 0).any():
        raise ValueError("logarithms of p-values cannot be positive")
    if kappa is not None:
        if not 0 < kappa < 1:
            raise ValueError("kappa must be between 0 and 1")
        return np.asarray(np.log(kappa) + (kappa - 1) * log, dtype=np.float64)
    # 1 - p + p ln p loses its digits near p = 1, where the whole is 1/2 - ln p (-1/6 + ...) with x = -ln p.
    x = -log
    small = x < 1e-3
    safe = np.where(small | ~np.isfinite(x), 1.0, x)
    ordinary = np.log(-np.expm1(-safe) - safe * np.exp(-safe)) + safe - 2 * np.log(safe)
    near_one = np.log(0.5 + x * (1 / 6 + x * (1 / 24 + x / 120)), where=small, out=np.zeros_like(x))
    return np.where(np.isnan(x), np.nan, np.where(small, near_one, np.where(np.isinf(x), np.inf, ordinary)))


def p_value(log_e: ArrayLike) -> Floats:
    """min(1, 1 / e), the p-value that an e-value implies at any time (Ville 1939)."""
    return np.exp(-np.maximum(np.asarray(log_e, dtype=np.float64), 0.0))
