"""Rows that people edit: unique keys, and versions so that nobody overwrites a change they have not seen."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from experiments.errors import FieldError, KeyTaken, NotFound, VersionConflict
from experiments.tables import (
    Connection,
    Experiment,
    FactSource,
    GrowthReview,
    Holdout,
    Launch,
    Metric,
    NorthStar,
    Series,
)

type Versioned = Connection | Experiment | FactSource | GrowthReview | Holdout | Launch | Metric | NorthStar | Series


async def insert[Row: Versioned](session: AsyncSession, row: Row, *, noun: str) -> Row:
    """Store a new row. Raises `KeyTaken`, also when another transaction takes the key at the same moment."""
    if await session.scalar(sa.select(type(row)).where(_column(type(row), "key") == row.key)) is not None:
        raise _taken(noun, row.key)
    try:
        async with session.begin_nested():
            session.add(row)
    except IntegrityError as error:
        raise _taken(noun, row.key) from error
    return row


async def by_key[Row: Versioned](
    session: AsyncSession, model: type[Row], key: str, *, noun: str, lock: bool = False
) -> Row:
    """The row with this key. Raises `NotFound`.

    `lock` makes other writers of the row wait (PostgreSQL; on SQLite a unit of work has the database to itself).
    """
    statement = sa.select(model).where(_column(model, "key") == key)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    row = await session.scalar(statement)
    if row is None:
        raise NotFound(f"There is no {noun} with the key `{key}`", remedy="List them to see which keys exist.")
    found: Row = row
    return found


def require(row: Versioned, *, expected: int | None) -> None:
    """Raise `VersionConflict` unless the row is at the expected version; None expects nothing."""
    if expected is not None and expected != row.version:
        raise _changed(row.key, row.version)


async def update(session: AsyncSession, row: Versioned, *, expected: int | None = None, **values: Any) -> None:
    """Write `values` and count the version up, unless somebody else has done so since `row` was read.

    `expected` is the version that the caller last saw (If-Match); by default the one of `row`. One guarded UPDATE, so
    that of two writers at the same moment exactly one wins. Raises `VersionConflict`.
    """
    require(row, expected=expected)
    model = type(row)
    statement = (
        sa.update(model)
        .where(_column(model, "id") == row.id, _column(model, "version") == row.version)
        .values(version=row.version + 1, **values)
        .returning(_column(model, "id"))
    )
    if (await session.execute(statement, execution_options={"synchronize_session": False})).first() is None:
        raise _changed(row.key, None)
    await session.refresh(row)


def _column(model: type[Any], name: str) -> Any:
    return getattr(model, name)


def _taken(noun: str, key: str) -> KeyTaken:
    return KeyTaken(
        f"There already is a {noun} with the key `{key}`",
        remedy="Choose another key, or edit the existing one.",
        errors=[FieldError("/key", "is in use")],
    )


def _changed(key: str, version: int | None) -> VersionConflict:
    now = "" if version is None else f"; it is at version {version}"
    return VersionConflict(
        f"`{key}` has changed since you read it{now}",
        remedy="Read it again, repeat your change on what you find, and send its new ETag as If-Match.",
    )
