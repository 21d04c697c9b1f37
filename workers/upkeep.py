"""Upkeep of the store: every so often one worker compacts, applies retention and removes what nobody reads any more.

The work runs in a child process, so that it can be killed at any moment and the worker's event loop stays free. A lock
on a file of the store keeps other workers out; the kernel lets it go when the child ends, however it ends. What decides
is never the lock but the transaction that publishes a segment (`experiments.store_segment.publish`).
"""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import structlog
from sqlalchemy.exc import SQLAlchemyError

from experiments.database import Database
from experiments.lease import StoredResult
from experiments.settings import Settings
from experiments.types import utc_now
from warehouse.compaction import Compacted, compact
from warehouse.dead_letters import expire_dead_letters
from warehouse.erasure import erase_units
from warehouse.kept_moments import HOURS, forget_moments
from warehouse.retention import retain
from warehouse.scratch import sweep_scratch
from warehouse.state.lane import forget_unused_lanes
from warehouse.sweeping import sweep
from workers.child import Channel, ComputationCrashed, ComputationFailed, Job, compute

LOCK: Final = ".upkeep.lock"
LONGEST_SECONDS: Final = 6 * 3600.0
"""A round that takes longer is ended; every segment that it had finished stays."""
FIRST_SECONDS: Final = 60.0
"""A worker that has just started has better things to do."""

log = structlog.get_logger(__name__)

type Report = dict[str, int]
type Step = Callable[[Database, Settings], Awaitable[Report]]


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to do. `everything`: make one segment of each subject; `unless_younger`: seconds since the last

    round that make this one unnecessary.
    """

    settings: Settings
    everything: bool = False
    unless_younger: float = 0.0


async def apply_retention(database: Database, settings: Settings) -> Report:
    """Delete rows that are older than what is kept."""
    made = await retain(database, settings, at=utc_now())
    return {"rows_dropped": sum(one.dropped for one in made)}


async def erase(database: Database, settings: Settings) -> Report:
    """Delete the rows of units whose erasure was asked for."""
    erased = await erase_units(database, settings, at=utc_now())
    return {"erasures_rewritten": erased.rewritten, "erasures_done": erased.done, "rows_erased": erased.rows}


async def compact_store(database: Database, settings: Settings) -> Report:
    """Make few files of many."""
    return _about(await compact(database, settings, at=utc_now()))


async def sweep_store(database: Database, settings: Settings) -> Report:
    """Remove files that segments replaced, and files that nobody recorded."""
    swept = await sweep(database, settings, at=utc_now())
    return {"files_swept": swept.files, "segments_swept": swept.segments, "leftovers_swept": swept.leftovers}


async def sweep_work_in_progress(database: Database, settings: Settings) -> Report:
    """Remove folders of processes that died."""
    return {"scratch_folders_swept": await asyncio.to_thread(sweep_scratch, settings.data_dir)}


async def sweep_dead_letters(database: Database, settings: Settings) -> Report:
    """Delete refused rows that have been kept for long enough."""
    return {"dead_letters_expired": await expire_dead_letters(database, settings, at=utc_now())}


async def sweep_state(database: Database, settings: Settings) -> Report:
    """Forget what passes kept for passes that did not come."""
    return {
        "lanes_forgotten": await asyncio.to_thread(forget_unused_lanes, settings.data_dir, days=settings.state_days)
    }


async def sweep_moments(database: Database, settings: Settings) -> Report:
    """Forget moments that shared passes made for analyses that did not come."""
    return {"moments_forgotten": await asyncio.to_thread(forget_moments, settings.data_dir, older_than_hours=HOURS)}


STEPS: Final[tuple[Step, ...]] = (
    apply_retention,
    erase,
    compact_store,
    sweep_store,
    sweep_work_in_progress,
    sweep_dead_letters,
    sweep_state,
    sweep_moments,
)
"""Everything that upkeep does, in this order."""


class Upkeep:
    """Keeps the store in order: soon after the start, and after every `upkeep_minutes`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._period = settings.upkeep_minutes * 60

    async def forever(self) -> None:
        """A round in every period, whatever is down at the moment."""
        await asyncio.sleep(min(FIRST_SECONDS, self._period))
        while True:
            await self.once()
            await asyncio.sleep(self._period)

    async def once(self) -> Report | None:
        """One round, in a child; None where another worker is at it, or did it a moment ago, or it went wrong."""
        try:
            return await round_in_child(Order(self._settings, unless_younger=self._period / 2))
        except ComputationFailed as error:
            log.error("upkeep_failed", error=error.error["type"], trace=error.trace)
        except (ComputationCrashed, TimeoutError) as error:
            log.warning("upkeep_ended", error=str(error))
        return None


async def round_in_child(order: Order) -> Report | None:
    """One round; cancelling it kills the child. None where another process is at it or has just been."""
    job = Job("workers.upkeep:run_in_child", order)
    result = await compute(job, limit_seconds=LONGEST_SECONDS, on_progress=_ignore, answer=_no_answer)
    report: Report | None = json.loads(result.body)
    if report is not None and any(report.values()):
        log.info("upkeep", **report)
    return report


def run_in_child(order: Order, channel: Channel) -> StoredResult:
    """What the child does."""
    return StoredResult(body=json.dumps(asyncio.run(run(order))).encode(), etag="")


async def run(order: Order) -> Report | None:
    """One round in this process, unless another one is at it or has just been.

    A step that fails for want of the database or the disk, or at a damaged file, does not keep the next ones from their
    turn: they may be what makes room.
    """
    with alone(order.settings.data_dir, unless_younger=order.unless_younger) as free:
        if not free:
            return None
        database = Database(order.settings.database_url, synchronous=order.settings.sqlite_synchronous)
        report: Report = {}
        try:
            if order.everything:
                return _about(await compact(database, order.settings, at=utc_now(), everything=True))
            for step in STEPS:
                try:
                    report |= await step(database, order.settings)
                except (SQLAlchemyError, OSError, duckdb.Error, pa.ArrowException) as error:
                    log.warning("upkeep_step_failed", step=step.__name__, error=type(error).__name__)
        finally:
            await database.dispose()
        return report


@contextmanager
def alone(data_dir: Path, *, unless_younger: float = 0.0) -> Iterator[bool]:
    """Whether upkeep may run now: no other process is at it, nor was within the last seconds."""
    data_dir.mkdir(parents=True, exist_ok=True)
    handle = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        done = os.pread(handle, 32, 0)
        # A clock that was put back makes no round a younger one.
        if done and unless_younger and 0 <= time.time() - float(done) < unless_younger:
            yield False
            return
        yield True
        os.ftruncate(handle, 0)
        os.pwrite(handle, repr(time.time()).encode(), 0)
    finally:
        os.close(handle)


def _about(made: Sequence[Compacted]) -> Report:
    return {
        "segments_written": len(made),
        "files_replaced": sum(one.replaced_files for one in made),
        "rows_compacted": sum(one.rows for one in made),
    }


def _ignore(stage: str, fraction: float) -> None:
    """Nobody watches."""


async def _no_answer(question: Any, seconds: float, progress: Callable[[float], None]) -> Any:
    raise AssertionError("upkeep asks nothing")
