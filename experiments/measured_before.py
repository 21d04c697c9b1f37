"""What the experiment behind a launch measured, with the facts that its grade rests on (METHODS D7)."""

from collections.abc import Collection
from datetime import timedelta
from math import log1p
from statistics import NormalDist
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from experiments import stored_result
from experiments.evidence.schedule import ripening
from experiments.plan import AnalysisPlan, MeasuredBefore, load
from experiments.result import ExperimentResult, Row, SequentialMonitor
from experiments.tables import Experiment
from experiments.verdict.situation import ended_early

_DAY: Final = timedelta(days=1)


async def measured_before(
    session: AsyncSession, *, experiment: Experiment, shipped: str | None, metric_keys: Collection[str]
) -> dict[str, MeasuredBefore]:
    """By metric, what the newest result of the experiment says of the shipped variant over everybody.

    Without `shipped` it is the only treatment, where there is only one. Empty without a result, and for arms that were
    meant to be alike.
    """
    result_id = await stored_result.latest_id(session, kind="experiment", subject_key=experiment.key)
    if result_id is None or experiment.plan is None or experiment.started_at is None:
        return {}
    plan = load(experiment.plan)
    assert isinstance(plan, AnalysisPlan)
    if plan.purpose != "test":
        return {}
    document = ExperimentResult.model_validate_json((await stored_result.get(session, result_id=result_id)).body)
    treatments = [variant.key for variant in plan.variants if not variant.is_control]
    variant_key = treatments[0] if shipped is None and len(treatments) == 1 else shipped
    return {
        row.metric_key: measured_in(row, document, plan, experiment)
        for row in document.rows
        if row.metric_key in metric_keys
        and row.variant_key == variant_key
        and row.segment_dimension is None
        and row.lift is not None
        and row.lift > -1
        and row.standard_error
    }


def measured_in(row: Row, document: ExperimentResult, plan: AnalysisPlan, experiment: Experiment) -> MeasuredBefore:
    """What one row of the experiment's result says, by the interval that is right for how it ended.

    The row has a lift above -1 and a standard error; the experiment has started.
    """
    assert experiment.started_at is not None
    until = min(experiment.stopped_at or document.data_as_of, document.data_as_of)
    early = experiment.stopped_at is None or ended_early(plan, running=False, exposed_until=until)
    unforeseen = early or document.data_as_of < until + ripening(plan) or not _length_was_planned(plan, document)
    about = (row.metric_key, row.variant_key)
    monitor = next((each for each in document.sequential if (each.metric_key, each.variant_key) == about), None)
    log_lift, standard_error = _effect(row, monitor, any_look=unforeseen)
    return MeasuredBefore(
        metric_key=row.metric_key,
        experiment_key=document.experiment_key,
        variant_key=row.variant_key,
        analysis_id=document.analysis_id,
        verdict=document.verdict,
        log_lift=log_lift,
        standard_error=standard_error,
        days=(until - experiment.started_at) / _DAY,
        failed_checks=[check.name for check in document.checks if check.status == "fail"],
        warned_checks=[check.name for check in document.checks if check.status == "warn"],
        amended=bool(document.amendments),
        stopped_early=early or (monitor is not None and monitor.stopped_for is not None),
        peeked=unforeseen and plan.estimation.sequential.method == "fixed",
        clusters=row.n_control + row.n_treatment if plan.cluster is not None else None,
        triggered=plan.trigger is not None,
    )


def _length_was_planned(plan: AnalysisPlan, document: ExperimentResult) -> bool:
    """Whether the plan says when the experiment ends; else it may have ended because of what was seen."""
    if plan.planned_end_at is not None:
        return True
    analysed = sum(variant.analysed for variant in document.exposures.variants)
    return plan.planned_units is not None and analysed >= plan.planned_units


def _effect(row: Row, monitor: SequentialMonitor | None, *, any_look: bool) -> tuple[float, float]:
    """The log lift and its standard error, by the interval that is right for how the experiment ended.

    A group-sequential plan that stopped has its median-unbiased estimate (B2). An end that no plan foresaw, and windows
    that are still open, take the interval that holds at every look (B1).
    """
    assert row.lift is not None and row.standard_error is not None
    if monitor is not None and monitor.estimate is not None:
        width = _log_width(monitor.ci_lower, monitor.ci_upper)
        if width is not None and monitor.estimate > -1:
            return log1p(monitor.estimate), width / _ends(row.ci_level)
    fixed = row.standard_error / (1 + row.lift)
    width = _log_width(row.always_valid_lower, row.always_valid_upper) if any_look else None
    return log1p(row.lift), fixed if width is None else max(fixed, width / _ends(row.ci_level))


def _log_width(lower: float | None, upper: float | None) -> float | None:
    return None if lower is None or upper is None or lower <= -1 else log1p(upper) - log1p(lower)


def _ends(level: float) -> float:
    """How many standard errors lie between the ends of a normal interval."""
    return 2 * NormalDist().inv_cdf((1 + level) / 2)
