"""Tail probabilities as logarithms, so that an effect of 200 standard errors still has a p-value that can be ranked."""

from __future__ import annotations

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.moments import Floats

LN10 = np.log(10.0)
TINY = 1e-290
"""Below this the linear-scale probability has lost digits to underflow and the logarithmic form takes over."""


def log10_t_two_sided(t: ArrayLike, df: ArrayLike) -> tuple[Floats, Floats]:
    """(p, log10 p) of |T| >= |t| for Student's t, elementwise; p may underflow to 0, log10 p does not."""
    size, freedom = np.broadcast_arrays(np.abs(np.asarray(t, float)), np.asarray(df, float))
    p = np.minimum(2 * sc.stdtr(freedom, -size), 1.0)
    with np.errstate(divide="ignore"):
        log10 = np.log10(p)
    far = np.isfinite(size) & (p < TINY)
    if far.any():
        log10 = np.where(far, 0.0, log10)
        log10[far] = log_two_sided_t(size[far], freedom[far]) / LN10
    return p, log10


def log10_chi_square(statistic: ArrayLike, df: ArrayLike) -> tuple[Floats, Floats]:
    """(p, log10 p) of a chi-square upper tail, elementwise."""
    x, freedom = np.broadcast_arrays(np.asarray(statistic, float), np.asarray(df, float))
    p = np.asarray(sc.chdtrc(freedom, x), dtype=np.float64)
    with np.errstate(divide="ignore"):
        log10 = np.log10(p)
    far = np.isfinite(x) & (p < TINY)
    if far.any():
        a, h = freedom[far] / 2, x[far] / 2
        # Asymptotic series of the upper incomplete gamma function; here h > 650, so four terms give 1e-8.
        series = 1 + (a - 1) / h * (1 + (a - 2) / h * (1 + (a - 3) / h * (1 + (a - 4) / h)))
        log10 = np.where(far, 0.0, log10)
        log10[far] = (-h + (a - 1) * np.log(h) - sc.gammaln(a) + np.log(series)) / LN10
    return p, log10


def log_two_sided_t(size: Floats, df: Floats) -> Floats:
    """ln p of |T| >= size far in the tail: ln I_x(df/2, 1/2) with x = df / (df + t^2), by a continued fraction."""
    a, b = df / 2, 0.5
    log_ratio = 2 * np.log(size) - np.log(df)
    log_x = -np.logaddexp(0.0, log_ratio)
    x = np.exp(log_x)
    log_rest = -np.logaddexp(0.0, -log_ratio)
    c, d = np.ones_like(x), 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 2000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / (1 + even * d), 1 + even / c
        fraction = fraction * d * c
        d, c = 1 / (1 + odd * d), 1 + odd / c
        step = d * c
        fraction = fraction * step
        if np.all(np.abs(step - 1) < 1e-14):
            break
    return np.asarray(a * log_x + b * log_rest - np.log(a) - sc.betaln(a, b) + np.log(fraction), dtype=np.float64)
