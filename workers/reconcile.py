"""The reconciler: makes the queue agree with the database, which is the truth.

A background task of every worker, not a job of the queue: jobs share the worker's slots, so a reconciling job would
starve exactly when it is needed. It reads first; the common case takes no write lock.
"""

import asyncio
import time
import uuid

import structlog
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix
from sqlalchemy.exc import SQLAlchemyError

from experiments import recovery
from experiments.database import Database
from experiments.types import utc_now
from workers import telemetry
from workers.queue import FUNCTION, QUEUE, QUEUE_ERRORS, connect, job_id

log = structlog.get_logger(__name__)

type Waiting = tuple[uuid.UUID, int]


class Reconciler:
    """Rings for every analysis that waits and that the queue does not know; takes back what dead workers held."""

    def __init__(self, database: Database, redis_url: str, *, period: float, lease_seconds: float) -> None:
        self._database = database
        self._redis_url = redis_url
        self._period = period
        self._lease_seconds = lease_seconds
        self._pool: ArqRedis | None = None
        self._first_seen: dict[Waiting, float] = {}

    async def forever(self) -> None:
        """Reconcile now and after every period, whatever is down at the moment."""
        while True:
            try:
                await self.once()
            except SQLAlchemyError as error:
                log.warning("reconciler_without_database", error=type(error).__name__)
            except QUEUE_ERRORS as error:
                log.warning("reconciler_without_queue", error=type(error).__name__, detail=str(error))
            await asyncio.sleep(self._period)

    async def once(self) -> int:
        """One round; how many bells were rung."""
        waiting = await self._waiting()
        telemetry.WAITING.set(len(waiting))
        if not waiting:
            self._first_seen.clear()
            return 0
        if self._pool is None:
            self._pool = await connect(self._redis_url, retries=2)
        rung = await self._ring_missing(self._pool, waiting)
        await self._break_stale_locks(self._pool, waiting)
        return rung

    async def close(self) -> None:
        """Let go of the queue."""
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None

    async def _waiting(self) -> list[Waiting]:
        now = utc_now()
        async with self._database.read() as session:
            expired = await recovery.any_expired(session, at=now)
        if expired:
            async with self._database.write() as session:
                reclaimed = await recovery.reclaim_expired(session, at=now)
            for outcome in ("queued", "failed", "cancelled"):
                ids: tuple[uuid.UUID, ...] = getattr(reclaimed, outcome)
                telemetry.RECLAIMED.labels(outcome).inc(len(ids))
                if ids:
                    log.warning("leases_expired", outcome=outcome, analyses=[str(each) for each in ids])
        async with self._database.read() as session:
            return await recovery.queued_ids(session)

    async def _ring_missing(self, pool: ArqRedis, waiting: list[Waiting]) -> int:
        async with pool.pipeline(transaction=True) as pipe:
            for each in waiting:
                pipe.zscore(QUEUE, job_id(*each))
                pipe.exists(job_key_prefix + job_id(*each))
            answers = await pipe.execute()
        rung = 0
        for each, listed, has_body in zip(waiting, answers[::2], answers[1::2], strict=True):
            if listed is not None and has_body:
                continue
            if has_body:  # a job that no worker will ever pick would also block its own return
                await pool.delete(job_key_prefix + job_id(*each))
            if await pool.enqueue_job(FUNCTION, str(each[0]), _job_id=job_id(*each)) is not None:
                rung += 1
        if rung:
            telemetry.RUNG.inc(rung)
            log.info("bells_rung_again", analyses=rung)
        return rung

    async def _break_stale_locks(self, pool: ArqRedis, waiting: list[Waiting]) -> None:
        """arq marks a job as in progress until its longest run time has passed. A worker that died between picking

        the job and claiming the row leaves that mark, and the row would wait for minutes. Picking and claiming are
        milliseconds apart, so a row that has waited for a whole lease under a mark is not being worked on; should it
        be after all, the claim decides.
        """
        now = time.monotonic()
        self._first_seen = {each: self._first_seen.get(each, now) for each in waiting}
        overdue = [each for each, since in self._first_seen.items() if now - since >= self._lease_seconds]
        if overdue:
            await pool.delete(*(in_progress_key_prefix + job_id(*each) for each in overdue))
