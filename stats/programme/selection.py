"""What others make of the effects of experiments that shipped, to be shown beside the answer (METHODS F1).

Every function takes one estimate (K,) and standard error (K,) per experiment, positive where good, and `shipped` (K,);
it returns the total of the shipped effects. Only `naive` and the empirical-Bayes ones have a standard deviation, and
theirs leaves out what they do not know: the choice, or the population. `truncated` is for histories without losers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from stats.bayes.mixture import Array, standard_density
from stats.bayes.population import BoolArray

SHIPPED_ABOVE: Final = 1.645
"""Where nothing is known of how people chose: shipped when z exceeds this, one-sided at 5 %."""
ASSUMED_SCALE: Final = 0.01
"""The scale of true effects (Student-t with 4 degrees of freedom around 0) that is assumed where no loser was kept."""
_FREEDOM: Final = 4.0
_SCAN: Final = 400
_REFINED: Final = 60
_EFFECTS: Final = 801


@dataclass(frozen=True, slots=True)
class SelectedTotal:
    """The total of the shipped effects by one method; `sd` is NaN where the method has none."""

    total: float
    sd: float


def naive(estimate: Array, error: Array, shipped: BoolArray) -> SelectedTotal:
    """The sum of what was measured: as if nobody had chosen."""
    return SelectedTotal(float(estimate[shipped].sum()), float(np.sqrt((error[shipped] ** 2).sum())))


def lee_shen(estimate: Array, error: Array, shipped: BoolArray, *, cut: float = SHIPPED_ABOVE) -> SelectedTotal:
    """Lee & Shen 2018: less the expected excess `sum over ALL experiments of s phi(cut - effect / s)`.

    With the estimates in place of the effects, as in their paper: noise in the argument spreads it, so that it corrects
    too much where errors are as large as effects.
    """
    excess = float((error * standard_density(cut - estimate / error)).sum())
    return SelectedTotal(naive(estimate, error, shipped).total - excess, float("nan"))


def lee_shen_posterior(
    estimate: Array, error: Array, shipped: BoolArray, *, cut: float = SHIPPED_ABOVE
) -> SelectedTotal:
    """The same, its excess averaged over the effects' empirical-Bayes posteriors `N(centre, sd²)`.

    Then `phi(cut - effect / s)` has the mean `phi((cut - centre / s) / r) / r` with `r² = 1 + sd² / s²`.
    """
    centre, sd = _posterior(estimate, error, np.ones(estimate.shape, dtype=np.bool_))
    r = np.sqrt(1 + (sd / error) ** 2)
    excess = float((error * standard_density((cut - centre / error) / r) / r).sum())
    return SelectedTotal(naive(estimate, error, shipped).total - excess, float("nan"))


def james_stein(estimate: Array, error: Array, shipped: BoolArray) -> SelectedTotal:
    """Positive-part James-Stein towards nothing with one common error, as GrowthBook shows it.

    All are multiplied by `1 - (K - 2) s² / sum(estimate²)`, `s²` the mean squared error: precise experiments lose as
    much as noisy ones.
    """
    square = float((estimate**2).sum())
    lost = (estimate.size - 2) * float((error**2).mean()) / square if square > 0 else 1.0
    kept = 1 - min(max(lost, 0.0), 1.0)
    return SelectedTotal(kept * naive(estimate, error, shipped).total, float("nan"))


def plug_in(estimate: Array, error: Array, shipped: BoolArray) -> SelectedTotal:
    """Empirical Bayes: posteriors under the normal population that fits all experiments best, as if it were known."""
    centre, sd = _posterior(estimate, error, np.ones(estimate.shape, dtype=np.bool_))
    return SelectedTotal(float(centre[shipped].sum()), float(np.sqrt((sd[shipped] ** 2).sum())))


def winners_only(estimate: Array, error: Array, shipped: BoolArray) -> SelectedTotal:
    """Empirical Bayes with a population learned from those that shipped: forbidden, it has learned the choice."""
    if not shipped.any():
        return SelectedTotal(0.0, float("nan"))
    centre, sd = _posterior(estimate, error, shipped)
    return SelectedTotal(float(centre[shipped].sum()), float(np.sqrt((sd[shipped] ** 2).sum())))


def truncated(
    estimate: Array, error: Array, *, cut: float = SHIPPED_ABOVE, scale: float = ASSUMED_SCALE
) -> tuple[Array, Array]:
    """Posterior means and sds (K,) of effects known only because `estimate > cut * error`.

    The likelihood is `N(estimate | effect, error²) / Phi(effect / error - cut)`, the prior t4(0, `scale`) of recorded
    effects: with no loser on record its scale cannot be learned, so the correction is an assumption. A careful one:
    were t4(0, `scale`) the effects of all experiments, won or lost, the likelihood would need no division, and more
    would be left. An estimate below the cut was not recorded for being above it: its likelihood is not divided.
    """
    reach = 8.0 * np.maximum(error, scale) + np.abs(estimate)
    effect = reach[:, None] * np.linspace(-1.0, 1.0, _EFFECTS)
    z = (estimate[:, None] - effect) / error[:, None]
    chosen = np.where((estimate > cut * error)[:, None], sc.log_ndtr(effect / error[:, None] - cut), 0.0)
    log_density = -0.5 * z**2 - chosen - (_FREEDOM + 1) / 2 * np.log1p((effect / scale) ** 2 / _FREEDOM)
    weight = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    mean = (weight * effect).sum(axis=1)
    return mean, np.sqrt((weight * (effect - mean[:, None]) ** 2).sum(axis=1))


def _posterior(estimate: Array, error: Array, teachers: BoolArray) -> tuple[Array, Array]:
    """Means and sds (K,) under the normal population of highest marginal likelihood, fitted to the `teachers`."""
    mean, tau = _best_normal(estimate[teachers], error[teachers])
    kept = tau**2 / (tau**2 + error**2)
    return mean + kept * (estimate - mean), np.sqrt(kept) * error


def _best_normal(estimate: Array, error: Array) -> tuple[float, float]:
    """Mean and scale of highest likelihood: scanned, then scanned again around the best."""
    widest = float(np.ptp(estimate)) + float(error.max())
    taus = np.linspace(0.0, widest, _SCAN)
    for _ in range(3):
        variance = error**2 + taus[:, None] ** 2
        mean = (estimate / variance).sum(axis=1) / (1 / variance).sum(axis=1)
        height = -0.5 * (np.log(variance) + (estimate - mean[:, None]) ** 2 / variance).sum(axis=1)
        best = int(height.argmax())
        step = float(taus[1] - taus[0])
        found = float(mean[best]), float(taus[best])
        taus = np.linspace(max(found[1] - step, 0.0), found[1] + step, _REFINED)
    return found
