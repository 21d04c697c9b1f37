"""Asking for an analysis of something that has a name: an experiment, a North Star, a unit type, a metric, a launch."""

import uuid
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import (
    analysis,
    audit,
    freezing,
    launch_effects,
    launch_plan,
    learned_prior,
    ledger_lines,
    links_plan,
    metric,
    programme_plan,
    review_plan,
)
from experiments.errors import FieldError, InvalidDefinition
from experiments.experiment import require_plan
from experiments.paging import Page, page_of
from experiments.plan import document, plan_hash
from experiments.tables import Analysis, Experiment, GrowthReview, Launch


async def of_experiment(
    session: AsyncSession,
    *,
    experiment: Experiment,
    actor: str,
    at: datetime,
    data_as_of: datetime | None = None,
    max_attempts: int = 5,
) -> tuple[Analysis, bool]:
    """Analyse an experiment by its frozen plan, with the data known at `data_as_of` (default: now).

    The row, and whether it must be told to the workers: asking for what is there already returns that; a failed or
    cancelled analysis is queued again. Raises `NotReady` for a draft, `InvalidDefinition` for a time in the future.
    """
    return await _submit(
        session,
        kind="experiment",
        subject_key=experiment.key,
        experiment_id=experiment.id,
        plan=require_plan(experiment),
        actor=actor,
        at=at,
        data_as_of=data_as_of,
        max_attempts=max_attempts,
    )


async def of_north_star(
    session: AsyncSession,
    *,
    key: str,
    actor: str,
    at: datetime,
    data_as_of: datetime | None = None,
    max_attempts: int = 5,
) -> tuple[Analysis, bool]:
    """Compute the weekly series of a North Star at its current version. Raises `NotFound`, `NotReady`."""
    plan = document(await freezing.north_star_plan(session, key=key))
    return await _submit(
        session,
        kind="north_star",
        subject_key=key,
        experiment_id=None,
        plan=plan,
        actor=actor,
        at=at,
        data_as_of=data_as_of,
        max_attempts=max_attempts,
    )


async def of_baseline(
    session: AsyncSession,
    *,
    unit_type: str,
    actor: str,
    at: datetime,
    data_as_of: datetime | None = None,
    max_attempts: int = 5,
) -> tuple[Analysis, bool]:
    """Compute the history that sample sizes are planned from. Raises `NotFound` when no metric is per this unit."""
    plan = document(await freezing.baseline_plan(session, unit_type=unit_type))
    return await _submit(
        session,
        kind="baseline",
        subject_key=unit_type,
        experiment_id=None,
        plan=plan,
        actor=actor,
        at=at,
        data_as_of=data_as_of,
        max_attempts=max_attempts,
    )


async def of_prior(
    session: AsyncSession, *, metric_key: str, actor: str, at: datetime, max_attempts: int = 5
) -> tuple[Analysis, bool]:
    """Learn the prior of a metric from its past experiments as they are known now (METHODS C3).

    Raises `NotFound`, and `NotReady` with fewer than 8 of them. With the same experiments it is the same analysis.
    """
    await metric.get(session, key=metric_key)
    plan, data_as_of = await learned_prior.prior_plan(session, metric_key=metric_key)
    return await _submit(
        session,
        kind=learned_prior.KIND,
        subject_key=metric_key,
        experiment_id=None,
        plan=document(plan),
        actor=actor,
        at=at,
        data_as_of=data_as_of,
        max_attempts=max_attempts,
    )


async def of_links(
    session: AsyncSession, *, north_star_key: str, actor: str, at: datetime, max_attempts: int = 5
) -> tuple[Analysis, bool]:
    """Learn what moves in inputs have been worth in a North Star from the experiments known now (METHODS E9).

    Raises `NotFound`, and `NotReady` with fewer than 8 of them. With the same effects it is the same analysis.
    """
    plan, data_as_of = await links_plan.learnable(session, north_star_key=north_star_key)
    return await _submit(
        session,
        kind=links_plan.KIND,
        subject_key=north_star_key,
        experiment_id=None,
        plan=document(plan),
        actor=actor,
        at=at,
        data_as_of=data_as_of,
        max_attempts=max_attempts,
    )


async def of_programme(
    session: AsyncSession,
    *,
    metric_key: str,
    actor: str,
    at: datetime,
    winners_only: bool = False,
    max_attempts: int = 5,
) -> tuple[Analysis, bool]:
    """Compute what all experiments on a metric did together, as they are known now (METHODS F1 to F4).

    Raises `NotFound`, and `NotReady` before any has ended. With the same effects and decisions it is the same analysis.
    """
    plan, data_as_of = await programme_plan.computable(session, metric_key=metric_key, at=at, winners_only=winners_only)
    return await _submit(
        session,
        kind=programme_plan.KIND,
        subject_key=metric_key,
        experiment_id=None,
        plan=document(plan),
        actor=actor,
        at=at,
        data_as_of=data_as_of,
        max_attempts=max_attempts,
    )


async def of_launch(
    session: AsyncSession,
    *,
    launch: Launch,
    actor: str,
    at: datetime,
    data_as_of: datetime | None = None,
    max_attempts: int = 5,
) -> tuple[Analysis, bool]:
    """Measure a launch as it is recorded now, on its series as they were known at `data_as_of` (default: now).

    Raises `NotReady` for a launch that names nothing to measure it on.
    """
    plan = document(await launch_plan.launch_plan(session, launch))
    return await _submit(
        session,
        kind=launch_effects.KIND,
        subject_key=launch.key,
        experiment_id=None,
        plan=plan,
        actor=actor,
        at=at,
        data_as_of=data_as_of,
        max_attempts=max_attempts,
    )


async def of_growth_review(
    session: AsyncSession,
    *,
    review: GrowthReview,
    actor: str,
    at: datetime,
    data_as_of: datetime | None = None,
    max_attempts: int = 5,
) -> tuple[Analysis, bool]:
    """Make a growth review with everything on record, and the values as they were known at `data_as_of`.

    Raises `NotReady` for a North Star of whose weeks nothing is known.
    """
    plan = document(await review_plan.review_plan(session, review, at=data_as_of or at))
    return await _submit(
        session,
        kind=ledger_lines.KIND,
        subject_key=review.key,
        experiment_id=None,
        plan=plan,
        actor=actor,
        at=at,
        data_as_of=data_as_of,
        max_attempts=max_attempts,
    )


async def cancel(session: AsyncSession, *, analysis_id: uuid.UUID, actor: str, at: datetime) -> Analysis:
    """Ask that an analysis ends: at once when queued, else as soon as its worker hears of it. Raises `NotReady`."""
    before = (await analysis.get(session, analysis_id=analysis_id)).state
    row = await analysis.request_cancel(session, analysis_id=analysis_id, at=at)
    audit.record(
        session,
        actor=actor,
        action="analysis.cancel_requested",
        subject_type="analysis",
        subject_key=str(analysis_id),
        at=at,
        before={"state": before},
        after={"state": row.state},
    )
    await session.flush()
    return row


async def page(
    session: AsyncSession,
    *,
    kind: str | None = None,
    subject_key: str | None = None,
    state: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[Analysis]:
    """Analyses, newest first."""
    statement = sa.select(Analysis)
    for column, value in ((Analysis.kind, kind), (Analysis.subject_key, subject_key), (Analysis.state, state)):
        if value is not None:
            statement = statement.where(col(column) == value)
    return await page_of(session, statement, Analysis, limit=limit, after=after)


async def count_by_state(session: AsyncSession) -> dict[str, int]:
    """How many analyses are in each state; states nobody is in are 0."""
    counted = await session.execute(sa.select(col(Analysis.state), sa.func.count()).group_by(col(Analysis.state)))
    counts = dict.fromkeys(("queued", "running", "succeeded", "failed", "cancelled"), 0)
    return counts | {row[0]: row[1] for row in counted}


async def _submit(
    session: AsyncSession,
    *,
    kind: str,
    subject_key: str,
    experiment_id: uuid.UUID | None,
    plan: dict[str, Any],
    actor: str,
    at: datetime,
    data_as_of: datetime | None,
    max_attempts: int,
) -> tuple[Analysis, bool]:
    if data_as_of is not None and data_as_of > at:
        raise InvalidDefinition(
            "data_as_of lies in the future",
            remedy="Leave it out for now, or give a time that has passed.",
            errors=[FieldError("/data_as_of", f"is after {at.isoformat()}")],
        )
    row, created = await analysis.submit(
        session,
        kind=kind,
        subject_key=subject_key,
        experiment_id=experiment_id,
        plan_document=plan,
        data_as_of=data_as_of or at,
        seed=analysis.seed_of(plan_hash(plan)),
        requested_by=actor,
        at=at,
        max_attempts=max_attempts,
    )
    again = row.state in ("failed", "cancelled")
    if again:
        row = await analysis.requeue(session, analysis_id=row.id, max_attempts=max_attempts)
    if created or again:
        audit.record(
            session,
            actor=actor,
            action="analysis.submitted",
            subject_type="analysis",
            subject_key=str(row.id),
            at=at,
            after={"kind": kind, "subject_key": subject_key, "plan_hash": row.plan_hash},
        )
        await session.flush()
    return row, created or again
