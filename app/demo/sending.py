"""From the arrays of the company to what the API takes: CSV for series, Parquet for exposures and events."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.cli.client import ApiClient
from app.demo.progress import Steps
from stats.company import SeriesRecord

PARQUET = "application/vnd.apache.parquet"
ROWS_PER_BATCH = 500_000
PREFIXES = {"exposures": "segment_", "events": "p_"}
ATTRIBUTES = frozenset({"country", "platform", "account"})
"""Columns that say something of a unit or of an event, which ingest knows by a prefix."""


def push(client: ApiClient, series: Sequence[SeriesRecord], steps: Steps) -> None:
    """The values of the series that no facts tell of."""
    steps.begin("pushing series")
    for record in series:
        if record.values:
            key = record.spec["key"]
            client.request(
                "POST",
                f"/v1/series/{key}/values",
                content=_csv(record.values),
                params={"batch_id": f"history-of-{key}"},
                headers={"Content-Type": "text/csv"},
            )
    steps.done()


def _csv(columns: Mapping[str, Any]) -> bytes:
    sink = io.StringIO(newline="")
    lines = csv.writer(sink)
    lines.writerow(columns)
    # The arrays hold UTC without saying so.
    moments = [f"{at}Z" for at in columns["at"].astype("datetime64[s]")]
    lines.writerows(zip(*{**columns, "at": moments}.values(), strict=True))
    return sink.getvalue().encode()


def ingest(client: ApiClient, stream: str, name: str, columns: Mapping[str, Any]) -> None:
    for position, content in enumerate(_batches(columns, PREFIXES[stream])):
        client.ingest(stream, content, batch_id=f"{name}-{stream}-{position}", content_type=PARQUET)


def _batches(columns: Mapping[str, Any], prefix: str) -> Iterator[bytes]:
    named = {f"{prefix}{name}" if name in ATTRIBUTES else name: values for name, values in columns.items()}
    table = pa.table({name: _column(values) for name, values in named.items()})
    for first in range(0, table.num_rows, ROWS_PER_BATCH):
        sink = io.BytesIO()
        pq.write_table(table.slice(first, ROWS_PER_BATCH), sink)
        yield sink.getvalue()


def _column(values: Any) -> "pa.Array[Any]":
    column: pa.Array[Any] = pa.array(values)
    if pa.types.is_timestamp(column.type):
        zoned: pa.Array[Any] = column.cast(pa.timestamp("us", tz="UTC"))
        return zoned
    return column
