"""What the ledger is told, and what its engines answer (METHODS F6).

Weeks are the grain. `T` weeks, `K` measured effects (all experiments, shipped or not, and measured launches), `J`
launches, `P` outside influences, `H` holdouts, `S` posterior draws. Effects are on the natural-log scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type Indices = np.ndarray[tuple[int, ...], np.dtype[np.intp]]
type Component = Literal["launches", "season", "outside", "base", "noise"]
COMPONENTS: Final[tuple[Component, ...]] = ("launches", "season", "outside", "base", "noise")
_USUAL_CHANGE: Final = 0.015


@dataclass(frozen=True, slots=True, eq=False)
class LedgerPriors:
    """The priors of METHODS F6, for a weekly log series whose weekly changes have a standard deviation near 0.015.

    `kappa`, `remaining` and `weeks` (the time constant of the transient) are (median, log sd) of log-normals; other
    numbers are scales of half-normals, or standard deviations of normals about 0. `nu` is the degrees of freedom of the
    population of true effects; infinity is a normal one.
    """

    mean: float = 0.003
    tau: float = 0.010
    kappa: tuple[float, float] = (0.9, 0.35)
    scatter: float = 0.004
    remaining: tuple[float, float] = (0.85, 0.35)
    weeks: tuple[float, float] = (6.0, 0.4)
    noise: float = 0.015
    level_step: float = 0.006
    slope_step: float = 0.0004
    slope: float = 0.003
    season: float = 0.03
    influence: float = 0.03
    nu: float = 4.0

    def rescaled(self, weekly_change_sd: float) -> LedgerPriors:
        """For a noisier series: noise, level, slope and season follow `sd(diff y) / 0.015`, if above 1."""
        factor = max(1.0, weekly_change_sd / _USUAL_CHANGE)
        return replace(
            self,
            noise=self.noise * factor,
            level_step=self.level_step * factor,
            slope_step=self.slope_step * factor,
            slope=self.slope * factor,
            season=self.season * factor,
            influence=self.influence * factor,
        )


@dataclass(frozen=True, slots=True, eq=False)
class LedgerData:
    """A weekly series with everything on record about what may have moved it.

    `log_values` (T,) is ln of the North Star, nan where unknown. `season_phase` (T,) is the time in years. `influences`
    (T, P) are standardised. `estimate`, `error`, `bias_sd` (K,): measured topline effects; `bias_sd` is 0 for grade A.
    `source` (J,) is the position of a launch's effect in them, -1 for a blind launch. `coverage` (T, J) is who had it.
    `remaining`, `remaining_log_sd`, `time_constant` (J,) are measured persistence (weeks), nan where the launch shares
    the common one. `held_out` (H, J) is 1 where a holdout was kept from a launch, `holdout_week` (H,) the position of
    its last week, `holdout_estimate`, `holdout_error` (H,) what it measured.
    """

    log_values: Array
    season_phase: Array
    influences: Array
    estimate: Array
    error: Array
    bias_sd: Array
    source: Indices
    coverage: Array
    remaining: Array
    remaining_log_sd: Array
    time_constant: Array
    held_out: Array
    holdout_week: Indices
    holdout_estimate: Array
    holdout_error: Array

    def __post_init__(self) -> None:
        weeks, launches, effects = len(self.log_values), len(self.source), len(self.estimate)
        holdouts = len(self.holdout_estimate)
        shapes = (
            ((weeks,), (self.season_phase,)),
            ((weeks, self.influences.shape[-1]), (self.influences,)),
            ((effects,), (self.error, self.bias_sd)),
            ((weeks, launches), (self.coverage,)),
            ((launches,), (self.remaining, self.remaining_log_sd, self.time_constant)),
            ((holdouts, launches), (self.held_out,)),
            ((holdouts,), (self.holdout_week, self.holdout_error)),
        )
        if any(array.shape != shape for shape, arrays in shapes for array in arrays):
            raise ValueError("the ledger's arrays do not fit together")
        finite = (self.season_phase, self.influences, self.estimate, self.error, self.bias_sd, self.coverage)
        held = (self.held_out, self.holdout_estimate, self.holdout_error)
        if not all(np.isfinite(array).all() for array in (*finite, *held)):
            raise ValueError("only values of the series and persistences may be unknown in a ledger")
        if not ((self.error > 0).all() and (self.holdout_error > 0).all()):
            raise ValueError("measured effects and holdouts need positive errors")
        measured = np.isfinite(self.remaining)
        if not ((self.remaining[measured] > 0) & (self.remaining_log_sd[measured] >= 0)).all():
            raise ValueError("a measured persistence must be positive, with the standard deviation of its logarithm")
        if self.time_constant[np.isfinite(self.time_constant)].min(initial=1.0) <= 0:
            raise ValueError("time constants must be positive")
        if launches and not (self.source.min() >= -1 and self.source.max() < effects):
            raise ValueError("a launch's source must be the position of a measured effect, or -1")
        if holdouts and not (self.holdout_week.min() >= 0 and self.holdout_week.max() < weeks):
            raise ValueError("a holdout's week must be a position in the series")


@dataclass(frozen=True, slots=True, eq=False)
class LedgerFit:
    """Posterior draws, from either engine; every line of the ledger is computed from them.

    `scalars` by name (S,): mean, tau, kappa, scatter, remaining, weeks, noise, level_step, slope_step (and more).
    `delta` (S, K) true effects, `theta` (S, J) what launches do at full coverage, `path` (S, T, J) their weight by week
    (coverage times persistence), so that launches added `path * theta`. `level`, `slope`, `season`, `noise` (S, T) and
    `outside` (S, T, P) with the launches add up to the observed y in every draw and known week, exactly; `level` begins
    where the series does. Draws weigh the same.
    """

    scalars: dict[str, Array]
    delta: Array
    theta: Array
    path: Array
    level: Array
    slope: Array
    season: Array
    outside: Array
    noise: Array
    engine: Literal["collapsed", "sampled"]
    diagnostics: dict[str, float]
    reason: str = ""
    data: LedgerData | None = None
    priors: LedgerPriors = field(default_factory=LedgerPriors)
