"""Growth reviews: which period of which North Star is looked back on (METHODS H6)."""

from datetime import UTC, date, datetime, time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, north_star, versioned
from experiments.definitions import ReviewSpec
from experiments.errors import FieldError, InvalidDefinition, NotFound
from experiments.paging import Page, page_of
from experiments.tables import GrowthReview, NorthStar

FIXED: Final = ("key", "north_star_key")
"""What results are about: these stay."""


def spec_of(row: GrowthReview) -> ReviewSpec:
    """The definition of a stored review."""
    return ReviewSpec.model_validate(row.spec)


def midnight(day: date) -> datetime:
    """The beginning of a day, in UTC."""
    return datetime.combine(day, time(), UTC)


async def create(session: AsyncSession, *, spec: ReviewSpec, actor: str, at: datetime) -> GrowthReview:
    """Register a review. Raises `KeyTaken`, and `InvalidDefinition` for a North Star that does not exist."""
    star = await _north_star(session, spec)
    row = GrowthReview(
        key=spec.key,
        north_star_id=star.id,
        spec=spec.model_dump(mode="json"),
        ends_at=midnight(spec.ends_on),
        created_at=at,
        updated_at=at,
    )
    await versioned.insert(session, row, noun="growth review")
    _audit(session, row, "growth_review.created", actor, at, None)
    await session.flush()
    return row


async def get(session: AsyncSession, *, key: str, lock: bool = False) -> GrowthReview:
    """The review. Raises `NotFound`."""
    return await versioned.by_key(session, GrowthReview, key, noun="growth review", lock=lock)


async def update(
    session: AsyncSession, *, review: GrowthReview, spec: ReviewSpec, expected: int | None, actor: str, at: datetime
) -> GrowthReview:
    """Write the whole definition: notes, next bets, another period or engine. Key and North Star stay.

    Raises `VersionConflict`, `InvalidDefinition`. An equal definition changes nothing.
    """
    document, before = spec.model_dump(mode="json"), review.spec
    if document == before and expected in (None, review.version):
        return review
    changed = [field for field in FIXED if document[field] != before[field]]
    if changed:
        raise InvalidDefinition(
            f"The {' and the '.join(changed)} of a growth review cannot change: its results would be about another",
            remedy="Register another growth review.",
            errors=[FieldError(f"/{field}", f"must stay `{before[field]}`") for field in changed],
        )
    await versioned.update(
        session, review, expected=expected, spec=document, ends_at=midnight(spec.ends_on), updated_at=at
    )
    _audit(session, review, "growth_review.updated", actor, at, before)
    await session.flush()
    return review


async def page(
    session: AsyncSession, *, north_star_key: str | None = None, limit: int = 50, after: str | None = None
) -> Page[GrowthReview]:
    """Growth reviews, newest entry first."""
    statement = sa.select(GrowthReview)
    if north_star_key is not None:
        statement = statement.join(NorthStar, col(NorthStar.id) == col(GrowthReview.north_star_id)).where(
            col(NorthStar.key) == north_star_key
        )
    return await page_of(session, statement, GrowthReview, limit=limit, after=after)


async def _north_star(session: AsyncSession, spec: ReviewSpec) -> NorthStar:
    try:
        return await north_star.get(session, key=spec.north_star_key)
    except NotFound as error:
        fault = f"there is no North Star `{spec.north_star_key}`"
        raise InvalidDefinition(
            f"north_star_key: {fault}",
            remedy="Register the North Star first with POST /v1/north-stars.",
            errors=[FieldError("/north_star_key", fault)],
        ) from error


def _audit(
    session: AsyncSession, row: GrowthReview, action: str, actor: str, at: datetime, before: dict[str, Any] | None
) -> None:
    audit.record(
        session,
        actor=actor,
        action=action,
        subject_type="growth_review",
        subject_key=row.key,
        at=at,
        before=before,
        after=row.spec,
    )
