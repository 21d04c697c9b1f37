"""Bodies of batches as chunks of rows, whatever their format; a body is read in pieces and never whole."""

import csv
import json
from collections.abc import Iterator, Mapping
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from experiments.errors import BatchRejected, UnsupportedMediaType
from warehouse.json_lines import BLOCK, LONGEST_ROW, lines_of, lines_of_array, parse_line
from warehouse.records import Chunk, Malformed, Record
from warehouse.rows import ATTRIBUTES, FIELDS, Stream
from warehouse.tabular_bodies import ROWS_AT_ONCE, arrow_chunks, parquet_chunks

FORMATS = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/vnd.apache.arrow.stream": "arrow_stream",
    "application/vnd.apache.arrow.file": "arrow_file",
}


def format_of(content_type: str) -> str:
    """`json`, `ndjson`, `csv`, `parquet`, `arrow_stream` or `arrow_file`; `UnsupportedMediaType` otherwise."""
    kind = content_type.split(";")[0].strip().lower()
    if kind not in FORMATS:
        raise UnsupportedMediaType(
            f"rows cannot be sent as {kind or 'an unnamed type'!r}",
            remedy="send application/json, application/x-ndjson, text/csv, application/vnd.apache.parquet,"
            " application/vnd.apache.arrow.stream or application/vnd.apache.arrow.file",
        )
    return FORMATS[kind]


def chunks_of(path: Path, content_type: str, stream: Stream) -> Iterator[Chunk]:
    """The rows of a body, in order. Raises `BatchRejected` when the body as a whole is not what its type says."""
    match format_of(content_type):
        case "json":
            return _json_chunks(lines_of_array(path), stream, blank_lines=False)
        case "ndjson":
            return _json_chunks(lines_of(path), stream, blank_lines=True)
        case "csv":
            return _csv_chunks(path)
        case "parquet":
            return parquet_chunks(path)
        case "arrow_stream":
            return arrow_chunks(path, pa.ipc.open_stream)
        case _:
            return arrow_chunks(path, pa.ipc.open_file)


def _json_chunks(pieces: Iterator[bytes], stream: Stream, *, blank_lines: bool) -> Iterator[Chunk]:
    """`blank_lines` may be anywhere; otherwise a blank line is a missing element, unless there are none at all."""
    reader = _JsonReader(stream)
    for number, piece in enumerate(pieces):
        if (not piece or piece.isspace()) and (blank_lines or number == 0):
            continue
        table = reader.read(piece)
        if table is not None and not blank_lines and table.num_rows != len(_lines(piece)):
            table = None
        yield Chunk(table, partial(_json_records, piece, blank_lines))


def _lines(piece: bytes) -> list[bytes]:
    return piece.removesuffix(b"\n").split(b"\n")


def _json_records(piece: bytes, blank_lines: bool) -> Iterator[Record]:
    for line in _lines(piece):
        if line.strip() or not blank_lines:
            yield Record(_parsed(line), line)


def _parsed(line: bytes) -> object | Malformed:
    if len(line) > LONGEST_ROW:
        return Malformed(f"the row is longer than {LONGEST_ROW} bytes")
    try:
        return parse_line(line)
    except (ValueError, RecursionError) as error:
        return Malformed(f"not valid JSON: {str(error)[:200]}")


class _JsonReader:
    """Reads pieces of NDJSON. What it learns about text that looks like a time, it keeps for the next piece."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._nested = ATTRIBUTES[stream][0]
        self._texts: dict[str, pa.DataType] = {}

    def read(self, piece: bytes) -> pa.Table | None:
        try:
            table = self._parse(piece)
            if self._learn(table):
                table = self._parse(piece)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        return table

    def _parse(self, piece: bytes) -> pa.Table:
        return pa_json.read_json(
            BytesIO(piece),
            read_options=pa_json.ReadOptions(block_size=min(1 << 20, max(len(piece), 1))),
            parse_options=pa_json.ParseOptions(explicit_schema=self._schema(piece), unexpected_field_behavior="infer"),
        )

    def _schema(self, piece: bytes) -> pa.Schema:
        types: dict[str, pa.DataType] = dict.fromkeys(FIELDS[self._stream], pa.string())
        if "value" in types:
            types["value"] = pa.float64()
        first = next((line for line in BytesIO(piece) if line.strip()), b"")
        try:
            row = json.loads(first)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("unit_id"), int):
            types["unit_id"] = pa.int64()
        if self._texts:
            types[self._nested] = pa.struct(list(self._texts.items()))
        return pa.schema(list(types.items()))

    def _learn(self, table: pa.Table) -> bool:
        """Whether text was taken for times, which must be read again as text."""
        if self._nested not in table.column_names:
            return False
        kind = table.schema.field(self._nested).type
        if not pa.types.is_struct(kind):
            return False
        found = {field.name: pa.string() for field in kind if pa.types.is_temporal(field.type)}
        self._texts.update(found)
        return bool(found)


def _csv_chunks(path: Path) -> Iterator[Chunk]:
    header = _header(path)
    done = 0
    try:
        reader = pa_csv.open_csv(
            path,
            read_options=pa_csv.ReadOptions(block_size=BLOCK // 4, column_names=header, skip_rows=1),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                null_values=[""],
            ),
        )
        for batch in reader:
            table = pa.Table.from_batches([batch])
            done += table.num_rows
            yield Chunk(table, partial(_text_records, table), untyped=True)
    except pa.ArrowInvalid:
        records = islice(_csv_records(path), done, None)
        while block := list(islice(records, ROWS_AT_ONCE)):
            yield Chunk(None, block.copy, untyped=True)


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            header = next(csv.reader(file), None)
        except csv.Error as error:
            raise BatchRejected(f"the CSV header cannot be read: {error}", remedy="send a header line") from error
    if not header or len(set(header)) != len(header):
        raise BatchRejected("the CSV has no header, or a name in it twice", remedy="name each column once in line 1")
    return header


def _csv_records(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(Malformed(str(error)), [])
                continue
            if not fields:
                continue
            if len(fields) != len(header):
                fault = f"{len(fields)} fields where the header has {len(header)}"
                yield Record(Malformed(fault), fields)
                continue
            received = {name: text or None for name, text in zip(header, fields, strict=True)}
            yield Record(_decoded(received), received)


def _text_records(table: pa.Table) -> Iterator[Record]:
    return (Record(_decoded(received), received) for received in table.to_pylist())


def _decoded(received: Mapping[str, Any]) -> object | Malformed:
    """A CSV record; a nested column in it is JSON."""
    record = dict(received)
    for nested, _ in ATTRIBUTES.values():
        if record.get(nested) is not None:
            try:
                record[nested] = json.loads(record[nested])
            except ValueError:
                return Malformed(f"{nested} is not valid JSON")
    return record
