"""Deleting rows that are older than what is kept, from disk: readers left them out before (`experiments.retention`).

Files are rewritten when their oldest row is a sixteenth of the retention over its time, so that a row is rewritten some
sixteen times in its life and not every day.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
import pyarrow.parquet as pq

from experiments import retention
from experiments.database import Database
from experiments.settings import Settings
from warehouse.compaction import MARGIN, Compacted, Run, in_one_schema, rewrite, runs_of
from warehouse.engine import epoch_us
from warehouse.rows import TIME_FIELD, Stream

PARTS: Final = 16
"""Rows stay on disk for at most this part of the retention, or a day, longer than they are read."""


async def retain(database: Database, settings: Settings, *, at: datetime) -> list[Compacted]:
    """Move the days since which data is kept, and delete from disk what has long been older. Returns new segments."""
    limits: dict[Stream, float | None] = {
        "exposures": settings.exposure_retention_days,
        "events": settings.event_retention_days,
    }
    done = []
    for stream, days in limits.items():
        if days is None:
            continue
        async with database.write() as session:
            since = await retention.move(session, stream=stream, days=days, at=at)
        if since is not None:
            slack = max(timedelta(days=1), timedelta(days=days) / PARTS)
            done += await _drop(database, settings, stream, since=since, overdue=since - slack, at=at)
    return done


async def _drop(
    database: Database, settings: Settings, stream: Stream, *, since: datetime, overdue: datetime, at: datetime
) -> list[Compacted]:
    done = []
    async with database.read() as session:
        kept = await retention.mapping_events(session) if stream == "events" else set()
    for subject, runs in (await runs_of(database, settings, stream, until=at - MARGIN)).items():
        if subject in kept:
            continue
        for group in await anyio.to_thread.run_sync(_overdue, runs, stream, overdue):
            made = await rewrite(database, settings, stream, subject, group, at=at, since=since)
            if made is not None:
                done.append(made)
    return done


def _overdue(runs: Sequence[Run], stream: Stream, before: datetime) -> list[list[Run]]:
    """Runs with rows older than a time: every segment alone, loose batches together."""
    old = [run for run in runs if any(_begins_before(path, stream, epoch_us(before)) for path in run.files)]
    loose = [run for run in old if run.loose]
    return [*in_one_schema(loose), *([run] for run in old if not run.loose)]


def _begins_before(path: Path, stream: Stream, before_us: int) -> bool:
    """Whether a file has rows older than a time, by the statistics of its row groups."""
    about = pq.read_metadata(path)
    place = about.schema.to_arrow_schema().get_field_index(TIME_FIELD[stream])
    for i in range(about.num_row_groups):
        known = about.row_group(i).column(place).statistics
        oldest = known.min if known is not None and known.has_min_max else None
        if oldest is None or epoch_us(oldest) < before_us:
            return True
    return False
