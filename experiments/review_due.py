"""Which growth reviews are due to be made again (METHODS H6)."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import launch_effects
from experiments.growth_review import midnight, spec_of
from experiments.tables import Decision, GrowthReview, Launch, NorthStar, Result

FRESH: Final = timedelta(weeks=13)
"""How long after its period a review follows what becomes known; later it is made on request only."""
_WEEK: Final = timedelta(weeks=1)


async def due(session: AsyncSession, *, as_of: datetime, newest: Mapping[str, datetime]) -> list[GrowthReview]:
    """The reviews to make with the data of `as_of`; `newest` has the time of the data of each one's last analysis.

    From the end of its period on, for 13 weeks, a review is due once a week, and when decisions, launches or what was
    measured of them, its North Star or the review itself have changed since. Reads only.
    """
    statement = (
        sa.select(GrowthReview, col(NorthStar.updated_at))
        .join(NorthStar, col(NorthStar.id) == col(GrowthReview.north_star_id))
        .where(col(GrowthReview.ends_at) <= as_of, col(GrowthReview.ends_at) > as_of - FRESH)
        .order_by(col(GrowthReview.id))
    )
    found = []
    for row, star_changed in (await session.execute(statement)).all():
        last = newest.get(row.key)
        if last is None or last + _WEEK <= as_of:
            found.append(row)
        elif last < as_of:
            changed = max(row.updated_at, star_changed)
            if last < changed <= as_of or await _news_since(session, row, last, as_of):
                found.append(row)
    return found


async def _news_since(session: AsyncSession, review: GrowthReview, last: datetime, as_of: datetime) -> bool:
    """Whether something that the review tells of was decided, launched, corrected or measured since."""
    end = midnight(spec_of(review).ends_on)
    decided = sa.select(col(Decision.id)).where(
        col(Decision.decided_at) > last, col(Decision.decided_at) <= as_of, col(Decision.decided_at) < end
    )
    recorded = sa.select(col(Launch.id)).where(
        col(Launch.updated_at) > last, col(Launch.updated_at) <= as_of, col(Launch.first_at) < end
    )
    measured = (
        sa.select(col(Result.id))
        .join(Launch, col(Launch.key) == col(Result.subject_key))
        .where(
            col(Result.kind) == launch_effects.KIND,
            col(Result.created_at) > last,
            col(Result.created_at) <= as_of,
            col(Launch.first_at) < end,
        )
    )
    return any([await session.scalar(question.limit(1)) is not None for question in (decided, recorded, measured)])
