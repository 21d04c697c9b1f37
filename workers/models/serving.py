"""The child's half of a model process: receives on the main thread, works on others, so that it always listens."""

from __future__ import annotations

import os
import pickle
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from stats.bayes.sampling.contract import FitCancelled
from workers.models.messages import Begun, Cancel, Cancelled, Failed, Progress, Reply, Request


class Line:
    """What one piece of work may say while it runs, and whether anybody still wants it."""

    def __init__(self, number: int, send: Callable[[Any], None]) -> None:
        self._number = number
        self._send = send
        self._unwanted = threading.Event()

    def begin(self) -> None:
        """What must be there first is there; the time of the work runs from here."""
        self._send(Begun(self._number))

    def progress(self, fraction: float) -> None:
        """Say how much is done."""
        self._send(Progress(self._number, fraction))

    def cancelled(self) -> bool:
        """Whether the work should end."""
        return self._unwanted.is_set()

    def cancel(self) -> None:
        """Ask for its end."""
        self._unwanted.set()


def serve(
    connection: Connection,
    work: Callable[[Any, Line], Any],
    *,
    patience_seconds: Callable[[], float | None] = lambda: None,
) -> None:
    """Answer requests, several at once, until the worker is gone or, idle, for `patience_seconds`.

    Whoever sends a request while we leave sees that we are gone, and starts another process.
    """
    sending = threading.Lock()
    lines: dict[int, Line] = {}

    def send(message: Any) -> None:
        with sending:
            connection.send(message)

    def answer(request: Request, line: Line) -> None:
        try:
            body = work(pickle.loads(request.work), line)
        except FitCancelled:
            body = Cancelled()
        except BaseException as error:  # noqa: BLE001 - a panic of the sampler is no Exception, and must be heard of
            traceback.print_tb(error.__traceback__)  # without the message, which may quote somebody's data
            body = Failed(f"{type(error).__name__}: {error}"[:200])
        send(Reply(request.number, body))
        del lines[request.number]  # only now: without work under way we may leave

    try:
        while True:
            if not connection.poll(patience_seconds()):
                if not lines:
                    return
                continue
            message = connection.recv()
            if isinstance(message, Request):
                line = lines[message.number] = Line(message.number, send)
                threading.Thread(target=answer, args=(message, line), daemon=True).start()
            elif isinstance(message, Cancel) and (known := lines.get(message.number)) is not None:
                known.cancel()
    except (EOFError, OSError):
        os._exit(0)  # the interpreter's own exit crashes when a sampler still runs


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
