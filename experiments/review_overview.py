"""What pages show of growth reviews at a glance: their newest results, in few queries for any number of reviews."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import launch_overview, metric
from experiments.definitions import ReviewSpec
from experiments.growth_review import spec_of
from experiments.ledger_lines import KIND
from experiments.result import ChangedNumber
from experiments.tables import Analysis, GrowthReview, NorthStar, Result

_ACTIVE = ("queued", "running")


@dataclass(frozen=True, slots=True)
class ReviewGlance:
    """A review in a list. Without a result there are no numbers.

    `intervals` hold 80 % of what numbers may be, by name; `story` is what the ledger says in sentences.
    """

    review: GrowthReview
    spec: ReviewSpec
    data_as_of: datetime | None
    numbers: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]
    changes: Mapping[str, ChangedNumber]
    unit: str
    story: Sequence[str]
    alarm: bool
    making: bool


async def glances(session: AsyncSession, *, limit: int, north_star_key: str | None = None) -> list[ReviewGlance]:
    """The reviews with the newest periods first."""
    statement = sa.select(GrowthReview).order_by(col(GrowthReview.ends_at).desc(), col(GrowthReview.id).desc())
    if north_star_key is not None:
        statement = statement.join(NorthStar, col(NorthStar.id) == col(GrowthReview.north_star_id)).where(
            col(NorthStar.key) == north_star_key
        )
    rows = (await session.scalars(statement.limit(limit))).all()
    keys = [row.key for row in rows]
    bodies = await _newest(session, keys)
    making = set(
        await session.scalars(
            sa.select(col(Analysis.subject_key)).where(
                col(Analysis.kind) == KIND, col(Analysis.subject_key).in_(keys), col(Analysis.state).in_(_ACTIVE)
            )
        )
    )
    return [_glance(row, bodies.get(row.key), row.key in making) for row in rows]


async def newest(session: AsyncSession, *, north_star_key: str) -> ReviewGlance | None:
    """The review of the newest period that has a result; None without one."""
    found = await glances(session, limit=4, north_star_key=north_star_key)
    return next((each for each in found if each.data_as_of is not None), None)


async def names(session: AsyncSession) -> dict[str, str]:
    """What metrics and series are called, by key; a metric's name goes before that of a series with its key."""
    metrics = {key: item.spec.name for key, item in (await metric.all_known(session, archived=True)).items()}
    return await launch_overview.series_names(session) | metrics


def _glance(row: GrowthReview, stored: tuple[datetime, bytes] | None, making: bool) -> ReviewGlance:
    seen: Mapping[str, Any] = {} if stored is None else json.loads(stored[1])
    changes = [ChangedNumber.model_validate(each) for each in seen.get("changes", ())]
    return ReviewGlance(
        review=row,
        spec=spec_of(row),
        data_as_of=None if stored is None else stored[0],
        numbers=seen.get("headline", {}),
        intervals=_intervals(seen),
        changes={each.name: each for each in changes},
        unit=seen.get("unit", ""),
        story=seen.get("ledger", {}).get("story", ()),
        alarm=bool(seen.get("stagnation", {}).get("alarm")),
        making=making,
    )


def _intervals(seen: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    ledger = seen.get("ledger", {})
    found = {
        line["component"]: (line["lower_80"], line["upper_80"])
        for line in ledger.get("lines", ())
        if line["key"] is None and line["component"] != "observed"
    }
    if ledger.get("kappa_lower_80") is not None:
        found["kappa"] = (ledger["kappa_lower_80"], ledger["kappa_upper_80"])
    for total in seen.get("programme", {}).get("totals", ()):
        if total["leads"] and total["lower_80"] is not None:
            found["programme_lift"] = (total["lower_80"], total["upper_80"])
    return found


async def _newest(session: AsyncSession, keys: Sequence[str]) -> dict[str, tuple[datetime, bytes]]:
    rank = sa.func.row_number().over(
        partition_by=col(Result.subject_key), order_by=(col(Result.data_as_of).desc(), col(Result.id).desc())
    )
    ranked = (
        sa.select(col(Result.id), rank.label("rank"))
        .where(col(Result.kind) == KIND, col(Result.subject_key).in_(keys))
        .subquery()
    )
    statement = (
        sa.select(col(Result.subject_key), col(Result.data_as_of), col(Result.body))
        .join(ranked, ranked.c.id == col(Result.id))
        .where(ranked.c.rank == 1)
    )
    return {key: (at, body) for key, at, body in await session.execute(statement)}
