"""Group-sequential monitoring of every primary metric and variant (METHODS B2).

Alpha is divided over primaries x variants (Bonferroni), so that any of them may stop on its own. The clock is
information, 1 / se^2 on the log lift (on the difference where the baseline is too weak for a lift at the first look),
against what the plan's mde and power need; without any mde it is the planned units, which is right only while every
window is closed (B4). A bound depends on looks up to its own only, and is never moved by later ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import numpy as np
import scipy.special as sc

from experiments.definitions import Direction, Role
from experiments.evidence.contract import EvidenceContext
from experiments.evidence.effects import Effects
from experiments.evidence.schedule import ScheduledLook, planned_fractions, scheduled_looks
from experiments.evidence.shapes import BlockShapes
from experiments.plan import AnalysisPlan, PlannedMetric
from experiments.result import DecisionErrors, SequentialLook, SequentialMonitor
from experiments.types import finite
from stats import always_valid
from stats.group_sequential import (
    BEYOND,
    SAME_LOOK,
    SpendingDesign,
    boundaries,
    critical_value,
    inflation,
    repeated_p_value,
)
from stats.moments import Floats
from stats.stagewise import stagewise

type Key = tuple[str, str]
type Stop = Literal["efficacy", "harm", "futility"]


@dataclass(frozen=True, slots=True)
class Course:
    """One monitor with what the rows and the verdict take from it. `complete`: its final look was taken.

    `crossed`: an efficacy or harm bound was crossed. The `decision_*` numbers are those of the look that stopped the
    design (the last one so far if none has), the p-value corrected for the number of success tests; `lower`, `upper`
    and `p_value` are those of the last look. `final_bound` is what the last planned look asks of z, `fraction` the
    information of the last look taken and `z` its statistic in the good direction.
    """

    document: SequentialMonitor
    crossed: bool
    decision_lower: float | None
    decision_upper: float | None
    decision_p_value: float | None
    complete: bool
    final_bound: float
    fraction: float | None
    z: float | None
    lower: float | None
    upper: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """One comparison at its scheduled looks that could be evaluated; all arrays (K,). `log` says on which scale."""

    looks: tuple[ScheduledLook, ...]
    value: Floats
    error: Floats
    df: Floats
    log: bool
    control: float
    """Control mean at the first look, which turns an mde into a difference."""
    planned_part: Floats

    @property
    def z(self) -> Floats:
        """Statistics as normal scores of the same tail probability, so that small samples keep their errors."""
        t = self.value / self.error
        score = -sc.ndtri(sc.stdtr(self.df, -np.abs(t)))
        return np.asarray(np.sign(t) * np.minimum(score, BEYOND))


def monitors(
    plan: AnalysisPlan,
    context: EvidenceContext,
    parts: Sequence[tuple[BlockShapes, Effects, Sequence[datetime]]],
    errors: DecisionErrors,
) -> dict[Key, Course]:
    """Monitors by metric and variant; none unless the plan is group-sequential.

    `parts` are blocks: shapes, effects with cells (looks,), and times of the looks.
    A primary without an mde is monitored for the smallest one among the others.
    """
    if plan.estimation.sequential.method != "group_sequential":
        return {}
    design = SpendingDesign(
        alpha=errors.alpha_per_success_test,
        spending=plan.estimation.sequential.spending,
        parameter=plan.estimation.sequential.spending_parameter,
        futility=plan.estimation.sequential.futility,
        power=errors.power_per_test,
        planned=planned_fractions(plan, context.started_at),
    )
    primaries = [metric for metric in plan.metrics if metric.role is Role.PRIMARY]
    smallest = min((metric.mde for metric in primaries if metric.mde is not None), default=None)
    if smallest is None and plan.planned_units is None:
        return {}
    found: dict[Key, Course] = {}
    for shapes, effects, at in parts:
        looks = scheduled_looks(plan, context, at)
        for m, metric in enumerate(shapes.metrics):
            if metric.role is not Role.PRIMARY:
                continue
            for v, variant in enumerate(plan.variants[1:]):
                path = _path(effects, looks, v, m, 1 - plan.estimation.ci_level)
                fractions, maximum = _clock(path, metric, metric.mde or smallest, design)
                key = metric.metric_key, variant.key
                found[key] = _Monitor(key, metric, path, fractions, maximum, design, errors).course()
    return found


def _path(effects: Effects, looks: Sequence[ScheduledLook], v: int, m: int, alpha: float) -> _Path:
    """The looks at which normal theory may be used (B1: delayed start), and the final one in any case."""
    d, up, av = effects.difference, effects.lift, effects.always
    usable = [
        look
        for look in looks
        if d.estimable[look.position, v, m]
        and d.standard_error[look.position, v, m] > 0
        and (look.final or av.begun[look.position, v, m])
    ]
    log = bool(usable) and str(up.interval_kind[usable[0].position, v, m]) == "log_delta"
    if log:
        usable = [look for look in usable if np.isfinite(up.log_standard_error[look.position, v, m])]
    at = [look.position for look in usable]
    value, error = (up.log_value, up.log_standard_error) if log else (d.value, d.standard_error)
    return _Path(
        looks=tuple(usable),
        value=np.asarray(value[at, v, m]),
        error=np.asarray(error[at, v, m]),
        df=np.where(np.isfinite(d.df[at, v, m]), d.df[at, v, m], np.inf),
        log=log,
        control=float(effects.estimates.unadjusted[at[0], 0, m]) if at else 1.0,
        planned_part=np.asarray(av.weight[at, v, m]) / float(always_valid.tuned_rho2(1.0, alpha)),
    )


def _clock(
    path: _Path, metric: PlannedMetric, mde: float | None, design: SpendingDesign
) -> tuple[Floats, float | None]:
    """(K,) information as parts of the planned maximum, and that maximum."""
    if mde is None:
        return path.planned_part, None
    sign = 1 if metric.direction is Direction.INCREASE else -1
    effect = abs(np.log1p(sign * mde)) if sign * mde > -1 else np.log1p(mde)
    if not path.log:
        effect = mde * abs(path.control)
    if not effect > 0:
        return path.planned_part, None
    maximum = float(inflation(design) * (design.fixed_drift / effect) ** 2)
    return 1 / path.error**2 / maximum, maximum


@dataclass(slots=True, eq=False)
class _Monitor:
    key: Key
    metric: PlannedMetric
    path: _Path
    fractions: Floats
    maximum: float | None
    design: SpendingDesign
    errors: DecisionErrors

    def course(self) -> Course:
        """Look by look until the final one."""
        keep = self._with_new_information()
        path = _taken(self.path, keep)
        t = self.fractions[keep]
        complete = bool(keep) and (path.looks[-1].final or bool(t[-1] >= 1))
        seen = boundaries(self.design, t.tolist())
        upper, futility = seen.upper.copy(), seen.futility.copy()
        spent = seen.alpha_spent.copy()
        if complete:
            last = boundaries(self.design, t.tolist(), final=True)
            upper[-1], futility[-1], spent[-1] = last.upper[-1], last.futility[-1], last.alpha_spent[-1]
        z, sign = path.z, 1 if self.metric.direction is Direction.INCREASE else -1
        stop, stopped_at = self._stopped(sign * z, upper, futility, complete)
        lower_bound, upper_bound = self._intervals(path, upper)
        at = stopped_at if stopped_at is not None else len(z) - 1
        p = self._repeated_p(t, z, at, crossed=stop in ("efficacy", "harm"), reachable=upper)
        ahead = [f for f in self.design.planned if not complete and (not len(t) or f > t[-1] * (1 + SAME_LOOK))]
        projected = boundaries(self.design, [*t.tolist(), *ahead])
        looks = [
            SequentialLook(
                at=path.looks[k].at if k < len(z) else None,
                information_fraction=float(fraction),
                alpha_spent=float(spent[k] if k < len(z) else projected.alpha_spent[k]),
                upper=_reachable(upper[k] if k < len(z) else projected.upper[k]),
                futility=_signed(sign, futility[k] if k < len(z) else projected.futility[k]),
                z=finite(float(z[k])) if k < len(z) else None,
                lift_lower=finite(float(lower_bound[k])) if k < len(z) else None,
                lift_upper=finite(float(upper_bound[k])) if k < len(z) else None,
            )
            for k, fraction in enumerate([*t.tolist(), *ahead])
        ]
        after = self._after(path, t, z, at) if len(z) and (complete or stopped_at is not None) else None
        document = SequentialMonitor(
            metric_key=self.key[0],
            variant_key=self.key[1],
            spending=self.design.spending,
            futility=self.design.futility,
            maximum_information=self.maximum if self.maximum is not None else 1.0,
            looks=looks,
            stopped_for=stop,
            stopped_at=None if stopped_at is None else path.looks[stopped_at].at,
            estimate=after[0] if after else None,
            ci_lower=after[1] if after else None,
            ci_upper=after[2] if after else None,
            p_value=after[3] if after else None,
        )
        low, high = (finite(float(bound[at])) if len(z) else None for bound in (lower_bound, upper_bound))
        # Bonferroni, undone where the plan corrects nothing.
        tests = round(self.errors.alpha / self.errors.alpha_per_success_test)
        return Course(
            document=document,
            crossed=stop in ("efficacy", "harm"),
            decision_lower=low,
            decision_upper=high,
            decision_p_value=None if p is None else min(1.0, tests * p),
            complete=complete,
            final_bound=float(projected.upper[-1]) if len(looks) else BEYOND,
            fraction=float(t[-1]) if len(t) else None,
            z=float(sign * z[-1]) if len(z) else None,
            lower=finite(float(lower_bound[-1])) if len(z) else None,
            upper=finite(float(upper_bound[-1])) if len(z) else None,
            p_value=self._repeated_p(t, z, len(z) - 1, crossed=False, reachable=upper),
        )

    def _with_new_information(self) -> list[int]:
        """Looks that learned something, until the design ends. A final look counts in any case."""
        keep: list[int] = []
        for k, fraction in enumerate(self.fractions.tolist()):
            grown = fraction > (self.fractions[keep[-1]] * (1 + SAME_LOOK) if keep else 0.0)
            if grown or self.path.looks[k].final:
                keep.append(k)
            if fraction >= 1 or self.path.looks[k].final:
                break
        return keep

    def _stopped(
        self, toward: Floats, upper: Floats, futility: Floats, complete: bool
    ) -> tuple[Stop | None, int | None]:
        """Why and at which look the design stopped. Non-binding futility holds while the latest look is below it."""
        binding = self.design.futility == "binding"
        last = len(toward) - 1
        for k in range(len(toward)):
            if upper[k] < BEYOND and abs(toward[k]) >= upper[k]:
                return ("efficacy" if toward[k] > 0 else "harm"), k
            final = complete and k == last
            if np.isfinite(futility[k]) and toward[k] < futility[k] and not final and (binding or k == last):
                return "futility", k
        return None, None

    def _intervals(self, path: _Path, upper: Floats) -> tuple[Floats, Floats]:
        """Repeated intervals of the lift, nan while nothing can be decided or no lift can be formed."""
        half = critical_value(upper, path.df) * path.error
        if not path.log:
            return np.full_like(half, np.nan), np.full_like(half, np.nan)
        return np.expm1(path.value - half), np.expm1(path.value + half)

    def _repeated_p(self, t: Floats, z: Floats, at: int, *, crossed: bool, reachable: Floats) -> float | None:
        if at < 0 or reachable[at] >= BEYOND:
            return None
        p = repeated_p_value(self.design, t[: at + 1].tolist(), float(z[at]))
        # The bound of a final look that under-runs is lower than its information says.
        return min(p, self.design.alpha) if crossed else p

    def _after(
        self, path: _Path, t: Floats, z: Floats, at: int
    ) -> tuple[float | None, float | None, float | None, float | None] | None:
        """Median-unbiased lift, interval and p-value by stage-wise ordering."""
        if not path.log or abs(z[at]) >= BEYOND:
            return None
        try:
            found = stagewise(self.design, t[: at + 1].tolist(), float(z[at]), float(path.error[at]))
        except (ArithmeticError, ValueError):
            return None
        middle, low, high = (finite(float(np.expm1(x))) for x in (found.estimate, found.ci_lower, found.ci_upper))
        return middle, low, high, finite(found.p_value)


def _taken(path: _Path, keep: Sequence[int]) -> _Path:
    at = list(keep)
    return replace(
        path,
        looks=tuple(path.looks[k] for k in at),
        value=path.value[at],
        error=path.error[at],
        df=path.df[at],
        planned_part=path.planned_part[at],
    )


def _reachable(bound: float) -> float | None:
    """Bounds that nothing can cross are not drawn (TRAPS 21)."""
    return float(bound) if bound < BEYOND else None


def _signed(sign: int, bound: float) -> float | None:
    """Futility on the scale of z, where improvement may be negative."""
    return finite(float(sign * bound))
