"""What people ask of analyses: submit, cancel, queue again. What workers do with them is in `lease` and `recovery`.

queued -> running -> succeeded | failed | cancelled; running -> queued when a worker lets go or dies. Every change of
state is one guarded UPDATE, the same on SQLite and on PostgreSQL. No function commits; times come from the caller.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.errors import NotFound, NotReady
from experiments.plan import plan_hash as hash_of_plan
from experiments.tables import Analysis
from experiments.types import canonical_json
from experiments.version import code_version

type State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL: Final[frozenset[str]] = frozenset({"succeeded", "failed", "cancelled"})
UNOWNED: Final[Mapping[str, Any]] = {"lease_owner": None, "lease_until": None, "stage": None, "fraction": 0.0}
"""The columns of an analysis that no worker has."""


def identity(*, plan_hash: str, data_as_of: datetime, seed: int, version: str) -> str:
    """SHA-256 of everything a result depends on: equal identities give equal bytes."""
    document = {
        "plan_hash": plan_hash,
        "data_as_of": data_as_of.astimezone(UTC).isoformat(),
        "seed": seed,
        "code_version": version,
    }
    return hashlib.sha256(canonical_json(document)).hexdigest()


def seed_of(plan_hash: str) -> int:
    """The seed of a plan: the same plan draws the same random numbers at every look. In [0, 2^31)."""
    return int(plan_hash[:8], 16) & 0x7FFFFFFF


async def submit(
    session: AsyncSession,
    *,
    kind: str,
    subject_key: str,
    experiment_id: uuid.UUID | None,
    plan_document: dict[str, Any],
    data_as_of: datetime,
    seed: int,
    requested_by: str,
    at: datetime,
    max_attempts: int = 5,
) -> tuple[Analysis, bool]:
    """Ask for an analysis. Asking twice for the same one returns the same row, whatever its state; (row, created).

    Ring the bell only after the commit. A failed or cancelled row comes back through `requeue`.
    """
    plan_hash = hash_of_plan(plan_document)
    version = code_version()
    key = identity(plan_hash=plan_hash, data_as_of=data_as_of, seed=seed, version=version)
    by_identity = sa.select(Analysis).where(col(Analysis.identity) == key)
    existing = (await session.execute(by_identity)).scalar_one_or_none()
    if existing is not None:
        return existing, False
    row = Analysis(
        kind=kind,
        subject_key=subject_key,
        experiment_id=experiment_id,
        identity=key,
        plan=plan_document,
        plan_hash=plan_hash,
        data_as_of=data_as_of,
        seed=seed,
        code_version=version,
        max_attempts=max_attempts,
        requested_by=requested_by,
        created_at=at,
    )
    try:
        async with session.begin_nested():
            session.add(row)
    except IntegrityError:
        # Another transaction inserted the same identity and has committed by now; anything else is a real fault.
        existing = (await session.execute(by_identity)).scalar_one_or_none()
        if existing is None:
            raise
        return existing, False
    return row, True


async def requeue(session: AsyncSession, *, analysis_id: uuid.UUID, max_attempts: int = 5) -> Analysis:
    """Put a failed or cancelled analysis back, with `max_attempts` more attempts. `attempt` only ever grows.

    Raises NotFound, and NotReady for one that is neither.
    """
    row = await change(
        session,
        where=[col(Analysis.id) == analysis_id, col(Analysis.state).in_(("failed", "cancelled"))],
        values={
            **UNOWNED,
            "state": "queued",
            "error": None,
            "finished_at": None,
            "cancel_requested_at": None,
            "max_attempts": col(Analysis.attempt) + max_attempts,
        },
    )
    if row is None:
        current = await get(session, analysis_id=analysis_id)
        raise NotReady(
            f"the analysis is {current.state}", remedy="only a failed or cancelled analysis can be queued again"
        )
    return row


async def get(session: AsyncSession, *, analysis_id: uuid.UUID) -> Analysis:
    """The row; raises NotFound."""
    row = await session.get(Analysis, analysis_id)
    if row is None:
        raise NotFound(f"there is no analysis {analysis_id}")
    return row


async def of_result(session: AsyncSession, *, result_id: uuid.UUID) -> Analysis | None:
    """The analysis that a result is of; None for a result that was imported without one."""
    found: Analysis | None = await session.scalar(sa.select(Analysis).where(col(Analysis.result_id) == result_id))
    return found


async def request_cancel(session: AsyncSession, *, analysis_id: uuid.UUID, at: datetime) -> Analysis:
    """Cancel: at once when queued; a running one is stopped by its worker. Asking again changes nothing.

    Raises NotFound, and NotReady when it is already over (other than by cancelling).
    """
    row = await change(
        session,
        where=[col(Analysis.id) == analysis_id, col(Analysis.state) == "queued"],
        values={**UNOWNED, "state": "cancelled", "cancel_requested_at": at, "finished_at": at},
    )
    if row is None:
        row = await change(
            session,
            where=[col(Analysis.id) == analysis_id, col(Analysis.state) == "running"],
            values={"cancel_requested_at": sa.func.coalesce(col(Analysis.cancel_requested_at), sa.literal(at))},
        )
    if row is None:
        row = await get(session, analysis_id=analysis_id)
        if row.state != "cancelled":
            raise NotReady(f"the analysis has {row.state} already", remedy="read its result or its error")
    return row


async def change(
    session: AsyncSession, *, where: Sequence[sa.ColumnElement[bool]], values: Mapping[str, Any]
) -> Analysis | None:
    """One guarded UPDATE … RETURNING: the row as it is now, or None when the guard did not match."""
    statement = sa.update(Analysis).where(*where).values(**values).returning(Analysis)
    options = {"synchronize_session": False, "populate_existing": True}
    return (await session.execute(statement, execution_options=options)).scalar_one_or_none()
