"""Decisions: what people chose and learned. Shipping creates the launch in the same transaction."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, launch, versioned
from experiments.definitions import DecisionSpec, ExperimentSpec, LaunchMeasurement, LaunchSpec, Role, RolloutStep
from experiments.errors import FieldError, InvalidDefinition, NotReady
from experiments.json_query import json_text
from experiments.tables import Analysis, Decision, Experiment, Launch, Result, Series

CONCLUSIONS: Final[dict[str, str | None]] = {
    "ship": "won",
    "roll_back": "lost",
    "iterate": "inconclusive",
    "extend": None,
}
"""What a decision makes of the experiment. A conclusion set when it was stopped (`invalid`, `stopped_early`) survives

everything but shipping."""

AGREES: Final[dict[str, frozenset[str]]] = {
    "investigate": frozenset({"roll_back", "iterate", "extend"}),
    "roll_back": frozenset({"roll_back"}),
    "ship": frozenset({"ship"}),
    "neutral": frozenset({"ship", "roll_back", "iterate"}),
    "iterate": frozenset({"iterate", "roll_back"}),
    "archive": frozenset({"iterate", "roll_back"}),
    "extend": frozenset({"extend", "iterate"}),
    "keep_running": frozenset({"extend"}),
}
"""Outcomes that follow each recommended action (METHODS H2); all others contradict it and need a reason.

Taking a change back contradicts only what recommends keeping it or waiting. `neutral` leaves the choice: nothing was
won and nothing harmed. `archive` is putting the idea away, whether something is learned for the next or not.
"""


@dataclass(frozen=True, slots=True)
class Basis:
    """What was on the table: the newest result's verdict and recommendation, and the analysis that made it."""

    verdict: str | None = None
    analysis_id: uuid.UUID | None = None
    action: str | None = None
    variant: str | None = None

    def contradicted_by(self, spec: DecisionSpec) -> bool | None:
        """Whether the outcome goes against what was recommended; None where nothing was (older results)."""
        if self.action is None:
            return None
        if spec.outcome not in AGREES[self.action]:
            return True
        return spec.outcome == "ship" and self.variant is not None and spec.shipped_variant != self.variant

    @property
    def words(self) -> str:
        """The recommendation in words."""
        return f"{(self.action or '').replace('_', ' ')}{f' `{self.variant}`' if self.variant else ''}"


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

    `extend` is for experiments that have not been stopped or archived; everything else needs a stopped one. What
    contradicts the recommendation of the newest result (see `AGREES`) needs the spec's `override_reason`, which is kept
    only then. Raises `NotReady` saying what to do first, `InvalidDefinition` for an unknown variant, a missing override
    reason, a time in the future or before the experiment ended, `KeyTaken` for an explicit `launch_key`.
    """
    _require_status(experiment, spec.outcome)
    moment = _moment(experiment, spec, at, decided_at)
    definition = ExperimentSpec.model_validate(experiment.spec)
    _require_variant(definition, spec)
    basis = await _basis(session, experiment)
    contradicts = basis.contradicted_by(spec)
    if contradicts and not (spec.override_reason or "").strip():
        _require_reason(basis, spec)
    shipped = (
        await _ship(session, definition, spec, actor=actor, at=at, moment=moment, coverage=coverage, key=launch_key)
        if spec.shipped_variant is not None
        else None
    )
    decision = Decision(
        experiment_id=experiment.id,
        outcome=spec.outcome,
        shipped_variant=spec.shipped_variant,
        reason=spec.reason,
        learnings=spec.learnings,
        verdict=basis.verdict,
        recommendation=basis.action,
        against_recommendation=contradicts,
        override_reason=spec.override_reason if contradicts else None,
        analysis_id=basis.analysis_id,
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
            "verdict": basis.verdict,
            "recommendation": basis.action,
            "against_recommendation": contradicts,
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
        measurements=await _measurements(session, definition),
    )
    return await launch.create(session, spec=shipped, actor=actor, at=at)


async def _measurements(session: AsyncSession, definition: ExperimentSpec) -> list[LaunchMeasurement]:
    """The series of each primary metric, where there is exactly one: nobody needs to be asked which."""
    primary = list(dict.fromkeys(item.metric_key for item in definition.metrics if item.role is Role.PRIMARY))
    metric_key = json_text(session, Series.spec, "metric_key")
    statement = (
        sa.select(metric_key, sa.func.min(col(Series.key)))
        .where(
            metric_key.in_(primary),
            json_text(session, Series.spec, "role") == "outcome",
            col(Series.archived_at).is_(None),
        )
        .group_by(metric_key)
        .having(sa.func.count() == 1)
    )
    series = {row[0]: row[1] for row in await session.execute(statement)}
    return [LaunchMeasurement(series_key=series[key]) for key in primary if key in series][:10]


async def _basis(session: AsyncSession, experiment: Experiment) -> Basis:
    """The newest result of the experiment as it stands now."""
    statement = (
        sa.select(col(Result.verdict), col(Analysis.id), col(Result.body))
        .outerjoin(Analysis, col(Analysis.result_id) == col(Result.id))
        .where(col(Result.kind) == "experiment", col(Result.subject_key) == experiment.key)
        .order_by(col(Result.data_as_of).desc(), col(Result.id).desc())
        .limit(1)
    )
    row = (await session.execute(statement)).first()
    if row is None:
        return Basis()
    # Documents of the first schema have no recommendation.
    advice: Mapping[str, Any] = json.loads(row[2]).get("recommendation") or {}
    return Basis(row[0], row[1], advice.get("action"), advice.get("variant_key"))


def _require_reason(basis: Basis, spec: DecisionSpec) -> None:
    chosen = f"{spec.outcome.replace('_', ' ')}{f' `{spec.shipped_variant}`' if spec.shipped_variant else ''}"
    fault = f"is needed: the latest result recommends to {basis.words}, and this decides to {chosen}"
    raise InvalidDefinition(
        f"override_reason {fault}",
        remedy="Say in `override_reason` (10 characters or more) why the recommendation is not followed.",
        errors=[FieldError("/override_reason", fault)],
        recommended=basis.action,
        recommended_variant=basis.variant,
    )


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
