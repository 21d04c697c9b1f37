"""What a programme is computed from: one effect of every experiment that ended, whatever became of it (METHODS F1).

Effects of winners only would be the winner's curse itself. So an experiment is in the plan with its effect, or among
the missing with the reason. The plan holds all numbers: what shipped later, or was analysed again, makes another plan.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import holdout, launch, metric
from experiments.belonging import launch_is_about
from experiments.condensed_results import condensed
from experiments.definitions import ExperimentSpec, HoldoutSpec
from experiments.ended_experiments import EndedExperiment, NewestResult, ended_experiments, newest_results
from experiments.errors import NotReady
from experiments.evidence.launch.grading import facts_of_experiment
from experiments.measured_before import measured_in
from experiments.plan import (
    AnalysisPlan,
    HoldoutEvidence,
    MeasuredBefore,
    MissingEffect,
    PlannedPersistence,
    ProgrammeEffect,
    ProgrammePlan,
    ToplineSource,
)
from experiments.replications import REPLICATES
from experiments.result import ExperimentResult, Row
from experiments.tables import Analysis, Experiment, Holdout, Launch, NorthStar
from stats.launch.grade import evidence_grade
from stats.topline import of_lift

KIND: Final = "programme"
NOT_ESTIMABLE: Final = "not_estimable"


async def programme_plan(
    session: AsyncSession, *, metric_key: str, at: datetime, winners_only: bool = False
) -> tuple[ProgrammePlan, datetime]:
    """What is known of all experiments on a metric, and the time of the newest of it: a result or a decision.

    As known at a time, which is the answer where nothing is known yet. `winners_only` says that a history was imported
    without its losers. Raises `NotFound`.
    """
    spec = metric.spec_of(await metric.get(session, key=metric_key))
    ended = [each for each in await ended_experiments(session, at=at) if metric_key in each.metric_keys]
    held = await holdout.all_on(session, metric_key=metric_key)
    of_held = await newest_results(session, at=at, keys=[experiment.key for _, experiment in held])
    wanted = [each.result.id for each in ended if each.result is not None and each.without_effect is None]
    documents = await condensed(
        session, result_ids=[*wanted, *(each.id for each in of_held.values())], metric_keys=[metric_key]
    )
    effects: list[ProgrammeEffect] = []
    missing: list[MissingEffect] = []
    for each in ended:
        result = each.result
        effect, reason = None, each.without_effect
        if reason is None and result is not None:
            effect, reason = _effect(each, documents[result.id], metric_key), NOT_ESTIMABLE
        if effect is not None:
            effects.append(effect)
        else:
            analysis_id = result.analysis_id if result is not None else None
            missing.append(
                MissingEffect(
                    experiment_key=each.row.key, name=each.row.name, reason=reason or "", analysis_id=analysis_id
                )
            )
    launches = await _launches_on(session, metric_key)
    holdouts = []
    for row, experiment in held:
        newest = of_held.get(experiment.key)
        document = documents.get(newest.id) if newest is not None else None
        holdouts.append(_holdout(row, experiment, newest, document, launches, at))
    plan = ProgrammePlan(
        metric_key=metric_key,
        metric_name=spec.name,
        direction=spec.direction,
        started=len(ended),
        effects=effects,
        missing=missing,
        holdouts=holdouts,
        winners_only=winners_only,
    )
    return plan, _as_of(ended, list(of_held.values()), at)


async def _launches_on(session: AsyncSession, metric_key: str) -> list[tuple[str, datetime]]:
    """Launches about the North Stars that are this metric (all launches where it is none), with their first steps."""
    stars = [row.key for row in await session.scalars(sa.select(NorthStar)) if row.spec["metric_key"] == metric_key]
    statement = (
        sa.select(Launch, Experiment)
        .outerjoin(Experiment, col(Experiment.id) == col(Launch.experiment_id))
        .order_by(col(Launch.first_at), col(Launch.key))
    )
    return [
        (row.key, row.first_at)
        for row, experiment in (await session.execute(statement)).all()
        if not stars or launch_is_about(stars, launch=launch.spec_of(row), experiment=experiment)
    ]


async def computable(
    session: AsyncSession, *, metric_key: str, at: datetime, winners_only: bool = False
) -> tuple[ProgrammePlan, datetime]:
    """The same for a programme of its own. Raises `NotReady` where no experiment has ended and nobody is held out."""
    plan, data_as_of = await programme_plan(session, metric_key=metric_key, at=at, winners_only=winners_only)
    if not plan.effects and not plan.missing and not plan.holdouts:
        raise NotReady(
            f"No experiment that measures `{metric_key}` has ended yet",
            remedy="Start one with this metric, or with a North Star whose tree has it, and stop it when it is done.",
        )
    return plan, data_as_of


async def due(session: AsyncSession, *, at: datetime) -> list[tuple[ProgrammePlan, datetime]]:
    """Programmes whose experiments, decisions or holdouts differ from those that the newest one was computed from.

    Those are of the metrics of North Stars, and of all metrics whose programme somebody has asked for. Results are
    only read for programmes that are due.
    """
    newest = await _newest_plans(session)
    steered = {row.spec["metric_key"] for row in await session.scalars(sa.select(NorthStar))}
    ended = await ended_experiments(session, at=at)
    found = []
    for key in sorted(steered | newest.keys()):
        here = [each for each in ended if key in each.metric_keys]
        held = await holdout.all_on(session, metric_key=key)
        if not here and not held:
            continue
        of_held = await newest_results(session, at=at, keys=[experiment.key for _, experiment in held])
        standing = [(row, of_held.get(experiment.key)) for row, experiment in held]
        if key not in newest or not _same(newest[key], here, standing):
            flag = key in newest and newest[key].winners_only
            found.append(await programme_plan(session, metric_key=key, at=at, winners_only=flag))
    return found


def _same(
    plan: ProgrammePlan, ended: Sequence[EndedExperiment], held: Sequence[tuple[Holdout, NewestResult | None]]
) -> bool:
    counted = {each.experiment_key: each for each in plan.effects}
    gaps = {each.experiment_key: each for each in plan.missing}
    if len(ended) != len(counted) + len(gaps):
        return False
    for each in ended:
        analysis_id = each.result.analysis_id if each.result is not None else None
        if (gap := gaps.get(each.row.key)) is not None:
            if (gap.analysis_id, gap.reason) != (analysis_id, each.without_effect or NOT_ESTIMABLE):
                return False
            continue
        effect = counted.get(each.row.key)
        if effect is None or each.without_effect is not None:
            return False
        outcome, decided_at = (each.decision.outcome, each.decision.decided_at) if each.decision else (None, None)
        if (effect.analysis_id, effect.outcome, effect.decided_at) != (analysis_id, outcome, decided_at):
            return False
    now = {(row.key, row.version, newest.analysis_id if newest is not None else None) for row, newest in held}
    return now == {(each.holdout_key, each.version, each.analysis_id) for each in plan.holdouts}


async def _newest_plans(session: AsyncSession) -> dict[str, ProgrammePlan]:
    """By metric, the plan of its newest programme, whatever became of it."""
    rank = sa.func.row_number().over(
        partition_by=col(Analysis.subject_key), order_by=(col(Analysis.created_at).desc(), col(Analysis.id).desc())
    )
    ranked = sa.select(col(Analysis.id).label("id"), rank.label("rank")).where(col(Analysis.kind) == KIND).subquery()
    statement = (
        sa.select(col(Analysis.subject_key), col(Analysis.plan))
        .join(ranked, ranked.c.id == col(Analysis.id))
        .where(ranked.c.rank == 1)
    )
    return {key: ProgrammePlan.model_validate(plan) for key, plan in (await session.execute(statement)).all()}


def _effect(ended: EndedExperiment, document: ExperimentResult, metric_key: str) -> ProgrammeEffect | None:
    """Of the shipped variant, else of the most precisely measured one; None where nothing was measured of it."""
    plan, row, decision = ended.plan(), ended.row, ended.decision
    shipped = ended.shipped_variant
    usable = [
        each
        for each in document.rows
        if each.lift is not None and each.lift > -1 and each.standard_error and shipped in (None, each.variant_key)
    ]
    if not usable or ended.result is None:
        return None
    chosen = min(usable, key=_precision)
    before = measured_in(chosen, document, plan, row)
    grade = evidence_grade(facts_of_experiment(before))
    topline, topline_error, source = _topline(chosen, before, document)
    assert row.started_at is not None and row.stopped_at is not None
    return ProgrammeEffect(
        experiment_key=row.key,
        name=row.name,
        team=row.team or None,
        owner=row.owner,
        variant_key=chosen.variant_key,
        variants=len(plan.variants) - 1,
        analysis_id=ended.result.analysis_id,
        data_as_of=document.data_as_of,
        verdict=document.verdict,
        log_lift=before.log_lift,
        standard_error=before.standard_error,
        topline_log_lift=topline,
        topline_standard_error=topline_error,
        topline_source=source,
        evidence_grade=grade.letter,
        bias_sd=grade.bias_sd,
        started_at=row.started_at,
        stopped_at=row.stopped_at,
        outcome=decision.outcome if decision is not None else None,
        decided_at=decision.decided_at if decision is not None else None,
        shipped=shipped is not None,
        against_recommendation=bool(decision is not None and decision.against_recommendation),
        launch_key=ended.launch_key if shipped is not None else None,
        persistence=_persistence(document, metric_key, chosen.variant_key),
        replicates=row.spec.get("parent_key") if row.relation == REPLICATES else None,
    )


def _precision(row: Row) -> tuple[float, str]:
    """The smallest error first, on the log scale."""
    assert row.standard_error is not None and row.lift is not None
    return row.standard_error / (1 + row.lift), row.variant_key


def _topline(
    row: Row, before: MeasuredBefore, document: ExperimentResult
) -> tuple[float | None, float | None, ToplineSource]:
    """The effect on the company: by the share of the metric that was reached, or as if that were everybody.

    It is the result's own, which knows a ratio by both its parts, moved by what corrects the effect for how it ended.
    None where the share was looked for and is not known (less than a week): to the ledger such a launch is blind.
    """
    for each in document.topline:
        if each.variant_key != row.variant_key or not each.estimable or each.share is None:
            continue
        assert row.lift is not None and row.standard_error is not None
        measured = np.array([np.log1p(row.lift), before.log_lift])
        errors = np.array([row.standard_error / (1 + row.lift), before.standard_error])
        by_share, spread = of_lift(measured, errors, each.share, each.share_standard_error or 0.0)
        if each.log_lift is None or each.standard_error is None or not (spread > 0).all():
            continue
        return (
            each.log_lift + float(by_share[1] - by_share[0]),
            each.standard_error * float(spread[1] / spread[0]),
            each.source,
        )
    if any(each.variant_key == row.variant_key and each.source == "measured" for each in document.topline):
        return None, None, "everybody"
    return before.log_lift, before.standard_error, "everybody"


def _persistence(document: ExperimentResult, metric_key: str, variant_key: str) -> PlannedPersistence | None:
    for each in document.persistence:
        if (each.metric_key, each.variant_key) == (metric_key, variant_key) and each.estimable and each.lasting:
            # Of the measured average, which the launch is credited with: part of it had worn off already.
            return PlannedPersistence(
                remaining=each.lasting, log_sd=each.lasting_log_sd or 0.0, half_life_days=each.half_life_days
            )
    return None


def _holdout(
    row: Holdout,
    experiment: Experiment,
    newest: NewestResult | None,
    document: ExperimentResult | None,
    launches: Sequence[tuple[str, datetime]],
    at: datetime,
) -> HoldoutEvidence:
    spec = holdout.spec_of(row)
    measured_at = newest.data_as_of if newest is not None else at
    until = min(spec.released_at or measured_at, measured_at)
    plan = AnalysisPlan.model_validate(experiment.plan) if experiment.plan is not None else None
    measured: MeasuredBefore | None = None
    reason: str | None = "never_analysed"
    if plan is not None and document is not None and experiment.started_at is not None:
        rows = [each for each in document.rows if each.lift is not None and each.lift > -1 and each.standard_error]
        reason = NOT_ESTIMABLE if not rows else "unreliable" if document.verdict == "unreliable" else None
        if reason is None:
            measured = measured_in(rows[0], document, plan, experiment)
    exposed = document.exposures if document is not None else None
    seen = sum(each.exposures for each in exposed.variants) if exposed is not None else 0
    control = ExperimentSpec.model_validate(experiment.spec).control
    kept_from = spec.launch_keys or [key for key, first in launches if spec.started_at <= first < until]
    return HoldoutEvidence(
        holdout_key=row.key,
        name=spec.name,
        experiment_key=experiment.key,
        share=control.weight * (plan.coverage if plan is not None else experiment.spec.get("coverage", 1.0)),
        started_at=spec.started_at,
        released_at=spec.released_at,
        launch_keys=kept_from,
        analysis_id=newest.analysis_id if newest is not None else None,
        log_lift=measured.log_lift if measured is not None else None,
        standard_error=measured.standard_error if measured is not None else None,
        contaminated_share=exposed.crossover / seen if exposed is not None and seen else None,
        failed_checks=[each.name for each in document.checks if each.status == "fail"] if document is not None else [],
        reason=reason,
        version=row.version,
        measured_at=until if newest is not None else None,
        live=_live(spec, kept_from, dict(launches), until) if newest is not None else {},
    )


def _live(
    spec: HoldoutSpec, launch_keys: Sequence[str], first_at: Mapping[str, datetime], end: datetime
) -> dict[str, float]:
    """The share of the measured time that each launch was out."""
    whole = end - spec.started_at
    if whole <= timedelta(0):
        return {}
    known = [key for key in launch_keys if key in first_at]
    return {key: min(max((end - first_at[key]) / whole, 0.0), 1.0) for key in known}


def _as_of(ended: Sequence[EndedExperiment], held: Sequence[NewestResult], at: datetime) -> datetime:
    results = [each.result.data_as_of for each in ended if each.result is not None]
    decisions = [each.decision.decided_at for each in ended if each.decision is not None]
    return max([*results, *decisions, *(each.data_as_of for each in held)], default=at)
