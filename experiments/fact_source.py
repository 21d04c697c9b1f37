"""Fact sources: where facts are read. A change counts up the version; frozen plans keep the one they were made with."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, versioned
from experiments.definitions import FactSourceSpec
from experiments.errors import FieldError, InvalidDefinition
from experiments.paging import Page, page_of
from experiments.tables import FactSource

ADAPTER: TypeAdapter[FactSourceSpec] = TypeAdapter(FactSourceSpec)


def spec_of(row: FactSource) -> FactSourceSpec:
    """The definition of a stored fact source."""
    return ADAPTER.validate_python(row.spec)


async def create(session: AsyncSession, *, spec: FactSourceSpec, actor: str, at: datetime) -> FactSource:
    """Register a fact source. Raises `KeyTaken`."""
    document = spec.model_dump(mode="json")
    row = FactSource(key=spec.key, spec=document, created_at=at, updated_at=at)
    await versioned.insert(session, row, noun="fact source")
    _audit(session, row, "fact_source.created", actor, at, None)
    return row


async def get(session: AsyncSession, *, key: str, lock: bool = False) -> FactSource:
    """The fact source. Raises `NotFound`."""
    return await versioned.by_key(session, FactSource, key, noun="fact source", lock=lock)


async def update(
    session: AsyncSession, *, source: FactSource, spec: FactSourceSpec, expected: int | None, actor: str, at: datetime
) -> FactSource:
    """Change where facts are read; the key and the unit type stay, because metrics rely on them.

    Raises `VersionConflict`, `InvalidDefinition`. An equal definition changes nothing.
    """
    for field in ("key", "unit_type"):
        if getattr(spec, field) != source.spec[field]:
            raise InvalidDefinition(
                f"The {field.replace('_', ' ')} of a fact source cannot change",
                remedy="Register another fact source.",
                errors=[FieldError(f"/{field}", f"must stay `{source.spec[field]}`")],
            )
    document, before = spec.model_dump(mode="json"), source.spec
    if document == before and expected in (None, source.version):
        return source
    await versioned.update(session, source, expected=expected, spec=document, updated_at=at)
    _audit(session, source, "fact_source.updated", actor, at, before)
    return source


async def by_keys(session: AsyncSession, *, keys: Collection[str]) -> dict[str, FactSourceSpec]:
    """The definitions of these fact sources; keys that do not exist are missing."""
    rows = await session.scalars(sa.select(FactSource).where(col(FactSource.key).in_(keys)))
    return {row.key: spec_of(row) for row in rows}


async def page(session: AsyncSession, *, limit: int = 50, after: str | None = None) -> Page[FactSource]:
    """Fact sources, newest first."""
    return await page_of(session, sa.select(FactSource), FactSource, limit=limit, after=after)


def _audit(
    session: AsyncSession, row: FactSource, action: str, actor: str, at: datetime, before: dict[str, Any] | None
) -> None:
    audit.record(
        session,
        actor=actor,
        action=action,
        subject_type="fact_source",
        subject_key=row.key,
        at=at,
        before=before,
        after=row.spec,
    )
