"""A worker process: listens to the queue, holds leases, reconciles, schedules. Computation happens in its children.

arq is a doorbell here and nothing else. Its job may be delivered twice, late or never; the claim on the database row
decides. When Redis goes away the analyses in progress go on and commit, and listening is taken up again when it is
back. SIGTERM and SIGINT hand every lease back before the process ends.
"""

import asyncio
import contextlib
import signal
import threading
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from arq.worker import Retry, Worker, func
from prometheus_client import start_http_server

from experiments.database import Database
from experiments.settings import Settings
from workers.child import warm
from workers.kinds import Kinds
from workers.models.catalogue import bundle_folder
from workers.models.pool import ModelPool
from workers.queue import FUNCTION, QUEUE, QUEUE_ERRORS, Bell, connect, deserialize, serialize
from workers.reconcile import Reconciler
from workers.run import Interrupted, Runner
from workers.schedule import Scheduler
from workers.upkeep import Upkeep

RECONNECT_SECONDS = 0.5
# arq counts deliveries of a job; how often an analysis is attempted is for its row to say.
MAX_DELIVERIES = 1000

log = structlog.get_logger(__name__)


def work(settings: Settings, *, kinds: Kinds | None = None, ready: Callable[[], None] | None = None) -> None:
    """Run a worker until SIGTERM or SIGINT: the entry point of the command line. `kinds` defaults to all of ours."""
    if kinds is None:
        from workers.preparation import KINDS

        kinds = KINDS
    with contextlib.suppress(asyncio.CancelledError):  # a signal is the proper way to end
        asyncio.run(serve(settings, kinds=kinds, handle_signals=True, ready=ready))


async def serve(
    settings: Settings,
    *,
    kinds: Kinds,
    handle_signals: bool = False,
    ready: Callable[[], None] | None = None,
) -> None:
    """Run a worker until it is cancelled (or signalled). `ready` is called once it takes work."""
    if handle_signals:
        _cancel_on_signal()
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port)
    database = Database(settings.database_url, synchronous=settings.sqlite_synchronous)
    bell = Bell(settings.redis_url)
    models = ModelPool(
        folder=bundle_folder(settings.model_cache_dir),
        fit_seconds=settings.model_timeout_seconds,
        memory_bytes=settings.model_memory_mb * 1024 * 1024,
    )
    runner = Runner(database, settings, kinds, answer=models.answer, retry=bell.ring)
    reconciler = Reconciler(
        database, settings.redis_url, period=settings.reconcile_seconds, lease_seconds=settings.lease_seconds
    )
    scheduler = Scheduler(database, settings, bell)
    background = [
        asyncio.create_task(reconciler.forever(), name="reconciler"),
        asyncio.create_task(scheduler.forever(), name="scheduler"),
        asyncio.create_task(Upkeep(settings).forever(), name="upkeep"),
        asyncio.create_task(_listen(settings, runner, ready), name="listener"),
    ]
    if settings.warm_models:
        models.warm_in_background()
    log.info("worker_started", slots=settings.worker_slots, kinds=sorted(kinds))
    try:
        # None of these ends by itself: the first to do so has a fault, and the worker must not live on without it.
        done, _ = await asyncio.wait(background, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await runner.stop()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await models.close()
        with contextlib.suppress(*QUEUE_ERRORS):
            await reconciler.close()
            await bell.close()
        await database.dispose()
        log.info("worker_stopped")


async def _listen(settings: Settings, runner: Runner, ready: Callable[[], None] | None) -> None:
    """Take jobs from the queue for ever, through any number of Redis deaths."""

    async def run_analysis(ctx: dict[str, Any], analysis_id: str) -> None:
        try:
            await runner.run(uuid.UUID(analysis_id))
        except Interrupted:
            raise Retry from None  # arq keeps the job, so that another worker gets it at once

    function = func(
        run_analysis,
        name=FUNCTION,
        # The real limit is the runner's. This one only bounds how long a dead worker's mark stays in Redis.
        timeout=settings.analysis_timeout_seconds + 2 * settings.lease_seconds,
        keep_result=0,
        max_tries=MAX_DELIVERIES,
    )
    await _warm_up()
    while True:
        worker: Worker | None = None
        try:
            pool = await connect(settings.redis_url)
            worker = Worker(
                functions=[function],
                queue_name=QUEUE,
                redis_pool=pool,
                handle_signals=False,
                max_jobs=settings.worker_slots,
                poll_delay=0.05,
                health_check_interval=10,
                job_serializer=serialize,
                job_deserializer=deserialize,
                log_results=False,
            )
            if ready is not None:
                ready()
                ready = None
            await worker.async_run()
        except QUEUE_ERRORS as error:
            log.warning("queue_lost", error=type(error).__name__, detail=str(error))
            await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            if worker is not None:
                await _leave(worker)


async def _warm_up() -> None:
    """Let the fork server import the numeric modules, seconds on a busy machine, before any analysis is claimed.

    In a thread of our own: those of the event loop's executor are waited for when the worker is told to end.
    """
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def warm_and_tell() -> None:
        warm()
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=warm_and_tell, daemon=True).start()
    await done.wait()


async def _leave(worker: Worker) -> None:
    """Let arq tell Redis what became of its jobs, for a moment; nothing depends on it."""
    if worker.tasks:
        await asyncio.wait(list(worker.tasks.values()), timeout=1.0)
    closing = asyncio.ensure_future(worker.close())
    await asyncio.wait({closing}, timeout=1.0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)


def _cancel_on_signal() -> None:
    """SIGTERM and SIGINT cancel the calling task, once: a second one must not interrupt the handing back of leases."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            task.cancel()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop)
