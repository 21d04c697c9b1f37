"""What a launch is measured on must exist, and fit its path and each other (METHODS D)."""

from collections.abc import Iterator, Mapping, Set

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from experiments.definitions import LaunchMeasurement, LaunchSpec, SeriesSpec
from experiments.errors import FieldError, InvalidDefinition
from experiments.rollout import segments_named
from experiments.series import spec_of as series_spec
from experiments.tables import Series


def series_named(spec: LaunchSpec) -> frozenset[str]:
    """The keys of all series that the measurements name."""
    return frozenset(key for item in spec.measurements for key in (item.series_key, *item.regressors, *item.controls))


async def check_measurements(session: AsyncSession, spec: LaunchSpec, *, before: LaunchSpec | None) -> None:
    """Whether the launch can be measured on what it names. Raises `InvalidDefinition`.

    A series that was archived since the launch (as it was `before`) named it can still be named.
    """
    keys = series_named(spec)
    if not keys:
        return
    kept = frozenset() if before is None else series_named(before)
    rows = await session.scalars(sa.select(Series).where(col(Series.key).in_(sorted(keys))))
    known = {row.key: series_spec(row) for row in rows if row.archived_at is None or row.key in kept}
    faults = [
        fault
        for position, item in enumerate(spec.measurements)
        for fault in _faults(spec, item, known, f"/measurements/{position}")
    ]
    if faults:
        raise InvalidDefinition(
            f"The launch cannot be measured like this: {faults[0].detail}",
            remedy="GET /v1/series lists what there is to measure on; correct what is under `errors`.",
            errors=faults,
        )


def _faults(
    spec: LaunchSpec, item: LaunchMeasurement, known: Mapping[str, SeriesSpec], pointer: str
) -> Iterator[FieldError]:
    outcome = known.get(item.series_key)
    if outcome is None:
        yield _unknown(f"{pointer}/series_key", item.series_key)
    else:
        yield from _faults_of_outcome(spec, item, outcome, pointer)
    for role, keys in (("regressor", item.regressors), ("outcome", item.controls)):
        name = "regressors" if role == "regressor" else "controls"
        for position, key in enumerate(keys):
            at = f"{pointer}/{name}/{position}"
            if (other := known.get(key)) is None:
                yield _unknown(at, key)
            elif other.role != role:
                yield FieldError(at, f"`{key}` is a series of the role `{other.role}`; {name} have the role `{role}`")
            elif outcome is not None:
                yield from _faults_beside(outcome, other, at)


def _faults_of_outcome(
    spec: LaunchSpec, item: LaunchMeasurement, outcome: SeriesSpec, pointer: str
) -> Iterator[FieldError]:
    at = f"{pointer}/series_key"
    if outcome.role != "outcome":
        yield FieldError(at, f"`{outcome.key}` is an outside influence; a launch is measured on an outcome")
        return
    segmented = outcome.dimension not in ("", "arm")
    if segments_named(spec.rollout) and not segmented:
        yield FieldError(at, f"`{outcome.key}` has no dimension, and steps of the rollout are about segments of one")
    if spec.eligible is not None and segmented and spec.eligible.dimension != outcome.dimension:
        fault = f"is by `{outcome.dimension}`, the eligible segments are of `{spec.eligible.dimension}`"
        yield FieldError(at, f"`{outcome.key}` {fault}")
    if item.excluded_segments and not segmented:
        yield FieldError(f"{pointer}/excluded_segments", f"`{outcome.key}` has no segments to exclude")
    for position, segment in enumerate(item.excluded_segments):
        if segment in _reached(spec):
            fault = f"`{segment}` gets the launch: it is measured, and no comparison for others anyway"
            yield FieldError(f"{pointer}/excluded_segments/{position}", fault)


def _faults_beside(outcome: SeriesSpec, other: SeriesSpec, at: str) -> Iterator[FieldError]:
    """What keeps another series from being held against the outcome."""
    if other.grain != outcome.grain:
        yield FieldError(at, f"`{other.key}` is by {other.grain}, `{outcome.key}` by {outcome.grain}")
    if other.dimension not in ("", outcome.dimension):
        has = f"by `{outcome.dimension}`" if outcome.dimension else "not by any dimension"
        yield FieldError(at, f"`{other.key}` is by `{other.dimension}`, `{outcome.key}` {has}")
    if other.source == outcome.source == "facts" and other.metric_key == outcome.metric_key:
        yield FieldError(at, f"`{other.key}` counts the same facts as `{outcome.key}`: the launch moves both")


def _reached(spec: LaunchSpec) -> Set[str]:
    """The segments that are known to get the launch."""
    named = segments_named(spec.rollout)
    if spec.eligible is not None and any(not step.segments for step in spec.rollout):
        return named | set(spec.eligible.segments)
    return named


def _unknown(pointer: str, key: str) -> FieldError:
    return FieldError(pointer, f"there is no series `{key}`, or it is archived")
