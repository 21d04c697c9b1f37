"""Every batch is in the store exactly once, whenever the process that takes it is killed."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from experiments.database import Database
from experiments.tables import IngestBatch
from tests.deaths import Moments
from tests.servers import REPOSITORY
from warehouse.dead_letters import FOLDER
from warehouse.scratch import sweep_scratch
from warehouse.store import batch_file

pytestmark = pytest.mark.anyio
GOOD, BAD = 12, 2


class Sender:
    """Sends batches through a process that dies when it is told to."""

    def __init__(self, database_url: str, folder: Path, process: subprocess.Popen[str]) -> None:
        self.database_url, self.folder, self.process = database_url, folder, process
        self.sent: list[list[str]] = []

    def batches(self, name: str, rows: int = GOOD) -> list[list[str]]:
        """Two batches with two events each and some bad rows; the first one is sent twice at once."""
        made = []
        for batch in (f"{name}-a", f"{name}-b"):
            body = self.folder / f"{batch}.ndjson"
            lines = [
                {"event": f"event {i % 2}", "unit_id": f"{batch}-{i}", "occurred_at": "2026-01-05T10:00:00Z"}
                for i in range(rows)
            ]
            body.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"event": "x"}, "oops"]))
            made.append([batch, str(body)])
        return [*made, made[0]]

    def send(self, batches: list[list[str]], **death: float) -> str:
        order = {"data_dir": str(self.folder / "data"), "database": self.database_url, "batches": batches, **death}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, "the sending process failed by itself"
        return answer

    def suffer(self, name: str, rows: int = GOOD, **death: float) -> str:
        """Send batches and be killed."""
        batches = self.batches(name, rows)
        self.sent += batches[:2]
        return self.send(batches, **death)

    def send_again(self) -> None:
        """Send all batches a second time, without harm."""
        for start in range(0, len(self.sent), 40):
            assert self.send(self.sent[start : start + 40]) != "killed"

    async def check(self, rows: int = GOOD) -> None:
        """All is in once; a sweep leaves nothing else."""
        data_dir = self.folder / "data"
        database = Database(self.database_url)
        async with database.read() as session:
            recorded = list(await session.scalars(sa.select(IngestBatch)))
        await database.dispose()
        assert Counter(batch.batch_id for batch in recorded) == Counter(batch for batch, _ in self.sent)
        files = [
            batch_file(data_dir, "events", event, batch.path) for batch in recorded for event in ("event 0", "event 1")
        ]
        units = Counter(unit for file in files for unit in pq.read_table(file).column("unit_id").to_pylist())
        assert units == Counter(f"{batch}-{i}" for batch, _ in self.sent for i in range(rows))
        assert all((batch.accepted, batch.rejected) == (rows, BAD) for batch in recorded)
        letters = {data_dir / FOLDER / str(batch.dead_letters) for batch in recorded}
        assert all(path.read_text().count("\n") == BAD for path in letters)
        sweep_scratch(data_dir, younger_than_seconds=0)
        assert {path for path in data_dir.rglob("*") if path.is_file()} == {*files, *letters}


@pytest.fixture
def sender(sqlite_url: str, tmp_path: Path) -> Iterator[Sender]:
    command = [sys.executable, "-m", "tests.warehouse.ingest_until_killed"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # A process that forks should have one thread: numpy's library would start others.
    one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=REPOSITORY, env=one_thread, text=True, **pipes) as process:
        yield Sender(sqlite_url, tmp_path, process)
        process.stdin.close()  # type: ignore[union-attr]  # it is a pipe


async def test_a_batch_is_in_once_at_whatever_step_its_process_was_killed(sender: Sender) -> None:
    steps = int(sender.suffer("undisturbed"))
    killed = [sender.suffer(f"step {step}", steps=step) for step in range(1, steps, max(1, steps // 5))]
    assert killed.count("killed") >= 4
    sender.send_again()
    assert sweep_scratch(sender.folder / "data") == 0, "what may be in use stays"
    await sender.check()


@pytest.mark.chaos
async def test_batches_are_in_once_after_kills_at_every_step_and_at_random_moments(sender: Sender) -> None:
    rows = 2_000
    steps = int(sender.suffer("undisturbed", rows))
    for step in range(1, steps + 1):
        sender.suffer(f"step {step}", rows, steps=step)
    moments = Moments(random.Random(5), 0.25)
    for i in range(80):
        moment = moments.another()
        moments.came(moment, in_time=sender.suffer(f"moment {i}", rows, seconds=moment) == "killed")
    assert moments.killed > 20
    sender.send_again()
    await sender.check(rows)
