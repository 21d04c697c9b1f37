"""Several treatments against one control (Dunnett 1955 "A multiple comparison procedure for comparing several
treatments with a control"; METHODS A11).

Comparisons that share a control are correlated by l_i l_j with l_i^2 = v_C / (v_C + v_i), so given the control's
deviation z they are independent: P(max |T| <= c) is one integral over z, and one over the scale s of the common
variance estimate where the degrees of freedom are few.
"""

from __future__ import annotations

import numpy as np
import scipy.special as sc
from numpy.typing import ArrayLike

from stats.moments import Bools, Floats

LARGE_DEGREES = 1e6
"""Above this the common variance counts as known, which moves an adjusted p-value by less than 1e-6 of itself."""
FAR = 7.5
"""Beyond so many standard errors the joint tail lies between the largest and the sum of the single ones, within a
probability of 1e-13: the sum is taken."""

_nodes, _weights = np.polynomial.legendre.leggauss(40)
_DEVIATION: Floats = (_nodes + 1) / 2 * 8.5
_DEVIATION_WEIGHT: Floats = _weights / 2 * 8.5 * 2 * np.exp(-(_DEVIATION**2) / 2) / np.sqrt(2 * np.pi)


def dunnett(
    t: ArrayLike,
    df: ArrayLike,
    n: ArrayLike,
    level: float = 0.95,
    variance: ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Two-sided adjusted p-values (V-1, ...) and the critical value (...) that all comparisons share.

    `t` (V-1, ...) statistics of the treatments against one control, nan where a comparison was not made; `df` (...) or
    (V-1, ...), of which the smallest counts; `n` (V,) or (V, ...) units per arm, control first. With `variance`
    (V, ...), the squared standard errors of the arm means, the correlations follow from those instead of from equal
    variances per unit. All intervals estimate -/+ critical value x standard error cover together with `level`.
    Raises `ValueError` for shapes that do not fit and a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError("level must be between 0 and 1")
    statistic = np.asarray(t, dtype=np.float64)
    arms, cells = statistic.shape[0], statistic.shape[1:]
    spread = 1 / np.asarray(n, dtype=np.float64) if variance is None else np.asarray(variance, dtype=np.float64)
    if spread.shape[0] != arms + 1:
        raise ValueError("sizes or variances are needed for every arm and the control")
    spread = np.broadcast_to(spread.reshape(spread.shape + (1,) * (1 + len(cells) - spread.ndim)), (arms + 1, *cells))
    freedom = np.asarray(df, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        freedom = np.fmin.reduce(freedom, axis=0) if freedom.ndim > len(cells) else freedom
        share = spread[0] / (spread[0] + spread[1:])
    made = np.isfinite(statistic) & np.isfinite(share) & (freedom > 0)
    flat_made = made.reshape(arms, -1)
    loading = np.sqrt(np.clip(np.where(made, share, 0.5), 0.0, 1 - 1e-9)).reshape(arms, -1)
    freedom = np.where(np.broadcast_to(freedom, cells) > 0, freedom, 1.0).ravel()
    size = np.abs(np.where(made, statistic, 0.0)).reshape(arms, -1)
    number = flat_made.sum(axis=0)
    alone = np.minimum(2 * sc.stdtr(freedom, -size), 1.0)
    joint = np.stack([_any_beyond(size[i], freedom, loading, flat_made) for i in range(arms)])
    p = np.clip(joint, alone, np.minimum(number * alone, 1.0))
    cases, case = np.unique(np.vstack([freedom, loading, flat_made]), axis=1, return_inverse=True)
    someone = cases[arms + 1 :] > 0
    someone[0] |= ~someone.any(axis=0)  # a value to solve for; what it is does not matter
    critical = _critical(1 - level, cases[0], cases[1 : arms + 1], someone)[case.ravel()]
    return (
        np.where(made, p.reshape(arms, *cells), np.nan),
        np.where(number > 0, critical, np.nan).reshape(cells),
    )


def _any_beyond(c: Floats, df: Floats, loading: Floats, made: Bools) -> Floats:
    """P(some |T_j| > c) for cells (n,), loadings (arms, n)."""
    out = np.empty(c.shape)
    alone = np.minimum(2 * sc.stdtr(df, -c), 1.0)
    known = df >= LARGE_DEGREES
    far = known & (c > FAR)
    out[far] = (alone * made.sum(axis=0))[far]
    near = known & ~far
    for cells, order in (
        (near, 1),
        (~known & (df >= 3000), 3),
        ((df < 3000) & (df >= 300), 6),
        ((df < 300) & (df >= 30), 16),
        (df < 30, 64),
    ):
        if cells.any():
            scale, weight = _scales(df[cells], order)
            beyond = [_given_scale(c[cells] * scale[:, k], loading[:, cells], made[:, cells]) for k in range(order)]
            out[cells] = np.einsum("kn,nk->n", np.stack(beyond), weight)
    return np.minimum(out, 1.0)


def _scales(df: Floats, order: int) -> tuple[Floats, Floats]:
    """Nodes and weights (n, order) of the Gauss rule for the scale s, where df s^2 is chi-squared (Golub & Welsch)."""
    if order == 1:
        return np.ones((df.size, 1)), np.ones((df.size, 1))
    unique, back = np.unique(df, return_inverse=True)
    k, a = np.arange(order), unique[:, None] / 2 - 1
    jacobi = np.zeros((unique.size, order, order))
    jacobi[:, k, k] = 2 * k + a + 1
    jacobi[:, k[1:], k[:-1]] = np.sqrt(k[1:] * (k[1:] + a))
    square, vectors = np.linalg.eigh(jacobi)
    return np.sqrt(square / (unique[:, None] / 2))[back], (vectors[:, 0, :] ** 2)[back]


def _given_scale(c: Floats, loading: Floats, made: Bools) -> Floats:
    """As `_any_beyond` for normal statistics: the integral over the control's deviation, even in it."""
    rest = np.sqrt(1 - loading**2)[..., None]
    shift = loading[..., None] * _DEVIATION
    beyond = sc.ndtr((shift - c[:, None]) / rest) + sc.ndtr((-shift - c[:, None]) / rest)
    beyond = np.where(made[..., None], np.minimum(beyond, 1 - 1e-16), 0.0)
    # 1 - prod(1 - q) in a form that keeps the digits of small tails.
    return np.asarray(-np.expm1(np.log1p(-beyond).sum(axis=0)) @ _DEVIATION_WEIGHT, dtype=np.float64)


def _critical(alpha: float, df: Floats, loading: Floats, made: Bools) -> Floats:
    """Where P(some |T_j| > c) = alpha: between one comparison's and Bonferroni's value, by false position on log p."""
    number = np.maximum(made.sum(axis=0), 1)
    low, high = (-sc.stdtrit(df, alpha / k / 2) for k in (np.ones_like(number), number))
    target = np.log(alpha)
    above, below = (np.log(_any_beyond(c, df, loading, made)) - target for c in (low, high))
    for _ in range(40):
        width = high - low
        if (width < 1e-10).all():
            break
        slope = np.where(above - below > 0, above - below, 1.0)
        c = np.clip(low + width * above / slope, low, high)
        value = np.log(_any_beyond(c, df, loading, made)) - target
        right = value > 0
        # Illinois: halve the end that stays, so that both ends close in.
        below = np.where(right, below / 2, value)
        above = np.where(right, value, above / 2)
        low, high = np.where(right, c, low), np.where(right, high, c)
        if (np.abs(value) < 1e-9).all():
            return np.asarray(c, dtype=np.float64)
    return np.asarray((low + high) / 2, dtype=np.float64)
