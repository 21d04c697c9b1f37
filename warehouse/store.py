"""The Parquet store: one immutable file per batch and subject, complete before anyone can hear of it.

`exposures/<experiment key>/<batch>.parquet` and `events/<event>/<batch>.parquet` below `Settings.data_dir`. A batch is
written to temporary names, flushed to the disk and renamed; then, and only then, its row in `ingest_batches` is made.
Readers go by those rows, so what a crash leaves behind is never read; sending the batch again overwrites it. The name
of a batch is a digest of stream, client's batch id, content and the rows it was taken without: the same name always has
the same rows, also where a batch is sent twice at once and a row lies in the future for one of the two.

Exposures: unit_id, variant_key, exposed_at, segment_<name>. Events: unit_id, event, occurred_at, value, p_<name>
(DOUBLE, BOOLEAN or text). Times are UTC microseconds. Any engine that reads Parquet can read them.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.compute import take

from warehouse.parquet import BUCKETS, bucket_file_name
from warehouse.rows import FIELDS, SUBJECT_FIELD, TIME_FIELD, Stream, plain_text
from warehouse.scratch import STAGING, scratch_folder

_SAMPLE: Final = 1 << 13


def batch_name(stream: str, batch_id: str, digest: str, refused: str = "") -> str:
    """The file name of a batch in every subject's folder; `refused` is the fingerprint of the rows it goes without."""
    kind = f"{stream} {refused}" if refused else stream
    return hashlib.sha256(f"{kind}\n{digest}\n{batch_id}".encode()).hexdigest()[:40] + ".parquet"


def subject_folder(data_dir: Path, stream: str, subject: str) -> Path:
    """The folder of an experiment's exposures or an event's facts: a safe and distinct name on any file system."""
    if stream == "exposures":
        return data_dir / stream / subject
    readable = re.sub(r"[^a-z0-9_]+", "-", subject.lower())[:60].strip("-") or "event"
    return data_dir / stream / f"{readable}-{hashlib.sha256(subject.encode()).hexdigest()[:16]}"


def batch_file(data_dir: Path, stream: str, subject: str, name: str) -> Path:
    """Where a recorded batch keeps the rows of one subject."""
    return subject_folder(data_dir, stream, subject) / name


def segment_files(data_dir: Path, stream: str, subject: str, name: str) -> tuple[Path, ...]:
    """The files of a compacted segment, by bucket."""
    folder = subject_folder(data_dir, stream, subject) / name
    return tuple(folder / bucket_file_name(bucket) for bucket in range(BUCKETS))


@dataclass(slots=True)
class _SubjectFiles:
    """A subject's staged files: one as long as the chunks agree on their columns, another when they do not."""

    paths: list[Path] = field(default_factory=list)
    schema: pa.Schema | None = None
    writer: pq.ParquetWriter | None = None

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class BatchWriter:
    """Writes one batch. `publish` makes its files permanent; leaving the block without it leaves nothing behind.

    `folder` is where it works: private to this batch and gone afterwards.
    """

    def __init__(self, data_dir: Path, stream: Stream) -> None:
        self._data_dir, self._stream = data_dir, stream
        self._subjects: dict[str, _SubjectFiles] = {}

    def __enter__(self) -> "BatchWriter":
        self._scratch = scratch_folder(self._data_dir / STAGING)
        self.folder = self._scratch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for files in self._subjects.values():
                files.close()
        finally:
            self._scratch.__exit__(kind, error, traceback)

    @property
    def subjects(self) -> list[str]:
        return sorted(self._subjects)

    def staged(self, subject: str) -> list[Path]:
        """The files written so far for a subject, closed so that they can be read."""
        self._subjects[subject].close()
        self._subjects[subject].schema = None
        return self._subjects[subject].paths

    def write(self, table: pa.Table) -> None:
        """Append a chunk in stored form (with its subject column), split by subject."""
        for subject, part in _by_subject(table, SUBJECT_FIELD[self._stream]):
            if self._stream == "events":
                names = pa.DictionaryArray.from_arrays(_integers(np.zeros(len(part), dtype=np.int32)), subject)
                part = part.add_column(0, SUBJECT_FIELD["events"], names)
            self._append(subject[0].as_py(), part)

    def publish(self, name: str) -> None:
        """Flush every file and rename it to `name`; afterwards the batch may be recorded."""
        folders = set()
        for subject, files in self._subjects.items():
            files.close()
            merged = self._merged(files.paths)
            _flush(merged)
            target = batch_file(self._data_dir, self._stream, subject, name)
            if not target.parent.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                folders.add(target.parent.parent)
            os.replace(merged, target)
            folders.add(target.parent)
        for folder in folders:
            _flush(folder)

    def _append(self, subject: str, part: pa.Table) -> None:
        part = _required(part, self._stream)
        files = self._subjects.setdefault(subject, _SubjectFiles())
        if files.writer is None or files.schema != part.schema:
            files.close()
            files.paths.append(self.folder / f"{uuid.uuid4().hex}.parquet")
            files.schema = part.schema
            files.writer = _writer(files.paths[-1], part, self._stream)
        files.writer.write_table(part)

    def _merged(self, paths: Sequence[Path]) -> Path:
        if len(paths) == 1:
            return paths[0]
        schema = unified([pq.read_schema(path) for path in paths])
        merged = self.folder / f"{uuid.uuid4().hex}.parquet"
        writer = None
        try:
            for path in paths:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches():
                        part = _required(conform(pa.Table.from_batches([batch]), schema), self._stream)
                        writer = writer or _writer(merged, part, self._stream)
                        writer.write_table(part)
        finally:
            if writer is not None:
                writer.close()
        return merged


def _by_subject(table: pa.Table, name: str) -> Iterator[tuple[Any, pa.Table]]:
    """Each subject (an array with its name) and its rows, without its column (a dictionary)."""
    column: Any = table.column(name).combine_chunks()
    rest = table.drop_columns([name])
    if len(column.dictionary) == 1:
        yield column.dictionary, rest
        return
    codes = column.indices.to_numpy()
    counts = np.bincount(codes, minlength=len(column.dictionary))
    present = np.flatnonzero(counts).tolist()
    if len(present) > 1:
        # Stable: the rows of a subject stay in the order in which they came.
        narrow = np.uint8 if len(counts) < 1 << 8 else np.uint16 if len(counts) < 1 << 16 else np.int32
        order = _integers(np.argsort(codes.astype(narrow), kind="stable").astype(np.int32))
        rest = take(rest, order, boundscheck=False)
    starts = np.cumsum(counts) - counts
    for code in present:
        yield column.dictionary.slice(code, 1), rest.slice(int(starts[code]), int(counts[code]))


def _integers(values: NDArray[np.int32]) -> Any:
    """The numbers as an Arrow array. Not by `pa.array`: that imports pandas, half a second of CPU, to compare types."""
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])


def _required(part: pa.Table, stream: Stream) -> pa.Table:
    """The rows with what every row has declared as such: a writer then does not ask for nulls."""
    always = frozenset(FIELDS[stream]) - {"value"}
    schema = pa.schema([item.with_nullable(item.name not in always) for item in part.schema])
    return pa.Table.from_arrays(part.columns, schema=schema)


def _writer(path: Path, first: pa.Table, stream: Stream) -> pq.ParquetWriter:
    """Files are written once and read a few times before they are compacted: what is quick to write is good enough.

    Only times are ever compared with constants, so only they have statistics. Ids hardly repeat: a dictionary of them
    would only cost time. `first` are the rows that come first.
    """
    # The stubs forget that a list is allowed.
    repeated: Any = [item.name for item in first.schema if _is_text(item.type) and item.name != "unit_id"] or False
    timed: Any = [TIME_FIELD[stream]]
    return pq.ParquetWriter(
        path,
        first.schema,
        compression=_compression(first, repeated),
        use_dictionary=repeated,
        write_statistics=timed,
        store_schema=False,
    )


def _compression(first: pa.Table, repeated: Any) -> Any:
    """LZ4 for the columns that it makes half as long, as a sample shows; all of them where there are few rows.

    It is most of the price of a file, and takes 5 % off random times and 40 % off amounts of money.
    """
    if first.num_rows < _SAMPLE:
        return "lz4"
    sink = pa.BufferOutputStream()
    sample = first.slice(0, _SAMPLE)
    with pq.ParquetWriter(sink, first.schema, compression="lz4", use_dictionary=repeated, write_statistics=False) as w:
        w.write_table(sample)
    group = pq.read_metadata(pa.BufferReader(sink.getvalue())).row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    return {
        column.path_in_schema: "lz4" for column in columns
        if 2 * column.total_compressed_size < column.total_uncompressed_size
    }  # fmt: skip


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_dictionary(kind)


def unified(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """All columns of all schemas; a column with different types becomes text."""
    types: dict[str, pa.DataType] = {}
    for schema in schemas:
        for item in schema:
            known = types.setdefault(item.name, item.type)
            if known != item.type:
                types[item.name] = pa.string()
    return pa.schema(list(types.items()))


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly the columns of a unified schema."""
    columns = []
    for item in schema:
        if item.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, item.type))
        elif pa.types.is_string(item.type) and not pa.types.is_string(table.schema.field(item.name).type):
            values = table.column(item.name).to_pylist()
            columns.append(pa.array([None if v is None else plain_text(v) for v in values], pa.string()))
        else:
            columns.append(table.column(item.name))
    return pa.table(columns, schema=schema)


def discard(data_dir: Path, stream: str, subjects: Iterable[str], name: str) -> None:
    """Remove files of a batch that will not be recorded."""
    for subject in subjects:
        batch_file(data_dir, stream, subject, name).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
