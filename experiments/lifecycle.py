"""The life of an experiment: draft -> running <-> paused -> stopped -> archived. The only door between statuses.

Every move may carry an `effective_at` in the past, for experiments that were run elsewhere and are imported; moves stay
in order of time and none lies in the future.
"""

from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, freezing, versioned
from experiments.definitions import ExperimentSpec
from experiments.errors import FieldError, IllegalTransition, InvalidDefinition
from experiments.plan import document, plan_hash
from experiments.tables import Experiment, Phase

type Status = Literal["draft", "running", "paused", "stopped", "archived"]
type Conclusion = Literal["won", "lost", "inconclusive", "stopped_early", "invalid"]

TRANSITIONS: Final[dict[str, dict[str, str]]] = {
    "draft": {"start": "running", "archive": "archived"},
    "running": {"pause": "paused", "stop": "stopped"},
    "paused": {"resume": "running", "stop": "stopped"},
    "stopped": {"archive": "archived"},
    "archived": {},
}


def legal_moves(experiment: Experiment) -> list[str]:
    """What can be done with the experiment now."""
    return list(TRANSITIONS[experiment.status])


async def start(
    session: AsyncSession, *, experiment: Experiment, actor: str, at: datetime, effective_at: datetime | None = None
) -> Experiment:
    """Freeze the analysis plan and begin exposure. Raises `IllegalTransition`, `PlanIncomplete` (naming the field)."""
    _require(experiment, "start")
    plan = document(await freezing.freeze(session, experiment))
    moment = await _moment(session, experiment, at, effective_at)
    await _open_phase(session, experiment, moment)
    await _move(
        session,
        experiment,
        "start",
        actor,
        at,
        effective_at=moment,
        plan=plan,
        plan_hash=plan_hash(plan),
        started_at=moment,
    )
    return experiment


async def pause(
    session: AsyncSession, *, experiment: Experiment, actor: str, at: datetime, effective_at: datetime | None = None
) -> Experiment:
    """End the phase without ending the experiment. Raises `IllegalTransition`."""
    _require(experiment, "pause")
    moment = await _moment(session, experiment, at, effective_at)
    await close_phase(session, experiment=experiment, moment=moment)
    await _move(session, experiment, "pause", actor, at, effective_at=moment)
    return experiment


async def resume(
    session: AsyncSession, *, experiment: Experiment, actor: str, at: datetime, effective_at: datetime | None = None
) -> Experiment:
    """Begin another phase. Raises `IllegalTransition`."""
    _require(experiment, "resume")
    moment = await _moment(session, experiment, at, effective_at)
    await _open_phase(session, experiment, moment)
    await _move(session, experiment, "resume", actor, at, effective_at=moment)
    return experiment


async def stop(
    session: AsyncSession,
    *,
    experiment: Experiment,
    actor: str,
    at: datetime,
    effective_at: datetime | None = None,
    conclusion: Conclusion | None = None,
) -> Experiment:
    """End exposure; the conclusion may also come later, with the decision. Raises `IllegalTransition`."""
    _require(experiment, "stop")
    moment = await _moment(session, experiment, at, effective_at)
    await close_phase(session, experiment=experiment, moment=moment)
    await _move(session, experiment, "stop", actor, at, effective_at=moment, stopped_at=moment, conclusion=conclusion)
    return experiment


async def archive(session: AsyncSession, *, experiment: Experiment, actor: str, at: datetime) -> Experiment:
    """Put the experiment away; it stays readable. Raises `IllegalTransition`."""
    _require(experiment, "archive")
    await _move(session, experiment, "archive", actor, at, effective_at=at)
    return experiment


async def phases_of(session: AsyncSession, *, experiment: Experiment) -> list[Phase]:
    """Periods of constant coverage and weights, in order of time; the open one has no end."""
    statement = sa.select(Phase).where(col(Phase.experiment_id) == experiment.id)
    return list(await session.scalars(statement.order_by(col(Phase.started_at), col(Phase.id))))


async def change_phase(session: AsyncSession, *, experiment: Experiment, moment: datetime) -> None:
    """Other weights or another coverage from now on: close the open phase and begin the next (METHODS A8)."""
    await close_phase(session, experiment=experiment, moment=moment)
    await _open_phase(session, experiment, moment)


async def close_phase(session: AsyncSession, *, experiment: Experiment, moment: datetime) -> None:
    """End the open phase, if there is one."""
    for phase in await phases_of(session, experiment=experiment):
        if phase.ended_at is None:
            phase.ended_at = moment


async def _open_phase(session: AsyncSession, experiment: Experiment, moment: datetime) -> None:
    spec = ExperimentSpec.model_validate(experiment.spec)
    weights = {variant.key: variant.weight for variant in spec.variants}
    session.add(Phase(experiment_id=experiment.id, started_at=moment, coverage=spec.coverage, weights=weights))


def _require(experiment: Experiment, move: str) -> None:
    legal = legal_moves(experiment)
    if move not in legal:
        can = f"you can {' or '.join(legal)} it" if legal else "nothing more can be done with it"
        raise IllegalTransition(
            f"`{experiment.key}` is {experiment.status}: it cannot {move}",
            remedy=f"While it is {experiment.status} {can}.",
            status_now=experiment.status,
            legal=legal,
        )


async def _moment(
    session: AsyncSession, experiment: Experiment, at: datetime, effective_at: datetime | None
) -> datetime:
    """When the move counts: now, or in the past but not before the last move."""
    if effective_at is None:
        return at
    if effective_at > at:
        raise InvalidDefinition(
            "A move cannot lie in the future",
            remedy="Leave `at` out for now, or give a time that has passed.",
            errors=[FieldError("/at", f"is after {at.isoformat()}")],
        )
    phases = await phases_of(session, experiment=experiment)
    earlier = [time for phase in phases for time in (phase.started_at, phase.ended_at) if time is not None]
    if earlier and effective_at < max(earlier):
        raise InvalidDefinition(
            "A move cannot lie before the one that came before it",
            remedy=f"Give a time from {max(earlier).isoformat()} on.",
            errors=[FieldError("/at", f"is before {max(earlier).isoformat()}")],
        )
    return effective_at


async def _move(
    session: AsyncSession,
    experiment: Experiment,
    move: str,
    actor: str,
    at: datetime,
    *,
    effective_at: datetime,
    **values: Any,
) -> None:
    before = {"status": experiment.status, "conclusion": experiment.conclusion}
    status = TRANSITIONS[experiment.status][move]
    await versioned.update(session, experiment, status=status, updated_at=at, **values)
    audit.record(
        session,
        actor=actor,
        action=f"experiment.{move}",
        subject_type="experiment",
        subject_key=experiment.key,
        at=at,
        before=before,
        after={
            "status": status,
            "conclusion": experiment.conclusion,
            "effective_at": effective_at.isoformat(),
            "plan_hash": experiment.plan_hash,
        },
    )
    await session.flush()
