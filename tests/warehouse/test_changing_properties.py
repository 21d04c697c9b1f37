"""Properties whose type changes between batches: a row counts as the same, whatever was sent before or after it."""

import operator
from collections.abc import Iterator
from itertools import chain, combinations, permutations
from pathlib import Path
from typing import Any

import duckdb
import pytest

from experiments.definitions import EventSource, Filter
from experiments.errors import SourceUnreadable
from tests.warehouse.test_formats import RULES
from warehouse.data_slice import DataSlice
from warehouse.engine import Parameters, connect, from_epoch_us
from warehouse.rows import check_row
from warehouse.sources import open_source, predicate, unreadable
from warehouse.store import BatchWriter, batch_file
from warehouse.vectors import from_rows

BATCHES: list[list[dict[str, Any]]] = [
    [{"p": 12}, {"p": 9.5, "q": "x"}, {"p": 1}],
    [{"q": "y", "P": "12"}, {"p": "10"}, {"p": "0.25"}],
    [{"p": True}, {"p": False}],
    [{"q": 3}],
    [{"P": 3.0, "r": "new"}],
]
FILTERS: list[tuple[str, Any]] = [
    ("=", 12.0), ("=", 1.0), ("!=", 12.0), (">", 9.0), ("<=", 1.0), ("=", "12"), ("!=", "12"), (">=", "9"), ("<", "9"),
    ("=", True), ("=", False), ("!=", True), ("=", "true"), ("!=", "true"), ("=", "1"), ("in", [1.0, 12.0]),
    ("in", ["12", "true"]),
]  # fmt: skip
OPERATORS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
             ">=": operator.ge}  # fmt: skip


@pytest.fixture
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=1, memory_limit=None) as connection:
        yield connection


def written(folder: Path, number: int, properties: list[dict[str, Any]]) -> Path:
    rows = [
        {"event": "order", "unit_id": f"u{i}", "occurred_at": "2026-01-05T10:00:00Z", "properties": item}
        for i, item in enumerate(properties)
    ]
    with BatchWriter(folder, "events") as writer:
        writer.write(from_rows([check_row(row, RULES["events"]) for row in rows], "events"))
        writer.publish(f"batch{number}.parquet")
    return batch_file(folder, "events", "order", f"batch{number}.parquet")


def read(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> tuple[float | None, list[int]]:
    """The sum of `p`, and how many rows pass each filter."""
    spec = EventSource(key="orders", event="order")
    data = DataSlice((), {"order": tuple(files)}, None, None, from_epoch_us(0))
    parameters = Parameters()
    source = open_source(connection, spec, data, parameters)
    assert source is not None
    filters = [Filter.model_validate({"column": "p", "op": op, "value": value}) for op, value in FILTERS]
    tests = [predicate(source, item, parameters) for item in filters]
    counts = ", ".join(f"count(*) FILTER (WHERE {test})" for test in tests)
    sql = f"SELECT sum({source.number('p')}), {counts} FROM {source.relation}"
    try:
        row = connection.execute(sql, parameters.values).fetchone()
    except duckdb.Error as error:
        raise unreadable("orders", error) from error
    assert row is not None
    return row[0], list(row[1:])


def number_of(value: Any) -> float:
    return {"true": 1.0, "false": 0.0}.get(value, 0.0) if value in ("true", "false") else float(value)


def passes(cell: Any, op: str, value: Any) -> bool:
    if op == "in":
        return any(passes(cell, "=", one) for one in value)
    if isinstance(value, bool):
        return OPERATORS[op](number_of(cell) != 0, value)
    return OPERATORS[op](number_of(cell), number_of(value))


def test_any_batches_together_count_as_each_of_them_alone(engine: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = [written(tmp_path, number, rows) for number, rows in enumerate(BATCHES)]
    every = range(len(BATCHES))
    for chosen in chain(combinations(every, 1), permutations(every, 2), [tuple(every)]):
        cells = [row.get("p", row.get("P")) for number in chosen for row in BATCHES[number]]
        known = [cell for cell in cells if cell is not None]
        if not known:
            continue
        total, passed = read(engine, [files[number] for number in chosen])
        assert total == sum(map(number_of, known)), chosen
        expected = [sum(passes(cell, op, value) for cell in known) for op, value in FILTERS]
        found = dict(zip(map(str, FILTERS), passed, strict=True))
        assert found == dict(zip(map(str, FILTERS), expected, strict=True)), chosen


def test_text_that_is_no_number_is_named_with_its_batch(engine: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = [written(tmp_path, 0, [{"p": 1}]), written(tmp_path, 1, [{"p": "12"}, {"p": "n/a; x\x1e"}])]
    with pytest.raises(SourceUnreadable, match="'p' has text in the batch batch1") as caught:
        read(engine, files)
    assert (caught.value.extra["column"], caught.value.extra["batch"]) == ("p", "batch1")
