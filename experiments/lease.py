"""How a worker holds an analysis: claim, renew, and hand in, each one guarded UPDATE.

(id, state, owner, attempt) is the fencing token that every statement after the claim must match, so a worker that was
thought dead and comes back changes nothing. Workers read their own clocks: clocks that differ by more than a lease
cause work to be done twice, never a result to be stored twice. No function commits.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.analysis import UNOWNED, change
from experiments.tables import Analysis, Result, metadata
from experiments.types import new_id

_ROWS_OF: Final = {
    "launch": metadata.tables["launch_effects"],
    "growth_review": metadata.tables["ledger_lines"],
    "programme": metadata.tables["programme_effects"],
}
_RESULT_ROWS: Final = metadata.tables["result_rows"]


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What a worker learns about its analysis: whether it still owns it, and whether someone asked to stop it."""

    owned: bool
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A finished document as it will be served, and its flat rows: columns, but the ids, of the table of its kind.

    That is `tables.LaunchEffect` for a launch, `tables.LedgerRow` for a growth review, `tables.ProgrammeRow` for a
    programme and `tables.ResultRow` for everything else.
    """

    body: bytes
    etag: str
    verdict: str | None = None
    rows: Sequence[Mapping[str, Any]] = ()


async def claim(
    session: AsyncSession, *, analysis_id: uuid.UUID, owner: str, lease_seconds: float, at: datetime
) -> Analysis | None:
    """Take the analysis, or None when there is nothing to take: a duplicate delivery is harmless.

    `owner` must be new for every claim, because a released attempt is counted again.
    """
    free = col(Analysis.state) == "queued"
    orphaned = sa.and_(col(Analysis.state) == "running", col(Analysis.lease_until) <= at)
    return await change(
        session,
        where=[
            col(Analysis.id) == analysis_id,
            sa.or_(free, orphaned),
            col(Analysis.attempt) < col(Analysis.max_attempts),
            col(Analysis.cancel_requested_at).is_(None),
        ],
        values={
            "state": "running",
            "attempt": col(Analysis.attempt) + 1,
            "lease_owner": owner,
            "lease_until": at + timedelta(seconds=lease_seconds),
            "heartbeat_at": at,
            "started_at": at,
            "stage": "claimed",
            "fraction": 0.0,
        },
    )


async def heartbeat(
    session: AsyncSession,
    *,
    analysis_id: uuid.UUID,
    owner: str,
    attempt: int,
    lease_seconds: float,
    at: datetime,
    stage: str | None = None,
    fraction: float | None = None,
) -> HeartbeatAnswer:
    """Renew the lease and write the progress (`fraction` in [0, 1]). Not owned means: stop, someone else has it."""
    values: dict[str, Any] = {"lease_until": at + timedelta(seconds=lease_seconds), "heartbeat_at": at}
    if stage is not None:
        values["stage"] = stage[:64]
    if fraction is not None:
        values["fraction"] = min(max(fraction, 0.0), 1.0)
    row = await change(session, where=_held(analysis_id, owner, attempt), values=values)
    return HeartbeatAnswer(row is not None, row is not None and row.cancel_requested_at is not None)


async def watch(session: AsyncSession, *, analysis_id: uuid.UUID, owner: str, attempt: int) -> HeartbeatAnswer:
    """What `heartbeat` would answer, without writing: cheap enough to ask several times a second."""
    statement = sa.select(col(Analysis.cancel_requested_at)).where(*_held(analysis_id, owner, attempt))
    row = (await session.execute(statement)).one_or_none()
    return HeartbeatAnswer(row is not None, row is not None and row[0] is not None)


async def finish(
    session: AsyncSession, *, analysis_id: uuid.UUID, owner: str, attempt: int, result: StoredResult, at: datetime
) -> bool:
    """Store the result and succeed, in the caller's transaction; False (and nothing stored) for a late winner."""
    row = await change(
        session,
        where=_held(analysis_id, owner, attempt),
        values={**UNOWNED, "state": "succeeded", "stage": "done", "fraction": 1.0, "error": None, "finished_at": at},
    )
    if row is None:
        return False
    stored = Result(
        kind=row.kind,
        subject_key=row.subject_key,
        verdict=result.verdict,
        data_as_of=row.data_as_of,
        body=result.body,
        etag=result.etag,
        created_at=at,
    )
    session.add(stored)
    await session.flush()
    if result.rows:
        table = _ROWS_OF.get(row.kind, _RESULT_ROWS)
        await _insert(session, table, [{"id": new_id(), "result_id": stored.id, **row} for row in result.rows])
    row.result_id = stored.id
    await session.flush()
    return True


async def fail(
    session: AsyncSession,
    *,
    analysis_id: uuid.UUID,
    owner: str,
    attempt: int,
    error: dict[str, Any],
    at: datetime,
    retry: bool = False,
) -> Analysis | None:
    """Give up with the error kept; with `retry` go back to the queue while attempts remain.

    `error` is {type, detail, …}. None when the worker no longer owns the analysis. A retry of one that someone asked
    to cancel ends as cancelled.
    """
    held = _held(analysis_id, owner, attempt)
    if retry:
        row = await change(
            session,
            where=[
                *held,
                col(Analysis.attempt) < col(Analysis.max_attempts),
                col(Analysis.cancel_requested_at).is_(None),
            ],
            values={**UNOWNED, "state": "queued", "error": error},
        )
        if row is not None:
            return row
        row = await mark_cancelled(
            session, analysis_id=analysis_id, owner=owner, attempt=attempt, at=at, only_requested=True
        )
        if row is not None:
            return row
        error = {**error, "attempts": attempt}
    return await change(session, where=held, values={**UNOWNED, "state": "failed", "error": error, "finished_at": at})


async def release(session: AsyncSession, *, analysis_id: uuid.UUID, owner: str, attempt: int) -> Analysis | None:
    """Hand an analysis back unharmed (the worker is asked to stop): the attempt does not count."""
    return await change(
        session,
        where=_held(analysis_id, owner, attempt),
        values={**UNOWNED, "state": "queued", "attempt": col(Analysis.attempt) - 1},
    )


async def mark_cancelled(
    session: AsyncSession,
    *,
    analysis_id: uuid.UUID,
    owner: str,
    attempt: int,
    at: datetime,
    only_requested: bool = False,
) -> Analysis | None:
    """The worker has stopped computing. None when it no longer owns the analysis."""
    where = _held(analysis_id, owner, attempt)
    if only_requested:
        where.append(col(Analysis.cancel_requested_at).is_not(None))
    return await change(session, where=where, values={**UNOWNED, "state": "cancelled", "finished_at": at})


def _held(analysis_id: uuid.UUID, owner: str, attempt: int) -> list[sa.ColumnElement[bool]]:
    """The fencing token."""
    return [
        col(Analysis.id) == analysis_id,
        col(Analysis.state) == "running",
        col(Analysis.lease_owner) == owner,
        col(Analysis.attempt) == attempt,
    ]


async def _insert(session: AsyncSession, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Many rows with the same columns, as the driver takes them: half the price of binding each through SQLAlchemy."""
    connection = await session.connection()
    dialect = connection.dialect
    names = list(rows[0])
    compiled = sa.insert(table).compile(dialect=dialect, column_keys=names)
    order = compiled.positiontup or names
    columns = []
    for name in order:
        bind = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
        columns.append([row[name] for row in rows] if bind is None else [bind(row[name]) for row in rows])
    await connection.exec_driver_sql(str(compiled), list(zip(*columns, strict=True)))
