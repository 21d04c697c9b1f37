"""Questions about stored definitions, exact on both databases (documents are text, so LIKE would match too much)."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession


def _on_postgresql(session: AsyncSession) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def json_text(session: AsyncSession, column: Any, field: str) -> sa.ColumnElement[str | None]:
    """The text of a top-level field of the document in `column`."""
    text = sa.type_coerce(column, sa.Text)
    if _on_postgresql(session):
        return sa.cast(sa.cast(text, JSONB)[field].astext, sa.Text)
    return sa.func.json_extract(text, f"$.{field}", type_=sa.Text)


def json_list_has(session: AsyncSession, column: Any, field: str, value: str) -> sa.ColumnElement[bool]:
    """Whether the list in a top-level field contains the text `value`."""
    text = sa.type_coerce(column, sa.Text)
    if _on_postgresql(session):
        return sa.cast(text, JSONB)[field].contains([value])
    members = sa.func.json_each(text, f"$.{field}").table_valued("value")
    return sa.exists(sa.select(1).select_from(members).where(members.c.value == value))
