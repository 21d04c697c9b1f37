"""North Stars: the metric a company steers by and its tree, versioned like metrics."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments import audit, formula_rules, metric, versioned
from experiments.definitions import NorthStarSpec
from experiments.errors import FieldError, InvalidDefinition, InvalidFormula
from experiments.metric import Known
from experiments.paging import Page, page_of
from experiments.tables import NorthStar, NorthStarVersion, Series


def spec_of(row: NorthStar | NorthStarVersion) -> NorthStarSpec:
    """The definition in a stored row."""
    return NorthStarSpec.model_validate(row.spec)


def metric_keys_of(spec: NorthStarSpec) -> list[str]:
    """The North Star Metric, then its inputs."""
    return [spec.metric_key, *(item.metric_key for item in spec.input_metrics)]


async def create(session: AsyncSession, *, spec: NorthStarSpec, actor: str, at: datetime) -> NorthStar:
    """Register a North Star as version 1. Raises `KeyTaken`, `InvalidDefinition`, `InvalidFormula`."""
    await check(session, spec=spec)
    row = NorthStar(key=spec.key, spec=spec.model_dump(mode="json"), created_at=at, updated_at=at)
    await versioned.insert(session, row, noun="North Star")
    await _keep(session, row, "north_star.created", actor, at, None)
    return row


async def get(session: AsyncSession, *, key: str, lock: bool = False) -> NorthStar:
    """The North Star. Raises `NotFound`."""
    return await versioned.by_key(session, NorthStar, key, noun="North Star", lock=lock)


async def update(
    session: AsyncSession,
    *,
    north_star: NorthStar,
    spec: NorthStarSpec,
    expected: int | None,
    actor: str,
    at: datetime,
) -> NorthStar:
    """Make a new version (a new target, another input). Raises `VersionConflict`, `InvalidDefinition`."""
    if spec.key != north_star.key:
        raise InvalidDefinition(
            "The key of a North Star cannot change",
            remedy="Register another North Star.",
            errors=[FieldError("/key", f"must stay `{north_star.key}`")],
        )
    document, before = spec.model_dump(mode="json"), north_star.spec
    if document == before and expected in (None, north_star.version):
        return north_star
    await check(session, spec=spec)
    await versioned.update(session, north_star, expected=expected, spec=document, updated_at=at)
    await _keep(session, north_star, "north_star.updated", actor, at, before)
    return north_star


async def check(session: AsyncSession, *, spec: NorthStarSpec) -> str:
    """Everything a tree promises: metrics and series exist, no metric is a formula, all are per one unit, the formula
    is over exactly the inputs and cannot divide by zero. Returns the unit type.

    Raises `InvalidDefinition`, `InvalidFormula`.
    """
    known = await metric.all_known(session)
    _refuse_unusable_metrics(spec, known)
    await _refuse_unusable_series(session, spec)
    inputs = {item.metric_key: known[item.metric_key].spec for item in spec.input_metrics}
    formula = formula_rules.read(spec.formula, known=inputs, towards=known[spec.metric_key].spec.direction)
    unused = [
        item.metric_key
        for item in spec.input_metrics
        if (item.edge == "definitional" or not formula.names) and item.metric_key not in formula.names
    ]
    if unused:
        raise InvalidFormula(
            f"The formula does not use the input {', '.join(f'`{key}`' for key in unused)}",
            remedy="Write it into the formula, or say that it drives the North Star: `edge: driver`.",
            errors=[FieldError("/formula", f"does not use `{key}`") for key in unused],
        )
    units = {key: await metric.unit_type_of(session, spec=known[key].spec, known=known) for key in metric_keys_of(spec)}
    if len(set(units.values())) > 1:
        listed = ", ".join(f"`{key}` is per {unit}" for key, unit in units.items())
        raise InvalidDefinition(
            f"The metrics of a tree must be about one unit: {listed}",
            remedy="Define the inputs on facts of the North Star's unit type.",
            errors=[FieldError("/input_metrics", listed)],
        )
    unit = units[spec.metric_key]
    assert unit is not None  # every metric of a tree has measures
    return unit


def _refuse_unusable_metrics(spec: NorthStarSpec, known: dict[str, Known]) -> None:
    places = [("/metric_key", spec.metric_key, False)] + [
        (f"/input_metrics/{position}/metric_key", item.metric_key, item.series_key is not None)
        for position, item in enumerate(spec.input_metrics)
    ]
    errors = [
        FieldError(pointer, fault)
        for pointer, key, pushed in places
        if (fault := _fault(key, known, pushed=pushed)) is not None
    ]
    if errors:
        raise InvalidDefinition(
            f"The tree uses a metric that it cannot use: {errors[0].detail}",
            remedy="Use registered metrics of the kinds mean, proportion, ratio and survey that have measures; a "
            "retention, funnel or participation only as an input whose weeks a `series_key` brings.",
            errors=errors,
        )


async def _refuse_unusable_series(session: AsyncSession, spec: NorthStarSpec) -> None:
    """Series of the North Star and its inputs are outcomes, those of outside influences regressors."""
    inputs, influences = enumerate(spec.input_metrics), enumerate(spec.influences)
    places = [
        ("/series_key", spec.series_key, "outcome"),
        *((f"/input_metrics/{i}/series_key", item.series_key, "outcome") for i, item in inputs),
        *((f"/influences/{i}/series_key", item.series_key, "regressor") for i, item in influences),
    ]
    named = sorted({key for _, key, _ in places if key is not None})
    if not named:
        return
    rows = await session.scalars(sa.select(Series).where(col(Series.key).in_(named)))
    roles = {row.key: row.spec["role"] for row in rows}
    errors = [
        FieldError(pointer, f"there is no series `{key}`" if key not in roles else f"`{key}` is no {role}")
        for pointer, key, role in places
        if key is not None and roles.get(key) != role
    ]
    if errors:
        raise InvalidDefinition(
            f"The North Star names a series that it cannot use: {errors[0].detail}",
            remedy="Register the series first with POST /v1/series: outside influences have the role `regressor`.",
            errors=errors,
        )


def _fault(key: str, known: dict[str, Known], *, pushed: bool) -> str | None:
    """Why a tree cannot have the metric. `pushed`: a series brings its weeks, so facts need not make them."""
    if key not in known:
        return f"there is no metric `{key}`"
    if known[key].spec.kind == "formula":
        return f"`{key}` is a formula metric"
    kind = known[key].spec.kind
    if kind == "quantile" or (not pushed and not known[key].spec.adds_up):
        return f"`{key}` is a {kind}: it does not add up over units and weeks"
    if metric.only_summaries(known[key].spec, known):
        return f"`{key}` has no measure: only summaries can feed it"
    return None


async def versions(session: AsyncSession, *, north_star: NorthStar) -> Sequence[NorthStarVersion]:
    """All versions, newest first."""
    statement = sa.select(NorthStarVersion).where(col(NorthStarVersion.north_star_id) == north_star.id)
    return (await session.scalars(statement.order_by(col(NorthStarVersion.version).desc()))).all()


async def page(session: AsyncSession, *, limit: int = 50, after: str | None = None) -> Page[NorthStar]:
    """North Stars, newest first."""
    return await page_of(session, sa.select(NorthStar), NorthStar, limit=limit, after=after)


async def _keep(
    session: AsyncSession, row: NorthStar, action: str, actor: str, at: datetime, before: dict[str, Any] | None
) -> None:
    session.add(
        NorthStarVersion(north_star_id=row.id, version=row.version, spec=row.spec, created_at=at, created_by=actor)
    )
    audit.record(
        session,
        actor=actor,
        action=action,
        subject_type="north_star",
        subject_key=row.key,
        at=at,
        before=before,
        after=row.spec,
    )
    await session.flush()
