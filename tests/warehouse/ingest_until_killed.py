"""A process that ingests batches in children, each of which dies at a step of its own: asked line by line on stdin.

A line is JSON: the folder, the database, batches [id, body], and when to die: `steps` (before that step on files, or
once a batch is recorded) or `seconds`.
Children are forked from a process that has imported everything and started nothing, so that each costs milliseconds.
The answer is one line: how many steps were taken before the child ended by itself, or "killed".
"""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite
import anyio._backends._asyncio
import pyarrow as pa
import sqlalchemy.dialects.sqlite.aiosqlite

from experiments.database import Database
from experiments.settings import Settings
from warehouse.ingest import ingest

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
LOADED_ONCE = (aiosqlite, anyio, sqlalchemy, pa.array([1]))
"""The last one imports what Arrow looks for when it makes arrays of lists."""
STEPS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "recorded"})


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def child(order: dict[str, Any]) -> int:
    """Ingest the batches, all at once; the number of steps that it took."""
    taken = 0
    folder = str(Path(order["data_dir"]))

    def step(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal taken
        if event in STEPS and arguments and str(arguments[0]).startswith(folder):
            taken += 1
            if taken == order.get("steps"):
                die()

    sys.addaudithook(step)
    if "seconds" in order:
        timer = threading.Timer(order["seconds"], die)
        timer.daemon = True
        timer.start()
    asyncio.run(send(order, step))
    return taken


async def send(order: dict[str, Any], step: Callable[[str, tuple[Any, ...]], None]) -> None:
    settings = Settings(data_dir=Path(order["data_dir"]))
    database = Database(order["database"])

    async def one(batch_id: str, body: str) -> None:
        await ingest(
            database,
            settings,
            stream="events",
            batch_id=batch_id,
            body=Path(body),
            content_type="application/x-ndjson",
            on_error="keep_good",
            actor="tests",
            at=NOW,
        )
        step("recorded", (order["data_dir"],))

    async with asyncio.TaskGroup() as group:
        for batch in order["batches"]:
            group.create_task(one(*batch))
    await database.dispose()


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        child_id = os.fork()
        if child_id == 0:
            os.write(writing, str(child(order)).encode())
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(child_id, 0)
        killed = os.WIFSIGNALED(status)
        if not killed and os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit(1)
        sys.stdout.write(("killed" if killed else os.read(reading, 20).decode()) + "\n")
        sys.stdout.flush()
        os.close(reading)


if __name__ == "__main__":
    main()
