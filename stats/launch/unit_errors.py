"""Errors of estimates that are linear in a panel, when the periods of a unit depend on each other in any way (D2).

Every estimate is a weighted sum of the outcomes, so its error is a sum over units of what each adds, and its variance
the sum of their squares: robust to dependence within a unit, to spread that differs between units, and conservative
where effects differ between them (Bertrand, Duflo & Mullainathan 2004; Borusyak, Jaravel & Spiess 2024, theorem 3).
A few treated units do not show their own spread. Where they are worth fewer than `FEW` of equal size, their weights
are laid on the paths of untreated units instead (Conley & Taber 2011 "Inference with difference in differences with a
small number of policy changes"): a treated unit is taken to vary as they do, or more if it did so before its launch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.launch.contract import NotEstimable
from stats.launch.reasons import LaunchReason
from stats.launch.two_way import TwoWay
from stats.moments import Bools, Floats, safe_divide

FEW = 5
"""Where treated units are worth fewer of equal size than this, their spread is that of untreated units."""
ENOUGH_HISTORY = 2.0
"""Periods of the untreated units' spread that a treated unit's own history is averaged with."""


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Of K estimates: `factor` (K, C), whose product with its transpose is their covariance; `df` (K,) of t."""

    factor: Floats
    df: Floats

    @property
    def covariance(self) -> Floats:
        return self.factor @ self.factor.T

    @property
    def standard_error(self) -> Floats:
        return np.asarray(np.sqrt((self.factor**2).sum(axis=1)))

    def of(self, which: Bools) -> Errors:
        """Those of some of the estimates."""
        return Errors(self.factor[which], self.df[which])

    def critical(self, level: float) -> Floats:
        """(K,) pointwise critical values."""
        return np.asarray(sc.stdtrit(self.df, 0.5 + level / 2))

    def joint_critical(self, level: float, *, seed: int, draws: int) -> Floats:
        """(K,) critical values of a band that holds for all K estimates together (sup-t, multiplier bootstrap).

        What each unit adds is multiplied by standard normal numbers; the largest of the K standardised sums has a
        quantile, whose tail probability becomes that of every estimate's own t distribution (Montiel Olea &
        Plagborg-Møller 2019 "Simultaneous confidence bands"). Estimates without error take no part.
        """
        error = self.standard_error
        moves = error > 0
        if not moves.any():
            return self.critical(level)
        scaled = self.factor[moves] / error[moves, None]
        drawn = np.random.default_rng(seed).standard_normal((scaled.shape[1], draws))
        largest = float(np.quantile(np.abs(scaled @ drawn).max(axis=0), level))
        return np.asarray(np.maximum(sc.stdtrit(self.df, sc.ndtr(largest)), self.critical(level)))


def few(size: Floats) -> bool:
    """Whether treated units of these sizes (N,), 0 for others, are too few to show their own spread.

    A variance is summed from squared sizes, so one unit of half the size decides nearly alone.
    """
    return bool(_units(size[None, :] ** 2)[0] < FEW * (1 - 1e-9))


def unit_errors(
    weights: Floats, adds: Floats, *, fit: TwoWay, treated: Bools, comparisons: int, by_untreated: bool
) -> Errors:
    """Errors of K estimates with `weights` (K, N, T) on the outcomes; `adds` (K, N) is what each unit adds to them.

    `adds` of treated units must already allow for the group means that were taken from them. `comparisons` is the
    smallest number of untreated units that any treated period is compared with. `by_untreated`: whether the spread of
    treated units is to be that of units that are never treated (see `few`); where hardly any is, a rollout that reached
    everybody, they keep their own with the few degrees of freedom that it has. Raises `NotEstimable` where fewer than 2
    are compared with, or neither have a spread.

    Degrees of freedom are those of Welch's variance, or what they would be if all units varied alike, if that is less:
    by chance the few may look as if they did not vary (as in METHODS A5).
    """
    if comparisons < 2:
        raise NotEstimable(LaunchReason.TOO_FEW_COMPARISON_UNITS)
    never = ~treated & fit.cells.any(axis=1)
    estimated = np.sqrt(comparisons / (comparisons - 1))
    compared = adds[:, never] * estimated
    size = (weights**2).sum(axis=-1)
    if by_untreated and never.sum() < 2 and treated.sum() < FEW:
        raise NotEstimable(LaunchReason.TOO_FEW_COMPARISON_UNITS)
    if by_untreated and never.sum() >= 2:
        laid = _laid_on_untreated(weights[:, treated], fit, never) * _louder(fit, treated, never)[:, None]
        laid = (laid * estimated / np.sqrt(never.sum())).reshape(len(weights), laid.shape[1] * laid.shape[2])
        factor = np.concatenate([laid, compared], axis=1)
        return Errors(factor, np.full(len(weights), never.sum() - 1.0))
    own = adds[:, treated]
    freedom = [np.maximum(_units(size[:, part]) - 1, 1.0) for part in (treated, never)]
    seen = [(part**2).sum(axis=1) for part in (own, compared)]
    alike = [size[:, part].sum(axis=1) for part in (treated, never)]
    df = np.minimum(_joined(seen, freedom), _joined(alike, freedom))
    return Errors(np.concatenate([own, compared], axis=1), df)


def together(errors: list[Errors]) -> Errors:
    """Errors of all estimates, from those of some after others."""
    return Errors(np.concatenate([e.factor for e in errors]), np.concatenate([e.df for e in errors]))


def _joined(variance: list[Floats], freedom: list[Floats]) -> Floats:
    """(K,) degrees of freedom of a sum of independent variances (Welch 1947; Satterthwaite 1946)."""
    spread = sum(safe_divide(part**2, df) for part, df in zip(variance, freedom, strict=True))
    return np.asarray(np.where(spread > 0, safe_divide(sum(variance) ** 2, spread), 1.0))


def _units(size: Floats) -> Floats:
    """(K,) how many units of equal weight these (K, n) are worth (Kish)."""
    return np.asarray(safe_divide(size.sum(axis=1) ** 2, (size**2).sum(axis=1)))


def _laid_on_untreated(weights: Floats, fit: TwoWay, never: Bools) -> Floats:
    """(K, m, n) errors that treated units' weights (K, m, T) would have made on each never treated unit's path."""
    laid = weights @ fit.residual[never].T
    seen = weights**2 @ fit.cells[never].T
    return np.asarray(laid * np.sqrt(safe_divide((weights**2).sum(axis=-1, keepdims=True), seen)))


def _louder(fit: TwoWay, treated: Bools, never: Bools) -> Floats:
    """(m,) by how much more, at least 1, treated units varied before their launch than untreated ones did then."""
    before = fit.cells[treated]
    count = before.sum(axis=1)
    own = (fit.residual[treated] ** 2).sum(axis=1)
    seen = (before[:, None, :] & fit.cells[never][None]).astype(np.float64)
    number = seen.sum(axis=-1)
    paths = fit.residual[never]
    mean = safe_divide(np.einsum("mnt,nt->mn", seen, paths), number)
    around = np.einsum("mnt,nt->mn", seen, paths**2) - number * mean**2
    usual = safe_divide(around.sum(axis=1), np.maximum(number - 1, 0).sum(axis=1))
    ratio = safe_divide(safe_divide(own, np.maximum(count - 1, 1)), usual)
    shrunk = safe_divide((count - 1) * ratio + ENOUGH_HISTORY, count - 1 + ENOUGH_HISTORY)
    return np.asarray(np.sqrt(np.maximum(shrunk, 1.0)))
