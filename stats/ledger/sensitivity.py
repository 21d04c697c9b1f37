"""How much of the ledger is its priors: contraction, and the launch line under other priors of a wandering base (F6).

Rules (i) and (iii) of METHODS F6. Draws are re-weighted to another prior by the ratio of the two, as power-scaling does
with a prior's power (Kallioinen, Paananen, Buerkner & Vehtari 2024, "Detecting and diagnosing prior and likelihood
sensitivity with power-scaling"). Where too few draws would count, the ledger is fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from stats.ledger import collapsed
from stats.ledger.contract import Array, LedgerFit
from stats.ledger.importance import HIGHEST_SHAPE, effective, smoothed
from stats.ledger.lines import Contrast, contrast
from stats.ledger.scalars import NAMES, scores

LEAST_ESS: Final = 400.0
_EIGHTY: Final = (0.1, 0.9)


@dataclass(frozen=True, slots=True)
class Alternative:
    """The launches' line when the prior scale of the level's steps is `factor` times as large.

    `log_*` are on the log scale, `units_*` in units of the North Star: mean and 80 % interval. `ess` is what the
    re-weighted draws were worth; below 400, or with weights of too long a tail, the ledger was `refitted`, and `ess` is
    the new fit's.
    """

    factor: float
    log_mean: float
    log_lower: float
    log_upper: float
    units_mean: float
    units_lower: float
    units_upper: float
    ess: float
    refitted: bool


def contraction(fit: LedgerFit) -> dict[str, float]:
    """Posterior over prior standard deviation of each scalar, both on the scale of prior normal scores.

    Near 1 the data say next to nothing about it. For kappa and the persistence these are standard deviations of logs.
    """
    found = scores({name: fit.scalars[name] for name in NAMES}, fit.priors).std(axis=0)
    return dict(zip(NAMES, found.tolist(), strict=True))


def level_step_alternatives(
    fit: LedgerFit, contrasted: Contrast, factors: Sequence[float] = (0.5, 2.0), *, seed: int = 1
) -> list[Alternative]:
    """The launches' line of `contrasted` for each factor; none where the contrast has no lines.

    Uses `seed` only where the ledger has to be fitted again.
    """
    if contrasted.reason:
        return []
    return [_alternative(fit, contrasted, float(factor), seed) for factor in factors]


def _alternative(fit: LedgerFit, contrasted: Contrast, factor: float, seed: int) -> Alternative:
    step = fit.scalars["level_step"] / fit.priors.level_step
    weight, shape = smoothed(0.5 * step**2 * (1 - factor**-2))  # half-normal densities, but for a constant
    size, refitted, line = effective(weight), False, contrasted
    if (size < LEAST_ESS or shape > HIGHEST_SHAPE) and fit.data is not None:
        priors = replace(fit.priors, level_step=fit.priors.level_step * factor)
        again = collapsed.fit(fit.data, priors, seed=seed, draws=len(fit.theta))
        line = contrast(again, contrasted.after, contrasted.before)
        weight, refitted = np.full(len(fit.theta), 1 / len(fit.theta)), True
        size = again.diagnostics["ess"]
    log, units = line.log["launches"], line.units["launches"]
    (log_lower, log_upper), (lower, upper) = _eighty(log, weight), _eighty(units, weight)
    return Alternative(
        factor=factor,
        log_mean=float(weight @ log),
        log_lower=log_lower,
        log_upper=log_upper,
        units_mean=float(weight @ units),
        units_lower=lower,
        units_upper=upper,
        ess=size,
        refitted=refitted,
    )


def _eighty(draws: Array, weight: Array) -> tuple[float, float]:
    order = np.argsort(draws)
    middle = np.cumsum(weight[order]) - weight[order] / 2
    lower, upper = np.interp(_EIGHTY, middle, draws[order])
    return float(lower), float(upper)
