"""What the methods said of launches, as flat rows: one per launch, series and method."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.paging import Page, page_of
from experiments.result import LaunchResult, MeasuredLaunch
from experiments.tables import LaunchEffect, Result

KIND: Final = "launch"
_OF_ESTIMATE: Final = (
    "method",
    "leads",
    "estimable",
    "reason",
    "log_effect",
    "standard_error",
    "bias_sd",
    "lift",
    "ci_lower",
    "ci_upper",
    "interval_kind",
    "p_value",
    "difference",
    "cumulative",
    "cumulative_lower",
    "cumulative_upper",
)


def flat(document: LaunchResult) -> list[dict[str, Any]]:
    """The columns of `tables.LaunchEffect` but the ids: every estimate of every measurement."""
    return [row for measured in document.measurements for row in _rows(document.launch_key, measured)]


async def page(
    session: AsyncSession,
    *,
    launch_key: str | None = None,
    metric_key: str | None = None,
    series_key: str | None = None,
    leads: bool | None = None,
    result_id: uuid.UUID | None = None,
    newest: bool = True,
    since: datetime | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[LaunchEffect]:
    """Rows, newest first. `newest` keeps those of the newest result of each launch, `since` those stored since then."""
    statement = sa.select(LaunchEffect)
    wanted: Mapping[str, Any] = {
        "launch_key": launch_key,
        "metric_key": metric_key,
        "series_key": series_key,
        "leads": leads,
        "result_id": result_id,
    }
    for column, value in wanted.items():
        if value is not None:
            statement = statement.where(getattr(LaunchEffect, column) == value)
    if newest and result_id is None:
        statement = statement.where(col(LaunchEffect.result_id).in_(newest_results()))
    if since is not None:
        statement = statement.join(Result, col(Result.id) == col(LaunchEffect.result_id)).where(
            col(Result.created_at) >= since
        )
    return await page_of(session, statement, LaunchEffect, limit=limit, after=after)


def _rows(launch_key: str, measured: MeasuredLaunch) -> Iterable[dict[str, Any]]:
    common = {
        "launch_key": launch_key,
        "series_key": measured.series_key,
        "metric_key": measured.metric_key,
        "evidence_grade": measured.grade.grade,
        "ci_level": measured.level,
        "periods_before": measured.periods_before,
        "periods_after": measured.periods_after,
    }
    for estimate in measured.estimates:
        yield common | {name: getattr(estimate, name) for name in _OF_ESTIMATE}


def newest_results(*, known_at: datetime | None = None) -> sa.Select[Any]:
    """The ids of the newest result of every launch, of those about data of no later time."""
    newest = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    of_kind = sa.select(col(Result.id), newest.label("rank")).where(col(Result.kind) == KIND)
    if known_at is not None:
        of_kind = of_kind.where(col(Result.data_as_of) <= known_at)
    ranked = of_kind.subquery()
    return sa.select(ranked.c.id).where(ranked.c.rank == 1)
