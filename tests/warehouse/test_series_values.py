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
from experiments.errors import BatchRejected
from experiments.series_table import SeriesTable
from experiments.settings import Settings
from tests.warehouse.cases import DAY
from warehouse.series_rows import read_batch
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


async def test_a_batch_says_what_became_of_its_values(sqlite_url: str) -> None:
    async with log_of(sqlite_url) as log:
        report = await log.push(NOW, [row(-1, 10.0), row(0, 3.0), row(-2, None)])
        assert (report.accepted, report.unchanged, report.restated, report.early) == (3, 1, 0, 1)
        report = await log.push(NOW, [row(-1, 10.0), row(-1, 1.0, "SE"), row(0, 4.0)])
        assert (report.accepted, report.unchanged, report.restated, report.early) == (3, 1, 1, 1)
        assert datetime.fromisoformat(report.known_at) > NOW, "what is said later is known later"
        report = await log.push(NOW + DAY, [row(0, 4.0)])
        assert (report.accepted, report.unchanged, report.restated, report.early) == (1, 1, 0, 0)
        async with log.database.read() as session:
            stored = await series.get(session, key=log.key)
            restated = await series_values.restatements(session, series=stored)
            assert [(found.before.value, found.now.value) for found in restated] == [(3.0, 4.0)]
            values = await series_values.values_as_of(session, series=stored, known_at=NOW + DAY)
            assert [(cell.at, known.complete) for cell, known in values[:1]] == [(TODAY, True)]


SPECS = {
    "totals": SeriesSpec(key="totals", name="t", dimension="country"),
    "weeks": SeriesSpec(key="weeks", name="w", grain="week"),
    "arms": SeriesSpec(key="arms", name="a", dimension="arm", aggregation="mean"),
}
GOOD = {"segment": "NO", "at": "2026-03-01", "value": 1}


@pytest.mark.parametrize(
    ("spec", "changes", "reason"),
    [
        ("totals", {"segment": None}, "missing_segment"),
        ("totals", {"segment": " "}, "missing_segment"),
        ("totals", {"segment": ["NO"]}, "missing_segment"),
        ("totals", {"segment": float("inf")}, "missing_segment"),
        ("totals", {"segment": "x" * 201}, "too_long"),
        ("totals", {"segment": "N\x00O"}, "malformed_row"),
        ("totals", {"segment": "\ud800"}, "malformed_row"),
        ("totals", {"at": None}, "missing_timestamp"),
        ("totals", {"at": "soon"}, "invalid_timestamp"),
        ("totals", {"at": "1969-12-31"}, "invalid_timestamp"),
        ("totals", {"at": "2026-03-01T00:00:00"}, "naive_timestamp"),
        ("totals", {"at": "2026-03-05"}, "future_timestamp"),
        ("totals", {"at": "2026-03-01T00:00:00+02:00"}, "not_a_period_start"),
        ("totals", {"value": "absent"}, "missing_value"),
        ("totals", {"value": "many"}, "non_numeric_value"),
        ("totals", {"value": True}, "non_numeric_value"),
        ("totals", {"value": float("nan")}, "non_finite_value"),
        ("totals", {"value": "-Infinity"}, "non_finite_value"),
        ("totals", {"value": 1e91}, "too_large"),
        ("totals", {"n": 5}, "unexpected_moment"),
        ("totals", {"variance": 5}, "unexpected_moment"),
        ("totals", {"country": "NO"}, "unknown_field"),
        ("totals", {}, "duplicate_value"),
        ("weeks", {"at": "2026-02-23"}, "unexpected_segment"),
        ("weeks", {"segment": "", "at": "2026-03-03"}, "not_a_period_start"),
        ("arms", {"segment": "half"}, "unknown_arm"),
        ("arms", {"segment": "on", "n": 1.5}, "invalid_count"),
        ("arms", {"segment": "on", "n": 10**30}, "invalid_count"),
        ("arms", {"segment": "on", "n": 0}, "no_units"),
        ("arms", {"segment": "on", "n": 5, "value": None}, "missing_value"),
        ("arms", {"segment": "on", "n": 5, "variance": -1}, "negative_variance"),
        ("arms", {"segment": "on", "variance": 1}, "missing_count"),
    ],
)
def test_a_bad_value_is_named(spec: str, changes: dict[str, Any], reason: str) -> None:
    bad = {name: value for name, value in {**GOOD, **changes}.items() if value != "absent"}
    rows = [GOOD, bad] if spec == "totals" else [bad]
    with pytest.raises(BatchRejected) as refused:
        read_batch(json.dumps(rows).encode(), "application/json", SPECS[spec], NOW)
    assert [fault.detail.split(":")[0] for fault in refused.value.errors] == [reason]


def test_the_period_that_was_meant_is_named() -> None:
    body = json.dumps([{**GOOD, "at": "2026-03-04T05:00:00Z"}]).encode()
    for spec, start in (("totals", "2026-03-04"), ("weeks", "2026-03-02")):
        with pytest.raises(BatchRejected) as refused:
            read_batch(
                body.replace(b'"NO"', b"null" if spec == "weeks" else b'"NO"'), "application/json", SPECS[spec], NOW
            )
        assert f"starts at {start}T00:00:00Z" in refused.value.errors[0].detail


def test_an_empty_cell_of_a_csv_withdraws_and_numbers_are_names_of_segments_too() -> None:
    lines = "segment,at,value,n,variance\non,2026-03-01,1.5,10,0.25\noff,2026-03-01,,,\n"
    batch = read_batch(lines.encode("utf-8-sig"), "text/csv; charset=utf-8", SPECS["arms"], NOW)
    assert [(value.cell.segment, *value[1:]) for value in batch.values] == [
        ("on", 1.5, 10, 0.25),
        ("off", None, None, None),
    ]
    shops = [{**GOOD, "segment": shop} for shop in (30, 30.5, True)]
    batch = read_batch(json.dumps(shops).encode(), "application/json", SPECS["totals"], NOW)
    assert [value.cell.segment for value in batch.values] == ["30", "30.5", "true"]


_ROWS = st.lists(
    st.tuples(st.integers(-3, 0), st.sampled_from(["NO", "SE"]), st.sampled_from([None, 1.0, 2.0])),
    max_size=6,
    unique_by=lambda cell: cell[:2],
)


def test_every_past_is_what_was_told_until_then(sqlite_url: str) -> None:
    """Whatever is pushed, restated and withdrawn: a table as of a time is a replay of what was said before it."""

    @settings(max_examples=6, suppress_health_check=list(HealthCheck))
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
