"""What the service costs: reading a result, ingesting rows, and the time from a submitted analysis to its result.

    python benchmarks/service.py [--requests 20000] [--rows 1000000] [--units 1000000]

Every figure is a ratio against a floor measured in the same run on the same machine, in CPU seconds of the serving
process where it serves; only the last one is a wall time, because it is what a person waits for.

result_vs_hello     CPU per request of GET /v1/results/{id} over that of a one-line FastAPI endpoint.
ingest_vs_parse     CPU per row of ingesting NDJSON (and Parquet) over that of parsing the same bytes with pyarrow.
submit_to_result_s  from POST analyses to the stored result: 3 variants, 10 metrics, a warm worker, `--units` units with
                    an event each.
"""

import argparse
import asyncio
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

# The folder of a script comes first, and `warehouse` is also the name of a benchmark.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.cli.client import ApiClient
from app.cli.services import LocalService

STARTED_AT = datetime(2026, 3, 2, tzinfo=UTC)
TICKS = os.sysconf("SC_CLK_TCK")
HELLO = """
from fastapi import FastAPI
app = FastAPI()
@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"message": "hello"}
"""


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def hammer(port: int, path: str, headers: dict[str, str], requests: int, connections: int = 16) -> None:
    """GET `path` over kept-alive connections; raises when an answer is not 200."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    request = "\r\n".join(lines).encode()

    async def one(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode(errors="replace"))
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        writer.close()

    await asyncio.gather(*(one(requests // connections) for _ in range(connections)))


def cpu_per_request(pid: int, port: int, path: str, headers: dict[str, str], requests: int) -> float:
    """Microseconds of the server's CPU per request: median of three runs after a warm-up."""
    asyncio.run(hammer(port, path, headers, max(1600, requests // 10)))
    runs = []
    for _ in range(3):
        before = cpu_of(pid)
        asyncio.run(hammer(port, path, headers, requests))
        runs.append((cpu_of(pid) - before) / requests * 1e6)
    return statistics.median(runs)


@contextmanager
def hello_server(port: int) -> Iterator[int]:
    """The floor: a FastAPI app that says hello. Yields its process id."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "hello.py").write_text(HELLO)
        command = [sys.executable, "-m", "uvicorn", "hello:app", "--app-dir", folder, "--port", str(port)]
        process = subprocess.Popen([*command, "--no-access-log", "--log-level", "warning"])
        try:
            for _ in range(200):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/hello")
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def define(client: ApiClient) -> None:
    """Ten metrics over two event streams and one experiment with three variants."""
    for event in ("purchase", "visit"):
        client.post("/v1/fact-sources", {"kind": "events", "key": f"{event}s", "event": event})
    shared = {"window_days": 7, "pre_period_days": 14}
    count, value = {"aggregation": "count"}, {"aggregation": "sum"}
    metrics: list[dict[str, object]] = []
    for name, source in (("purchases", "purchases"), ("visits", "visits")):
        metrics += [
            {"key": f"{name}_per_user", "kind": "mean", "measure": {"fact_source": source, **count}},
            {"key": f"{name}_value", "kind": "mean", "measure": {"fact_source": source, **value}},
            {"key": f"{name}_any", "kind": "proportion", "measure": {"fact_source": source, "aggregation": "any"}},
            {"key": f"{name}_days", "kind": "mean", "measure": {"fact_source": source, "aggregation": "distinct_days"}},
        ]
    purchases, visits = {"fact_source": "purchases", **count}, {"fact_source": "visits", **count}
    spend = {"fact_source": "purchases", **value}
    metrics += [
        {"key": "purchases_per_visit", "kind": "ratio", "numerator": purchases, "denominator": visits},
        {"key": "purchase_value", "kind": "ratio", "numerator": spend, "denominator": purchases},
    ]
    for metric in metrics:
        client.post("/v1/metrics", {"name": str(metric["key"]), **shared, **metric})
    client.post(
        "/v1/experiments",
        {
            "key": "large",
            "name": "A large experiment",
            "variants": [
                {"key": "control", "weight": 1 / 3, "is_control": True},
                {"key": "first", "weight": 1 / 3},
                {"key": "second", "weight": 1 - 2 / 3},
            ],
            "metrics": [
                {"metric_key": str(metric["key"]), "role": "primary" if position == 0 else "secondary"}
                for position, metric in enumerate(metrics)
            ],
        },
    )
    client.post("/v1/experiments/large/start", {"at": STARTED_AT.isoformat()})


def exposures(units: int, rng: np.random.Generator) -> pa.Table:
    seconds = rng.integers(0, 14 * 86400, units)
    variants = np.array(["control", "first", "second"])[rng.integers(0, 3, units)]
    return pa.table(
        {
            "experiment_key": pa.array(["large"]).take(pa.array(np.zeros(units, dtype=np.int32))),
            "unit_id": pa.array([f"user-{number}" for number in range(units)]),
            "variant_key": pa.array(variants),
            "exposed_at": timestamps(seconds),
        }
    )


def events(rows: int, units: int, rng: np.random.Generator, *names_of: str) -> pa.Table:
    names = np.array(names_of)[rng.integers(0, len(names_of), rows)]
    return pa.table(
        {
            "event": pa.array(names),
            "unit_id": pa.array([f"user-{number}" for number in rng.integers(0, units, rows)]),
            "occurred_at": timestamps(rng.integers(-14 * 86400, 21 * 86400, rows)),
            "value": pa.array(np.round(rng.lognormal(3, 0.7, rows), 2)),
        }
    )


def timestamps(seconds: np.ndarray) -> pa.Array:
    start = int(STARTED_AT.timestamp())
    return pa.array((start + seconds) * 1_000_000).cast(pa.timestamp("us", tz="UTC"))


def ndjson(table: pa.Table) -> bytes:
    rows = table.to_pylist()
    for row in rows:
        row["occurred_at"] = row["occurred_at"].isoformat()
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def parse_cpu(content: bytes, kind: str) -> float:
    """CPU seconds of this process to parse the bytes into a table and do nothing with it."""
    runs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF)
        source = io.BytesIO(content)
        _ = pa.json.read_json(source) if kind == "ndjson" else pq.read_table(source)
        after = resource.getrusage(resource.RUSAGE_SELF)
        runs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(runs)


def ingest_cpu(client: ApiClient, pid: int, content: bytes, kind: str, rows: int) -> float:
    """CPU seconds of the API process to validate and store the bytes."""
    media = {"ndjson": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}[kind]
    before = cpu_of(pid)
    report = client.ingest("events", content, batch_id=f"bench-{kind}-{rows}", content_type=media)
    used = cpu_of(pid) - before
    if report["accepted"] != rows:
        raise RuntimeError(f"{report}")
    return used


def submit_to_result(client: ApiClient) -> float:
    """Seconds from the request to the stored result, as a client that asks every 10 ms sees it."""
    began = time.perf_counter()
    analysis = client.post("/v1/experiments/large/analyses")
    while True:
        state = client.get(f"/v1/analyses/{analysis['id']}")
        if state["state"] == "succeeded":
            return time.perf_counter() - began
        if state["state"] in ("failed", "cancelled"):
            raise RuntimeError(str(state))
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--port", type=int, default=8471)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    with (
        tempfile.TemporaryDirectory() as home,
        LocalService(Path(home), host="127.0.0.1", port=options.port) as service,
        ApiClient(service.url, service.sign_in_key(), timeout=600) as client,
    ):
        figures = run(service, client, options, rng)
    print(json.dumps(figures))


def run(
    service: LocalService, client: ApiClient, options: argparse.Namespace, rng: np.random.Generator
) -> dict[str, float]:
    """All measurements on one running service."""
    define(client)
    pid = service.process_id("api")

    ingest_cpu(client, pid, parquet(events(1000, 1000, rng, "warm")), "parquet", 1000)  # imports what ingest needs
    table = events(options.rows, options.units, rng, "view", "click")
    ratios = {}
    for kind, content in (("ndjson", ndjson(table)), ("parquet", parquet(table))):
        parsing, ingesting = parse_cpu(content, kind), ingest_cpu(client, pid, content, kind, options.rows)
        ratios[kind] = ingesting / parsing
        print(
            f"ingest {kind:8} {options.rows / ingesting:12,.0f} rows/s per core   "
            f"bare parsing {options.rows / parsing:12,.0f}   ratio {ratios[kind]:.2f} (aim <= 3)"
        )

    done = parquet(events(options.units, options.units, rng, "visit", "visit", "visit", "purchase"))
    client.ingest("events", done, batch_id="bench-events", content_type="application/vnd.apache.parquet")
    client.ingest(
        "exposures",
        parquet(exposures(options.units, rng)),
        batch_id="bench-exposures",
        content_type="application/vnd.apache.parquet",
    )
    client.post("/v1/experiments/large/stop", {"at": (STARTED_AT + timedelta(days=14)).isoformat()})
    submit_to_result(client)  # warms the worker
    seconds = statistics.median(submit_to_result(client) for _ in range(5))
    print(f"submit to stored result {seconds:.2f} s (3 variants x 10 metrics, {options.units:,} units, aim < 1 s)")

    latest = client.get("/v1/experiments/large/results")["items"][0]
    headers = {"X-API-Key": service.sign_in_key()}
    served = cpu_per_request(pid, options.port, f"/v1/results/{latest['id']}", headers, options.requests)
    with hello_server(options.port + 1) as hello_pid:
        hello = cpu_per_request(hello_pid, options.port + 1, "/hello", headers, options.requests)
    ratio = served / hello
    print(f"result {served:.0f} us CPU per request, FastAPI hello {hello:.0f}, ratio {ratio:.2f} (aim <= 1.25)")
    return {
        "result_vs_hello": round(ratio, 3),
        "ingest_vs_parse": round(max(ratios.values()), 3),
        "submit_to_result_s": round(seconds, 3),
    }


if __name__ == "__main__":
    main()
