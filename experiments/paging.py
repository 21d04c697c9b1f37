"""Keyset pages over UUIDv7 ids: newest first, stable while rows are added, as cheap on page 1000 as on page 1."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from experiments.errors import FieldError, InvalidDefinition

MAX_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Page[Row]:
    """One page and the cursor of the next one; None on the last page."""

    items: Sequence[Row]
    next_cursor: str | None


def _position(cursor: str) -> uuid.UUID:
    try:
        return uuid.UUID(cursor)
    except ValueError:
        raise InvalidDefinition(
            "The cursor is not one that a list has returned",
            remedy="Pass `next_cursor` of the previous page unchanged, or leave it out to start.",
            errors=[FieldError("/cursor", "not a cursor of this list")],
        ) from None


async def page_of[Row](
    session: AsyncSession, statement: sa.Select[Any], model: type[Row], *, limit: int, after: str | None
) -> Page[Row]:
    """At most `limit` rows of `model` that come after the row with the id `after`, newest first.

    `statement` selects `model` first; it may select more, which is dropped. Raises `InvalidDefinition` for a cursor
    that is not one.
    """
    identity: Any = model.id  # type: ignore[attr-defined]  # every table has an `id`, which typing cannot know
    if after is not None:
        statement = statement.where(identity < _position(after))
    rows = (await session.scalars(statement.order_by(identity.desc()).limit(limit + 1))).all()
    more = len(rows) > limit
    items = rows[:limit]
    return Page(items, str(items[-1].id) if more else None)
