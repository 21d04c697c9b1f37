"""From the effects of treated cells to what an estimator of panels answers: one interval, a path, an event study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.special as sc

from stats.launch.contract import Estimated, EventStudy, Method, NotEstimable
from stats.launch.donors import CELLS_LEFT_OUT
from stats.launch.reasons import LaunchReason
from stats.launch.treated_cells import TreatedCells
from stats.launch.unit_errors import Errors, few, together
from stats.moments import Bools, Floats, Ints

FEW_TREATED: Final = "few_treated_units"
ONE_TREATED: Final = "one_treated_unit"
AT_ONCE = 4_000_000
"""Weights held at once."""
NO_SPREAD = 1e-9
"""A standard error below this share of the outcomes' own size is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Averages:
    """Effects (E,) at times since launch, with their errors."""

    time: Ints
    effect: Floats
    errors: Errors


def answer(
    method: Method,
    cells: TreatedCells,
    errors_of: Callable[[Floats], Errors],
    *,
    before: Averages | None,
    fitted: Floats,
    notes: tuple[str, ...],
    level: float,
    seed: int = 0,
    draws: int = 0,
) -> Estimated:
    """All averages of `cells` with errors by `errors_of` (targets (K, N, T)); `before` are those of times before 0.

    Without `before` there is no event study. Raises `NotEstimable` where nothing varies.
    """
    whole, error, df = overall(cells, errors_of)
    half = float(sc.stdtrit(df, 0.5 + level / 2)) * error
    path, path_errors = _averages(cells, cells.of_periods, cells.periods, errors_of)
    return Estimated(
        method=method,
        effect=whole,
        standard_error=error,
        lower=whole - half,
        upper=whole + half,
        p_value=two_sided(whole / error, df),
        interval_kind="t",
        periods=cells.periods,
        by_period=path,
        covariance=path_errors.covariance,
        fitted=fitted,
        event_study=_event_study(cells, errors_of, before, level, seed, draws) if before else None,
        notes=(*notes, *_few_treated(cells)),
    )


def overall(cells: TreatedCells, errors_of: Callable[[Floats], Errors]) -> tuple[float, float, float]:
    """The effect at full coverage, its standard error and degrees of freedom. Raises `NotEstimable` without spread."""
    target = cells.overall()
    errors = errors_of(target)
    error = float(errors.standard_error[0])
    if error <= NO_SPREAD * float(np.abs(cells.panel.y[cells.known | cells.beside]).max()):
        raise NotEstimable(LaunchReason.CONSTANT_SERIES)
    return float((target[0] * cells.effect).sum()), error, float(errors.df[0])


def two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|)."""
    return float(2 * sc.stdtr(df, -abs(t)))


def left_out(asked: Bools, cells: TreatedCells) -> tuple[str, ...]:
    """The note that some of the cells (N, T) asked about have nothing to be compared with, if so."""
    return (CELLS_LEFT_OUT,) if (asked & ~cells.known).any() else ()


def _few_treated(cells: TreatedCells) -> tuple[str, ...]:
    """The note that the treated units' own spread was not used, if so."""
    return ((ONE_TREATED if np.count_nonzero(cells.size) == 1 else FEW_TREATED),) if few(cells.size) else ()


def _event_study(
    cells: TreatedCells,
    errors_of: Callable[[Floats], Errors],
    before: Averages,
    level: float,
    seed: int,
    draws: int,
) -> EventStudy:
    """Effects by time since launch with pointwise intervals, and a band for all times together."""
    times = cells.times
    after, after_errors = _averages(cells, cells.of_times, times, errors_of)
    effect, errors = np.concatenate([before.effect, after]), together([before.errors, after_errors])
    own = cells.known | (cells.beside & cells.panel.treated[:, None])
    time = np.concatenate([before.time, times])
    error = errors.standard_error
    alone = errors.critical(level) * error
    joint = errors.joint_critical(level, seed=seed, draws=draws) * error
    return EventStudy(
        time=time.astype(np.float64),
        effect=effect,
        standard_error=error,
        lower=effect - alone,
        upper=effect + alone,
        band_lower=effect - joint,
        band_upper=effect + joint,
        cells=np.array([(own & (cells.time == e)).sum() for e in time], dtype=np.float64),
    )


def _averages(
    cells: TreatedCells, targets: Callable[[Ints], Floats], at: Ints, errors_of: Callable[[Floats], Errors]
) -> tuple[Floats, Errors]:
    """Averages (K,) of the effects with targets at each of `at` (K,), as many at once as memory allows."""
    size = max(1, AT_ONCE // cells.known.size)
    effects, errors = [], []
    for start in range(0, len(at), size):
        target = targets(at[start : start + size])
        effects.append(np.einsum("knt,nt->k", target, cells.effect))
        errors.append(errors_of(target))
    return np.concatenate(effects), together(errors)
