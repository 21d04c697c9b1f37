"""Rollouts to a growing random share of units: every stage is an experiment (METHODS D6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special as sc

from stats.launch.contract import Estimated, nothing
from stats.launch.reasons import LaunchReason
from stats.moments import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """Units with and without the change in S stages: numbers, means and variances of a unit's outcome, each (S,).

    `coverage` (S,) is the share of units that the stage was meant to reach.
    """

    n_on: Floats
    mean_on: Floats
    variance_on: Floats
    n_off: Floats
    mean_off: Floats
    variance_off: Floats
    coverage: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """The log lift over all stages, and whether units were split as they were meant to be (METHODS A12).

    `sample_ratio_p` is the smallest p-value of a stage times the number of stages.
    """

    estimated: Estimated
    stage_effect: Floats
    stage_error: Floats
    sample_ratio_p: float


def staged(stages: Stages, *, level: float = 0.95) -> Staged:
    """The lift on the log scale, stratified by stage with weights by precision.

    Units that have the change keep it, so stages share units and their estimates go together. How much is not in the
    summaries: the standard error is the largest possible one, that of perfectly correlated stages. Stages with
    coverage 0 or 1, without units of both kinds, or with a mean that is not clearly positive have no comparison.
    Effects are those on units that have the change, at full coverage by nature: `by_period` is not scaled down.
    """
    n_on, n_off = stages.n_on, stages.n_off
    with np.errstate(divide="ignore", invalid="ignore"):
        on = stages.variance_on / (n_on * stages.mean_on**2)
        off = stages.variance_off / (n_off * stages.mean_off**2)
        effect = np.log(np.where(stages.mean_on > 0, stages.mean_on, np.nan)) - np.log(
            np.where(stages.mean_off > 0, stages.mean_off, np.nan)
        )
    error = np.sqrt(on + off)
    # A3: a mean within three standard errors of zero has no logarithm to speak of.
    known = (n_on > 1) & (n_off > 1) & (on < 1 / 9) & (off < 1 / 9) & np.isfinite(effect) & (error > 0)
    known &= (stages.coverage > 0) & (stages.coverage < 1)
    ratio_p = _sample_ratio_p(stages)
    places = np.flatnonzero(known)
    if places.size == 0:
        lost = nothing("staged", LaunchReason.NOT_ENOUGH_UNITS, periods=effect.size)
        return Staged(lost, effect, error, ratio_p)
    d, s = effect[places], error[places]
    weight = s**-2 / (s**-2).sum()
    combined, combined_error = float(weight @ d), float(weight @ s)
    margin = float(sc.ndtri(0.5 + level / 2)) * combined_error
    fitted = np.where(stages.mean_off > 0, np.log(np.where(stages.mean_off > 0, stages.mean_off, 1.0)), np.nan)
    estimated = Estimated(
        method="staged",
        effect=combined,
        standard_error=combined_error,
        lower=combined - margin,
        upper=combined + margin,
        p_value=float(2 * sc.ndtr(-abs(combined) / combined_error)),
        interval_kind="normal",
        periods=places,
        by_period=d,
        covariance=np.outer(s, s),
        fitted=fitted,
        notes=("stages_share_units",) if places.size > 1 else (),
    )
    return Staged(estimated, effect, error, ratio_p)


def _sample_ratio_p(stages: Stages) -> float:
    inner = (stages.coverage > 0) & (stages.coverage < 1) & (stages.n_on + stages.n_off > 0)
    if not inner.any():
        return float("nan")
    total = (stages.n_on + stages.n_off)[inner]
    share = stages.coverage[inner]
    z = (stages.n_on[inner] - total * share) / np.sqrt(total * share * (1 - share))
    return float(min(1.0, 2 * sc.ndtr(-np.abs(z)).min() * inner.sum()))
