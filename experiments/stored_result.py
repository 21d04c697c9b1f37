"""Stored results: immutable bytes with an ETag, and their flat rows."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.errors import NotFound
from experiments.paging import Page, page_of
from experiments.tables import Result, ResultRow


async def get(session: AsyncSession, *, result_id: uuid.UUID) -> Result:
    """The result. Raises `NotFound`."""
    row = await session.get(Result, result_id)
    if row is None:
        raise NotFound(f"There is no result {result_id}", remedy="GET /v1/experiments/{key}/results lists them.")
    return row


async def latest_id(session: AsyncSession, *, kind: str, subject_key: str) -> uuid.UUID | None:
    """The id of the newest result (by the time of its data) about a subject."""
    statement = (
        sa.select(col(Result.id))
        .where(col(Result.kind) == kind, col(Result.subject_key) == subject_key)
        .order_by(col(Result.data_as_of).desc(), col(Result.id).desc())
        .limit(1)
    )
    found: uuid.UUID | None = await session.scalar(statement)
    return found


async def latest(session: AsyncSession, *, kind: str, subject_key: str) -> Result:
    """The newest result about a subject. Raises `NotFound`."""
    result_id = await latest_id(session, kind=kind, subject_key=subject_key)
    if result_id is None:
        raise NotFound(
            f"There is no result about `{subject_key}` yet",
            remedy="Ask for one with POST …/analyses, and wait until the analysis has succeeded.",
        )
    return await get(session, result_id=result_id)


async def history(
    session: AsyncSession, *, kind: str, subject_key: str, limit: int = 50, after: str | None = None
) -> Page[Result]:
    """All results about a subject, newest first, without their bytes."""
    statement = (
        sa.select(Result)
        .options(sa.orm.defer(Result.body, raiseload=True))  # type: ignore[arg-type]  # SQLModel types it as bytes
        .where(col(Result.kind) == kind, col(Result.subject_key) == subject_key)
    )
    return await page_of(session, statement, Result, limit=limit, after=after)


async def rows(
    session: AsyncSession,
    *,
    result_id: uuid.UUID | None = None,
    experiment_key: str | None = None,
    metric_key: str | None = None,
    variant_key: str | None = None,
    role: str | None = None,
    segment_dimension: str | None = None,
    overall: bool | None = None,
    since: datetime | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[ResultRow]:
    """Flat rows (metric x variant x segment x method). `overall` keeps only rows with (False) or without a segment."""
    statement = sa.select(ResultRow)
    filters = {
        "result_id": result_id,
        "experiment_key": experiment_key,
        "metric_key": metric_key,
        "variant_key": variant_key,
        "role": role,
        "segment_dimension": segment_dimension,
    }
    for column, value in filters.items():
        if value is not None:
            statement = statement.where(getattr(ResultRow, column) == value)
    if overall is not None:
        dimension = col(ResultRow.segment_dimension)
        statement = statement.where(dimension.is_(None) if overall else dimension.is_not(None))
    if since is not None:
        statement = statement.join(Result, col(Result.id) == col(ResultRow.result_id)).where(
            col(Result.created_at) >= since
        )
    return await page_of(session, statement, ResultRow, limit=limit, after=after)
