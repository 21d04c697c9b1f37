"""Sample size and duration before the first exposure, from stored baselines (METHODS A14, A10, A11).

Primary metrics are planned for superiority at their `mde`, guardrails for non-inferiority at their margin. To ship, one
primary must win and all guardrails must clear, so each test gets the power that makes the whole decision succeed with
the power asked for: 1 - (1 - power) / (guardrails + 1) (A11). Alpha is divided over primaries x treatments, never over
guardrails. The experiment needs what its most demanding metric needs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import scipy.special as sc

from experiments.definitions import PlanMetric, Role, Sequential, Variant
from experiments.effect_history import PastEffect
from experiments.planned_size import CurvePoint, MetricSize, Monitoring, UsualEffects, VariantSize
from experiments.planned_size import SampleSize as SampleSize
from experiments.result import BaselineResult, MetricBaseline
from experiments.sizing import MetricTest, tests_of, units_for, visible
from stats.accumulation import Accumulation
from stats.cluster_design import ClusterDesign
from stats.effect_scale import effect_scale
from stats.group_sequential import SpendingDesign
from stats.multiplicity import decision_errors, dunnett
from stats.power import Design

CURVE_DAYS = 84
MOST_LOOKS = 28
"""More looks than this cost less than one percent more units, and take long to plan."""
NO_HISTORY = "no_history"
NOTHING_TO_PLAN_FOR = "nothing_to_plan_for"
COIN_TOSS = 2.0
"""An effect this many times the usual scale hardly ever happens."""

type PlannedCorrection = Literal["holm", "bonferroni", "dunnett", "none"]


def sample_size(
    *,
    variants: Sequence[Variant],
    metrics: Sequence[PlanMetric],
    baselines: BaselineResult | None,
    alpha: float = 0.05,
    power: float = 0.8,
    coverage: float = 1.0,
    cuped: bool = True,
    monitoring: Monitoring = "fixed",
    curve_days: int = CURVE_DAYS,
    sequential: Sequential | None = None,
    correction: PlannedCorrection = "bonferroni",
    decision_rule: Literal["superiority", "do_no_harm"] = "superiority",
    equivalence: Collection[str] = (),
    anticipated: Mapping[str, float] | None = None,
    clusters: ClusterDesign | None = None,
    triggered_share: float = 1.0,
    assumed: Sequence[MetricBaseline] = (),
    past: Mapping[str, Sequence[PastEffect]] | None = None,
) -> SampleSize:
    """Plan an experiment with these variants (one control) and metrics. `alpha` is two-sided for primaries.

    `monitoring="always_valid"` sizes it for deciding by the always-valid interval, "group_sequential" for the spending
    and looks of `sequential`. `equivalence` names primaries that are to show no change beyond their `mde`;
    `anticipated` true lifts, in the good direction, of metrics tested for safety. `decision_rule="do_no_harm"` needs no
    win, so primaries are sized but do not decide. Of the enrolled units a share is triggered and counts. `assumed`
    baselines take the place of stored ones (of triggered units, of a metric without history). Raises `ValueError` for
    alpha or power outside (0, 1), shares outside (0, 1] and variants without a control.
    """
    if not (0 < coverage <= 1 and 0 < triggered_share <= 1):
        raise ValueError("coverage and the triggered share must be above 0 and at most 1")
    control = next((variant for variant in variants if variant.is_control), None)
    treatments = [variant for variant in variants if not variant.is_control]
    if control is None or not treatments:
        raise ValueError("planning needs a control and a treatment")
    known = {item.metric_key: item for item in (*(baselines.metrics if baselines else ()), *assumed)}
    tests = tests_of(metrics, known, cuped=cuped, equivalence=equivalence, anticipated=anticipated or {})
    success_tests = sum(test.kind == "superiority" for test in tests)
    safety_tests = len(tests) - success_tests
    wins = decision_rule == "superiority"
    errors = decision_errors(alpha, power, success_tests if wins else 0, safety_tests)
    # The smallest treatment needs the largest experiment.
    smallest = min(treatments, key=lambda variant: variant.weight)
    success = Design(
        alpha=_alpha_per_test(alpha, correction, max(success_tests, 1), control, treatments),
        power=errors.power_per_test,
        treatment_share=smallest.weight,
        control_share=control.weight,
        monitoring=monitoring,
        spending=_spending(sequential, (0.25, 0.5, 0.75, 1.0)),
    )
    plan = _Plan(tests, wins, alpha, success, _traffic(baselines, coverage * triggered_share), clusters)
    if monitoring == "group_sequential":
        plan = plan.with_looks_until_the_end(sequential)
    limiting, unknown = plan.limiting, plan.unknown
    units = limiting.units if limiting and not unknown else None
    reason: str | None = None
    if units is None:
        reason = f"{unknown[0].metric_key}: {unknown[0].reason}" if unknown else NOTHING_TO_PLAN_FOR
    elif limiting is not None and limiting.days is None:
        reason = limiting.reason
    return SampleSize(
        units=units,
        days=limiting.days if limiting and units is not None else None,
        variants=[_variant_size(v, units, clusters) for v in variants] if units is not None else [],
        limiting_metric=limiting.metric_key if limiting and units is not None else None,
        metrics=[plan.described(size, units, triggered_share, past or {}) for size in plan.sizes],
        curve=plan.curve(curve_days),
        alpha=alpha,
        power=power,
        power_per_test=errors.power_per_test,
        comparisons=1 if correction == "none" else max(1, success_tests * len(treatments)),
        monitoring=monitoring,
        coverage=coverage,
        reason=reason,
        alpha_per_test=success.alpha,
        inflation=plan.success.inflation,
        looks=list(plan.success.spending.planned) if monitoring == "group_sequential" else [1.0],
        clusters=_up(units / clusters.size) if clusters and units is not None else None,
        design_effect=clusters.effect if clusters else 1.0,
        triggered_share=triggered_share,
        enrolled=_up(units / triggered_share) if units is not None else None,
    )


@dataclass(frozen=True, slots=True)
class _Plan:
    """The tests with their designs, and the traffic that serves them."""

    tests: Sequence[MetricTest]
    wins: bool
    alpha: float
    success: Design
    traffic: Accumulation | None
    clusters: ClusterDesign | None
    sizes: Sequence[MetricSize] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", [self._size(test) for test in self.tests])

    def design(self, test: MetricTest) -> Design:
        """Success tests share their alpha and have two sides; safety tests have all of it on one, and no futility."""
        if test.kind == "superiority":
            return self.success
        spending = replace(self.success.spending, futility="none")
        return replace(self.success, alpha=self.alpha, sides=1, spending=spending)

    def _size(self, test: MetricTest) -> MetricSize:
        units, reason = units_for(test, self.design(test), self.clusters)
        days: float | None = None
        if units is not None:
            days, reason = _days(self.traffic, units)
        return MetricSize(
            metric_key=test.metric_key,
            role=test.role.value,
            test=test.kind,
            effect=test.effect,
            baseline_mean=test.known.mean if test.known else None,
            baseline_sd=test.known.sd if test.known else None,
            variance_reduction=test.explained if test.known else None,
            units=units,
            days=days,
            reason=reason,
            decides=self.wins or test.kind != "superiority",
        )

    @property
    def limiting(self) -> MetricSize | None:
        """The metric that needs most units, of those that decide."""
        known = [size for size in self.sizes if size.decides and size.units is not None]
        return max(known, key=lambda size: size.units or 0, default=None)

    @property
    def unknown(self) -> list[MetricSize]:
        """Metrics that decide and whose number of units cannot be said."""
        return [size for size in self.sizes if size.decides and size.units is None]

    def with_looks_until_the_end(self, sequential: Sequential | None) -> _Plan:
        """Looks cost units, units take days, and days bring looks: repeated until their number stays."""
        every = sequential.look_every_days if sequential else 7
        plan, number = self, 0
        for _ in range(4):
            days = plan.limiting.days if plan.limiting else None
            if days is None or self.traffic is None:
                return plan
            spending = _spending(sequential, _looks(days, self.traffic, every))
            if len(spending.planned) == number:
                return plan
            number = len(spending.planned)
            plan = replace(plan, success=replace(plan.success, spending=spending))
        return plan

    def described(
        self, size: MetricSize, units: int | None, triggered_share: float, past: Mapping[str, Sequence[PastEffect]]
    ) -> MetricSize:
        """What else is worth knowing of a metric once the units are known."""
        test = next(test for test in self.tests if test.metric_key == size.metric_key)
        shown = visible(test, self.design(test), np.array([float(units)]), self.clusters) if units else None
        usual = usual_effects(past.get(size.metric_key, ()))
        return size.model_copy(
            update={
                "smallest_effect": shown.smallest[0] if shown else None,
                "topline_effect": None if test.effect is None else triggered_share * test.effect,
                "usual_effects": usual,
                "unusual": bool(np.log1p(test.effect) > COIN_TOSS * usual.tau)
                if test.kind == "superiority" and test.effect is not None and usual.tau is not None
                else None,
            }
        )

    def curve(self, days: int) -> list[CurvePoint]:
        """What each day would show, were it the end."""
        if self.traffic is None:
            return []
        grid = np.arange(1, days + 1)
        units = self.traffic.units_at(grid)
        seen = {test: visible(test, self.design(test), units, self.clusters) for test in self.tests}
        return [
            CurvePoint(
                day=int(day),
                units=int(n),
                mde={t.metric_key: v.smallest[i] for t, v in seen.items() if v and t.role is Role.PRIMARY},
                margin={t.metric_key: v.smallest[i] for t, v in seen.items() if v and t.role is Role.GUARDRAIL},
                power={t.metric_key: v.power[i] for t, v in seen.items() if v},
            )
            for i, (day, n) in enumerate(zip(grid.tolist(), units.tolist(), strict=True))
        ]


def usual_effects(past: Sequence[PastEffect]) -> UsualEffects:
    """The scale of past effects on the log scale, or why there is none."""
    lift = np.array([effect.lift for effect in past])
    error = np.array([effect.standard_error for effect in past])
    found = effect_scale(np.log1p(lift), error / (1 + lift))
    return UsualEffects(
        experiments=found.experiments,
        tau=found.tau,
        lower=found.lower,
        upper=found.upper,
        reason=found.reason or None,
    )


def _alpha_per_test(
    alpha: float, correction: PlannedCorrection, success_tests: int, control: Variant, treatments: Sequence[Variant]
) -> float:
    """Holm's first step is Bonferroni's; later steps ask for less, so the plan is on the safe side."""
    if correction == "none":
        return alpha
    if correction == "dunnett":
        weights = [control.weight, *(variant.weight for variant in treatments)]
        _, critical = dunnett(np.zeros(len(treatments)), np.inf, weights, level=1 - alpha / success_tests)
        return float(2 * sc.ndtr(-critical))
    return alpha / (success_tests * len(treatments))


def _spending(sequential: Sequential | None, looks: tuple[float, ...]) -> SpendingDesign:
    chosen = sequential or Sequential()
    return SpendingDesign(
        spending=chosen.spending, parameter=chosen.spending_parameter, futility=chosen.futility, planned=looks
    )


def _looks(days: float, traffic: Accumulation, every: int) -> tuple[float, ...]:
    """Shares of the final units at looks every so many days; the last look is the end."""
    step = max(float(every), days / MOST_LOOKS)
    before = np.arange(1, int(np.ceil(days / step - 0.5))) * step
    shares = traffic.units_at(before) / traffic.units_at(days)
    return (*np.unique(np.round(shares[(shares > 0) & (shares < 1)], 4)).tolist(), 1.0)


def _variant_size(variant: Variant, units: int, clusters: ClusterDesign | None) -> VariantSize:
    needed = _up(units * variant.weight)
    return VariantSize(
        variant_key=variant.key, units=needed, clusters=_up(needed / clusters.size) if clusters else None
    )


def _up(number: float) -> int:
    return int(np.ceil(number - 1e-9))


def _traffic(baselines: BaselineResult | None, share: float) -> Accumulation | None:
    curve = baselines.cumulative_units if baselines else []
    return Accumulation.fit(curve, coverage=share) if curve and curve[-1] * share >= 1 else None


def _days(traffic: Accumulation | None, units: int) -> tuple[float | None, str | None]:
    if traffic is None:
        return None, NO_HISTORY
    reached = traffic.days_to_reach(units)
    return (reached, None) if isinstance(reached, float) else (None, str(reached))
