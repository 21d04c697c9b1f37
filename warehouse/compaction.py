"""Compaction: many loose batches of a subject become few files by hash bucket, and readers never notice.

Loose batches and segments are *runs*. Enough runs of a level become one segment of a higher level, so that a row is
rewritten O(log batches) times. Files are complete, flushed and in place before one transaction lets readers use them
instead of what they replace; whoever is killed leaves either the old state or the new one, and files that nobody has
recorded, which are swept (`warehouse.sweeping`) like what was replaced. Two compactions at a time are harmless: the
transaction of the slower one finds that its inputs are no longer live.

No value is converted. Where a column has different types in different batches, those that agree are compacted with each
other, so a reader finds the same types, and therefore the same numbers, as before.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Final

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from experiments import retention, store_segment
from experiments.database import Database
from experiments.settings import Settings
from experiments.store_segment import FEWEST_BATCHES, MERGED_SEGMENTS, NewSegment, UnsweptBatch, level_of
from experiments.tables import StoreSegment
from warehouse.engine import epoch_us
from warehouse.parquet import RECORDED
from warehouse.rows import Stream
from warehouse.segment_writer import Rows, Written, write_segment
from warehouse.store import batch_file, segment_files

STREAMS: Final[tuple[Stream, ...]] = ("exposures", "events")
MARGIN: Final = timedelta(minutes=1)
"""Batches that were recorded later than this are left for the next time: their time stamps may still be overtaken."""
LARGE_BYTES: Final = 32 * 1024 * 1024
"""Loose files of this size together are compacted however few they are, so that units can be read by bucket."""
MOST_FILES: Final = 512
"""Files that are open at once."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """Rows that lie together: a loose batch, or a live segment. `id` is that of its row in the database."""

    id: uuid.UUID
    files: tuple[Path, ...]
    batches: tuple[str, ...]
    newest_batch_at: datetime
    loose: bool

    @property
    def level(self) -> int:
        return level_of(len(self.batches))


@dataclass(frozen=True, slots=True)
class Compacted:
    """A segment that readers use now: its `batches` and rows, the files it replaced, and rows that were dropped."""

    stream: Stream
    subject: str
    name: str
    batches: int
    replaced_files: int
    rows: int
    dropped: int
    size_bytes: int


async def compact(
    database: Database,
    settings: Settings,
    *,
    at: datetime,
    everything: bool = False,
    streams: Sequence[Stream] = STREAMS,
) -> list[Compacted]:
    """Compact what is due as of a time, until nothing is. `everything`: all runs of a subject become one segment."""
    done: list[Compacted] = []
    for stream in streams:
        subjects: Collection[str] | None = None
        while subjects is None or subjects:
            progressed = set()
            for subject, runs in (await runs_of(database, settings, stream, until=at - MARGIN)).items():
                if subjects is not None and subject not in subjects:
                    continue
                for chosen in await anyio.to_thread.run_sync(partial(choose, runs, everything=everything)):
                    made = await rewrite(database, settings, stream, subject, chosen, at=at)
                    if made is not None:
                        done.append(made)
                        progressed.add(subject)
            subjects = progressed
    return done


async def rewrite(
    database: Database,
    settings: Settings,
    stream: Stream,
    subject: str,
    runs: Sequence[Run],
    *,
    at: datetime,
    since: datetime | None = None,
    without_units: Sequence[str] = (),
) -> Compacted | None:
    """Put some runs of a subject into one new segment, without rows before `since` and without those of some units.

    None where the runs were replaced by others meanwhile: nothing has changed then.
    """
    rows = Rows(
        loose=[(run.files[0], epoch_us(run.newest_batch_at)) for run in runs if run.loose],
        segments=[run.files for run in runs if not run.loose],
        since_us=None if since is None else epoch_us(since),
        without_units=without_units,
    )
    written: Written = await anyio.to_thread.run_sync(
        partial(
            write_segment,
            settings.data_dir,
            stream,
            subject,
            uuid.uuid4().hex,
            rows,
            threads=settings.analysis_threads,
            memory_limit=f"{settings.analysis_memory_mb}MB",
        )
    )
    new = NewSegment(
        stream=stream,
        subject=subject,
        name=written.name,
        batches=[name for run in runs for name in run.batches],
        rows=written.rows,
        size_bytes=written.size_bytes,
        newest_batch_at=max(run.newest_batch_at for run in runs),
        loose=[run.id for run in runs if run.loose],
        replaced=[run.id for run in runs if not run.loose],
    )
    async with database.write() as session:
        if not await store_segment.publish(session, new, at=at):
            log.info("compaction_overtaken", stream=stream, subject=subject)
            return None
        if since is not None and written.dropped:
            retention.record_dropped(session, stream=stream, subject=subject, rows=written.dropped, before=since, at=at)
    files = sum(len(run.files) for run in runs)
    made = Compacted(
        stream, subject, written.name, len(new.batches), files, written.rows, written.dropped, written.size_bytes
    )
    log.info("compacted", stream=stream, subject=subject, batches=made.batches, files=files, rows=made.rows)
    return made


async def runs_of(database: Database, settings: Settings, stream: Stream, *, until: datetime) -> dict[str, list[Run]]:
    """The runs of every subject of a stream, as recorded until a time."""
    async with database.read() as session:
        batches = await store_segment.unswept(session, stream=stream, until=until)
        segments = await store_segment.all_live(session, stream=stream)
    return dict(_runs(settings.data_dir, stream, batches, segments))


def _runs(
    data_dir: Path, stream: Stream, batches: Sequence[UnsweptBatch], segments: dict[str, list[StoreSegment]]
) -> Iterator[tuple[str, list[Run]]]:
    loose: dict[str, list[UnsweptBatch]] = defaultdict(list)
    for batch in batches:
        for subject in batch.subjects:
            loose[subject].append(batch)
    for subject in sorted(loose.keys() | segments.keys()):
        together = [
            Run(
                row.id,
                segment_files(data_dir, stream, subject, row.name),
                tuple(row.batches),
                row.newest_batch_at,
                loose=False,
            )
            for row in segments.get(subject, ())
        ]
        compacted = {name for run in together for name in run.batches}
        alone = [
            Run(
                batch.id,
                (batch_file(data_dir, stream, subject, batch.name),),
                (batch.name,),
                batch.recorded_at,
                loose=True,
            )
            for batch in loose[subject]
            if batch.name not in compacted
        ]
        yield subject, [*together, *alone]


def choose(runs: Sequence[Run], *, everything: bool = False) -> list[list[Run]]:
    """Which runs of a subject become one segment each: none in two of them, and none twice at the same level."""
    if not (_due(runs, everything=everything)):
        return []
    chosen = []
    for alike in in_one_schema(runs):
        loose = [run for run in alike if run.loose]
        segments = [run for run in alike if not run.loose]
        if everything:
            if loose and len(loose) + len(segments) > MOST_FILES:
                chosen += [list(some) for some in batched(loose, MOST_FILES)]
            elif loose or len(segments) > 1:
                chosen.append(alike)
            continue
        levels: dict[int, list[Run]] = defaultdict(list)
        for run in alike:
            levels[run.level].append(run)
        small = levels.pop(0, [])
        if len(small) >= FEWEST_BATCHES:
            chosen += [list(some) for some in batched(small, MOST_FILES)]
        elif _is_large(loose):
            chosen.append(loose)
        chosen += [level for level in levels.values() if len(level) >= MERGED_SEGMENTS]
    return chosen


def _due(runs: Sequence[Run], *, everything: bool) -> bool:
    """Whether there may be anything to do; quick, because most subjects have nothing to do most of the time."""
    loose = [run for run in runs if run.loose]
    if everything:
        return bool(loose) or len(runs) > 1
    counts: dict[int, int] = defaultdict(int)
    for run in runs:
        counts[run.level] += 1
    return (
        counts.pop(0, 0) >= FEWEST_BATCHES
        or any(count >= MERGED_SEGMENTS for count in counts.values())
        or _is_large(loose)
    )


def _is_large(loose: Sequence[Run]) -> bool:
    return sum(path.stat().st_size for run in loose for path in run.files) >= LARGE_BYTES


def in_one_schema(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, apart where a column of theirs has several types among the runs (not having it counts as one)."""
    # Not every file of a segment has every column: none that no run had with rows of its bucket.
    types = [{item.name: item.type for path in run.files for item in pq.read_schema(path)} for run in runs]
    known: dict[str, pa.DataType] = {}
    torn: set[str] = {
        name
        for each in types
        for name, kind in each.items()
        if name != RECORDED and known.setdefault(name, kind) != kind
    }
    columns = sorted(torn)
    alike: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run, each in zip(runs, types, strict=True):
        alike[tuple(str(each.get(name)) for name in columns)].append(run)
    return list(alike.values())
