"""From the plan of a launch and its series to the document, by way of the models that a worker samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from experiments.evidence.launch.answers import estimate_rows, event_points, grade_of, parameters, period_points
from experiments.evidence.launch.checks import checks
from experiments.evidence.launch.data import launch_data
from experiments.evidence.launch.design import designs
from experiments.evidence.launch.estimates import estimates
from experiments.evidence.launch.grading import leading
from experiments.evidence.launch.measured import Measured
from experiments.evidence.launch.sampled import question_of, with_sampled
from experiments.evidence.launch.support import donor_fit, donor_uses, placebos, sensitivity, trend_before
from experiments.evidence.launch.trust import trust
from experiments.evidence.launch.untouched import touched
from experiments.evidence.launch.window import eligible
from experiments.plan import LaunchPlan, PlannedMeasurement
from experiments.result import LaunchResult, MeasuredLaunch
from experiments.series_table import SeriesTable
from stats.bayes.models.fit import ModelFit, Question

_METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    "experiment": ("A1", "A3"),
    "staged": ("A3", "A8", "A12", "D6"),
    "switchback": ("D5",),
    "imputation": ("D2",),
    "group_time": ("D2",),
    "did": ("D2",),
    "synthetic_did": ("D3",),
    "synthetic_control": ("D3",),
    "augmented_synthetic_control": ("D3",),
    "bsts": ("D4",),
    "structural": ("D1",),
    "prior": ("C3",),
}


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """The circumstances of one analysis. No clock is read anywhere below this."""

    analysis_id: str
    data_as_of: datetime
    seed: int
    code_version: str
    plan_hash: str


@dataclass(frozen=True, slots=True, eq=False)
class LaunchDraft:
    """What was measured, still without the answers of models that take sampling. Picklable.

    `asked` has the place of its measurement for each of `questions`. A model that fails or takes too long costs only
    itself: the grid's answer to the same question stands.
    """

    launch_key: str
    context: LaunchContext
    measured: tuple[Measured, ...]
    questions: tuple[Question, ...]
    asked: tuple[int, ...]

    def finish(self, fits: Sequence[ModelFit] | None = None) -> LaunchResult:
        """The document; `fits` answer `questions`, one each. Without `fits` nobody was there to ask.

        Raises `ValueError` for fits that are too few or too many.
        """
        answers = [None] * len(self.questions) if fits is None else fits
        complete = list(self.measured)
        for place, fit in zip(self.asked, answers, strict=True):
            complete[place] = with_sampled(complete[place], fit)
        documents = [_document(measured) for measured in complete]
        used = {name for document in documents for row in document.estimates for name in _METHODS[row.method]}
        return LaunchResult(
            analysis_id=self.context.analysis_id,
            launch_key=self.launch_key,
            plan_hash=self.context.plan_hash,
            data_as_of=self.context.data_as_of,
            seed=self.context.seed,
            code_version=self.context.code_version,
            measurements=documents,
            methods=sorted(used | {"D6", "D7"}),
        )


def draft_launch(plan: LaunchPlan, tables: Mapping[str, SeriesTable], context: LaunchContext) -> LaunchDraft:
    """Everything about a launch but the sampled models: a pure function of the plan, the series and the circumstances.

    `tables` are by the key of the series, all those that the plan names. Raises `KeyError` where an outcome is not
    among them: a fault of the caller. Everything that data can do wrong ends in the document, as a reason, as a check,
    or as a lower grade.
    """
    measured = tuple(_measured(plan, item, tables, context) for item in plan.measurements)
    questions = [(place, question) for place, item in enumerate(measured) if (question := question_of(item))]
    return LaunchDraft(
        launch_key=plan.launch_key,
        context=context,
        measured=measured,
        questions=tuple(question for _, question in questions),
        asked=tuple(place for place, _ in questions),
    )


def _measured(
    plan: LaunchPlan, measurement: PlannedMeasurement, tables: Mapping[str, SeriesTable], context: LaunchContext
) -> Measured:
    given = launch_data(plan, measurement, tables, context.data_as_of)
    suspects = touched(given)
    data = given.without(suspects.left_out)
    options = designs(plan, measurement, data)
    level, seed = measurement.options.level, context.seed
    found = estimates(plan, measurement, data, tables[measurement.outcome.spec.key], options, seed=seed)
    leads = leading(options, found, data)
    in_lot = eligible(plan, measurement.outcome.spec.dimension, data.panel.units)
    drawn = in_lot if leads.design == "random_order" else None
    battery = trust(data, found, leads.method, in_lot=drawn, level=level, seed=seed)
    return Measured(plan, measurement, data, found, battery, suspects, leads, {}).graded()


def _document(measured: Measured) -> MeasuredLaunch:
    spec, data = measured.measurement.outcome.spec, measured.data
    return MeasuredLaunch(
        series_key=spec.key,
        series_name=spec.name,
        metric_key=spec.metric_key,
        unit=spec.unit,
        grain=spec.grain,
        dimension=spec.dimension,
        direction=spec.direction.value,
        level=measured.level,
        scale=data.scale,
        treated=list(data.treated),
        periods_before=data.before,
        periods_after=data.after,
        designs=list(measured.leads.options),
        grade=grade_of(measured),
        estimates=estimate_rows(measured),
        checks=checks(measured),
        periods=period_points(measured),
        event_study=event_points(measured),
        placebos=placebos(measured),
        donors=donor_uses(measured),
        donor_fit=donor_fit(measured),
        pre_trend=trend_before(measured),
        sensitivity=sensitivity(measured),
        parameters=parameters(measured),
    )
