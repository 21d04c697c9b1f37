"""Bodies that are tables already: Parquet files, and Arrow streams and files, in chunks of rows."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.errors import BatchRejected
from warehouse.records import Chunk, Malformed, Record
from warehouse.vectors import FEW

ROWS_AT_ONCE = 1 << 18
ENOUGH_ROWS = 1 << 16
"""As many make a chunk of their own: two batches together would have to be copied."""
_DAMAGED = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowMemoryError, OSError)


def parquet_chunks(path: Path) -> Iterator[Chunk]:
    """The rows of a Parquet file. `BatchRejected` when it is none, or damaged."""
    try:
        known = pq.read_metadata(path)
        schema = known.schema.to_arrow_schema()
        _check_names(schema)
        # What has few different texts, and is a dictionary in the file, is not spelled out.
        few = [item.name for item in schema if item.name in FEW and pa.types.is_string(item.type)]
        file = pq.ParquetFile(path, metadata=known, memory_map=True, read_dictionary=few)
    except _DAMAGED as error:
        raise _not_a("Parquet file") from error
    with file:
        try:
            # The columns are few and the batches small: threads would cost more than they gain.
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False):
                yield _chunk(pa.Table.from_batches([batch]))
        except _DAMAGED as error:
            raise BatchRejected(f"the Parquet file is damaged: {str(error)[:200]}", remedy="send it again") from error


def arrow_chunks(path: Path, opened: Callable[[pa.NativeFile], Any]) -> Iterator[Chunk]:
    """The rows of an Arrow stream or file (`opened`: which). `BatchRejected` when it is none, or damaged.

    Batches of any size become chunks of `ENOUGH_ROWS` to `ROWS_AT_ONCE` rows.
    """
    try:
        source = pa.memory_map(str(path))
        reader = opened(source)
    except _DAMAGED as error:
        raise _not_a("stream or file of Arrow record batches") from error
    with source:
        _check_names(reader.schema)
        try:
            yield from _gathered(_batches(reader), reader.schema)
        except _DAMAGED as error:
            raise BatchRejected(f"the Arrow data are damaged: {str(error)[:200]}", remedy="send it again") from error


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    count = getattr(reader, "num_record_batches", None)
    batches = reader if count is None else map(reader.get_batch, range(count))
    for batch in batches:
        _check_buffers(batch)
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            yield batch.slice(start, ROWS_AT_ONCE)


def _check_buffers(batch: pa.RecordBatch) -> None:
    """`ArrowInvalid` when offsets, which come from the sender, lead out of a buffer. Text that is no UTF-8 may pass:

    it is a fault of its row, and looked for there.
    """
    batch.validate()
    for column in batch.columns:
        (column.cast(pa.binary()) if pa.types.is_string(column.type) else column).validate(full=True)


def _gathered(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[Chunk]:
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if waiting and rows + batch.num_rows > ROWS_AT_ONCE:
            yield _chunk(pa.Table.from_batches(waiting, schema))
            waiting, rows = [], 0
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= ENOUGH_ROWS:
            yield _chunk(pa.Table.from_batches(waiting, schema))
            waiting, rows = [], 0
    if waiting:
        yield _chunk(pa.Table.from_batches(waiting, schema))


def _chunk(table: pa.Table) -> Chunk:
    return Chunk(table, partial(_typed_records, table))


def _typed_records(table: pa.Table) -> Iterator[Record]:
    """Rows with times in the precision that Python has."""
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            table = table.set_column(i, field.name, table.column(i).cast(pa.timestamp("us", field.type.tz), safe=False))
    for start in range(0, table.num_rows, 1000):
        block = table.slice(start, 1000)
        try:
            yield from (Record(content, content) for content in block.to_pylist())
        except (ValueError, OverflowError):
            yield from map(_typed_record, (block.slice(i, 1) for i in range(block.num_rows)))


def _typed_record(row: pa.Table) -> Record:
    try:
        (content,) = row.to_pylist()
    except (ValueError, OverflowError) as error:
        return Record(Malformed(f"the row cannot be read: {str(error)[:200]}"), None)
    return Record(content, content)


def _check_names(schema: pa.Schema) -> None:
    if len(set(schema.names)) != len(schema.names):
        raise BatchRejected("the table has a column name twice", remedy="name each column once")


def _not_a(what: str) -> BatchRejected:
    return BatchRejected(f"the body is not a {what}", remedy="send a complete one, or correct the content type")
