"""Compiled models when their processes and their worker are killed, and where machine code cannot be kept."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stats.bayes.models.exchangeable import DEFINITION
from tests.patience import comes, comes_about
from tests.servers import REPOSITORY
from tests.workers.hard_questions import Unfreezable, segments
from tests.workers.test_child import gone
from tests.workers.test_models import cpu_seconds
from workers.models.folder import BundleFolder, key_of
from workers.models.messages import ModelQuestion, SizedModel
from workers.models.pool import ModelPool

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]

KEY = key_of(SizedModel(DEFINITION, 1))


def open_pool(folder: Path, **options: float) -> ModelPool:
    return ModelPool(folder=BundleFolder(folder), fit_seconds=60.0, memory_bytes=512 * 1024 * 1024, **options)


def files(folder: Path) -> list[str]:
    """What was written, whole or half."""
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".bundle", ".part"))


async def kill_when_there(pool: ModelPool, which: int, after: float, *, other_than: int | None = None) -> int:
    """The process that was killed, `after` seconds after it came."""
    assert await comes_about(lambda: pool.process_ids[which] not in (None, other_than))
    process = pool.process_ids[which] or 0
    await asyncio.sleep(after)
    os.kill(process, signal.SIGKILL)
    return process


async def test_the_first_answer_survives_a_damaged_bundle_and_a_killed_compilation(tmp_path: Path) -> None:
    BundleFolder(tmp_path).write(KEY, b"NLFROZEN, but not really")
    pool = open_pool(tmp_path, idle_seconds=0.2)
    try:
        asking = asyncio.ensure_future(pool.answer(ModelQuestion((segments(1), segments(2, levels=9)), 11), 280.0))
        await kill_when_there(pool, 1, 0.3)
        assert [fit.status for fit in await asking] == ["ok", "ok"]
        assert files(tmp_path) == [f"{KEY}.bundle"]
        assert await comes_about(lambda: pool.process_ids[1] is None), "the process that compiled keeps its memory"
    finally:
        await pool.close()


async def test_a_compilation_that_is_killed_twice_is_unreliable_and_works_the_next_time(tmp_path: Path) -> None:
    pool = open_pool(tmp_path)
    question = ModelQuestion((segments(1),), 3)
    try:
        asking = asyncio.ensure_future(pool.answer(question, 280.0))
        first = await kill_when_there(pool, 1, 1.0)
        await kill_when_there(pool, 1, 1.0, other_than=first)
        (killed,) = await asking
        assert killed.status == "unreliable" and "SIGKILL" in killed.reason
        assert files(tmp_path) == []
        assert (await pool.answer(question, 280.0))[0].status == "ok"
    finally:
        await pool.close()


async def test_a_model_that_cannot_be_frozen_is_sampled_where_it_was_compiled(tmp_path: Path) -> None:
    pool = open_pool(tmp_path)
    question = ModelQuestion((Unfreezable(3.0), Unfreezable(7.0)), 3)
    try:
        first = await pool.answer(question, 280.0)
        assert [fit.status for fit in first] == ["ok", "ok"], first[0].reason
        assert files(tmp_path) == []
        compiler = pool.process_ids[1]
        assert compiler is not None
        used = cpu_seconds(compiler)
        assert await pool.answer(question, 280.0) == first
        assert pool.process_ids[1] == compiler
        assert cpu_seconds(compiler) - used < 4.0, "CPU, not wall; a compilation takes ten and more"
        os.kill(compiler, signal.SIGKILL)
        assert await pool.answer(question, 280.0) == first, "compiled again, where it is needed"
    finally:
        await pool.close()


async def test_two_workers_on_one_machine_compile_a_model_once(tmp_path: Path) -> None:
    pools = [open_pool(tmp_path), open_pool(tmp_path)]
    question = ModelQuestion((segments(1),), 3)
    try:
        one, other = await asyncio.gather(*(pool.answer(question, 280.0) for pool in pools))
        assert one[0].effects is not None and other[0].effects is not None
        assert one[0].effects.lift.tolist() == other[0].effects.lift.tolist()
        assert files(tmp_path) == [f"{KEY}.bundle"]
        compilations = [pool.process_ids[1] for pool in pools]
        assert None not in compilations, "both were ready to; one waited and found the other's"
    finally:
        for pool in pools:
            await pool.close()


WORKER = """
import asyncio, sys
from pathlib import Path
from tests.workers.hard_questions import long_segments
from workers.models.folder import BundleFolder
from workers.models.messages import ModelQuestion
from workers.models.pool import ModelPool

async def main():
    pool = ModelPool(folder=BundleFolder(Path(sys.argv[1])), fit_seconds=60.0, memory_bytes=2**29)
    said = []
    def say(fraction):
        if fraction and not said:
            said.append(fraction)
            print("processes", *pool.process_ids, flush=True)
    await pool.answer(ModelQuestion((long_segments(),), 1), 600.0, say)

asyncio.run(main())
"""


def test_the_processes_of_a_killed_worker_end_with_it(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    said = next(line for line in worker.stdout if line.startswith("processes "))
    processes = [int(word) for word in said.split()[1:]]
    assert len(processes) == 2 and not any(gone(process) for process in processes)
    worker.kill()
    worker.wait()
    assert comes(lambda: all(gone(process) for process in processes))
