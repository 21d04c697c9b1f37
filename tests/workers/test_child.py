"""The processes that compute: what they hand back, and that none of them outlives its worker."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.lease import StoredResult
from tests.servers import REPOSITORY
from workers.child import Channel, ComputationCrashed, ComputationFailed, Job, compute

pytestmark = pytest.mark.anyio
HERE = "tests.workers.test_child"


def echo_answer(payload: Any, channel: Channel) -> StoredResult:
    channel.progress("asking", 0.5)
    return StoredResult(body=channel.ask(payload), etag="")


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


async def run(function: str, payload: Any = None, *, limit_seconds: float = 30.0, **hooks: Any) -> StoredResult:
    async def shout(question: Any, seconds: float) -> Any:
        assert 0 < seconds <= limit_seconds
        return str(question).upper().encode()

    hooks.setdefault("on_progress", lambda stage, fraction: None)
    return await compute(Job(f"{HERE}:{function}", payload), limit_seconds=limit_seconds, answer=shout, **hooks)


async def test_a_child_may_ask_its_worker_and_report_progress() -> None:
    seen: list[tuple[str, float]] = []
    result = await run("echo_answer", "quiet", on_progress=lambda stage, fraction: seen.append((stage, fraction)))
    assert result.body == b"QUIET" and seen == [("asking", 0.5)]


async def test_children_do_not_import_the_main_script_or_the_heavy_libraries() -> None:
    assert (await run("who_am_i")).body == b"[] None 1"


async def test_large_results_pass() -> None:
    assert len((await run("large")).body) == 20_000_000


async def test_a_child_that_leaves_without_a_word_has_crashed() -> None:
    with pytest.raises(ComputationCrashed, match="status 3"):
        await run("leave")


async def test_an_unknown_function_is_the_fault_of_the_analysis() -> None:
    with pytest.raises(ComputationFailed, match="nowhere"):
        await run("nowhere")


async def test_a_timeout_kills_the_child_within_a_second() -> None:
    pids: list[int] = []
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await run("sleep", limit_seconds=2.0, on_progress=lambda stage, fraction: pids.append(int(stage)))
    assert time.monotonic() - begun < 3.0
    assert gone(pids[0])


async def test_cancelling_kills_the_child_within_a_second() -> None:
    pids: asyncio.Queue[int] = asyncio.Queue()
    task = asyncio.ensure_future(run("sleep", on_progress=lambda stage, fraction: pids.put_nowait(int(stage))))
    pid = await asyncio.wait_for(pids.get(), 20)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 1.0
    assert gone(pid)


ORPHAN = """
import asyncio, sys
from workers.child import Job, compute
async def nobody(question, seconds): ...
def say(stage, fraction):
    print(stage, flush=True)
asyncio.run(compute(Job("tests.workers.test_child:sleep", None), limit_seconds=600, on_progress=say, answer=nobody))
"""


def test_a_child_dies_with_its_worker() -> None:
    worker = subprocess.Popen([sys.executable, "-c", ORPHAN], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    assert not gone(child)
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 5.0
    while not gone(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(child)


def gone(process_id: int) -> bool:
    """Whether a process has ended (or only waits to be collected)."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"
