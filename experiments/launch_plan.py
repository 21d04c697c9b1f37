"""The plan of a launch's analysis: what is measured, on which versions, and what was known before (METHODS D, H1)."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import freezing, launch, learned_prior, metric
from experiments.definitions import Confounder, LaunchMeasurement, LaunchSpec, PlanMetric, Role
from experiments.errors import FieldError, NotReady
from experiments.launch_rules import series_named
from experiments.launches_beside import launches_beside
from experiments.measured_before import measured_before
from experiments.metric import Known
from experiments.plan import LaunchPlan, MeasuredBefore, PlannedMeasurement, PlannedMetric, PlannedPrior, PlannedSeries
from experiments.series import spec_of as series_spec
from experiments.tables import Experiment, Launch, Series
from stats.formula import parse


async def launch_plan(session: AsyncSession, row: Launch) -> LaunchPlan:
    """The plan of a launch as it is recorded now, at the current versions of its series and their metrics.

    Raises `NotReady` for a launch that names nothing to measure it on.
    """
    spec = launch.spec_of(row)
    if not spec.measurements:
        raise NotReady(
            f"The launch `{row.key}` says of no series that it is measured on it",
            remedy=f"Add to `measurements` with PUT /v1/launches/{row.key}; POST /v1/series registers a series.",
            errors=[FieldError("/measurements", "is empty")],
        )
    series = await _planned_series(session, spec)
    outcomes = {item.series_key: series[item.series_key].spec.metric_key for item in spec.measurements}
    metric_keys = frozenset(key for key in outcomes.values() if key is not None)
    experiment = await session.get(Experiment, row.experiment_id) if row.experiment_id is not None else None
    before = await _before(session, spec, experiment, metric_keys)
    beside = await launches_beside(session, row)
    priors = await learned_prior.pinned(
        session,
        metric_keys=metric_keys,
        experiment_key=experiment.key if experiment else "",
        team=experiment.team if experiment else "",
    )
    return LaunchPlan(
        launch_key=row.key,
        rollout=spec.rollout,
        eligible=spec.eligible,
        announced_at=spec.announced_at,
        confounders=spec.confounders,
        measured_since=row.measured_since,
        measurements=[_planned(item, series, before, priors, beside) for item in spec.measurements],
        fact_sources=await freezing.sources_of(session, _metrics_of(series), {}),
    )


def series_of(plan: LaunchPlan) -> dict[str, PlannedSeries]:
    """All series of a plan by key, each once."""
    return {
        planned.spec.key: planned
        for item in plan.measurements
        for planned in (item.outcome, *item.regressors, *item.controls)
    }


def _planned(
    item: LaunchMeasurement,
    series: Mapping[str, PlannedSeries],
    before: Mapping[str, MeasuredBefore],
    priors: Mapping[str, PlannedPrior],
    beside: Mapping[str, list[Confounder]],
) -> PlannedMeasurement:
    outcome = series[item.series_key]
    key = outcome.spec.metric_key or ""
    return PlannedMeasurement(
        options=item,
        outcome=outcome,
        regressors=[series[each] for each in item.regressors],
        controls=[series[each] for each in item.controls],
        experiment=before.get(key),
        prior=priors.get(key),
        beside=beside.get(item.series_key, []),
    )


async def _planned_series(session: AsyncSession, spec: LaunchSpec) -> dict[str, PlannedSeries]:
    statement = sa.select(Series).where(col(Series.key).in_(sorted(series_named(spec))))
    rows = (await session.scalars(statement)).all()
    known = await metric.all_known(session, archived=True)
    return {row.key: _pinned(row, known) for row in rows}


def _pinned(row: Series, known: Mapping[str, Known]) -> PlannedSeries:
    spec = series_spec(row)
    keys: list[str] = []
    if spec.source == "facts" and spec.metric_key is not None:
        formula = known[spec.metric_key].spec.formula
        keys = [spec.metric_key, *(parse(formula).names if formula is not None else ())]
    metrics = [freezing.pin(PlanMetric(metric_key=key, role=Role.MONITOR), known) for key in keys]
    return PlannedSeries(version=row.version, spec=spec, metrics=metrics)


def _metrics_of(series: Mapping[str, PlannedSeries]) -> Sequence[PlannedMetric]:
    return [planned for each in series.values() for planned in each.metrics]


async def _before(
    session: AsyncSession, spec: LaunchSpec, experiment: Experiment | None, metric_keys: frozenset[str]
) -> Mapping[str, MeasuredBefore]:
    if experiment is None or not metric_keys:
        return {}
    return await measured_before(session, experiment=experiment, shipped=spec.shipped_variant, metric_keys=metric_keys)
