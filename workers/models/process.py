"""The worker's half of a model process: spawned at first use, and again after it ended, however that came about.

Spawned, never forked: PyMC and the sampler start threads. Every request is answered in the end, if only by the reason
why not; whoever lets go of one, or sets it a limit, may rely on its computation ending within `GRACE_SECONDS`: it is
asked to, and when it does not, the process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import pickle
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from workers.models.messages import Begun, Cancel, Cancelled, Progress, Reply, Request
from workers.processes import describe_exit, end, limit_threads, listen, start

GRACE_SECONDS: Final = 0.8
"""From asking a computation to end to killing its process."""


class ProcessDied(Exception):
    """The process ended while it had the request; the message says how."""


class NoAnswer(Exception):
    """The time of the request was over; the message says how much it had."""


@dataclass(slots=True)
class Work:
    """A request under way. `answered` gets the reply's body, `ProcessDied` or `NoAnswer`; never cancel it."""

    number: int
    answered: asyncio.Future[Any]
    complaint: str
    progress: Callable[[float], None]
    limit_seconds: float
    _process: _Running
    _overdue: str = ""
    _timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def cancel(self) -> None:
        """Let the computation end; `answered` says when it has."""
        if not self.answered.done():
            self._process.post(Cancel(self.number))
            self._after(GRACE_SECONDS, self._process.process.kill)

    def begins_within(self, seconds: float) -> None:
        """How long what must be there first may take: the process itself, a program that it compiles."""
        self._after(seconds, lambda: self._end(f"the model was not ready within {seconds:g} seconds"))

    def begun(self) -> None:
        """The time of the work itself runs from here."""
        self._stop_timers()
        seconds = self.limit_seconds
        self._after(seconds, lambda: self._end(f"the model {self.complaint} within {seconds:g} seconds"))

    def settle(self, body: Any) -> None:
        """The last word: a body, or the exception to raise."""
        self._stop_timers()
        if self.answered.done():
            return
        if self._overdue and isinstance(body, (Cancelled, ProcessDied)):
            body = NoAnswer(self._overdue)
        if isinstance(body, Exception):
            self.answered.set_exception(body)
            self.answered.exception()  # whoever asked may be gone
        else:
            self.answered.set_result(body)

    def _end(self, reason: str) -> None:
        self._overdue = reason
        self.cancel()

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, do))

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


class _Running:
    """A process, and what it has been asked."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self.process = process
        self.works: dict[int, Work] = {}
        self.over = False
        self._connection = connection
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def post(self, message: Any) -> None:
        """Send a message; never blocks. One that cannot be sent is noticed as the end of the process."""
        self._outbox.put(message)

    async def listen(self) -> None:
        """Until the process ends, and then until it is collected."""
        messages: asyncio.Queue[Any] = asyncio.Queue()
        listen(self._connection, messages)
        while (message := await messages.get()) is not None:
            self._hear(message)
        self.over = True
        await asyncio.to_thread(end, self.process)
        self.post(None)
        await asyncio.to_thread(self._writer.join)
        self._connection.close()
        how = describe_exit(self.process)
        for work in list(self.works.values()):
            work.settle(ProcessDied(f"the process of the model ended: {how}"))
        self.works.clear()
        self.process.close()

    def _hear(self, message: Any) -> None:
        work = self.works.get(message.number)
        if work is None:
            return
        match message:
            case Begun():
                work.begun()
            case Progress(_, fraction):
                work.progress(fraction)
            case Reply(number, body):
                del self.works[number]
                work.settle(body)

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            with contextlib.suppress(OSError):
                self._connection.send(message)


class ModelProcess:
    """One process that answers requests, started by the first of them. Use it from one event loop."""

    def __init__(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        """The process runs `target(connection, *arguments)`, which are pickled."""
        self._name = name
        self._target = target
        self._arguments = arguments
        self._numbers = count(1)
        self._starting = asyncio.Lock()
        self._running: _Running | None = None
        self._listeners: set[asyncio.Task[None]] = set()

    @property
    def process_id(self) -> int | None:
        """The process now in use, if there is one."""
        return None if self._running is None or self._running.over else self._running.process.pid

    async def ask(
        self,
        work: Any,
        complaint: str,
        *,
        begins_within: float,
        limit_seconds: float,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> Work:
        """Send work to the process, started if need be; see `Work` for what becomes of it. Raises ProcessDied.

        `complaint` says what the model failed to do when the time is over.
        """
        payload = await asyncio.to_thread(pickle.dumps, work)
        try:
            running = await self._ready()
        except OSError as error:
            raise ProcessDied(f"no process for models could be started: {error}") from error
        number = next(self._numbers)
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asked = Work(number, answered, complaint, progress, limit_seconds, running)
        asked.begins_within(begins_within)
        running.works[number] = asked
        running.post(Request(number, payload))
        return asked

    async def stop(self) -> None:
        """End the process; the next request starts another one."""
        running, self._running = self._running, None
        if running is not None and not running.over:
            running.process.kill()
        await asyncio.gather(*self._listeners, return_exceptions=True)

    async def _ready(self) -> _Running:
        async with self._starting:
            if self._running is None or self._running.over:
                spawning = asyncio.ensure_future(asyncio.to_thread(self._spawn))
                try:
                    self._running = _Running(*await asyncio.shield(spawning))
                except asyncio.CancelledError:
                    process, connection = await spawning
                    await asyncio.to_thread(end, process)
                    connection.close()
                    raise
                listener = asyncio.ensure_future(self._running.listen())
                self._listeners.add(listener)
                listener.add_done_callback(self._listeners.discard)
            return self._running

    def _spawn(self) -> tuple[BaseProcess, Connection]:
        limit_threads()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        process = context.Process(
            target=self._target, args=(theirs, *self._arguments), daemon=True, name=f"northlift-{self._name}"
        )
        try:
            start(process)
        finally:
            theirs.close()
        return process, ours
