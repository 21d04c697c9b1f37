"""Column types and identifiers that behave the same on SQLite and on PostgreSQL."""

import json
import math
import uuid
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator
from uuid_utils.compat import uuid7


def new_id() -> uuid.UUID:
    """A UUIDv7: sorts by creation time, so it is its own pagination key."""
    return uuid7()


def utc_now() -> datetime:
    """The current time, timezone-aware. Services take times as arguments; only the outermost callers read the clock."""
    return datetime.now(UTC)


class NaiveDatetime(ValueError):
    """A datetime without a timezone reached the database boundary."""


class UTCDateTime(TypeDecorator[datetime]):
    """A timezone-aware datetime, stored in UTC; SQLite would otherwise return it naive."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise NaiveDatetime(f"{value.isoformat()} has no timezone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class NonFiniteNumber(ValueError):
    """A NaN or an infinity reached a JSON document; it must be null with a reason instead."""


def canonical_json(document: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8, finite numbers only: equal documents give equal bytes (and equal hashes)."""
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise NonFiniteNumber(str(error)) from error
    return text.encode()


def finite(value: float | None) -> float | None:
    """The number, or None where it is not one."""
    return None if value is None or not math.isfinite(value) else float(value)


class FiniteJSON(TypeDecorator[Any]):
    """JSON that refuses NaN and infinities: SQLite stores them silently and then fails every later path query."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else canonical_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)
