"""Erasures: requests that a unit's rows be deleted, how far each is, and what it did to experiments.

queued -> running -> removing -> done. While it is `removing`, no new reader finds the rows, and the files that held
them wait for analyses that began before. `unit_id` is forgotten when it is `done`. Rows that are found late send an
erasure back from `removing` to `running`.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit
from experiments.definitions import EventSource
from experiments.errors import FieldError, InvalidDefinition, NotFound
from experiments.paging import Page, page_of
from experiments.plan import AnalysisPlan, DataPlan, load
from experiments.tables import Analysis, Erasure, Experiment, Result
from experiments.unit_digest import unit_digest

type State = Literal["queued", "running", "removing", "done"]
ACTOR: Final = "upkeep"
SEVERAL: Final = ""
"""The variant of a unit that was seen in several: it was counted as a crossover, and is in no arm."""


class Effects(BaseModel):
    """What an erasure did: `rows` by stream and subject, refused rows, and units lost by experiment and variant.

    A variant "" is a unit that was seen in several, or whose variant could not be read. `rounds`: how many times files
    were rewritten for it, more than one where rows were recorded late.
    """

    model_config = ConfigDict(extra="forbid")

    rows: dict[str, dict[str, int]] = {}
    refused_rows: int = 0
    experiments: dict[str, dict[str, int]] = {}
    rounds: int = 0


def effects_of(row: Erasure) -> Effects:
    """What an erasure did so far."""
    return Effects() if row.effects is None else Effects.model_validate(row.effects)


async def request(
    session: AsyncSession,
    *,
    unit_type: str,
    unit_ids: Sequence[str],
    reason: str,
    refuse_future: bool,
    key: bytes,
    actor: str,
    at: datetime,
) -> list[Erasure]:
    """Ask that all rows of some ids be erased: one erasure for each id (`key`: `unit_digest.digest_key`).

    An id whose erasure has not begun keeps that one. Raises `InvalidDefinition` for a reason that has an id in it: it
    would outlive the rows.
    """
    if any(unit_id in reason for unit_id in unit_ids):
        raise InvalidDefinition(
            "The reason contains an id that is to be erased",
            remedy="Say why without the id, for example the number of a ticket.",
            errors=[FieldError("/reason", "contains an id")],
        )
    made = []
    for unit_id in dict.fromkeys(unit_ids):
        digest = unit_digest(key, unit_type, unit_id)
        row = await _waiting(session, digest)
        if row is None:
            row = Erasure(
                unit_type=unit_type,
                unit_digest=digest,
                unit_id=unit_id,
                reason=reason,
                refuse_future=refuse_future,
                requested_by=actor,
                requested_at=at,
            )
            session.add(row)
            _audit(session, row, "erasure.requested", actor, at, {"unit_type": unit_type, "refused": refuse_future})
        elif refuse_future and not row.refuse_future:
            row.refuse_future = True
            _audit(session, row, "erasure.refused", actor, at, {"unit_type": unit_type, "refused": True})
        made.append(row)
    await session.flush()
    return made


async def _waiting(session: AsyncSession, digest: str) -> Erasure | None:
    rows = await session.scalars(
        sa.select(Erasure)
        .where(col(Erasure.unit_digest) == digest, col(Erasure.state) == "queued")
        .order_by(col(Erasure.id))
        .with_for_update()
    )
    return rows.first()


async def get(session: AsyncSession, *, erasure_id: uuid.UUID) -> Erasure:
    """The erasure. Raises `NotFound`."""
    row = await session.get(Erasure, erasure_id)
    if row is None:
        raise NotFound(f"There is no erasure {erasure_id}", remedy="GET /v1/erasures lists them.")
    return row


async def page(session: AsyncSession, *, state: State | None, limit: int, after: str | None) -> Page[Erasure]:
    """Erasures, newest first."""
    statement = sa.select(Erasure)
    if state is not None:
        statement = statement.where(col(Erasure.state) == state)
    return await page_of(session, statement, Erasure, limit=limit, after=after)


async def in_states(session: AsyncSession, *states: State, rewritten_before: datetime | None = None) -> list[Erasure]:
    """Erasures that are this far, oldest first; `rewritten_before`: only those rewritten before a time."""
    statement = sa.select(Erasure).where(col(Erasure.state).in_(states))
    if rewritten_before is not None:
        statement = statement.where(col(Erasure.rewritten_at) < rewritten_before)
    return list(await session.scalars(statement.order_by(col(Erasure.id))))


async def begin(session: AsyncSession, *, found: Mapping[uuid.UUID, Effects]) -> None:
    """Record what is about to go, before it goes: a process that dies on the way has not forgotten it.

    What was recorded before and is found again is the same rows. After a round that ended they are others.
    """
    for erasure_id, new in found.items():
        row = await get(session, erasure_id=erasure_id)
        known = effects_of(row)
        late = row.state == "removing"
        if row.state == "done":
            continue
        row.effects = _merged(known, new, late=late).model_dump()
        row.state = "running"


def _merged(known: Effects, new: Effects, *, late: bool) -> Effects:
    def both(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
        if late:
            return dict(Counter(one) + Counter(other))
        return {name: max(one.get(name, 0), other.get(name, 0)) for name in one.keys() | other.keys()}

    streams = known.rows.keys() | new.rows.keys()
    return Effects(
        rows={stream: both(known.rows.get(stream, {}), new.rows.get(stream, {})) for stream in sorted(streams)},
        refused_rows=known.refused_rows,
        # A unit is lost once, however many of its rows come late.
        experiments={**new.experiments, **known.experiments},
        rounds=known.rounds,
    )


async def rewritten(session: AsyncSession, *, refused_rows: Mapping[uuid.UUID, int], at: datetime) -> None:
    """From now on no new reader finds the rows of these; so many refused rows of each were deleted."""
    for erasure_id, refused in refused_rows.items():
        row = await get(session, erasure_id=erasure_id)
        if row.state == "running":
            found = effects_of(row)
            counted = {"refused_rows": found.refused_rows + refused, "rounds": found.rounds + 1}
            row.effects = found.model_copy(update=counted).model_dump()
            row.state, row.rewritten_at = "removing", at


async def finish(session: AsyncSession, *, ids: Collection[uuid.UUID], at: datetime) -> None:
    """No file has the rows any more: forget the ids, and keep in the audit log what was done."""
    for erasure_id in ids:
        row = await get(session, erasure_id=erasure_id)
        if row.state == "removing":
            row.unit_id, row.state, row.finished_at = None, "done", at
            _audit(session, row, "erasure.done", ACTOR, at, {"unit_type": row.unit_type, **(row.effects or {})})


async def refused(session: AsyncSession) -> frozenset[tuple[str, str]]:
    """(unit type, digest) of units whose new rows are refused."""
    columns = sa.select(col(Erasure.unit_type), col(Erasure.unit_digest))
    rows = await session.execute(columns.where(col(Erasure.refuse_future).is_(True)))
    return frozenset((unit_type, digest) for unit_type, digest in rows)


async def rounds_touching(session: AsyncSession, *, experiment_key: str | None, events: Collection[str]) -> int:
    """How many times rows were erased among an experiment's exposures or these events: it only grows."""
    every = sa.select(col(Erasure.effects)).where(col(Erasure.effects).is_not(None))
    found = [Effects.model_validate(effects) for effects in await session.scalars(every)]
    return sum(one.rounds for one in found if touches(one, experiment_key, events))


def touches(effects: Effects, experiment_key: str | None, events: Collection[str]) -> bool:
    """Whether rows went that an analysis of an experiment with these events reads."""
    exposures, facts = effects.rows.get("exposures", {}), effects.rows.get("events", {})
    return experiment_key in exposures or experiment_key in effects.experiments or not facts.keys().isdisjoint(events)


async def plans(session: AsyncSession) -> dict[str, tuple[AnalysisPlan, frozenset[str]]]:
    """Plans of the experiments that were started with rows of the store, by key, and the events that each reads."""
    columns = sa.select(col(Experiment.key), col(Experiment.plan)).where(col(Experiment.plan).is_not(None))
    found = {}
    for key, document in await session.execute(columns):
        plan = load(document)
        if isinstance(plan, AnalysisPlan) and plan.data == "events":
            found[key] = (plan, events_of(plan))
    return found


def events_of(plan: DataPlan) -> frozenset[str]:
    """The ingested events that a plan reads."""
    return frozenset(source.event for source in plan.fact_sources if isinstance(source, EventSource))


async def running(session: AsyncSession, *, keys: Collection[str]) -> list[Experiment]:
    """Of these experiments those that run."""
    rows = await session.scalars(
        sa.select(Experiment)
        .where(col(Experiment.key).in_(sorted(keys)), col(Experiment.status) == "running")
        .order_by(col(Experiment.key))
    )
    return list(rows)


async def lost_units(session: AsyncSession, *, experiment_key: str, since: datetime | None = None) -> dict[str, int]:
    """Units by variant that an experiment has lost to erasures, all or those lost `since` a time."""
    statement = sa.select(col(Erasure.effects)).where(col(Erasure.rewritten_at).is_not(None))
    if since is not None:
        statement = statement.where(col(Erasure.rewritten_at) > since)
    documents: Iterable[Any] = await session.scalars(statement)
    lost: Counter[str] = Counter()
    for document in documents:
        lost.update(Effects.model_validate(document).experiments.get(experiment_key, {}))
    return dict(sorted(lost.items()))


async def lost_since_result(session: AsyncSession, *, result: Result) -> dict[str, int]:
    """Units by variant that the experiment of a result lost after its data were read."""
    began = await session.scalar(sa.select(col(Analysis.started_at)).where(col(Analysis.result_id) == result.id))
    return await lost_units(session, experiment_key=result.subject_key, since=began or result.created_at)


def _audit(
    session: AsyncSession, row: Erasure, action: str, actor: str, at: datetime, after: Mapping[str, Any]
) -> None:
    audit.record(
        session, actor=actor, action=action, subject_type="erasure", subject_key=str(row.id), at=at, after=after
    )
