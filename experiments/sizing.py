"""What a single metric asks of an experiment: the test it is in, how many units that takes, and what fewer would show.

Superiority is tested on the difference, at the lift `mde`. Non-inferiority and equivalence are decided by intervals of
the lift, which are symmetric in logarithms: their margins are planned for there (METHODS A3, A10).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from experiments.definitions import Direction, PlanMetric, Role
from experiments.result import MetricBaseline
from experiments.types import finite
from stats.cluster_design import ClusterDesign, clusters_needed, signal_with_clusters
from stats.equivalence import log_margin
from stats.moments import Floats
from stats.power import (
    Design,
    Size,
    achieved_power,
    equivalence_power,
    equivalence_units,
    minimum_detectable_effect,
    non_inferiority_units,
    required_units,
)

NO_BASELINE = "no_baseline"
NO_MDE = "no_mde"
BASELINE_NOT_POSITIVE = "baseline_is_zero"

type TestKind = Literal["superiority", "non_inferiority", "equivalence"]


@dataclass(frozen=True, slots=True)
class MetricTest:
    """A metric in its test. `effect` is the lift or margin planned for, `anticipated` the true lift in the good

    direction while it is tested for safety. `explained` is what covariates remove of the variance.
    """

    metric_key: str
    role: Role
    kind: TestKind
    effect: float | None
    anticipated: float
    less_is_better: bool | None
    known: MetricBaseline | None
    explained: float

    @property
    def reason(self) -> str | None:
        """Why this cannot be planned."""
        if self.known is None or self.known.mean is None or self.known.sd is None:
            return (self.known.reason if self.known else None) or NO_BASELINE
        if self.effect is None:
            return NO_MDE
        return BASELINE_NOT_POSITIVE if self.known.mean == 0 else None

    @property
    def _sign(self) -> int:
        # A gain is a smaller step than a loss of the same size on the log scale: if in doubt, plan for the smaller.
        return 1 if self.less_is_better is False else -1

    def relative(self, distance: Floats) -> Floats:
        """Lifts (superiority) or margins that stand for log distances, or differences over the mean."""
        if self.kind == "superiority":
            return distance
        sign = self._sign if self.kind == "non_inferiority" else -1
        return np.asarray(-sign * np.expm1(-sign * distance))

    def distance(self) -> float:
        """The planned effect or margin on the scale of its test, over the mean."""
        assert self.effect is not None
        if self.kind == "superiority":
            return self.effect
        # Losing everything or more is a margin that everything clears; the log scale has no number for it.
        sign = self._sign if self.kind == "non_inferiority" else -1
        return float(log_margin(min(self.effect, 0.999) if sign > 0 else self.effect, sign))

    def shift(self) -> float:
        """The anticipated lift on the scale of the test."""
        sign = -1 if self.less_is_better else 1
        return float(sign * np.log1p(sign * self.anticipated))


def tests_of(
    metrics: Sequence[PlanMetric],
    known: Mapping[str, MetricBaseline],
    *,
    cuped: bool,
    equivalence: Collection[str],
    anticipated: Mapping[str, float],
) -> list[MetricTest]:
    """The tests of a plan: primaries for superiority or equivalence, then guardrails for non-inferiority."""
    found = []
    for metric in sorted(metrics, key=lambda metric: metric.role is Role.GUARDRAIL):
        if metric.role not in (Role.PRIMARY, Role.GUARDRAIL):
            continue
        guardrail, base = metric.role is Role.GUARDRAIL, known.get(metric.metric_key)
        kind: TestKind = "non_inferiority" if guardrail else "superiority"
        if metric.metric_key in equivalence:
            kind = "equivalence"
        found.append(
            MetricTest(
                metric_key=metric.metric_key,
                role=metric.role,
                kind=kind,
                effect=metric.non_inferiority_margin if guardrail else metric.mde,
                anticipated=anticipated.get(metric.metric_key, 0.0),
                less_is_better=None if metric.direction is None else metric.direction is Direction.DECREASE,
                known=base,
                explained=(base.cuped_r_squared or 0.0) if base and cuped else 0.0,
            )
        )
    return found


def units_for(test: MetricTest, design: Design, clusters: ClusterDesign | None) -> tuple[int | None, str | None]:
    """Units over all variants, or the reason why there is no number."""
    if test.reason is not None:
        return None, test.reason
    known = test.known
    assert known is not None and known.mean is not None and known.sd is not None
    sd = known.sd / abs(known.mean) * np.sqrt(clusters.effect if clusters else 1.0)
    size: Size
    if test.kind == "superiority":
        size = required_units(design, sd, test.distance(), test.explained)
    elif test.kind == "equivalence":
        size = equivalence_units(design, sd, test.distance(), test.shift(), test.explained)
    else:
        size = non_inferiority_units(design, sd, test.distance(), test.shift(), test.explained)
    reason = str(size.reason[()])
    if reason:
        return None, reason
    units = int(size.units)
    if clusters is None:
        return units, None
    needed = clusters_needed(units / clusters.size, design.critical, _powered(test, design).power)
    return max(units, int(np.ceil(needed * clusters.size - 1e-9))), None


def _powered(test: MetricTest, design: Design) -> Design:
    """Equivalence needs both of its tests, so each gets half of what may be missed."""
    return replace(design, power=(1 + design.power) / 2) if test.kind == "equivalence" else design


@dataclass(frozen=True, slots=True)
class Visible:
    """What a number of units shows: the smallest effect or margin, and the power for the planned one."""

    smallest: list[float | None]
    power: list[float | None]


def visible(test: MetricTest, design: Design, units: Floats, clusters: ClusterDesign | None) -> Visible | None:
    """At each of `units` (D,) over all variants; None where nothing is known of the metric."""
    known = test.known
    if known is None or not known.mean or not known.sd:
        return None
    sd = known.sd / abs(known.mean) * np.sqrt(clusters.effect if clusters else 1.0)
    powered = _powered(test, design)
    error = minimum_detectable_effect(powered, sd, units, test.explained) / powered.signal
    if clusters is not None:
        signal = signal_with_clusters(powered.critical, powered.power, units / clusters.size)
        error = error * signal / powered.signal
    smallest = test.relative(powered.signal * error)
    if test.effect is None:
        power: Floats = np.full(units.shape, np.nan)
    elif test.kind == "equivalence":
        power = equivalence_power(design, test.distance(), error, test.shift())
    else:
        room = test.distance() + (test.shift() if test.kind == "non_inferiority" else 0.0)
        power = achieved_power(design, room, error)
    return Visible([finite(value) for value in smallest.tolist()], [finite(value) for value in power.tolist()])
