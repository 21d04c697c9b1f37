"""The processes that compute: what they hand back, and that none of them outlives its worker."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.lease import StoredResult
from tests.patience import LONG, comes
from tests.servers import REPOSITORY
from workers.child import ComputationCrashed, ComputationFailed, Job, compute

pytestmark = pytest.mark.anyio
ENTRIES = "tests.workers.entries"


async def run(function: str, payload: Any = None, *, limit_seconds: float = LONG, **hooks: Any) -> StoredResult:
    async def shout(question: Any, seconds: float, progress: Callable[[float], None]) -> Any:
        assert 0 < seconds <= limit_seconds
        progress(0.5)
        return str(question).upper().encode()

    hooks.setdefault("on_progress", lambda stage, fraction: None)
    return await compute(Job(f"{ENTRIES}:{function}", payload), limit_seconds=limit_seconds, answer=shout, **hooks)


async def test_a_child_may_ask_its_worker_and_report_progress() -> None:
    seen: list[tuple[str, float]] = []
    result = await run("echo_answer", "quiet", on_progress=lambda stage, fraction: seen.append((stage, fraction)))
    assert result.body == b"QUIET"
    assert seen == [("asking", 0.5), ("asked", 0.5), ("asked", pytest.approx(0.7))]


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


async def test_a_timeout_kills_the_child() -> None:
    started: list[int] = []
    for limit in (1.0, 4.0, 16.0, 64.0):  # a busy machine may need longer until the child says something
        with pytest.raises(TimeoutError):
            await run("sleep", limit_seconds=limit, on_progress=lambda stage, fraction: started.append(int(stage)))
        if started:
            break
    assert gone(started[0])


async def test_cancelling_kills_the_child() -> None:
    pids: asyncio.Queue[int] = asyncio.Queue()
    task = asyncio.ensure_future(run("sleep", on_progress=lambda stage, fraction: pids.put_nowait(int(stage))))
    pid = await asyncio.wait_for(pids.get(), LONG)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(pid)


ORPHAN = """
import asyncio, sys
from workers.child import Job, compute
async def nobody(question, seconds, progress): ...
def say(stage, fraction):
    print(stage, flush=True)
asyncio.run(compute(Job("tests.workers.entries:sleep", None), limit_seconds=600, on_progress=say, answer=nobody))
"""


def test_a_child_dies_with_its_worker() -> None:
    worker = subprocess.Popen([sys.executable, "-c", ORPHAN], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    assert not gone(child)
    worker.kill()
    worker.wait()
    assert comes(lambda: gone(child))


def gone(process_id: int) -> bool:
    """Whether a process has ended (or only waits to be collected)."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"
