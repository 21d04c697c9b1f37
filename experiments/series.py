"""Series: versioned definitions of values by period and segment. A plan keeps the version that it was frozen with."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, metric, versioned
from experiments.definitions import SeriesSpec
from experiments.errors import FieldError, InvalidDefinition
from experiments.json_query import json_text
from experiments.paging import Page, page_of
from experiments.tables import Series, SeriesValue, SeriesVersion
from stats.formula import parse

FIXED_WITH_VALUES: Final = ("role", "grain", "dimension", "aggregation", "source")
"""What values mean: these stay once there are any."""


def spec_of(row: Series | SeriesVersion) -> SeriesSpec:
    """The definition in a stored row."""
    return SeriesSpec.model_validate(row.spec)


async def create(session: AsyncSession, *, spec: SeriesSpec, actor: str, at: datetime) -> Series:
    """Register a series as version 1. Raises `KeyTaken`, and `InvalidDefinition` for a metric that cannot feed it."""
    await _check_metric(session, spec)
    row = Series(key=spec.key, spec=spec.model_dump(mode="json"), created_at=at, updated_at=at)
    await versioned.insert(session, row, noun="series")
    _keep_version(session, row, actor, at)
    _audit(session, row, "series.created", actor, at, None, row.spec)
    await session.flush()
    return row


async def get(session: AsyncSession, *, key: str, lock: bool = False) -> Series:
    """The series. Raises `NotFound`."""
    return await versioned.by_key(session, Series, key, noun="series", lock=lock)


async def update(
    session: AsyncSession, *, series: Series, spec: SeriesSpec, expected: int | None, actor: str, at: datetime
) -> Series:
    """Make a new version. The key stays, and once there are values so does what they mean.

    `series` was read with `lock`, so that no first value comes in between. Raises `VersionConflict`,
    `InvalidDefinition`. An equal definition changes nothing.
    """
    document, before = spec.model_dump(mode="json"), series.spec
    if document == before and expected in (None, series.version):
        return series
    versioned.require(series, expected=expected)
    changed = [field for field in FIXED_WITH_VALUES if document[field] != before[field]]
    if changed and not await has_values(session, series=series):
        changed = []
    if spec.key != series.key:
        changed = ["key", *changed]
    if changed:
        raise InvalidDefinition(
            f"The {' and the '.join(changed)} of `{series.key}` cannot change: its values would mean something else",
            remedy="Register another series and archive this one.",
            errors=[FieldError(f"/{field}", f"must stay `{before[field]}`") for field in changed],
        )
    await _check_metric(session, spec, archived=spec.metric_key == before["metric_key"])
    await versioned.update(session, series, expected=expected, spec=document, updated_at=at)
    _keep_version(session, series, actor, at)
    _audit(session, series, "series.updated", actor, at, before, document)
    await session.flush()
    return series


async def archive(session: AsyncSession, *, series: Series, expected: int | None, actor: str, at: datetime) -> Series:
    """Take the series out of use: it is not listed and takes no more values. Archiving again changes nothing."""
    if series.archived_at is None:
        await versioned.update(session, series, expected=expected, archived_at=at, updated_at=at)
        _keep_version(session, series, actor, at)
        moved = {"archived_at": at.isoformat()}
        _audit(session, series, "series.archived", actor, at, {"archived_at": None}, moved)
        await session.flush()
    return series


async def has_values(session: AsyncSession, *, series: Series) -> bool:
    """Whether any value was ever pushed."""
    values = sa.select(col(SeriesValue.id)).where(col(SeriesValue.series_id) == series.id).limit(1)
    return await session.scalar(values) is not None


async def versions(session: AsyncSession, *, series: Series) -> Sequence[SeriesVersion]:
    """All versions, newest first."""
    statement = sa.select(SeriesVersion).where(col(SeriesVersion.series_id) == series.id)
    return (await session.scalars(statement.order_by(col(SeriesVersion.version).desc()))).all()


async def page(
    session: AsyncSession,
    *,
    role: str | None = None,
    source: str | None = None,
    metric_key: str | None = None,
    archived: bool = False,
    limit: int = 50,
    after: str | None = None,
) -> Page[Series]:
    """Series, newest first."""
    statement = sa.select(Series)
    if not archived:
        statement = statement.where(col(Series.archived_at).is_(None))
    for field, value in (("role", role), ("source", source), ("metric_key", metric_key)):
        if value is not None:
            statement = statement.where(json_text(session, Series.spec, field) == value)
    return await page_of(session, statement, Series, limit=limit, after=after)


async def _check_metric(session: AsyncSession, spec: SeriesSpec, *, archived: bool = False) -> None:
    """The metric must exist and, for a series from facts, must be one whose facts make a value by period.

    `archived` metrics do only for a series that has its metric already.
    """
    if spec.metric_key is None:
        return
    known = await metric.all_known(session, archived=archived)
    if spec.metric_key not in known:
        _refuse("metric_key", f"there is no metric `{spec.metric_key}`", "Register the metric first, or leave it out.")
    if spec.source != "facts":
        return
    definition, ever = known[spec.metric_key].spec, await metric.all_known(session, archived=True)
    parts = [] if definition.formula is None else [ever[name].spec for name in parse(definition.formula).names]
    for part in [definition, *parts]:
        if not part.adds_up:
            _refuse(
                "metric_key",
                f"`{part.key}` is a {part.kind}: facts make no value of a period of it",
                "Use a mean, proportion, ratio, survey or formula metric of such, or push the values.",
            )
    if metric.only_summaries(definition, ever):
        _refuse(
            "metric_key",
            f"`{spec.metric_key}` has no measure: no facts can feed it",
            "Give the metric a measure, or push the values.",
        )
    adds_up = definition.kind in ("mean", "proportion")
    if definition.kind != "formula" and adds_up != (spec.aggregation == "total"):
        _refuse(
            "aggregation",
            f"a period's value of a {definition.kind} metric is "
            + ("the total over its units" if adds_up else "a quotient, and quotients do not add up"),
            "Use `total`; for an average per unit define a ratio metric." if adds_up else "Use `mean`.",
        )


def _refuse(field: str, fault: str, remedy: str) -> None:
    raise InvalidDefinition(f"{field}: {fault}", remedy=remedy, errors=[FieldError(f"/{field}", fault)])


def _keep_version(session: AsyncSession, row: Series, actor: str, at: datetime) -> None:
    session.add(SeriesVersion(series_id=row.id, version=row.version, spec=row.spec, created_at=at, created_by=actor))


def _audit(
    session: AsyncSession,
    row: Series,
    action: str,
    actor: str,
    at: datetime,
    before: dict[str, Any] | None,
    after: dict[str, Any],
) -> None:
    audit.record(
        session,
        actor=actor,
        action=action,
        subject_type="series",
        subject_key=row.key,
        at=at,
        before=before,
        after=after,
    )
