"""One analysis, computed in a process of its own that can be killed at any moment.

The worker's event loop stays free for heartbeats, a timeout or a cancelled analysis ends at once whatever native code
is running, and an input that exhausts the memory kills the child, not the worker. Children are forked from a server
that has imported the numeric modules already, so that one starts in milliseconds.

A `Job` names a function `(payload, Channel) -> StoredResult` as "package.module:function".
"""

import asyncio
import contextlib
import functools
import importlib
import multiprocessing
import threading
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from experiments.errors import DomainError
from experiments.lease import StoredResult
from workers.processes import describe_exit, die_with_parent, end, limit_threads, listen, start

PRELOAD: Final = ("numpy", "scipy.special", "duckdb", "workers.jobs")
"""What the fork server imports once. Never PyMC: it starts threads, and a fork would copy only their locks."""
START_SECONDS: Final = 120.0
"""Longest wait for a child: milliseconds, except while the fork server still imports on a machine that is busy."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a child has to do. `payload` is pickled."""

    entry: str
    payload: Any


class ComputationFailed(Exception):
    """The analysis itself is at fault and would be again: `error` {type, detail, remedy?}; `trace` for the log."""

    def __init__(self, error: dict[str, Any], trace: str = "") -> None:
        super().__init__(error["detail"])
        self.error = error
        self.trace = trace


class ComputationCrashed(Exception):
    """The child died, or the machine let it down: worth another attempt."""


@dataclass(frozen=True, slots=True)
class _Progress:
    stage: str
    fraction: float


@dataclass(frozen=True, slots=True)
class _Question:
    question: Any
    stage: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class _Failed:
    error: dict[str, Any]
    trace: str


@dataclass(frozen=True, slots=True)
class _Crashed:
    detail: str


type Answer = Callable[[Any, float, Callable[[float], None]], Awaitable[Any]]
"""Serves what a child asks for: the question, the seconds that are left, and whom to tell the share that is done."""


class Channel:
    """The child's line to its worker."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def progress(self, stage: str, fraction: float) -> None:
        """Say what is being done and how much of the whole is behind us, in [0, 1]."""
        self._connection.send(_Progress(stage, fraction))

    def ask(self, question: Any, *, stage: str, begin: float, end: float) -> Any:
        """Let the worker do something for us (fit compiled models) and wait for its answer.

        Meanwhile the worker moves the progress of `stage` from `begin` to `end`.
        """
        self._connection.send(_Question(question, stage, begin, end))
        return self._connection.recv()


async def compute(
    job: Job,
    *,
    limit_seconds: float,
    on_progress: Callable[[str, float], None],
    answer: Answer,
) -> StoredResult:
    """Run the job in a child. Cancelling this coroutine kills the child.

    `answer` serves what the child asks for, within the seconds that it is told are left; its progress is the child's.

    Raises ComputationFailed, ComputationCrashed, or TimeoutError `limit_seconds` after it started.
    """
    starting = asyncio.ensure_future(asyncio.to_thread(_start, job))
    try:
        async with asyncio.timeout(START_SECONDS) as patience:
            process, connection = await asyncio.shield(starting)
    except (asyncio.CancelledError, TimeoutError) as error:
        starting.add_done_callback(_end_unwanted)
        if patience.expired():
            raise ComputationCrashed(f"no computing process started within {START_SECONDS:g} seconds") from error
        raise
    deadline = asyncio.get_running_loop().time() + limit_seconds
    messages: asyncio.Queue[Any] = asyncio.Queue()
    reader = listen(connection, messages)
    try:
        async with asyncio.timeout_at(deadline):
            return await _converse(process, connection, messages, deadline, on_progress, answer)
    finally:
        await asyncio.shield(asyncio.to_thread(_collect, process, connection, reader))


async def _converse(
    process: BaseProcess,
    connection: Connection,
    messages: asyncio.Queue[Any],
    deadline: float,
    on_progress: Callable[[str, float], None],
    answer: Answer,
) -> StoredResult:
    while True:
        match await messages.get():
            case _Progress(stage, fraction):
                on_progress(stage, fraction)
            case _Question(question, stage, begin, end):
                on_progress(stage, begin)
                report = functools.partial(_report_within, on_progress, stage, begin, end)
                reply = await answer(question, deadline - asyncio.get_running_loop().time(), report)
                with contextlib.suppress(OSError):  # a child that died meanwhile is seen at the next message
                    await asyncio.to_thread(connection.send, reply)
            case StoredResult() as result:
                return result
            case _Failed(error, trace):
                raise ComputationFailed(error, trace)
            case _Crashed(detail):
                raise ComputationCrashed(detail)
            case _:
                await asyncio.to_thread(process.join, 1.0)
                raise ComputationCrashed(f"the computing process ended without a result: {describe_exit(process)}")


def _report_within(
    on_progress: Callable[[str, float], None], stage: str, begin: float, end: float, fraction: float
) -> None:
    on_progress(stage, begin + (end - begin) * fraction)


def warm() -> None:
    """Start the fork server and let it import what children need; blocks, returns when the first child has run."""
    process, connection = _start(Job("workers.child:_nothing", None))
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    end(process)
    connection.close()


def _start(job: Job) -> tuple[BaseProcess, Connection]:
    limit_threads()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=_main, args=(theirs, job), daemon=True, name="northlift-analysis")
    try:
        start(process)
    except (OSError, EOFError) as error:
        ours.close()
        raise ComputationCrashed(f"no computing process could be started: {error}") from error
    finally:
        theirs.close()  # so that reading ends when the child does
    return process, ours


def _end_unwanted(starting: "asyncio.Future[tuple[BaseProcess, Connection]]") -> None:
    if starting.cancelled() or starting.exception() is not None:
        return
    process, connection = starting.result()
    connection.close()
    end(process)


def _collect(process: BaseProcess, connection: Connection, reader: threading.Thread) -> None:
    end(process)
    reader.join(5.0)
    connection.close()
    process.close()


# --- in the child -----------------------------------------------------------------------------------------------------


def _main(connection: Connection, job: Job) -> None:
    die_with_parent()
    connection.send(_answer(connection, job))
    connection.close()


def _answer(connection: Connection, job: Job) -> Any:
    """The result, or what went wrong. Memory and the operating system are worth a retry; all else is deterministic."""
    module, _, function = job.entry.partition(":")
    try:
        return getattr(importlib.import_module(module), function)(job.payload, Channel(connection))
    except DomainError as error:
        fields = [{"pointer": field.pointer, "detail": field.detail} for field in error.errors]
        return _Failed(
            {"type": error.slug(), "detail": error.detail, "remedy": error.remedy, "errors": fields},
            _frames(error),
        )
    except (MemoryError, OSError) as error:
        return _Crashed(f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - reported to the worker, which stores it with the analysis
        if type(error).__name__ == "OutOfMemoryException":  # DuckDB's, which does not derive from MemoryError
            return _Crashed(f"{type(error).__name__}: {error}")
        from warehouse.engines.messages import without_values

        # It may quote what was in a row, unless it is about names of the code.
        said = str(error) if isinstance(error, AttributeError | ImportError) else without_values(str(error))
        return _Failed({"type": type(error).__name__, "detail": said}, _frames(error))


def _frames(error: Exception) -> str:
    """Where it happened, for the log. The message stays out: it may quote a value of somebody's row."""
    return "".join(traceback.format_tb(error.__traceback__))


def _nothing(payload: None, channel: Channel) -> StoredResult:
    return StoredResult(body=b"", etag="")
