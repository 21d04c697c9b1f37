"""The same rows in every format are the same rows in the store, whether columns or single rows were looked at."""

import csv
import io
import json
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import BatchRejected, UnsupportedMediaType
from warehouse import json_lines
from warehouse.bodies import chunks_of, format_of
from warehouse.json_lines import lines_of_array
from warehouse.records import Malformed
from warehouse.rows import KnownExperiment, RowFault, Rules, Stream, check_row
from warehouse.vectors import accept, from_rows, type_texts

RULES: dict[Stream, Rules] = {
    stream: Rules(
        stream, datetime(2027, 1, 1, tzinfo=UTC), {"checkout": KnownExperiment(frozenset({"control", "b"}), True, True)}
    )
    for stream in ("exposures", "events")  # type: ignore[misc]
}
ROWS: dict[Stream, list[dict[str, Any]]] = {
    "exposures": [
        {"experiment_key": "checkout", "unit_id": "u1", "variant_key": "b",
         "exposed_at": "2026-01-05T10:00:00.123456Z", "segments": {"country": "DE", "since": "2025-01-01"}},
        {"experiment_key": "checkout", "unit_id": 'ü, "2"\n', "variant_key": "control",
         "exposed_at": "2026-01-05T12:00:00+02:00", "segments": {"country": "US"}},
        {"experiment_key": "checkout", "unit_id": "0123", "variant_key": "b", "exposed_at": "2026-01-05T10:00:00Z",
         "segments": {}},
    ],
    "events": [
        {"event": "order", "unit_id": "u1", "occurred_at": "2026-01-05T10:00:00Z", "value": 12.5,
         "properties": {"plan": "pro", "items": 3, "gift": True, "zip": "01234", "at": "2026-01-01T00:00:00Z"}},
        {"event": "visit, long", "unit_id": "u2", "occurred_at": "2026-01-05T10:00:00.5-03:00",
         "properties": {"plan": "free", "items": 2.5, "gift": False, "zip": "99999"}},
        {"event": "order", "unit_id": "u2", "occurred_at": "2026-01-05T10:00:00Z", "value": -1e-3,
         "properties": {"Plan": "x"}},
    ],
}  # fmt: skip
NESTED: dict[Stream, tuple[str, str]] = {"exposures": ("segments", "segment_"), "events": ("properties", "p_")}
TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow stream": "application/vnd.apache.arrow.stream",
    "arrow file": "application/vnd.apache.arrow.file",
}


def encode(path: Path, rows: list[dict[str, Any]], stream: Stream, kind: str) -> Path:
    nested, prefix = NESTED[stream]
    flat = [
        {
            **{k: v for k, v in row.items() if k != nested},
            **{f"{prefix}{k.lower()}": v for k, v in row.get(nested, {}).items()},
        }
        for row in rows
    ]
    match kind:
        case "json":
            path.write_text(json.dumps(rows, indent=2, ensure_ascii=False))
        case "ndjson":
            path.write_text("\n\n".join(json.dumps(row) for row in rows))
        case "csv":
            names = list(dict.fromkeys(name for row in flat for name in row))
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(names)
                writer.writerows([_text(row.get(name)) for name in names] for row in flat)
        case _:
            time = "exposed_at" if stream == "exposures" else "occurred_at"
            for row in flat:
                row[time] = datetime.fromisoformat(row[time])
            names = list(dict.fromkeys(name for row in flat for name in row))
            table = pa.table({name: pa.array([row.get(name) for row in flat]) for name in names})
            if kind == "parquet":
                pq.write_table(table, path)
            else:
                opened = pa.ipc.new_stream if kind == "arrow stream" else pa.ipc.new_file
                with opened(path, table.schema) as sink:
                    sink.write_table(table, max_chunksize=2)
    return path


def _text(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def stored(path: Path, kind: str, stream: Stream, *, by_row: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for chunk in chunks_of(path, TYPES[kind], stream):
        table = None if by_row or chunk.table is None else accept(chunk.table, RULES[stream])
        if table is None:
            assert by_row, "rows without faults were not taken as a whole"
            table = from_rows([check_row(row.content, RULES[stream]) for row in chunk.records()], stream)
        if chunk.untyped:
            table = type_texts(table, stream)
        found += [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    return found


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("kind", list(TYPES))
@pytest.mark.parametrize("stream", ["exposures", "events"])
def test_every_format_stores_the_same_rows(tmp_path: Path, stream: Stream, kind: str, by_row: bool) -> None:
    rows = ROWS[stream]
    if kind in ("json", "ndjson") and stream == "events" and not by_row:
        rows = [*rows[:2], {**rows[2], "properties": {"plan": "x"}}]
    expected = [
        {name: value for name, value in row.items() if value is not None}
        for row in from_rows([check_row(row, RULES[stream]) for row in rows], stream).to_pylist()
    ]
    assert stored(encode(tmp_path / "body", rows, stream, kind), kind, stream, by_row=by_row) == expected


def test_integer_unit_ids_are_taken_as_text(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_text('{"event": "a", "unit_id": 17, "occurred_at": "2026-01-01T00:00:00Z"}')
    assert stored(path, "ndjson", "events", by_row=False)[0]["unit_id"] == "17"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(alphabet='a"\\[]{},:\n\té', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='b"\\[,', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=3), max_size=6),
    st.booleans(),
    st.integers(1, 40),
)
@settings(deadline=None, max_examples=60)
def test_an_array_becomes_one_line_per_element_however_blocks_cut_it(rows: list[Any], pretty: bool, block: int) -> None:
    text = json.dumps(rows, indent=1 if pretty else None, ensure_ascii=False).encode()
    scanner = json_lines.ArrayScanner()
    original = json_lines.BLOCK
    json_lines.BLOCK = block
    try:
        lines = b"".join(scanner.lines(io.BytesIO(b" " + text + b"\n")))
    finally:
        json_lines.BLOCK = original
    assert [json.loads(line) for line in lines.split(b"\n") if line.strip()] == rows


@pytest.mark.parametrize("text", ["", " ", '{"a": 1}', "[1", '["a]', "[1] 2", "[1]]", "1", "][", "[[1}", "[{]"])
def test_what_is_not_an_array_is_refused_as_a_whole(tmp_path: Path, text: str) -> None:
    path = tmp_path / "body"
    path.write_text(text)
    with pytest.raises(BatchRejected):
        for line in b"".join(lines_of_array(path)).split(b"\n"):
            try:
                json.loads(line)
            except ValueError as error:
                raise BatchRejected(str(error)) from error


def test_a_comma_too_many_is_a_malformed_row(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_text('[{"event": "a", "unit_id": "u", "occurred_at": "2026-01-01T00:00:00Z"},,]')
    records = [record for chunk in chunks_of(path, "application/json", "events") for record in chunk.records()]
    assert [isinstance(record.content, Malformed) for record in records][:2] == [False, True]


def test_other_content_types_are_not_supported() -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        format_of("application/xml")
    assert "x-ndjson" in str(caught.value.remedy)


@pytest.mark.parametrize(("kind", "content"), [("parquet", b"PAR1oops"), ("csv", b""), ("csv", b"a,a\n1,2\n")])
def test_a_body_that_is_not_what_its_type_says_is_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / "body"
    path.write_bytes(content)
    with pytest.raises(BatchRejected):
        list(chunks_of(path, TYPES[kind], "events"))


def test_arrow_whose_offsets_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    """Followed unseen, an offset of a sender reads whatever lies in memory there."""
    units = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(struct.pack("<3i", 0, 1 << 30, 2)), pa.py_buffer(b"ab")]
    )
    table = pa.table({"event": ["a", "a"], "unit_id": units})
    with pa.ipc.new_stream(tmp_path / "body", table.schema) as sink:
        sink.write_table(table)
    with pytest.raises(BatchRejected):
        list(chunks_of(tmp_path / "body", TYPES["arrow stream"], "events"))


@pytest.mark.parametrize("kind", ["ndjson", "parquet", "arrow file"])
@pytest.mark.parametrize("place", ["unit_id", "p_plan"])
def test_text_that_is_no_utf8_is_a_fault_of_its_row(tmp_path: Path, kind: str, place: str) -> None:
    rows = [{"event": "a", "unit_id": f"u{i}", "occurred_at": "2026-01-05T10:00:00Z", "p_plan": "x"} for i in range(3)]
    path = tmp_path / "body"
    if kind == "ndjson":
        rows[1][place] = "BAD"
        path.write_bytes("\n".join(map(json.dumps, rows)).encode().replace(b"BAD", b"\xff\xfe"))
    else:
        columns = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
        bytes_of_it = pa.array([b"x", b"\xff\xfe", b"y"])
        columns[place] = pa.Array.from_buffers(pa.string(), 3, bytes_of_it.buffers())
        table = pa.table(columns)
        if kind == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(path, table.schema) as sink:
                sink.write_table(table)
    chunk, *rest = chunks_of(path, TYPES[kind], "events")
    assert chunk.table is None or accept(chunk.table, RULES["events"]) is None
    records = [record for one in (chunk, *rest) for record in one.records()]
    assert [isinstance(record.content, Malformed) for record in records] == [False, True, False]


@pytest.mark.parametrize(
    "at",
    [
        pa.scalar(2**63 - 1, pa.timestamp("us", "UTC")),  # the year 294247, which some exports say for never
        pa.scalar(-(10**17), pa.timestamp("us", "UTC")),
        pa.scalar(1_767_000_000 - 2**64 // 10**6, pa.timestamp("s", "UTC")),  # 2025, once it has run over
        pa.scalar(10**15, pa.timestamp("s", "UTC")),
        pa.scalar("0000-01-01T00:00:00Z"),
    ],
)
def test_a_time_without_a_year_is_a_fault_of_its_row(tmp_path: Path, at: Any) -> None:
    table = pa.table({"event": ["a"], "unit_id": ["u"], "occurred_at": pa.array([at], at.type)})
    with pa.ipc.new_file(tmp_path / "body", table.schema) as sink:
        sink.write_table(table)
    (chunk,) = chunks_of(tmp_path / "body", TYPES["arrow file"], "events")
    assert chunk.table is not None and accept(chunk.table, RULES["events"]) is None
    (record,) = chunk.records()
    if not isinstance(record.content, Malformed):
        with pytest.raises(RowFault):
            check_row(record.content, RULES["events"])
