"""Which estimate leads, and how much to believe it (METHODS D6, D7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from experiments.evidence.launch.data import LaunchData
from experiments.evidence.launch.design import leading_methods
from experiments.evidence.launch.estimates import Estimates
from experiments.evidence.launch.trust import Trust
from experiments.evidence.launch.untouched import Touched
from experiments.plan import LaunchPlan, MeasuredBefore, PlannedMeasurement
from experiments.result import DesignOption
from experiments.series_table import PERIOD
from stats.launch.contract import Estimated, Method
from stats.launch.grade import Design, Grade, GradeFacts, evidence_grade
from stats.launch.influence import deciding_period

_DAY: Final = 86400.0
MOST_GAPS: Final = 0.1
PRE_TREND_ALPHA: Final = 0.05
LEAKS: Final = frozenset({"crossover"})
"""Checks of an experiment that tell of units which saw what they should not have seen."""
_PLAIN_DESIGN: Final[dict[Method, Design]] = {
    "experiment": "experiment",
    "staged": "staged",
    "switchback": "switchback",
    "imputation": "staggered",
    "group_time": "staggered",
    "synthetic_did": "concurrent",
    "synthetic_control": "concurrent",
    "augmented_synthetic_control": "concurrent",
    "did": "concurrent",
    "bsts": "donors",
    "structural": "before_after",
}


@dataclass(frozen=True, slots=True)
class Leading:
    """The design that carries the answer, its method (None: nothing was measured), and the options as it came out."""

    design: Design
    method: Method | None
    options: tuple[DesignOption, ...]


def leading(options: Sequence[DesignOption], estimates: Estimates, data: LaunchData) -> Leading:
    """The strongest possible design with a method that found enough to work with.

    A design whose methods all refuse is no longer possible, with the reason that the best of them gave: too few
    periods, gaps, units that were not split as meant. One that gaps left with few donors is passed over for one that
    can use donors with gaps. How large an effect is takes no part.
    """
    settled = [option.model_copy(update={"chosen": False}) for option in options]
    for place, option in enumerate(settled):
        if not option.possible or option.design == "none":
            continue
        asked = [method for method in leading_methods(option.design, data) if method in estimates.by_method]
        able = [method for method in asked if not estimates.by_method[method].reason]
        if able:
            settled[place] = option.model_copy(update={"chosen": True})
            rich = [method for method in able if "few_donors" not in estimates.by_method[method].notes]
            return Leading(option.design, (rich or able)[0], tuple(settled))
        if asked:
            reason = estimates.by_method[asked[0]].reason
            settled[place] = option.model_copy(update={"possible": False, "why": reason})
    settled[-1] = settled[-1].model_copy(update={"chosen": True})
    return Leading("none", None, tuple(settled))


def grades(
    plan: LaunchPlan,
    measurement: PlannedMeasurement,
    data: LaunchData,
    estimates: Estimates,
    trust: Trust,
    touched: Touched,
    leads: Leading,
) -> dict[Method, Grade]:
    """The grade of every estimate: the leading one by its design, the others by what they are without any lot."""
    found: dict[Method, Grade] = {}
    for method, estimated in estimates.by_method.items():
        if estimated.reason:
            continue
        design = leads.design if method == leads.method else _PLAIN_DESIGN[method]
        if leads.design == "random_order" and method in ("imputation", "group_time"):
            design = "random_order"
        fit = next((fit for name, fit in trust.fits.items() if name == method), None)
        facts = GradeFacts(
            design=design,
            effect=estimated.effect,
            standard_error=estimated.standard_error,
            planned_before=plan.measured_since <= data.window.launched,
            days_after=_days_after(plan, data, design),
            placebos_in_time=trust.in_time.get(method),
            placebos_in_space=trust.in_space.get(method),
            pre_trend_passed=_trend_passed(trust) if design in ("staggered", "concurrent") else None,
            donor_fit_good=fit.good if fit is not None else None,
            regressors_untouched=not touched.regressors or method not in ("bsts", "structural"),
            confounded=bool(data.confounders_not_separable),
            too_many_gaps=data.gaps > MOST_GAPS,
            one_period_decides=period_that_decides(data, estimated) is not None,
        )
        if method == "experiment" and measurement.experiment is not None:
            facts = facts_of_experiment(measurement.experiment)
        found[method] = evidence_grade(facts)
    return found


def facts_of_experiment(before: MeasuredBefore) -> GradeFacts:
    """What is on record about an experiment whose checks let its numbers be used."""
    return GradeFacts(
        design="experiment",
        effect=before.log_lift,
        standard_error=before.standard_error,
        planned_before=True,
        days_after=before.days,
        clusters=before.clusters,
        stopped_early=before.stopped_early,
        peeked=before.peeked,
        triggered_set_differs=before.triggered,
        amended=before.amended,
        exposure_leak=bool(LEAKS & {*before.warned_checks, *before.failed_checks}),
    )


def period_that_decides(data: LaunchData, estimated: Estimated) -> int | None:
    """The period without which the effect would be another one; stages and blocks differ as they were drawn."""
    if _PLAIN_DESIGN[estimated.method] in ("experiment", "staged", "switchback"):
        return None
    coverage = data.series.coverage[estimated.periods]
    place = deciding_period(estimated.by_period, coverage, estimated.standard_error)
    return None if place is None else int(estimated.periods[place])


def _days_after(plan: LaunchPlan, data: LaunchData, design: Design) -> float:
    """Days measured; of stages, those between the first step and the one that ended the comparison."""
    if design != "staged":
        return data.after * PERIOD[data.grain].total_seconds() / _DAY
    over = (step.at for step in plan.rollout if step.at > data.window.launched and step.coverage in (0.0, 1.0))
    return (min([data.window.end, *over]) - data.window.launched).total_seconds() / _DAY


def _trend_passed(trust: Trust) -> bool | None:
    return None if trust.pre_trend is None else trust.pre_trend.p_value >= PRE_TREND_ALPHA
