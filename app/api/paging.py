"""Lists: `{items, next_cursor}`. A cursor is opaque to clients; here it is the id of the last item."""

import base64
import binascii
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from experiments.errors import FieldError, InvalidDefinition
from experiments.paging import MAX_LIMIT, Page


class Listing[Item](BaseModel):
    """One page of a list, newest first."""

    items: list[Item]
    next_cursor: str | None = Field(default=None, description="Pass it as `cursor` for the next page; null on the last")

    @classmethod
    def of[Row](cls, page: Page[Row], shape: Callable[[Row], Item]) -> "Listing[Item]":
        """Shape the rows of a page."""
        cursor = None if page.next_cursor is None else base64.urlsafe_b64encode(page.next_cursor.encode()).decode()
        return cls(items=[shape(row) for row in page.items], next_cursor=cursor)


class Window(BaseModel):
    """Which page was asked for."""

    limit: int
    after: str | None


def window(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items per page")] = 50,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the previous page")] = None,
) -> Window:
    """The `limit` and `cursor` parameters. Raises `InvalidDefinition` for a cursor that no list has returned."""
    if cursor is None:
        return Window(limit=limit, after=None)
    try:
        after = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError):
        raise InvalidDefinition(
            "The cursor is not one that a list has returned",
            remedy="Pass `next_cursor` of the previous page unchanged, or leave it out to start.",
            errors=[FieldError("/query/cursor", "not a cursor of this list")],
        ) from None
    return Window(limit=limit, after=after)


Paging = Annotated[Window, Depends(window)]
