"""Decisions: what people chose and learned. Shipping creates the launch in the same transaction."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, launch, versioned
from experiments.definitions import DecisionSpec, ExperimentSpec, LaunchSpec, RolloutStep
from experiments.errors import FieldError, InvalidDefinition, NotReady
from experiments.tables import Analysis, Decision, Experiment, Launch, Result

CONCLUSIONS: Final[dict[str, str | None]] = {
    "ship": "won",
    "roll_back": "lost",
    "iterate": "inconclusive",
    "extend": None,
}
"""What a decision makes of the experiment. A conclusion set when it was stopped (`invalid`, `stopped_early`) survives

everything but shipping."""


async def decide(
    session: AsyncSession,
    *,
    experiment: Experiment,
    spec: DecisionSpec,
    actor: str,
    at: datetime,
    decided_at: datetime | None = None,
    coverage: float = 1.0,
    launch_key: str | None = None,
) -> tuple[Decision, Launch | None]:
    """Record a decision together with the verdict it was made on; for `ship` also the launch, with its first step.

    `extend` is for experiments that have not been stopped or archived; everything else needs a stopped one. Raises
    `NotReady` saying what to do first, `InvalidDefinition` for an unknown variant, a time in the future or before the
    experiment ended, `KeyTaken` for an explicit `launch_key`.
    """
    _require_status(experiment, spec.outcome)
    moment = _moment(experiment, spec, at, decided_at)
    definition = ExperimentSpec.model_validate(experiment.spec)
    _require_variant(definition, spec)
    shipped = (
        await _ship(session, definition, spec, actor=actor, at=at, moment=moment, coverage=coverage, key=launch_key)
        if spec.shipped_variant is not None
        else None
    )
    verdict, analysis_id = await _basis(session, experiment)
    decision = Decision(
        experiment_id=experiment.id,
        outcome=spec.outcome,
        shipped_variant=spec.shipped_variant,
        reason=spec.reason,
        learnings=spec.learnings,
        verdict=verdict,
        analysis_id=analysis_id,
        launch_id=shipped.id if shipped else None,
        decided_by=actor,
        decided_at=moment,
    )
    session.add(decision)
    before = experiment.conclusion
    conclusion = CONCLUSIONS[spec.outcome]
    if conclusion is not None and (spec.outcome == "ship" or before not in ("invalid", "stopped_early")):
        await versioned.update(session, experiment, conclusion=conclusion, updated_at=at)
    audit.record(
        session,
        actor=actor,
        action="experiment.decided",
        subject_type="experiment",
        subject_key=experiment.key,
        at=at,
        before={"conclusion": before},
        after={
            **spec.model_dump(mode="json"),
            "conclusion": experiment.conclusion,
            "verdict": verdict,
            "launch_key": shipped.key if shipped else None,
            "decided_at": moment.isoformat(),
        },
    )
    await session.flush()
    return decision, shipped


async def of(session: AsyncSession, *, experiment: Experiment) -> Sequence[tuple[Decision, str | None]]:
    """All decisions with the key of the launch each led to, newest first; the first one counts."""
    statement = (
        sa.select(Decision, col(Launch.key))
        .outerjoin(Launch, col(Launch.id) == col(Decision.launch_id))
        .where(col(Decision.experiment_id) == experiment.id)
        .order_by(col(Decision.decided_at).desc(), col(Decision.id).desc())
    )
    return [(decision, key) for decision, key in (await session.execute(statement)).all()]


async def _ship(
    session: AsyncSession,
    definition: ExperimentSpec,
    spec: DecisionSpec,
    *,
    actor: str,
    at: datetime,
    moment: datetime,
    coverage: float,
    key: str | None,
) -> Launch:
    step = RolloutStep(at=moment, coverage=coverage, mechanism="all_at_once" if coverage == 1 else "random")
    shipped = LaunchSpec(
        key=key or await launch.free_key(session, wanted=definition.key),
        name=definition.name,
        description=spec.reason,
        owner=definition.owner,
        experiment_key=definition.key,
        shipped_variant=spec.shipped_variant,
        rollout=[step],
    )
    return await launch.create(session, spec=shipped, actor=actor, at=at)


async def _basis(session: AsyncSession, experiment: Experiment) -> tuple[str | None, uuid.UUID | None]:
    """The verdict and the analysis that were on the table."""
    statement = (
        sa.select(col(Result.verdict), col(Analysis.id))
        .join(Analysis, col(Analysis.result_id) == col(Result.id))
        .where(col(Result.kind) == "experiment", col(Result.subject_key) == experiment.key)
        .order_by(col(Result.data_as_of).desc(), col(Result.id).desc())
        .limit(1)
    )
    row = (await session.execute(statement)).first()
    return (row[0], row[1]) if row else (None, None)


def _require_status(experiment: Experiment, outcome: str) -> None:
    if outcome == "extend":
        if experiment.status in ("running", "paused"):
            return
        remedy = "Only a running or paused experiment can be extended; register a follow-up with `parent_key` instead."
    else:
        if experiment.status == "stopped":
            return
        remedy = f"Stop it first: POST /v1/experiments/{experiment.key}/stop."
        if experiment.status in ("draft", "archived"):
            remedy = "Decisions are about experiments that ran and were stopped."
    raise NotReady(
        f"`{experiment.key}` is {experiment.status}: it cannot be decided to {outcome.replace('_', ' ')} it",
        remedy=remedy,
        status_now=experiment.status,
    )


def _moment(experiment: Experiment, spec: DecisionSpec, at: datetime, decided_at: datetime | None) -> datetime:
    moment = decided_at or at
    earliest = experiment.started_at if spec.outcome == "extend" else experiment.stopped_at
    fault = None
    if moment > at:
        fault = f"is after {at.isoformat()}"
    elif earliest is not None and moment < earliest:
        fault = f"is before {earliest.isoformat()}, when exposure {'began' if spec.outcome == 'extend' else 'ended'}"
    if fault:
        raise InvalidDefinition(
            f"decided_at {fault}",
            remedy="Give a time between then and now, or leave it out.",
            errors=[FieldError("/decided_at", fault)],
        )
    return moment


def _require_variant(definition: ExperimentSpec, spec: DecisionSpec) -> None:
    variants = [variant.key for variant in definition.variants]
    if spec.shipped_variant is not None and spec.shipped_variant not in variants:
        fault = f"`{spec.shipped_variant}` is not one of {', '.join(variants)}"
        raise InvalidDefinition(
            f"shipped_variant: {fault}",
            remedy="Name a variant of the experiment.",
            errors=[FieldError("/shipped_variant", fault)],
        )
