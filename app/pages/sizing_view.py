"""The sample an experiment needs, from what was typed: units, days, and what every day would show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio.to_thread
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.charts.planning import planned_keys, power_chart, power_values, smallest_chart, smallest_values
from app.charts.theme import Spec
from app.pages.experiment_form import ExperimentForm
from app.pages.experiment_options import number, percent
from experiments import metric, overview
from experiments.definitions import Estimation, PlanMetric, Role, Variant
from experiments.effect_history import past_effects
from experiments.planning import SampleSize, sample_size
from experiments.result import BaselineResult
from stats.cluster_design import ClusterDesign

CURVE_DAYS: Final = 84
FEW_DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class Sizing:
    """`missing` says what the answer waits for; charts are None without traffic."""

    answer: SampleSize | None
    missing: str
    baselines: BaselineResult | None
    unit_type: str
    names: Mapping[str, str]
    smallest: Spec | None
    power: Spec | None
    keys: Sequence[str]

    @property
    def days(self) -> list[Any]:
        """Points of the curve for the table: weekly."""
        return [point for point in self.answer.curve if point.day % 7 == 0] if self.answer else []


async def sizing(session: AsyncSession, typed: ExperimentForm, document: dict[str, Any]) -> Sizing:
    """The answer to what was typed; faults in it are in `typed.faults`."""
    unit_type = typed.fields["unit_type"]
    stored = await overview.latest_result(session, kind="baseline", subject_key=unit_type)
    known = await metric.all_known(session)
    names = {key: item.spec.name for key, item in known.items()}
    baselines = BaselineResult.model_validate_json(stored.body) if stored else None
    answer, missing = None, "no_history"
    if baselines is not None:
        keys = [item.get("metric_key", "") for item in document["metrics"]]
        past = await past_effects(session, metric_keys=keys)
        plan, missing = _plan(typed, document, baselines, known)
        if plan is not None:
            # Bounds of many looks take a second to find.
            answer = await anyio.to_thread.run_sync(partial(plan, past=past, curve_days=CURVE_DAYS))
    return Sizing(
        answer=answer,
        missing=missing,
        baselines=baselines,
        unit_type=unit_type,
        names=names,
        smallest=smallest_chart(answer, names) if answer and len(smallest_values(answer)) >= FEW_DAYS else None,
        power=power_chart(answer, names) if answer and len(power_values(answer)) >= FEW_DAYS else None,
        keys=planned_keys(answer) if answer else [],
    )


def _plan(
    typed: ExperimentForm,
    document: dict[str, Any],
    baselines: BaselineResult,
    known: Mapping[str, metric.Known],
) -> tuple["partial[SampleSize] | None", str]:
    clusters = _clusters(typed)
    triggered = percent(typed.fields, "triggered_share", typed.fault)
    try:
        variants = [Variant.model_validate(variant) for variant in document["variants"]]
        metrics = [PlanMetric.model_validate(item) for item in document["metrics"]]
        chosen = Estimation.model_validate(document.get("estimation", {}))
    except ValidationError:
        return None, "form"
    coverage = document.get("coverage", 1.0)
    sound = sum(variant.is_control for variant in variants) == 1 and len(variants) > 1
    if typed.faults or not sound or not 0 < coverage <= 1 or not 0 < (triggered or 1.0) <= 1:
        return None, "form"
    if not any(item.role == Role.PRIMARY and item.mde for item in metrics):
        return None, "mde"
    return partial(
        sample_size,
        variants=variants,
        metrics=[_directed(item, known) for item in metrics],
        baselines=baselines,
        alpha=round(1 - chosen.ci_level, 12),
        power=chosen.power,
        coverage=coverage,
        cuped=chosen.cuped,
        monitoring=chosen.sequential.method,
        sequential=chosen.sequential if chosen.sequential.method == "group_sequential" else None,
        correction=chosen.correction,
        decision_rule=chosen.decision_rule,
        clusters=clusters,
        triggered_share=triggered or 1.0,
    ), ""


def _directed(item: PlanMetric, known: Mapping[str, metric.Known]) -> PlanMetric:
    """With the metric's own direction, where the plan gives none."""
    if item.direction is not None or item.metric_key not in known:
        return item
    return item.model_copy(update={"direction": known[item.metric_key].spec.direction})


def _clusters(typed: ExperimentForm) -> ClusterDesign | None:
    size = number(typed.fields, "cluster_size", typed.fault)
    icc = number(typed.fields, "cluster_icc", typed.fault) or 0.0
    spread = number(typed.fields, "cluster_size_cv", typed.fault) or 0.0
    if size is None:
        return None
    try:
        return ClusterDesign(size, spread, icc, None)
    except ValueError as error:
        typed.fault("/clusters/size", str(error))
        return None
