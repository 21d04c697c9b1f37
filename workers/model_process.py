"""The process that keeps PyMC's compiled segment model: one per worker, because compiling costs 10-20 CPU seconds.

It is spawned, never forked (PyMC and its libraries start threads), fits one model at a time and is told to stop by a
message. One that does not answer is killed and started again at the next use. A model that cannot be fitted costs only
itself: its document says `unreliable` and why, and the analysis goes on.
"""

import asyncio
import contextlib
import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import structlog

from experiments.evidence import SegmentRequest, model_without_numbers
from experiments.result import SegmentModel
from workers import telemetry
from workers.model_fits import Cancel, Fit, Fitted, Ready, run
from workers.processes import describe_exit, end, limit_threads, listen, start

COMPILE_SECONDS: Final = 300.0
# The share of what is left of an analysis's time that its models may take: the rest of it must still be handed in.
_SHARE: Final = 0.8

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SegmentQuestion:
    """What a child asks its worker: the models of one analysis. The answer is one `SegmentModel` per request."""

    requests: tuple[SegmentRequest, ...]
    seed: int


class ModelUnavailable(Exception):
    """The process died, did not start or did not answer in time; the message is for the result document."""


@dataclass(slots=True)
class _Running:
    process: BaseProcess
    connection: Connection
    messages: "asyncio.Queue[Any]"
    ready: bool = False


def model_cache_dir() -> Path:
    """Where compiled kernels are kept between worker starts: the user's cache folder, never the repository."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "northlift" / "pytensor"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home: compiled kernels then live as long as the machine's temporary files
        folder = Path(tempfile.gettempdir()) / f"northlift-pytensor-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


class ModelProcess:
    """Fits segment models in a process that outlives the analyses. Use it from one event loop."""

    def __init__(
        self, *, fit_seconds: float, cache_dir: Path, compile_seconds: float = COMPILE_SECONDS, entry: str = ""
    ) -> None:
        """`entry` ("module:function") replaces the segment model: to see what happens when a model misbehaves."""
        self._fit_seconds = fit_seconds
        self._compile_seconds = compile_seconds
        self._cache_dir = cache_dir
        self._entry = entry
        self._lock = asyncio.Lock()
        self._running: _Running | None = None
        self._number = 0
        self._warming: asyncio.Task[None] | None = None

    async def answer(self, question: SegmentQuestion, seconds: float) -> list[SegmentModel]:
        """One document per request, in order; whatever happens, within `seconds`."""
        models: list[SegmentModel] = []
        problem = "the analysis had no time left for its segment models"
        try:
            async with asyncio.timeout(max(_SHARE * seconds, 0.0)), self._lock:
                for request in question.requests:
                    models.append(await self._fit(request, question.seed))
        except ModelUnavailable as unavailable:
            problem = str(unavailable)
        except TimeoutError:
            pass
        lost = question.requests[len(models) :]
        if lost:
            log.warning("segment_models_missing", models=len(lost), reason=problem)
        models += [model_without_numbers(request, "unreliable", problem) for request in lost]
        for model in models:
            telemetry.MODEL_FITS.labels(model.status).inc()
        return models

    def warm_in_background(self) -> None:
        """Start and compile now, so that the first analysis need not wait."""
        self._warming = asyncio.ensure_future(self._warm())

    async def close(self) -> None:
        """End the process."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        await self._kill()

    @property
    def process_id(self) -> int | None:
        """The process now in use, if there is one."""
        return None if self._running is None else self._running.process.pid

    async def _warm(self) -> None:
        try:
            async with self._lock:
                await self._ready()
        except ModelUnavailable as error:
            log.warning("segment_model_not_ready", reason=str(error))

    async def _fit(self, request: SegmentRequest, seed: int) -> SegmentModel:
        running = await self._ready()
        self._number += 1
        number = self._number
        try:
            async with asyncio.timeout(self._fit_seconds) as limit:
                await asyncio.to_thread(running.connection.send, Fit(number, request, seed))
                while True:
                    message = await running.messages.get()
                    if message is None:
                        raise await self._gone("the sampling process died")
                    if isinstance(message, Fitted) and message.number == number and message.model is not None:
                        return message.model
        except asyncio.CancelledError:
            # Sampling stops by itself within its next poll; if not, the next fit finds out and kills the process.
            with contextlib.suppress(OSError):
                running.connection.send(Cancel(number))
            raise
        except TimeoutError:
            if not limit.expired():
                raise
            await self._kill()
            raise ModelUnavailable(f"the model gave no answer within {self._fit_seconds:g} seconds") from None
        except OSError as error:
            raise await self._gone("the sampling process is gone") from error

    async def _ready(self) -> _Running:
        """The process, started and with its model compiled. Raises ModelUnavailable."""
        if self._running is not None and not self._running.process.is_alive():
            await self._kill()
        if self._running is None:
            starting = asyncio.ensure_future(asyncio.to_thread(self._spawn))
            try:
                process, connection = await asyncio.shield(starting)
            except asyncio.CancelledError:
                process, connection = await starting
                await asyncio.to_thread(end, process)
                raise
            messages: asyncio.Queue[Any] = asyncio.Queue()
            listen(connection, messages)
            self._running = _Running(process, connection, messages)
        running = self._running
        try:
            async with asyncio.timeout(self._compile_seconds) as limit:
                while not running.ready:
                    message = await running.messages.get()
                    if message is None:
                        raise await self._gone("the segment model could not be compiled")
                    if isinstance(message, Ready):
                        running.ready = True
                        log.info("segment_model_ready", seconds=round(message.seconds, 1))
        except TimeoutError:
            if not limit.expired():
                raise
            await self._kill()
            raise ModelUnavailable(f"the model was not compiled within {self._compile_seconds:g} seconds") from None
        return running

    def _spawn(self) -> tuple[BaseProcess, Connection]:
        limit_threads()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        process = context.Process(
            target=run, args=(theirs, str(self._cache_dir), self._entry), daemon=True, name="northlift-models"
        )
        start(process)
        theirs.close()
        return process, ours

    async def _gone(self, what: str) -> ModelUnavailable:
        running = self._running
        if running is None:
            return ModelUnavailable(what)
        await asyncio.to_thread(running.process.join, 1.0)
        how = describe_exit(running.process)
        await self._kill()
        return ModelUnavailable(f"{what}: {how}")

    async def _kill(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await asyncio.to_thread(end, running.process)
            running.connection.close()
