"""What experiments of a programme did, as flat rows: one per metric and experiment."""

import uuid
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.paging import Page, page_of
from experiments.programme_plan import KIND
from experiments.result import ProgrammeResult
from experiments.tables import ProgrammeRow, Result

_COLUMNS: Final = tuple(name for name in ProgrammeRow.model_fields if name not in ("id", "result_id", "metric_key"))


def flat(document: ProgrammeResult) -> list[dict[str, Any]]:
    """The columns of `tables.ProgrammeRow` but the ids."""
    return [
        {"metric_key": document.metric_key} | {name: getattr(effect, name) for name in _COLUMNS}
        for effect in document.effects
    ]


async def page(
    session: AsyncSession,
    *,
    metric_key: str | None = None,
    experiment_key: str | None = None,
    team: str | None = None,
    shipped: bool | None = None,
    result_id: uuid.UUID | None = None,
    newest: bool = True,
    limit: int = 50,
    after: str | None = None,
) -> Page[ProgrammeRow]:
    """Rows, newest first. `newest` keeps those of the newest programme of each metric."""
    statement = sa.select(ProgrammeRow)
    wanted: dict[str, Any] = {
        "metric_key": metric_key,
        "experiment_key": experiment_key,
        "team": team,
        "shipped": shipped,
        "result_id": result_id,
    }
    for column, value in wanted.items():
        if value is not None:
            statement = statement.where(getattr(ProgrammeRow, column) == value)
    if newest and result_id is None:
        statement = statement.where(col(ProgrammeRow.result_id).in_(newest_results()))
    return await page_of(session, statement, ProgrammeRow, limit=limit, after=after)


def newest_results() -> sa.Select[Any]:
    """The id of the newest programme of each metric."""
    rank = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = sa.select(col(Result.id), rank.label("rank")).where(col(Result.kind) == KIND).subquery()
    return sa.select(ranked.c.id).where(ranked.c.rank == 1)
