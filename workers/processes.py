"""Starting and ending the processes that compute, so that none outlives its worker and none starts slowly."""

import asyncio
import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

_PR_SET_PDEATHSIG = 1
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_starting = threading.Lock()


def limit_threads() -> None:
    """One thread per numeric library in this process's future children: the processes are the parallelism."""
    for name in _THREAD_LIMITS:
        os.environ.setdefault(name, "1")


def start(process: BaseProcess) -> None:
    """Start a forkserver or spawn process without running our `__main__` in it again.

    Such children import the parent's main script first. A console script or a test runner there costs every child
    its imports (seconds on a loaded machine), so while the child's preparation data are made, `__main__` is empty.
    Blocks until the child exists: call it in a thread.
    """
    with _starting, _empty_main():
        process.start()


@contextlib.contextmanager
def _empty_main() -> Iterator[None]:
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def die_with_parent() -> None:
    """Call first in a child: it ends when its worker ends, however that happens; a Ctrl-C is for the worker alone.

    Linux kills us when the process that forked us (the fork server, the worker) is gone; the thread does the same
    elsewhere, and for the worker behind the fork server.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # When memory runs out the kernel should end the computation, which is retried, not the worker.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def listen(connection: Connection, messages: "asyncio.Queue[Any]") -> threading.Thread:
    """Hand everything a child says to the event loop; None when it is gone. The thread ends then."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        message: Any = ...
        while message is not None:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                message = None
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(messages.put_nowait, message)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return reader


def end(process: BaseProcess) -> None:
    """Kill the process and collect it; blocks for the milliseconds that takes."""
    if process.is_alive():
        process.kill()
    process.join()


def describe_exit(process: BaseProcess) -> str:
    """How a process ended, for people."""
    code = process.exitcode
    if code is None:
        return "it still runs"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"it was killed by {signal.Signals(-code).name}"
    return f"it exited with status {code}"
