"""Pushed values: what is stored, and the table that an analysis reads of it as of a time."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from experiments import series, series_values
from experiments.database import Database
from experiments.definitions import SeriesSpec
from experiments.series_table import SeriesTable
from experiments.settings import Settings
from tests.warehouse.cases import DAY
from warehouse.series_values import ValuesReport, ingest_values

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 4, 9, tzinfo=UTC)  # a Wednesday
TODAY = NOW.replace(hour=0)
_batches = count()


class Log:
    """A series in a database, pushed to and read at chosen times."""

    def __init__(self, database: Database, key: str) -> None:
        self.database, self.key = database, key

    async def push(self, at: datetime, rows: Sequence[Mapping[str, Any]]) -> ValuesReport:
        return await ingest_values(
            self.database,
            Settings(database_url=self.database.url),
            key=self.key,
            body=json.dumps(rows, default=str).encode(),
            content_type="application/json",
            batch_id=f"b{next(_batches)}",
            actor="tests",
            at=at,
        )

    async def table(self, known_at: datetime, since: datetime | None = None) -> SeriesTable:
        async with self.database.read() as session:
            row = await series.get(session, key=self.key)
            return await series_values.table_of(session, series=row, known_at=known_at, since=since)


@asynccontextmanager
async def log_of(url: str, **fields: Any) -> AsyncIterator[Log]:
    database = Database(url, synchronous="OFF")
    spec = SeriesSpec(**{"key": f"s{next(_batches)}", "name": "s", "dimension": "country", **fields})
    async with database.write() as session:
        await series.create(session, spec=spec, actor="tests", at=NOW)
    yield Log(database, spec.key)
    await database.dispose()


def row(day: float, value: float | None, segment: str = "NO", **more: Any) -> dict[str, Any]:
    """A value of the day so many days from today."""
    return {"segment": segment, "at": (TODAY + day * DAY).isoformat(), "value": value, **more}


async def test_a_table_has_consecutive_periods_and_gaps_where_nothing_is_known(database_url: str) -> None:
    async with log_of(database_url) as log:
        await log.push(NOW, [row(-5, 1.0), row(-2, 4.0), row(-4, 2.0, "SE"), row(-3, 3.0, "DK"), row(-9, 0.5)])
        await log.push(NOW + timedelta(minutes=1), [row(-9, None), row(-3, None, "DK"), row(-2, 5.0)])
        table = await log.table(NOW + timedelta(hours=1))
        assert table.segments == ("NO", "SE")
        assert table.periods == tuple(TODAY + day * DAY for day in range(-5, -1))
        np.testing.assert_array_equal(table.values, [[1, np.nan, np.nan, 5], [np.nan, 2, np.nan, np.nan]])
        assert np.isnan(table.n).all() and np.isnan(table.variance).all()
        assert table.restated == 1, "withdrawn values are not there, so they were not restated"
        before = await log.table(NOW)
        assert before.segments == ("DK", "NO", "SE")
        assert (before.periods[0], before.values[1, -1], before.restated) == (TODAY - 9 * DAY, 4.0, 0)
        late = await log.table(NOW + timedelta(hours=1), since=TODAY - 3 * DAY)
        assert (late.segments, late.periods) == (("NO",), (TODAY - 2 * DAY,))
        nothing = await log.table(NOW - DAY)
        assert (nothing.segments, nothing.periods, nothing.values.shape) == ((), (), (0, 0))


async def test_the_period_that_goes_on_is_left_out_until_it_is_told_whole(database_url: str) -> None:
    async with log_of(database_url) as log:
        await log.push(NOW, [row(-1, 10.0), row(0, 3.0), row(0, 4.0, "SE")])
        assert (await log.table(NOW)).periods == (TODAY - DAY,)
        tomorrow = NOW + DAY
        assert (await log.table(tomorrow)).periods == (TODAY - DAY,), "what was told in the morning is not the day"
        await log.push(tomorrow, [row(0, 11.0), row(0, 4.0, "SE")])
        table = await log.table(tomorrow)
        np.testing.assert_array_equal(table.values, [[10, 11], [np.nan, 4]])
        assert table.restated == 0
        # Seen from the day itself nothing has changed.
        assert (await log.table(tomorrow - timedelta(seconds=1))).periods == (TODAY - DAY,)


@pytest.mark.parametrize(("grain", "step"), [("hour", timedelta(hours=1)), ("week", timedelta(weeks=1))])
async def test_hours_and_weeks_follow_each_other_too(sqlite_url: str, grain: str, step: timedelta) -> None:
    async with log_of(sqlite_url, grain=grain, dimension="", aggregation="mean") as log:
        first = TODAY - timedelta(days=TODAY.weekday()) - 7 * step
        told = [{"at": (first + i * step).isoformat(), "value": i, "n": 10 + i, "variance": 2.0} for i in range(5)]
        await log.push(NOW, told[::2])
        table = await log.table(NOW)
        assert (table.segments, table.periods) == (("",), tuple(first + i * step for i in range(5)))
        np.testing.assert_array_equal(table.values, [[0, np.nan, 2, np.nan, 4]])
        np.testing.assert_array_equal(table.n, [[10, np.nan, 12, np.nan, 14]])
        np.testing.assert_array_equal(table.variance, [[2, np.nan, 2, np.nan, 2]])


_ROWS = st.lists(
    st.tuples(st.integers(-3, 0), st.sampled_from(["NO", "SE"]), st.sampled_from([None, 1.0, 2.0])),
    max_size=6,
    unique_by=lambda cell: cell[:2],
)


def test_every_past_is_what_was_told_until_then(sqlite_url: str) -> None:
    """Whatever is pushed, restated and withdrawn: a table as of a time is a replay of what was said before it."""

    @settings(max_examples=10, suppress_health_check=list(HealthCheck))
    @given(pushes=st.lists(_ROWS, min_size=1, max_size=5), asked=st.integers(0, 5))
    def replayed(pushes: list[list[tuple[int, str, float | None]]], asked: int) -> None:
        asyncio.run(compare(pushes, asked))

    async def compare(pushes: list[list[tuple[int, str, float | None]]], asked: int) -> None:
        async with log_of(sqlite_url) as log:
            expected: dict[tuple[str, datetime], float] = {}
            for turn, push in enumerate(pushes):
                at = NOW + turn * timedelta(hours=9)
                await log.push(at, [row(day, value, segment) for day, segment, value in push])
                for day, segment, value in push:
                    start = TODAY + day * DAY
                    if turn <= asked and at >= start + DAY:
                        expected.pop((segment, start), None)
                        if value is not None:
                            expected[segment, start] = value
            table = await log.table(NOW + asked * timedelta(hours=9))
            found = {
                (segment, start): float(table.values[i, j])
                for i, segment in enumerate(table.segments)
                for j, start in enumerate(table.periods)
                if np.isfinite(table.values[i, j])
            }
            assert found == expected

    replayed()
