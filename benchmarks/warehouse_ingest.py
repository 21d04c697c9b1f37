"""What ingest costs beside bare decoding: CPU seconds per row and format, in this process.

    python benchmarks/warehouse_ingest.py [--rows 1000000]

`ratio` is the CPU of all of `warehouse.ingest.ingest` (digest, rules, the store's files flushed, one row in SQLite)
over that of pyarrow decoding the same bytes into a table and doing nothing with it. `ratio_to_decode_and_write` is over
decoding them, writing the table to one Parquet file as quickly as the store writes (only ids compressed, dictionaries
for what repeats) and flushing it: what it says beyond 1 are the digest, the checks, the split by event or experiment
and the record. HTTP is left out; `benchmarks/service.py` has it. Uncompressed Arrow is decoded by looking at it: there
the first ratio says nothing, the second does. Medians of five runs.
"""

import argparse
import asyncio
import io
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from sqlmodel import SQLModel

# The folder of a script comes first, and `warehouse` is also the name of a benchmark.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.database import Database
from experiments.settings import Settings
from experiments.tables import Experiment
from warehouse.ingest import ingest

STARTED_AT = datetime(2026, 3, 2, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
RUNS = 5


def cpu() -> float:
    """CPU seconds of this process so far, threads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def events(rows: int, rng: np.random.Generator) -> pa.Table:
    """Two events, about one row per unit, and a value."""
    return pa.table(
        {
            "event": pa.array(np.array(["view", "click"])[rng.integers(0, 2, rows)]),
            "unit_id": pa.array([f"user-{number}" for number in rng.integers(0, max(rows, 1), rows)]),
            "occurred_at": times(rng.integers(-14 * 86400, 21 * 86400, rows)),
            "value": pa.array(np.round(rng.lognormal(3, 0.7, rows), 2)),
        }
    )


def exposures(rows: int, rng: np.random.Generator) -> pa.Table:
    """One row per unit."""
    return pa.table(
        {
            "experiment_key": pa.array(["large"] * rows),
            "unit_id": pa.array([f"user-{number}" for number in range(rows)]),
            "variant_key": pa.array(np.array(["control", "treatment"])[rng.integers(0, 2, rows)]),
            "exposed_at": times(rng.integers(0, 14 * 86400, rows)),
        }
    )


def times(seconds: np.ndarray) -> pa.Array:
    start = int(STARTED_AT.timestamp())
    return pa.array((start + seconds) * 1_000_000).cast(pa.timestamp("us", tz="UTC"))


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def arrow(table: pa.Table, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1 << 17)
    return sink.getvalue()


def ndjson(table: pa.Table) -> bytes:
    rows = table.to_pylist()
    return b"".join(json.dumps(row, default=datetime.isoformat).encode() + b"\n" for row in rows)


def csv(table: pa.Table) -> bytes:
    i = table.column_names.index("occurred_at")
    texts = pa.array([at.isoformat() for at in table.column(i).to_pylist()])
    sink = io.BytesIO()
    pa.csv.write_csv(table.set_column(i, "occurred_at", texts), sink)
    return sink.getvalue()


def read_stream(body: bytes) -> pa.Table:
    return pa.ipc.open_stream(body).read_all()


def write(table: pa.Table, path: Path) -> None:
    """The table as a file on the disk, without asking anything of it."""
    few = [name for name in table.column_names if name not in ("unit_id", "value", "occurred_at", "exposed_at")]
    pq.write_table(table, path, compression={"unit_id": "lz4"}, use_dictionary=few, write_statistics=False)
    with path.open("rb") as file:
        os.fsync(file.fileno())


FORMATS: dict[str, tuple[str, str, Callable[[pa.Table], bytes], Callable[[bytes], pa.Table]]] = {
    "parquet": ("events", "application/vnd.apache.parquet", parquet, lambda body: pq.read_table(io.BytesIO(body))),
    "arrow": ("events", "application/vnd.apache.arrow.stream", arrow, read_stream),
    "arrow_zstd": (
        "events",
        "application/vnd.apache.arrow.stream",
        lambda table: arrow(table, "zstd"),
        read_stream,
    ),
    "ndjson": ("events", "application/x-ndjson", ndjson, lambda body: pa.json.read_json(io.BytesIO(body))),
    "csv": ("events", "text/csv", csv, lambda body: pa.csv.read_csv(io.BytesIO(body))),
    "exposures_parquet": (
        "exposures",
        "application/vnd.apache.parquet",
        parquet,
        lambda body: pq.read_table(io.BytesIO(body)),
    ),
}


def ingest_rates(rows: int = 1_000_000) -> dict[str, dict[str, float]]:
    """For each format: `rows_per_cpu_second` of ingest, `decoded_per_cpu_second`, their `ratio`, the

    `ratio_to_decode_and_write`, and `bytes_per_row` of the body and of what is stored (`stored_bytes_per_row`).
    """
    return asyncio.run(_measured(rows))


async def _measured(rows: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(1)
    tables = {"events": events(rows, rng), "exposures": exposures(rows, rng)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(f"sqlite+aiosqlite:///{folder / 'northlift.sqlite3'}")
        settings = Settings(data_dir=folder / "data")
        async with database.engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)
        await _register(database)
        found = {}
        for kind, (stream, media_type, encode, decode) in FORMATS.items():
            content = encode(tables[stream])
            body = folder / "body"
            body.write_bytes(content)
            decoding, writing, ingesting = [], [], []
            for run in range(RUNS + 1):
                before = cpu()
                table = decode(content)
                decoding.append(cpu() - before)
                before = cpu()
                write(table, folder / "bare.parquet")
                writing.append(cpu() - before)
                del table
                before = cpu()
                # Each run is a batch of its own; the first one imports what the format needs and does not count.
                report = await ingest(
                    database,
                    settings,
                    stream=stream,  # type: ignore[arg-type]  # one of the two, see above
                    batch_id=f"{kind} {run}",
                    body=body,
                    content_type=media_type,
                    actor="benchmark",
                    at=NOW + timedelta(seconds=run),
                )
                ingesting.append(cpu() - before)
                if report.accepted != rows:
                    raise RuntimeError(f"{report}")
            floor, written, cost = (statistics.median(runs[1:]) for runs in (decoding, writing, ingesting))
            files = sorted((folder / "data" / stream).rglob("*.parquet"))
            found[kind] = {
                "rows_per_cpu_second": round(rows / cost),
                "decoded_per_cpu_second": round(rows / floor),
                "ratio": round(cost / floor, 2),
                "ratio_to_decode_and_write": round(cost / (floor + written), 2),
                "bytes_per_row": round(len(content) / rows, 1),
                "stored_bytes_per_row": round(sum(path.stat().st_size for path in files) / rows / (RUNS + 1), 1),
            }
            for path in files:
                path.unlink()
        await database.dispose()
    return found


async def _register(database: Database) -> None:
    """An experiment that takes exposures."""
    variants = [{"key": "control", "weight": 0.5, "is_control": True}, {"key": "treatment", "weight": 0.5}]
    async with database.write() as session:
        session.add(
            Experiment(
                key="large", name="large", spec={"variants": variants, "data": "events"}, status="running",
                started_at=STARTED_AT, created_at=STARTED_AT, updated_at=STARTED_AT,
            )
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    for kind, figures in ingest_rates(parser.parse_args().rows).items():
        print(
            f"{kind:18} {figures['rows_per_cpu_second']:12,.0f} rows per CPU second   "
            f"decoding {figures['decoded_per_cpu_second']:12,.0f}   ratio {figures['ratio']:7.2f}   "
            f"to decoding and writing {figures['ratio_to_decode_and_write']:5.2f}   "
            f"stored {figures['stored_bytes_per_row']:5.1f} of {figures['bytes_per_row']:5.1f} bytes a row"
        )


if __name__ == "__main__":
    main()
