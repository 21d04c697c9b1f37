"""Effects of a programme and their sums, positive where good: what the document, holdouts and reviews are made from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from experiments.definitions import Direction
from experiments.plan import ProgrammeEffect, ProgrammePlan
from stats.bayes.mixture import Array
from stats.bayes.population import BoolArray
from stats.programme.selection import truncated
from stats.programme.totals import Programme, Totals, of_independent, programme


@dataclass(frozen=True, slots=True)
class ProgrammeSums:
    """K effects with what is believed of each, and of sums of them. `sign` turns them into the signs of the metric.

    `claimed`, `error` (K,) are what was measured, of the company where its share is known; `effects` are posteriors.
    `population` is None where the history has winners only: then effects are corrected by assumption, each alone.
    `shipped` (K,) are changes that shipped, each once: where it was tested again and shipped again, the newest counts.
    """

    plan: ProgrammePlan
    sign: float
    claimed: Array
    error: Array
    shipped: BoolArray
    effects: Totals
    population: Programme | None

    def totals(self, members: ArrayLike) -> Totals:
        """Sums over subsets, (N, K) or (K,)."""
        if self.population is not None:
            return self.population.totals(members)
        inside = np.atleast_2d(np.asarray(members, dtype=np.float64))
        return of_independent(inside @ self.effects.mean, inside @ self.effects.sd**2)

    def cumulative(self, order: Sequence[int]) -> Totals:
        """Totals after each of the effects at these positions."""
        if self.population is not None:
            return self.population.cumulative(order)
        at = np.asarray(order, dtype=np.int64)
        return of_independent(self.effects.mean[at].cumsum(), (self.effects.sd[at] ** 2).cumsum())

    def shares(self) -> Array:
        """For each shipped effect the share of the total that is gone without it; NaN for the others."""
        if self.population is not None:
            return self.population.share_without(self.shipped)
        total = float(self.effects.mean[self.shipped].sum())
        return np.where(self.shipped, self.effects.mean / total if total else np.nan, np.nan)

    def launched_by(self, launch_keys: Collection[str]) -> BoolArray:
        """Which shipped effects (K,) belong to these launches."""
        of_launch = [each.shipped and each.launch_key in launch_keys for each in self.plan.effects]
        return np.array(of_launch, dtype=np.bool_)


def sums_of(plan: ProgrammePlan) -> ProgrammeSums | None:
    """The sums of a plan's effects; None where it has none."""
    if not plan.effects:
        return None
    sign = 1.0 if plan.direction is Direction.INCREASE else -1.0
    measured = np.array([_on_the_company(each) for each in plan.effects])
    claimed, error = sign * measured[:, 0], measured[:, 1]
    # The same bias, relative to the error: a share of the company takes as much from both.
    bias = np.array([each.bias_sd / each.standard_error for each in plan.effects]) * error
    again = shipped_again(plan)
    shipped = np.array([each.shipped and each.experiment_key not in again for each in plan.effects], dtype=np.bool_)
    if plan.winners_only:
        mean, sd = truncated(claimed, np.hypot(error, bias))
        return ProgrammeSums(plan, sign, claimed, error, shipped, of_independent(mean, sd**2), None)
    found = programme(claimed, error, bias)
    return ProgrammeSums(plan, sign, claimed, error, shipped, found.effects, found)


def shipped_again(plan: ProgrammePlan) -> frozenset[str]:
    """Experiments that shipped, and whose change shipped once more after it was replicated."""
    shipped = {each.experiment_key for each in plan.effects if each.shipped}
    replicated = {each.replicates for each in plan.effects if each.shipped and each.replicates is not None}
    return frozenset(shipped & replicated)


def _on_the_company(effect: ProgrammeEffect) -> tuple[float, float]:
    """The topline effect where it is known; else as if the experiment had reached everybody."""
    if effect.topline_log_lift is not None and effect.topline_standard_error is not None:
        return effect.topline_log_lift, effect.topline_standard_error
    return effect.log_lift, effect.standard_error
