"""Values of series that are pushed: checked as a whole, and kept beside what was known before."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import anyio
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import ingest_batch, series, series_values
from experiments.database import Database
from experiments.definitions import SeriesSpec
from experiments.errors import BatchMismatch, NotReady
from experiments.series_table import PERIOD
from experiments.settings import Settings
from experiments.tables import IngestBatch, Series, metadata
from experiments.types import new_id
from warehouse.report import IngestReport
from warehouse.series_rows import Batch, Value, read_batch

STREAM: Final = "series"


@dataclass(frozen=True, slots=True)
class ValuesReport(IngestReport):
    """The outcome of a batch of values. `accepted` are all of its rows, none refused.

    `unchanged` say what was known already, `restated` another number than before, the others are new. `early`: sent
    before their period had ended; they count once they are sent again after that.
    """

    unchanged: int = 0
    restated: int = 0
    early: int = 0
    known_at: str = ""

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "errors": [], "reasons": {}}


async def ingest_values(
    database: Database,
    settings: Settings,
    *,
    key: str,
    body: bytes,
    content_type: str,
    batch_id: str,
    actor: str,
    at: datetime,
) -> ValuesReport:
    """Store the values {segment, at, value, n?, variance?} of a series; null withdraws what was sent before.

    All rows or none: any fault raises `BatchRejected`. What is known already is not stored again. The same batch again
    is `replayed`; its id with other content raises `BatchMismatch`. Writers of a series take turns, and what a later
    one says is known later, whatever the clock said. Raises `NotFound`, `NotReady`, `UnsupportedMediaType`.
    """
    async with database.read() as session:
        spec = _pushed(await series.get(session, key=key))
    latest = at + timedelta(seconds=settings.allowed_clock_skew_seconds)
    batch = await anyio.to_thread.run_sync(read_batch, body, content_type, spec, latest)
    async with database.write() as session:
        row = await series.get(session, key=key, lock=True)
        if _pushed(row) != spec:
            raise NotReady(f"the series `{key}` was changed at this moment", remedy="send the batch again")
        return await _store(session, row, batch, batch_id, actor, at)


async def _store(
    session: AsyncSession, row: Series, batch: Batch, batch_id: str, actor: str, at: datetime
) -> ValuesReport:
    """Record the batch and what is new in it; the row of the series is locked."""
    recorded = await ingest_batch.find(session, stream=STREAM, batch_id=batch_id)
    if recorded is not None:
        return await _replayed(session, row, batch, recorded)
    before = await series_values.last_known_at(session, series=row)
    known_at = at if before is None else max(at, before + timedelta(microseconds=1))
    known = await series_values.last_said(session, series=row, cells=[value.cell for value in batch.values])
    length = PERIOD[series.spec_of(row).grain]
    times = [value.cell.at for value in batch.values]
    try:
        async with session.begin_nested():
            stored = await ingest_batch.record(
                session,
                stream=STREAM,
                batch_id=batch_id,
                digest=batch.digest,
                path="",
                accepted=len(batch.values),
                rejected=0,
                errors=[],
                subjects=[row.key],
                first_at=min(times, default=None),
                last_at=max(times, default=None),
                actor=actor,
                at=known_at,
            )
    except IntegrityError as error:
        # Another series took the id at this moment.
        raise _mismatch(batch_id) from error
    new = []
    unchanged = restated = 0
    for value in batch.values:
        said = known.get(value.cell)
        if value.says(said):
            unchanged += 1
            if said is None or said.complete or known_at < value.cell.at + length:
                continue  # otherwise the first word on the whole period, though the number is the same
        elif said is not None:
            restated += 1
        new.append(value)
    await _insert(session, row, new, stored, known_at)
    return _report(batch, batch_id, length, known_at, unchanged=unchanged, restated=restated)


async def _insert(
    session: AsyncSession, row: Series, values: Sequence[Value], batch: IngestBatch, known_at: datetime
) -> None:
    if not values:
        return
    await session.execute(
        sa.insert(metadata.tables["series_values"]),
        [
            {
                "id": new_id(),
                "series_id": row.id,
                "segment": value.cell.segment,
                "at": value.cell.at,
                "value": value.value,
                "n": value.n,
                "variance": value.variance,
                "known_at": known_at,
                "batch_id": batch.id,
            }
            for value in values
        ],
    )


async def _replayed(session: AsyncSession, row: Series, batch: Batch, recorded: IngestBatch) -> ValuesReport:
    """The report that the batch had: what it changed is still in the store."""
    if recorded.digest != batch.digest:
        raise _mismatch(recorded.batch_id)
    new, restated = await series_values.changes_of(session, series=row, batch_id=recorded.id)
    return _report(
        batch,
        recorded.batch_id,
        PERIOD[series.spec_of(row).grain],
        recorded.created_at,
        unchanged=recorded.accepted - new - restated,
        restated=restated,
        replayed=True,
    )


def _report(
    batch: Batch,
    batch_id: str,
    length: timedelta,
    known_at: datetime,
    *,
    unchanged: int,
    restated: int,
    replayed: bool = False,
) -> ValuesReport:
    early = sum(value.value is not None and known_at < value.cell.at + length for value in batch.values)
    return ValuesReport(
        STREAM,
        batch_id,
        accepted=len(batch.values),
        rejected=0,
        errors=(),
        reasons={},
        replayed=replayed,
        unchanged=unchanged,
        restated=restated,
        early=early,
        known_at=known_at.isoformat(),
    )


def _pushed(row: Series) -> SeriesSpec:
    """The definition of a series that takes values. Raises `NotReady`."""
    spec = series.spec_of(row)
    if spec.source != "pushed":
        raise NotReady(
            f"the series `{row.key}` is computed from facts", remedy="send the facts as events, or push another series"
        )
    if row.archived_at is not None:
        raise NotReady(f"the series `{row.key}` is archived", remedy="send its values to a series that is in use")
    return spec


def _mismatch(batch_id: str) -> BatchMismatch:
    return BatchMismatch(
        f"batch {batch_id!r} was sent with other rows or to another series", remedy="send new rows under a new batch id"
    )
