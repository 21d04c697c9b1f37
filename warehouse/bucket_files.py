"""Rows of a streamed query in one file per bucket: what a pass of many buckets reads again, without the engine."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from warehouse.engine import Parameters

ROWS: Final = 1 << 15
"""Rows of a batch: what is found and sorted at a time, while it is in the processor's cache."""

type Records = np.ndarray[tuple[int], np.dtype[Any]]
type Buckets = NDArray[np.uint16]
type Columns = Mapping[str, NDArray[Any]]


def stream(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters) -> Iterator[pa.RecordBatch]:
    """The rows of a query, some at a time. Raises duckdb.Error."""
    reader = connection.sql(sql, params=parameters.values).to_arrow_reader(ROWS)
    try:
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
            except (pa.ArrowException, OSError) as error:
                # What the engine says while it streams comes as an error of the stream.
                raise duckdb.Error(str(error)) from error
            yield batch
    finally:
        reader.close()


def numbers(batch: pa.RecordBatch, types: Mapping[str, str]) -> Columns:
    """Columns of a batch by name, of the `types` that the query gives them; none has nulls. They share its memory."""
    return {name: _numbers(batch.column(name), np.dtype(kind)) for name, kind in types.items()}


def _numbers(column: "pa.Array[Any]", dtype: np.dtype[Any]) -> NDArray[Any]:
    """The numbers behind an Arrow array. Its own `to_numpy` imports pandas, a second of CPU in a fresh child."""
    values = column.buffers()[1]
    if values is None or column.null_count:
        raise ValueError("a streamed column has nulls")
    return np.frombuffer(values, dtype=dtype, count=len(column), offset=column.offset * dtype.itemsize)


class BucketFiles:
    """One file of records per bucket, in a folder. A context manager: files can be read after it is left."""

    def __init__(self, folder: Path, name: str, of: int, types: Mapping[str, str]) -> None:
        self.types = types
        self._dtype = np.dtype(list(types.items()))
        self._paths = [folder / f"{name}-{index}.rows" for index in range(of)]
        self._open = ExitStack()
        self._files: list[BinaryIO] = []
        self.rows = np.zeros(of, dtype=np.int64)
        """(buckets,) rows so far."""

    def __enter__(self) -> Self:
        self._files = [self._open.enter_context(path.open("wb")) for path in self._paths]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, columns: Columns, bucket: Buckets) -> None:
        """Append rows, each to the file of its bucket, in their order."""
        counts = np.bincount(bucket, minlength=len(self._paths))
        # Numbers of 16 bits are sorted by radix.
        order = np.argsort(bucket, kind="stable")
        records = np.empty(len(order), dtype=self._dtype)
        for name in self.types:
            records[name] = columns[name][order]
        end = 0
        for index in np.flatnonzero(counts):
            start, end = end, end + int(counts[index])
            self._files[index].write(records[start:end].data)
        self.rows += counts

    def read(self, index: int) -> Records:
        """All rows of a bucket."""
        return np.fromfile(self._paths[index], dtype=self._dtype)
