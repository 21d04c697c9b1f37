"""How every table is made: identifiers, times, documents, and constraint names that are equal on both databases."""

from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from experiments.types import FiniteJSON, UTCDateTime, new_id

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = SQLModel.metadata


def identifier() -> Any:
    """A UUIDv7 primary key."""
    return Field(default_factory=new_id, primary_key=True, sa_type=sa.Uuid)


def moment(*, nullable: bool = False, index: bool = False) -> Any:
    """A time in UTC."""
    return Field(default=None, sa_type=UTCDateTime, nullable=nullable, index=index)


def document(*, nullable: bool = False) -> Any:
    """Canonical JSON with finite numbers."""
    return Field(default=None, sa_type=FiniteJSON, nullable=nullable)
