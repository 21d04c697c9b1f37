"""Runs analyses: claim, hold the lease while a child computes, hand in. Owns no queue: it is told which id to try."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from experiments import lease
from experiments.database import Database
from experiments.errors import DomainError
from experiments.lease import HeartbeatAnswer, StoredResult
from experiments.settings import Settings
from experiments.tables import Analysis
from experiments.types import utc_now
from experiments.version import code_version
from workers import telemetry
from workers.child import Answer, ComputationCrashed, ComputationFailed, Job, compute
from workers.kinds import Kinds

WATCH_SECONDS = 0.4
"""How often a running analysis asks whether it was cancelled."""
PROGRESS_SECONDS = 1.0
"""Progress is written at most this often; it goes with a heartbeat."""
DATABASE_ERRORS = (SQLAlchemyError, OSError)

log = structlog.get_logger(__name__)


class Interrupted(Exception):
    """The worker is stopping: the analysis was handed back."""


class _LeaseLost(Exception):
    """Someone else has the analysis, or nobody can tell us that we still have it."""


class _CancelRequested(Exception):
    """Someone asked to cancel the analysis."""


@dataclass(slots=True)
class _Held:
    """An analysis this worker owns."""

    row: Analysis
    owner: str
    renewed: float
    stage: str = "preparing"
    fraction: float = 0.0
    written: tuple[str, float] = ("claimed", 0.0)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def token(self) -> dict[str, Any]:
        return {"analysis_id": self.row.id, "owner": self.owner, "attempt": self.row.attempt}


class Runner:
    """The analyses of one worker process; at most `settings.worker_slots` at once."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        kinds: Kinds,
        answer: Answer,
        retry: Callable[[uuid.UUID, int], Awaitable[Any]],
    ) -> None:
        """`answer`: see `child.compute`. `retry` is told (id, attempt) of what went back to the queue."""
        self._database, self._settings, self._kinds = database, settings, kinds
        self._answer, self._retry = answer, retry
        self._slots = asyncio.Semaphore(settings.worker_slots)
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self, analysis_id: uuid.UUID) -> None:
        """Run one analysis to its end; does nothing when there is nothing to take. Raises Interrupted by `stop`."""
        if self._stopping:
            raise Interrupted
        task = asyncio.ensure_future(self._run(analysis_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            # Shielded: the queue's own cancellation must not take an analysis from us; only `stop` does.
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Interrupted from None
            raise

    async def stop(self) -> None:
        """Stop computing and hand back every lease, so that other workers need not wait for it to expire."""
        self._stopping = True
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, analysis_id: uuid.UUID) -> None:
        async with self._slots:
            owner = f"{socket.gethostname()[:48]}:{os.getpid()}:{uuid.uuid4().hex[:16]}"
            begun = time.monotonic()
            claiming = asyncio.ensure_future(self._claim(analysis_id, owner))
            try:
                row = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                row = await claiming
                if row is not None:
                    await self._hand_back(_Held(row, owner, begun))
                raise
            except DATABASE_ERRORS as error:  # the row is still queued: the reconciler rings again
                log.warning("not_claimed", analysis_id=str(analysis_id), error=type(error).__name__)
                return
            if row is None:
                return
            with telemetry.RUNNING.track_inprogress():
                held = _Held(row, owner, begun)
                outcome = await self._hold(held)
            telemetry.ANALYSES.labels(row.kind, outcome).inc()
            telemetry.SECONDS.labels(row.kind).observe(time.monotonic() - begun)
            log.info(
                "analysis_done",
                analysis_id=str(row.id),
                kind=row.kind,
                subject=row.subject_key,
                attempt=row.attempt,
                outcome=outcome,
                seconds=round(time.monotonic() - begun, 3),
            )

    async def _claim(self, analysis_id: uuid.UUID, owner: str) -> Analysis | None:
        async with self._database.write() as session:
            return await lease.claim(
                session,
                analysis_id=analysis_id,
                owner=owner,
                lease_seconds=self._settings.lease_seconds,
                at=utc_now(),
            )

    async def _hold(self, held: _Held) -> str:
        """Compute under the lease and write down how it ended; the outcome's name."""
        computing = asyncio.ensure_future(self._compute(held))
        keeping = asyncio.ensure_future(self._keep(held))
        try:
            await asyncio.wait({computing, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if not computing.done():
                computing.cancel()
                await asyncio.wait({computing})
                keeping.result()
            result = computing.result()
            return await self._persist(held, lambda session: self._finish(session, held, result))
        except _LeaseLost:
            return "lease_lost"
        except _CancelRequested:
            return await self._persist(held, lambda session: self._cancelled(session, held))
        except asyncio.CancelledError:
            computing.cancel()
            await asyncio.wait({computing})
            await self._hand_back(held)
            raise
        except TimeoutError:
            seconds = self._settings.analysis_timeout_seconds
            error = {
                "type": "timeout",
                "detail": f"the analysis was stopped after {seconds:g} seconds in stage {held.stage!r}",
                "remedy": "raise NORTHLIFT_ANALYSIS_TIMEOUT_SECONDS or analyse fewer metrics and segments",
            }
            return await self._persist(held, lambda session: self._fail(session, held, error, retry=False))
        except ComputationFailed as failure:
            problem = failure.error
            log.warning("analysis_failed", analysis_id=str(held.row.id), type=problem["type"], trace=failure.trace)
            return await self._persist(held, lambda session: self._fail(session, held, problem, retry=False))
        except ComputationCrashed as crash:
            crashed = {"type": "worker-crashed", "detail": str(crash)}
            log.warning("analysis_crashed", analysis_id=str(held.row.id), detail=str(crash))
            outcome = await self._persist(held, lambda session: self._fail(session, held, crashed, retry=True))
            if outcome == "retried":
                await self._retry(held.row.id, held.row.attempt)
            return outcome
        finally:
            # Told, not cancelled: a query that is cut off would cost its connection.
            held.over.set()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _compute(self, held: _Held) -> StoredResult:
        row = held.row
        if row.code_version != code_version():
            log.warning("code_version_differs", analysis_id=str(row.id), asked=row.code_version, ours=code_version())
        kind = self._kinds.get(row.kind)
        if kind is None:
            raise ComputationFailed({"type": "unknown-kind", "detail": f"this worker knows no analyses of {row.kind}"})
        try:
            async with self._database.read() as session:
                payload = await kind.prepare(session, self._settings, row)
        except DomainError as error:
            raise ComputationFailed({"type": error.slug(), "detail": error.detail, "remedy": error.remedy}) from error
        except DATABASE_ERRORS as error:
            raise ComputationCrashed(f"{type(error).__name__} while preparing") from error
        except Exception as error:
            # Such as a plan that this version cannot read: it would be the same at every attempt.
            raise ComputationFailed({"type": type(error).__name__, "detail": str(error)}) from error

        def on_progress(stage: str, fraction: float) -> None:
            held.stage, held.fraction = stage, fraction

        return await compute(
            Job(kind.entry, payload),
            limit_seconds=self._settings.analysis_timeout_seconds,
            on_progress=on_progress,
            answer=self._answer,
        )

    async def _keep(self, held: _Held) -> None:
        """Renew the lease until the analysis is over. Raises _CancelRequested or _LeaseLost."""
        period = self._settings.lease_seconds
        while not await _within(held.over, min(WATCH_SECONDS, period / 3)):
            now = time.monotonic()
            progress = (held.stage, held.fraction)
            due = now - held.renewed >= period / 3
            news = progress != held.written and now - held.renewed >= PROGRESS_SECONDS
            try:
                answer = await (self._beat(held) if due or news else self._look(held))
            except DATABASE_ERRORS as error:
                log.warning("heartbeat_failed", analysis_id=str(held.row.id), error=type(error).__name__)
                if time.monotonic() - held.renewed >= period:
                    raise _LeaseLost from error
                continue
            if not answer.owned:
                raise _LeaseLost
            if due or news:
                held.renewed, held.written = now, progress
            if answer.cancel_requested:
                raise _CancelRequested

    async def _beat(self, held: _Held) -> HeartbeatAnswer:
        async with self._database.write() as session:
            return await lease.heartbeat(
                session,
                **held.token,
                lease_seconds=self._settings.lease_seconds,
                at=utc_now(),
                stage=held.stage,
                fraction=held.fraction,
            )

    async def _look(self, held: _Held) -> HeartbeatAnswer:
        async with self._database.read() as session:
            return await lease.watch(session, **held.token)

    async def _persist(self, held: _Held, write: Callable[[AsyncSession], Awaitable[str]]) -> str:
        """Write the outcome, again and again while the database is away and the lease may still be ours."""

        async def insist() -> str:
            while True:
                try:
                    async with self._database.write() as session:
                        return await write(session)
                except DATABASE_ERRORS as error:
                    log.warning("outcome_not_written", analysis_id=str(held.row.id), error=type(error).__name__)
                    if time.monotonic() - held.renewed >= self._settings.lease_seconds:
                        return "lease_lost"
                    await asyncio.sleep(0.2)

        writing = asyncio.ensure_future(insist())
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing  # we are being stopped, but the work is done: hand it in
            raise

    async def _finish(self, session: AsyncSession, held: _Held, result: StoredResult) -> str:
        stored = await lease.finish(session, **held.token, result=result, at=utc_now())
        return "succeeded" if stored else "lease_lost"

    async def _cancelled(self, session: AsyncSession, held: _Held) -> str:
        row = await lease.mark_cancelled(session, **held.token, at=utc_now())
        return "lease_lost" if row is None else "cancelled"

    async def _fail(self, session: AsyncSession, held: _Held, error: dict[str, Any], *, retry: bool) -> str:
        row = await lease.fail(session, **held.token, error=error, at=utc_now(), retry=retry)
        if row is None:
            return "lease_lost"
        return "retried" if row.state == "queued" else row.state

    async def _hand_back(self, held: _Held) -> None:
        try:
            async with self._database.write() as session:
                await lease.release(session, **held.token)
        except DATABASE_ERRORS as error:  # the lease will expire instead
            log.warning("lease_not_released", analysis_id=str(held.row.id), error=type(error).__name__)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event comes within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
