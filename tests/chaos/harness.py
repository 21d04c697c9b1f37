"""Kills workers and Redis at random while analyses run, and then counts what became of every single one.

Everything is real: worker processes, their children, a Valkey server without persistence, the database, and an API
that sometimes dies between its commit and the bell. Only the computation is small (`tests.workers.tiny`).
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from sqlmodel import col

from experiments import analysis
from experiments.database import Database
from experiments.tables import Analysis, Result
from experiments.types import utc_now
from tests.patience import LONG
from tests.servers import REPOSITORY
from tests.workers.tiny import expected
from workers.embedded import EmbeddedValkey, start_valkey
from workers.queue import Bell

AS_OF = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ordeal:
    """How much work there is and how much goes wrong meanwhile."""

    jobs: int
    seed: int
    workers: int = 3
    worker_kills: int = 14
    redis_kills: int = 9
    lease_seconds: float = 4.0
    max_attempts: int = 30
    """Here kills are the point: an analysis may be hit many times without being poison."""
    patience_seconds: float = 120.0
    """The run is given up when nothing has finished for so long."""


@dataclass(slots=True)
class Outcome:
    """What happened, and what became of the analyses."""

    database: str
    ordeal: Ordeal
    seconds: float = 0.0
    sigkills: int = 0
    sigterms: int = 0
    redis_kills: int = 0
    api_crashes: int = 0
    rings_failed: int = 0
    lost: int = 0
    committed_twice: int = 0
    wrong: int = 0
    retried: int = 0
    states: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Worker:
    process: Process
    ready: asyncio.Event


class Chaos:
    """One run."""

    def __init__(self, database_url: str, ordeal: Ordeal, directory: Path) -> None:
        self._url = database_url
        self._ordeal = ordeal
        self._directory = directory
        self._random = random.Random(ordeal.seed)
        self._database = Database(database_url, synchronous="OFF")
        self._outcome = Outcome("SQLite" if self._database.is_sqlite else "PostgreSQL", ordeal)
        self._workers: list[_Worker] = []
        self._readers: set[asyncio.Task[None]] = set()
        self._valkey: EmbeddedValkey = start_valkey(directory / "redis")
        self._redis_url = self._valkey.url
        self._log: IO[bytes] = (directory / "workers.log").open("ab")
        self._submitted = asyncio.Event()

    async def run(self) -> Outcome:
        """Submit, kill, wait for the end, count."""
        begun = time.monotonic()
        try:
            for _ in range(self._ordeal.workers):
                self._workers.append(await self._start_worker())
            await self._workers[0].ready.wait()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._submit())
                group.create_task(self._kill_workers())
                group.create_task(self._kill_redis())
            await self._settle()
            self._outcome.seconds = time.monotonic() - begun
            await self._count()
        finally:
            await self._clean_up()
        return self._outcome

    # --- the world ----------------------------------------------------------------------------------------------------

    async def _start_worker(self) -> _Worker:
        environment = {
            **os.environ,
            "NORTHLIFT_DATABASE_URL": self._url,
            "NORTHLIFT_REDIS_URL": self._redis_url,
            "NORTHLIFT_DATA_DIR": str(self._directory / "data"),
            "NORTHLIFT_LEASE_SECONDS": str(self._ordeal.lease_seconds),
            "NORTHLIFT_WARM_MODELS": "false",
            "NORTHLIFT_SQLITE_SYNCHRONOUS": "NORMAL",
            "NORTHLIFT_ANALYSIS_TIMEOUT_SECONDS": "120",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.worker",
            cwd=REPOSITORY,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
        )
        worker = _Worker(process, asyncio.Event())
        reader = asyncio.create_task(self._listen(worker))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return worker

    async def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        async for line in worker.process.stdout:
            self._log.write(line)
            if line.strip() == b"ready":
                worker.ready.set()

    async def _submit(self) -> None:
        """The API: commit the row, then ring, unless it dies in between (about one in ten) or Redis is down."""
        bell = Bell(self._redis_url, timeout=0.5)
        crashing = set(self._random.sample(range(self._ordeal.jobs), max(1, self._ordeal.jobs // 10)))
        for number in range(self._ordeal.jobs):
            plan = {"kind": "tiny", "name": f"job-{number}", "seconds": round(self._random.uniform(0.05, 1.0), 3)}
            async with self._database.write() as session:
                row, created = await analysis.submit(
                    session,
                    kind="tiny",
                    subject_key=f"job-{number}",
                    experiment_id=None,
                    plan_document=plan,
                    data_as_of=AS_OF,
                    seed=number,
                    requested_by="chaos",
                    at=utc_now(),
                    max_attempts=self._ordeal.max_attempts,
                )
            assert created
            if number in crashing:
                self._outcome.api_crashes += 1
                await bell.close()
                bell = Bell(self._redis_url, timeout=0.5)
            elif not await bell.ring(row.id):
                self._outcome.rings_failed += 1
            await asyncio.sleep(self._random.uniform(0.0, 0.1))
        await bell.close()
        self._submitted.set()

    async def _kill_workers(self) -> None:
        for kill in range(self._ordeal.worker_kills):
            await asyncio.sleep(self._random.uniform(0.5, 2.0))
            position = await self._a_ready_worker()
            victim = self._workers[position]
            gently = self._random.random() < 0.2 if self._ordeal.worker_kills > 2 else kill == 1
            if gently:
                self._outcome.sigterms += 1
                victim.process.send_signal(signal.SIGTERM)
            else:
                self._outcome.sigkills += 1
                victim.process.kill()
            async with asyncio.timeout(LONG):
                await victim.process.wait()
            self._workers[position] = await self._start_worker()

    async def _a_ready_worker(self) -> int:
        while True:
            ready = [i for i, worker in enumerate(self._workers) if worker.ready.is_set()]
            if ready:
                return self._random.choice(ready)
            await asyncio.sleep(0.1)

    async def _kill_redis(self) -> None:
        for _ in range(self._ordeal.redis_kills):
            await asyncio.sleep(self._random.uniform(0.5, 3.0))
            self._outcome.redis_kills += 1
            self._valkey.process.kill()
            self._valkey.process.wait()
            await asyncio.sleep(self._random.uniform(0.2, 2.5))
            self._valkey = start_valkey(self._directory / "redis")

    # --- the reckoning ------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Until every analysis is over, or nothing moves any more."""
        finished, since = -1, time.monotonic()
        while time.monotonic() - since < self._ordeal.patience_seconds:
            async with self._database.read() as session:
                over = col(Analysis.state).in_(analysis.FINAL)
                count = (
                    await session.execute(sa.select(sa.func.count()).select_from(Analysis).where(over))
                ).scalar_one()
            if count == self._ordeal.jobs:
                return
            if count != finished:
                finished, since = count, time.monotonic()
            await asyncio.sleep(0.25)

    async def _count(self) -> None:
        # A worker that was fenced off may still be about to try: give it the time of a lease.
        await asyncio.sleep(timedelta(seconds=1).total_seconds())
        async with self._database.read() as session:
            rows = list((await session.execute(sa.select(Analysis))).scalars())
            results = {row.id: row for row in (await session.execute(sa.select(Result))).scalars()}
        outcome = self._outcome
        assert len(rows) == self._ordeal.jobs
        for row in rows:
            outcome.states[row.state] = outcome.states.get(row.state, 0) + 1
            outcome.retried += row.attempt > 1
            stored = None if row.result_id is None else results.get(row.result_id)
            if row.state != "succeeded" or stored is None:
                outcome.lost += 1
            elif stored.body != expected(row.plan, row.seed):
                outcome.wrong += 1
        outcome.committed_twice = len(results) - outcome.states.get("succeeded", 0)

    async def _clean_up(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        for worker in self._workers:
            try:
                async with asyncio.timeout(20):
                    await worker.process.wait()
            except TimeoutError:
                worker.process.kill()
                await worker.process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._valkey.stop()
        self._log.close()
        await self._database.dispose()
