"""Where the North Star is heading if nothing more is launched, and whether that is enough (METHODS F8).

Each posterior draw of the ledger goes on from its last week: level and slope wander, the season comes round, influences
stay at their mean, launches keep their coverage and what is left of their effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from stats.ledger.conditional import persistence_name
from stats.ledger.contract import Array, LedgerFit
from stats.ledger.series_covariance import series

NO_SERIES: Final = "series_not_used"
_EIGHTY: Final = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """`log_values` (S, H) are draws of ln of the North Star in the H weeks after the last of the fit.

    `remaining`, `weeks` (S, J) are what is left of launches' effects in the long run, and the time constants of the
    rest. With a `reason` there are no draws.
    """

    log_values: Array
    remaining: Array
    weeks: Array
    reason: str = ""

    def band(self) -> tuple[Array, Array, Array]:
        """Lower end of the 80 % band, median and upper end, (H,) each, in units of the North Star."""
        lower, median, upper = np.exp(np.quantile(self.log_values, _EIGHTY, axis=0))
        return lower, median, upper

    def chance_above(self, target: float, week: int) -> float:
        """That the North Star is at least `target` > 0 in the week at position `week` (0: the first one ahead)."""
        return float((self.log_values[:, week] >= np.log(target)).mean())


def forecast(fit: LedgerFit, horizon: int, *, seed: int) -> Forecast:
    """The next `horizon` weeks. A ledger that did not use its series has no forecast: `series_not_used`.

    Assumes that recorded influences do as they do on average, and that no launch is widened or withdrawn.
    """
    data = fit.data
    if data is None or fit.level.shape[1] == 0:
        none = np.empty((0, horizon))
        return Forecast(none, none[:, :0], none[:, :0], NO_SERIES)
    rng = np.random.default_rng(seed)
    remaining, weeks = lasting(fit)
    ahead = np.arange(1.0, horizon + 1)
    reached = data.coverage > 0
    begun = np.where(reached.any(axis=0), reached.argmax(axis=0), data.log_values.size)
    level = _wandering(fit, horizon, rng)
    log_values: Array = level + _season(fit, ahead)
    age = np.maximum(data.log_values.size - 1 + ahead[:, None] - begun, 0)
    for each in range(horizon):
        left = remaining + (1 - remaining) * np.exp(-age[each] / weeks)
        log_values[:, each] += (data.coverage[-1] * left * fit.theta).sum(axis=1)
    log_values += fit.scalars["noise"][:, None] * rng.standard_normal(log_values.shape)
    return Forecast(log_values, remaining, weeks)


def lasting(fit: LedgerFit) -> tuple[Array, Array]:
    """Long-run shares and time constants (S, J) of launches' effects, each launch's own where it was measured."""
    launches = fit.theta.shape[1]
    common = fit.scalars["remaining"]
    remaining = np.repeat(common[:, None], launches, axis=1)
    for j in range(launches):
        remaining[:, j] = fit.scalars.get(persistence_name(j), common)
    own = np.full(launches, np.nan) if fit.data is None else fit.data.time_constant
    return remaining, np.where(np.isfinite(own), own, fit.scalars["weeks"][:, None])


def _wandering(fit: LedgerFit, horizon: int, rng: np.random.Generator) -> Array:
    """The level (S, H) from the last week's level and slope on."""
    shape = (fit.level.shape[0], horizon)
    turns = (fit.scalars["slope_step"][:, None] * rng.standard_normal(shape)).cumsum(axis=1)
    turns = np.hstack([np.zeros((shape[0], 1)), turns[:, :-1]])
    steps = fit.slope[:, -1:] + turns + fit.scalars["level_step"][:, None] * rng.standard_normal(shape)
    return np.asarray(fit.level[:, -1:] + steps.cumsum(axis=1))


def _season(fit: LedgerFit, ahead: Array) -> Array:
    """The season (S, H) that continues the waves of the fit's; `ahead` (H,) are weeks after its last."""
    if fit.data is None:
        raise ValueError("a fit without its data has no season to go on with")
    phase = fit.data.season_phase
    shapes = series(fit.data, fit.priors)
    harmonics = shapes.harmonics // 2
    coming = phase[-1] + ahead * (phase[-1] - phase[0]) / (phase.size - 1)
    coefficients = fit.season @ np.linalg.pinv(_waves(phase, harmonics)).T
    return np.asarray(coefficients @ _waves(coming, harmonics).T)


def _waves(phase: Array, harmonics: int) -> Array:
    turns = 2 * np.pi * np.arange(1, harmonics + 1) * phase[:, None]
    return np.concatenate([np.sin(turns), np.cos(turns)], axis=1)
