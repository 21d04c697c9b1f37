"""Fact sources: where facts are read. A change counts up the version; frozen plans keep the one they were made with."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, connection, versioned
from experiments.definitions import FactSourceSpec, place_of
from experiments.errors import FieldError, InvalidDefinition
from experiments.paging import Page, page_of
from experiments.tables import FactSource

ADAPTER: TypeAdapter[FactSourceSpec] = TypeAdapter(FactSourceSpec)


def spec_of(row: FactSource) -> FactSourceSpec:
    """The definition of a stored fact source."""
    return ADAPTER.validate_python(row.spec)


async def create(session: AsyncSession, *, spec: FactSourceSpec, actor: str, at: datetime) -> FactSource:
    """Register a fact source. Raises `KeyTaken`, `InvalidDefinition`."""
    await connection.require(session, spec=spec)
    await _check_mappings(session, spec)
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
    await connection.require(session, spec=spec)
    await _check_mappings(session, spec)
    await versioned.update(session, source, expected=expected, spec=document, updated_at=at)
    _audit(session, source, "fact_source.updated", actor, at, before)
    return source


async def by_keys(session: AsyncSession, *, keys: Collection[str]) -> dict[str, FactSourceSpec]:
    """The definitions of these fact sources; keys that do not exist are missing."""
    rows = await session.scalars(sa.select(FactSource).where(col(FactSource.key).in_(keys)))
    return {row.key: spec_of(row) for row in rows}


async def _all(session: AsyncSession) -> list[FactSourceSpec]:
    return [spec_of(row) for row in await session.scalars(sa.select(FactSource))]


async def _check_mappings(session: AsyncSession, spec: FactSourceSpec) -> None:
    """Whether the source's mapping can be made, and those that other sources make of this one."""
    known = {other.key: other for other in await _all(session)} | {spec.key: spec}
    faults = []
    if spec.unit_mapping is not None:
        faults = _mapping_faults(spec, known.get(spec.unit_mapping.fact_source), "/unit_mapping/fact_source")
    for other in known.values():
        if other.key != spec.key and other.unit_mapping is not None and other.unit_mapping.fact_source == spec.key:
            pointer = "/unit_mapping" if spec.unit_mapping is not None else "/kind"
            faults += [
                FieldError(pointer, f"`{other.key}` maps by it: {fault.detail}")
                for fault in _mapping_faults(other, spec, pointer)
            ]
    if faults:
        raise InvalidDefinition(
            f"Units cannot be mapped: {faults[0].detail}",
            remedy="Map by another registered fact source, whose rows hold the unit and the other id.",
            errors=faults,
        )


def _mapping_faults(spec: FactSourceSpec, mapping: FactSourceSpec | None, pointer: str) -> list[FieldError]:
    assert spec.unit_mapping is not None
    key = spec.unit_mapping.fact_source
    if mapping is None:
        return [FieldError(pointer, f"there is no fact source `{key}`")]
    if mapping.key == spec.key:
        return [FieldError(pointer, "a source cannot map its own units")]
    found = []
    if mapping.unit_type != spec.unit_type:
        found.append(FieldError(pointer, f"`{key}` is per {mapping.unit_type}, `{spec.key}` per {spec.unit_type}"))
    if mapping.unit_mapping is not None:
        found.append(FieldError(pointer, f"`{key}` has a mapping itself: its rows must hold the unit"))
    if place_of(mapping) != place_of(spec):
        found.append(FieldError(pointer, f"`{key}` and `{spec.key}` must be in the same connection, or neither in one"))
    return found


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
