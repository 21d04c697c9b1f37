"""Metrics: versioned recipes. A changed definition makes a new version; frozen plans and old results keep theirs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, fact_source, formula_rules, versioned
from experiments.definitions import Measure, MetricSpec
from experiments.errors import FieldError, InvalidDefinition
from experiments.json_query import json_text
from experiments.paging import Page, page_of
from experiments.tables import Metric, MetricVersion, NorthStar
from stats.formula import parse


@dataclass(frozen=True, slots=True)
class Known:
    """A metric as the registry knows it now."""

    spec: MetricSpec
    version: int


def spec_of(row: Metric | MetricVersion) -> MetricSpec:
    """The definition in a stored row."""
    return MetricSpec.model_validate(row.spec)


def only_summaries(spec: MetricSpec, known: Mapping[str, Known]) -> bool:
    """Whether the metric, or one that its formula names, has no measure: no facts can feed it."""
    if spec.formula is not None:
        return any(only_summaries(known[name].spec, known) for name in parse(spec.formula).names)
    return not measures_of(spec)


def measures_of(spec: MetricSpec) -> dict[str, Measure]:
    """The measures of a metric by the name of their field; none for a formula."""
    fields = {name: getattr(spec, name) for name in ("measure", "numerator", "denominator", "start", "covariate")}
    steps = {f"steps/{i}/measure": step.measure for i, step in enumerate(spec.steps)}
    further = {f"covariates/{i}": measure for i, measure in enumerate(spec.covariates)}
    return {name: measure for name, measure in fields.items() if measure is not None} | steps | further


async def create(session: AsyncSession, *, spec: MetricSpec, actor: str, at: datetime) -> Metric:
    """Register a metric as version 1. Raises `KeyTaken`, `InvalidDefinition`, `InvalidFormula`."""
    known = await all_known(session)
    await unit_type_of(session, spec=spec, known=known)
    row = Metric(key=spec.key, spec=spec.model_dump(mode="json"), created_at=at, updated_at=at)
    await versioned.insert(session, row, noun="metric")
    _keep_version(session, row, actor, at)
    _audit(session, row, "metric.created", actor, at, None)
    await session.flush()
    return row


async def get(session: AsyncSession, *, key: str, lock: bool = False) -> Metric:
    """The metric. Raises `NotFound`."""
    return await versioned.by_key(session, Metric, key, noun="metric", lock=lock)


async def update(
    session: AsyncSession, *, metric: Metric, spec: MetricSpec, expected: int | None, actor: str, at: datetime
) -> Metric:
    """Make a new version. Key, kind and unit type stay; formulas and trees that use the metric must stay valid.

    Raises `VersionConflict`, `InvalidDefinition`, `InvalidFormula`. An equal definition changes nothing.
    """
    document, before = spec.model_dump(mode="json"), metric.spec
    if document == before and expected in (None, metric.version):
        return metric
    known = await all_known(session, archived=True)
    for field in ("key", "kind"):
        if getattr(spec, field) != before[field]:
            _refuse_change(field, before[field])
    old_unit = await unit_type_of(session, spec=spec_of(metric), known=known)
    if old_unit not in (None, await unit_type_of(session, spec=spec, known=known)):
        _refuse_change("unit_type", old_unit)
    await _check_users(session, changed={**known, spec.key: Known(spec, metric.version + 1)}, key=spec.key)
    await versioned.update(session, metric, expected=expected, spec=document, updated_at=at)
    _keep_version(session, metric, actor, at)
    _audit(session, metric, "metric.updated", actor, at, before)
    await session.flush()
    return metric


async def archive(session: AsyncSession, *, metric: Metric, expected: int | None, actor: str, at: datetime) -> Metric:
    """Take the metric off the list of those that new definitions may use. Archiving again changes nothing."""
    if metric.archived_at is None:
        await versioned.update(session, metric, expected=expected, archived_at=at, updated_at=at)
        _keep_version(session, metric, actor, at)
        audit.record(
            session,
            actor=actor,
            action="metric.archived",
            subject_type="metric",
            subject_key=metric.key,
            at=at,
            before={"archived_at": None},
            after={"archived_at": at.isoformat()},
        )
        await session.flush()
    return metric


async def _check_users(session: AsyncSession, *, changed: Mapping[str, Known], key: str) -> None:
    """The formulas and trees that use the metric must hold for its new definition too."""
    specs = _specs(changed)
    for other in specs.values():
        if other.formula is not None:
            _check_user(other.formula, specs, key, f"metrics/{other.key}")
    for row in await session.scalars(sa.select(NorthStar)):
        _check_user(row.spec["formula"], specs, key, f"north-stars/{row.key}")


def _check_user(formula: str, specs: Mapping[str, MetricSpec], key: str, user: str) -> None:
    if key in parse(formula).names:
        formula_rules.read(formula, known=specs, pointer=f"/used_by/{user}")


async def all_known(session: AsyncSession, *, archived: bool = False) -> dict[str, Known]:
    """Every metric by key; archived ones, which new definitions cannot use, only when asked for."""
    statement = sa.select(Metric)
    if not archived:
        statement = statement.where(col(Metric.archived_at).is_(None))
    return {row.key: Known(spec_of(row), row.version) for row in await session.scalars(statement)}


async def unit_type_of(session: AsyncSession, *, spec: MetricSpec, known: Mapping[str, Known]) -> str | None:
    """The unit that the metric counts per; None when only summaries can feed it. Checks everything it refers to.

    Raises `InvalidDefinition` for a fact source that does not exist or unit types that differ, `InvalidFormula`.
    """
    if spec.formula is not None:
        formula = formula_rules.read(spec.formula, known=_specs(known))
        units = {
            name: await unit_type_of(session, spec=known[name].spec, known=known)  # never a formula: one level deep
            for name in formula.names
        }
        return _only_unit(units, "/formula")
    measures = measures_of(spec)
    sources = await fact_source.by_keys(session, keys={measure.fact_source for measure in measures.values()})
    missing = [
        FieldError(f"/{field}/fact_source", f"there is no fact source `{measure.fact_source}`")
        for field, measure in measures.items()
        if measure.fact_source not in sources
    ]
    if missing:
        raise InvalidDefinition(
            f"The metric reads from a fact source that does not exist: {missing[0].detail}",
            remedy="Register it first with POST /v1/fact-sources.",
            errors=missing,
        )
    return _only_unit({field: sources[m.fact_source].unit_type for field, m in measures.items()}, "")


async def versions(session: AsyncSession, *, metric: Metric) -> Sequence[MetricVersion]:
    """All versions, newest first."""
    statement = sa.select(MetricVersion).where(col(MetricVersion.metric_id) == metric.id)
    return (await session.scalars(statement.order_by(col(MetricVersion.version).desc()))).all()


async def page(
    session: AsyncSession,
    *,
    owner: str | None = None,
    kind: str | None = None,
    archived: bool = False,
    keys: Collection[str] | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[Metric]:
    """Metrics, newest first."""
    statement = sa.select(Metric)
    if not archived:
        statement = statement.where(col(Metric.archived_at).is_(None))
    if keys is not None:
        statement = statement.where(col(Metric.key).in_(keys))
    for field, value in (("owner", owner), ("kind", kind)):
        if value is not None:
            statement = statement.where(json_text(session, Metric.spec, field) == value)
    return await page_of(session, statement, Metric, limit=limit, after=after)


def _specs(known: Mapping[str, Known]) -> dict[str, MetricSpec]:
    return {key: metric.spec for key, metric in known.items()}


def _only_unit(units: Mapping[str, str | None], pointer: str) -> str | None:
    found = sorted({unit for unit in units.values() if unit is not None})
    if len(found) > 1:
        listed = ", ".join(f"`{name}` is per {unit}" for name, unit in units.items())
        raise InvalidDefinition(
            f"The parts of the metric are about different units: {listed}",
            remedy="Use facts of one unit type in one metric.",
            errors=[FieldError(pointer, listed)],
        )
    return found[0] if found else None


def _refuse_change(field: str, value: object) -> None:
    raise InvalidDefinition(
        f"The {field.replace('_', ' ')} of a metric cannot change between versions",
        remedy="Register another metric and archive this one.",
        errors=[FieldError(f"/{field}", f"must stay `{value}`")],
    )


def _keep_version(session: AsyncSession, row: Metric, actor: str, at: datetime) -> None:
    session.add(MetricVersion(metric_id=row.id, version=row.version, spec=row.spec, created_at=at, created_by=actor))


def _audit(
    session: AsyncSession, row: Metric, action: str, actor: str, at: datetime, before: dict[str, Any] | None
) -> None:
    audit.record(
        session,
        actor=actor,
        action=action,
        subject_type="metric",
        subject_key=row.key,
        at=at,
        before=before,
        after=row.spec,
    )
