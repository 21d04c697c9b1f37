"""Take a batch: check every row, store what is good, record that it is in. Sending it again changes nothing.

The order is fixed: files first (complete and flushed), then one row in `ingest_batches`, which is what readers go by.
All work on the body happens on a thread, so the event loop stays free.
"""

import errno
import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import pyarrow as pa
from sqlalchemy.exc import IntegrityError

from experiments import ingest_batch
from experiments.database import Database
from experiments.errors import BatchMismatch, BatchRejected, FieldError, StorageFull
from experiments.settings import Settings
from experiments.tables import IngestBatch
from warehouse.bodies import chunks_of, format_of
from warehouse.catalog import known_experiments
from warehouse.crossed_units import VariantsSeen
from warehouse.dead_letters import DeadLetters, dead_letter_file
from warehouse.engine import Parameters, connect, from_epoch_us
from warehouse.erased_variants import refused_units
from warehouse.records import Chunk, Malformed, Record
from warehouse.refused_units import ERASED_UNIT
from warehouse.report import MAX_ERRORS, IngestReport, Refusals, RowError, reasons_of
from warehouse.rows import SUBJECT_FIELD, TIME_FIELD, RowFault, Rules, Stream, check_row
from warehouse.store import BatchWriter, batch_name, discard
from warehouse.vectors import accept, from_rows, numbers_in, pc, type_texts

type OnError = Literal["reject_batch", "keep_good"]

MAX_SUBJECTS = 500
MAX_ATTRIBUTES = 200


async def ingest(
    database: Database,
    settings: Settings,
    *,
    stream: Stream,
    batch_id: str,
    body: Path,
    content_type: str,
    on_error: OnError = "reject_batch",
    actor: str,
    at: datetime,
    body_digest: str | None = None,
) -> IngestReport:
    """Store the rows of `body` (a file, whose SHA-256 may be known already as `body_digest`) and record the batch.

    `reject_batch`: one bad row refuses all (`BatchRejected` lists the first `MAX_ERRORS`), nothing is stored.
    `keep_good`: good rows are stored, bad ones reported and kept as dead letters. The same `stream`, `batch_id` and
    content gives the recorded report again (`replayed`); the same id with other content is `BatchMismatch`. Raises
    `UnsupportedMediaType` and `StorageFull`.
    """
    format_of(content_type)
    digest = await anyio.to_thread.run_sync(_digest, body) if body_digest is None else body_digest
    async with database.read() as session:
        known = await ingest_batch.find(session, stream=stream, batch_id=batch_id)
        experiments = await known_experiments(session) if stream == "exposures" and known is None else {}
        refused = await refused_units(session, settings, stream) if known is None else None
    if known is not None:
        return _replayed(known, digest)
    latest = at + timedelta(seconds=settings.allowed_clock_skew_seconds)
    rules = Rules(stream, latest, experiments, refused=refused)
    batch = _Batch(settings.data_dir, partial(batch_name, stream, batch_id, digest), body, content_type, on_error)
    stored = await anyio.to_thread.run_sync(_store, batch, rules)
    try:
        async with database.write() as session:
            await ingest_batch.record(
                session,
                stream=stream,
                batch_id=batch_id,
                digest=digest,
                path=stored.name,
                accepted=stored.accepted,
                rejected=stored.refusals.rejected,
                errors=stored.refusals.documents(),
                subjects=stored.subjects,
                first_at=stored.first_at,
                last_at=stored.last_at,
                dead_letters=stored.dead_letters,
                actor=actor,
                at=at,
            )
    except IntegrityError:
        # Another request recorded this batch id meanwhile.
        async with database.read() as session:
            known = await ingest_batch.find(session, stream=stream, batch_id=batch_id)
        if known is None:
            raise
        if known.path != stored.name:
            await anyio.to_thread.run_sync(discard, settings.data_dir, stream, stored.subjects, stored.name)
            if stored.dead_letters is not None:
                dead_letter_file(settings.data_dir, stored.dead_letters).unlink(missing_ok=True)
        return _replayed(known, digest)
    return IngestReport(
        stream=stream,
        batch_id=batch_id,
        accepted=stored.accepted,
        rejected=stored.refusals.rejected,
        errors=tuple(stored.refusals.documents()),
        reasons=dict(stored.refusals.reasons),
    )


@dataclass(slots=True)
class _Stored:
    """What was written: `name` is the name of its files."""

    name: str
    accepted: int
    refusals: Refusals
    subjects: list[str]
    first_at: datetime | None
    last_at: datetime | None
    dead_letters: str | None = None


def _store(batch: "_Batch", rules: Rules) -> _Stored:
    """Check the body and write its good rows. Units in two variants show only at the end, and cost a second reading."""
    try:
        crossed = batch.store(rules)
        if isinstance(crossed, frozenset):
            crossed = batch.store(replace(rules, crossed=crossed))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(
            "The disk of the data folder is full; nothing was stored",
            remedy="Free space below NORTHLIFT_DATA_DIR, then send the batch again.",
        ) from error
    assert isinstance(crossed, _Stored)
    return crossed


@dataclass(frozen=True, slots=True)
class _Batch:
    """A body on its way into the store. `name` makes the name of its files of the rows that were refused."""

    data_dir: Path
    name: Callable[[str], str]
    body: Path
    content_type: str
    on_error: OnError

    def store(self, rules: Rules) -> _Stored | frozenset[tuple[str, str]]:
        """Write and publish; or publish nothing, and tell which units of experiments are in two variants."""
        seen = VariantsSeen() if rules.stream == "exposures" and not rules.crossed else None
        with BatchWriter(self.data_dir, rules.stream) as writer, closing(DeadLetters(writer.folder)) as dead:
            stored = self._write(writer, rules, dead, seen)
            if seen is not None and seen.suspicious() and (crossed := _crossed(writer)):
                return crossed
            if stored.refusals.rejected and self.on_error == "reject_batch":
                raise rejected_batch(stored.refusals)
            stored.name = self.name(stored.refusals.fingerprint)
            stored.dead_letters = dead.publish(self.data_dir, Path(stored.name).stem + ".ndjson")
            writer.publish(stored.name)
            return stored

    def _write(self, writer: BatchWriter, rules: Rules, dead: DeadLetters, seen: VariantsSeen | None) -> _Stored:
        stored = _Stored("", 0, Refusals(), [], None, None)
        subjects: set[str] = set()
        attributes: set[str] = set()

        def refuse(error: RowError, record: Record) -> None:
            stored.refusals.add(error)
            if self.on_error == "keep_good":
                # What was erased is not kept again, nor is it where nobody looks.
                dead.add(error, "" if error.reason == ERASED_UNIT else record.received)

        for table in _accepted(chunks_of(self.body, self.content_type, rules.stream), rules, refuse):
            subjects.update(_texts(table.column(SUBJECT_FIELD[rules.stream])))
            attributes.update(table.column_names)
            _check_size(subjects, attributes, rules.stream)
            writer.write(table)
            if seen is not None:
                seen.add(table)
            bounds = pc.min_max(table.column(TIME_FIELD[rules.stream]).cast(pa.int64())).as_py()
            stored.accepted += table.num_rows
            stored.first_at = min(filter(None, (stored.first_at, from_epoch_us(bounds["min"]))))
            stored.last_at = max(filter(None, (stored.last_at, from_epoch_us(bounds["max"]))))
        stored.subjects = writer.subjects
        return stored


def _texts(column: Any) -> list[str]:
    """The different texts of a column of `vectors.FEW_TEXTS`."""
    column = column.combine_chunks()
    texts = column.dictionary.to_pylist()
    return [texts[number] for number in numbers_in(column.indices.to_numpy(), len(texts))]


def _accepted(chunks: Iterator[Chunk], rules: Rules, refuse: Callable[[RowError, Record], None]) -> Iterator[pa.Table]:
    """Good rows in stored form; `refuse` is told of each other one."""
    row = 0
    for chunk in chunks:
        table = None if chunk.table is None else accept(chunk.table, rules)
        if table is None:
            good = []
            count = 0
            for count, record in enumerate(chunk.records(), start=1):
                if isinstance(record.content, Malformed):
                    refuse(RowError(row + count, "", "malformed_row", record.content.detail), record)
                    continue
                try:
                    good.append(check_row(record.content, rules))
                except RowFault as fault:
                    refuse(fault.at(row + count), record)
            row += count
            table = from_rows(good, rules.stream)
        else:
            row += table.num_rows
        if table.num_rows:
            yield type_texts(table, rules.stream) if chunk.untyped else table


def rejected_batch(refusals: Refusals, *, keepable: bool = True) -> BatchRejected:
    """The problem that lists a batch's bad rows; `keepable` where the good ones could be taken without them."""
    return BatchRejected(
        f"{refusals.rejected} rows are not valid; nothing was stored",
        remedy="correct the rows and send the batch again"
        + (", or send it with on_error=keep_good" if keepable else ""),
        errors=[
            FieldError(f"/{error.row}/{error.field}".rstrip("/"), f"{error.reason}: {error.detail}; {error.remedy}")
            for error in refusals.errors[:MAX_ERRORS]
        ],
        rejected=refusals.rejected,
        reasons=[f"{reason}: {count}" for reason, count in refusals.reasons.most_common()],
    )


def _check_size(subjects: set[str], attributes: set[str], stream: Stream) -> None:
    if len(subjects) > MAX_SUBJECTS:
        raise BatchRejected(
            f"the batch has more than {MAX_SUBJECTS} different values of {SUBJECT_FIELD[stream]}",
            remedy="put what varies into a property, or send smaller batches",
        )
    if len(attributes) > MAX_ATTRIBUTES:
        raise BatchRejected(
            f"the batch has more than {MAX_ATTRIBUTES} different fields",
            remedy="send only what metrics and segments use; put values, not ids, into properties",
        )


def _crossed(writer: BatchWriter) -> frozenset[tuple[str, str]]:
    """(experiment, unit) with several variants in what was written."""
    found: set[tuple[str, str]] = set()
    with connect(threads=1, memory_limit=None) as connection:
        for subject in writer.subjects:
            parameters = Parameters()
            rows_of = f"read_parquet({parameters.add_paths(tuple(writer.staged(subject)))}, union_by_name = true)"
            rows = connection.execute(
                f"SELECT unit_id FROM {rows_of} GROUP BY unit_id HAVING min(variant_key) <> max(variant_key)",
                parameters.values,
            ).fetchall()
            found.update((subject, str(unit)) for (unit,) in rows)
    return frozenset(found)


def _replayed(known: IngestBatch, digest: str) -> IngestReport:
    if known.digest != digest:
        raise BatchMismatch(
            f"batch {known.batch_id!r} is in the store with other content",
            remedy="send new rows under a new batch id",
        )
    return IngestReport(
        stream=known.stream,
        batch_id=known.batch_id,
        accepted=known.accepted,
        rejected=known.rejected,
        errors=tuple(known.errors),
        reasons=reasons_of(known.errors),
        replayed=True,
    )


def _digest(body: Path) -> str:
    with body.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
