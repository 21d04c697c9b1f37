"""The lines of the ledgers of growth reviews, as flat rows: what each part contributed, in units of the North Star."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.paging import Page, page_of
from experiments.result import GrowthReviewResult, LedgerLine
from experiments.tables import LedgerRow, Result

KIND: Final = "growth_review"
_OF_LINE: Final = tuple(LedgerLine.model_fields)


def flat(document: GrowthReviewResult) -> list[dict[str, Any]]:
    """The columns of `tables.LedgerRow` but the ids: every line of the ledger."""
    ledger = document.ledger
    common = {
        "review_key": document.review_key,
        "north_star_key": document.north_star_key,
        "begins_at": ledger.begins_at,
        "ends_at": ledger.ends_at,
        "unit": ledger.unit,
    }
    return [common | {name: getattr(line, name) for name in _OF_LINE} for line in ledger.lines]


async def page(
    session: AsyncSession,
    *,
    review_key: str | None = None,
    north_star_key: str | None = None,
    component: str | None = None,
    result_id: uuid.UUID | None = None,
    newest: bool = True,
    since: datetime | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[LedgerRow]:
    """Rows, newest first. `newest` keeps those of the newest result of each review, `since` those stored since then."""
    statement = sa.select(LedgerRow)
    wanted: Mapping[str, Any] = {
        "review_key": review_key,
        "north_star_key": north_star_key,
        "component": component,
        "result_id": result_id,
    }
    for column, value in wanted.items():
        if value is not None:
            statement = statement.where(getattr(LedgerRow, column) == value)
    if newest and result_id is None:
        statement = statement.where(col(LedgerRow.result_id).in_(newest_results()))
    if since is not None:
        statement = statement.join(Result, col(Result.id) == col(LedgerRow.result_id)).where(
            col(Result.created_at) >= since
        )
    return await page_of(session, statement, LedgerRow, limit=limit, after=after)


def newest_results() -> sa.Select[Any]:
    """The id of the newest result of each review."""
    newest = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = sa.select(col(Result.id), newest.label("rank")).where(col(Result.kind) == KIND).subquery()
    return sa.select(ranked.c.id).where(ranked.c.rank == 1)
