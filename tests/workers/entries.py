"""What the children of `test_child` do. Imports little: every child imports it."""

import os
import sys
import time
from typing import Any

from experiments.lease import StoredResult
from workers.child import Channel


def echo_answer(payload: Any, channel: Channel) -> StoredResult:
    channel.progress("asking", 0.5)
    return StoredResult(body=channel.ask(payload, stage="asked", begin=0.5, end=0.9), etag="")


def who_am_i(payload: Any, channel: Channel) -> StoredResult:
    heavy = [name for name in ("pymc", "pytensor", "arviz", "fastapi") if name in sys.modules]
    main = getattr(sys.modules["__main__"], "__file__", None)
    threads = os.environ.get("OMP_NUM_THREADS")
    return StoredResult(body=f"{heavy} {main} {threads}".encode(), etag="")


def large(payload: Any, channel: Channel) -> StoredResult:
    return StoredResult(body=b"x" * 20_000_000, etag="")


def leave(payload: Any, channel: Channel) -> StoredResult:
    os._exit(3)


def sleep(payload: Any, channel: Channel) -> StoredResult:
    channel.progress(str(os.getpid()), 0.0)
    time.sleep(600)
    raise AssertionError
